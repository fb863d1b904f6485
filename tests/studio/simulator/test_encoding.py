"""JSON and event streams as Node spells them, compared with what was recorded from LM Studio."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.encoding import entityTag, event, parse, render
from twisted.trial.unittest import SynchronousTestCase

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class ParseTests(SynchronousTestCase):
    @given(JSON)
    def test_everyDocument(self, value: object) -> None:
        """Whatever is JSON is read as Python's own parser reads it."""
        self.assertEqual(parse(json.dumps(value).encode()), value)

    @given(st.binary())
    def test_totality(self, body: bytes) -> None:
        """Whatever the bytes are, they give a value or a ValueError."""
        try:
            parse(body)
        except ValueError:
            self.assertRaises(ValueError, parse, body)

    def test_loneSurrogate(self) -> None:
        """Half an emoji passes, as JavaScript clients send it."""
        self.assertEqual(parse(rb'{"a":"\ud83d"}'), {"a": "\ud83d"})

    def test_lastOfTwins(self) -> None:
        """Of a key that appears twice the last wins."""
        self.assertEqual(parse(b'{"a":1,"a":2}'), {"a": 2})

    def test_invalidUTF8(self) -> None:
        """Bytes that are no UTF-8 become replacement characters, as Node makes them."""
        self.assertEqual(parse(b'["\xff"]'), ["�"])

    def test_hugeInteger(self) -> None:
        """An integer of thousands of digits is infinite, as in JavaScript, and no error."""
        self.assertEqual(parse(b"[1" + b"0" * 5000 + b"]"), [float("inf")])

    def test_refusals(self) -> None:
        """Nesting without end, Python's own constants and what is no JSON are refused."""
        for body in (b"[" * 100_000, b"[NaN]", b"[-Infinity]", b"{'a': 1}", b"", b"{} {}"):
            self.assertRaises(ValueError, parse, body)


class RenderTests(SynchronousTestCase):
    @given(JSON, st.sampled_from([None, 2, 4]))
    def test_roundTrip(self, value: object, indent: int | None) -> None:
        """What is written is read back as it was, lone surrogates included, and is UTF-8."""
        body = render(value, indent)
        body.decode("utf-8")
        self.assertEqual(parse(body), value)

    def test_spelling(self) -> None:
        """The spelling is that of ``JSON.stringify``: compact, unescaped, lone surrogates in lower-case escapes."""
        self.assertEqual(render({"a": ["é", "\ud83d", "\n"]}), b'{"a":["\xc3\xa9","\\ud83d","\\n"]}')
        self.assertEqual(render({"a": [], "b": {"c": 1}}, 2), b'{\n  "a": [],\n  "b": {\n    "c": 1\n  }\n}')


class EventTests(SynchronousTestCase):
    def test_unnamed(self) -> None:
        """An event of the OpenAI chat API is a line of data and an empty one."""
        self.assertEqual(event({"a": "x\ny"}), b'data: {"a":"x\\ny"}\n\n')

    def test_named(self) -> None:
        """The other APIs name their events."""
        self.assertEqual(event({}, "chat.start"), b"event: chat.start\ndata: {}\n\n")


class EntityTagTests(SynchronousTestCase):
    def test_recorded(self) -> None:
        """The tag of a body recorded from LM Studio is the one recorded with it."""
        message = (
            'Invalid model identifier "not-a-model". Please specify a valid downloaded model (e.g., '
            "google/gemma-4-e4b@4bit, google/gemma-4-e4b, gemma-4-e4b-it-mlx)."
        )
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        self.assertEqual(entityTag(render({"error": error}, 4)), b'W/"12e-3jVw65MtzW519nGYZJbcfgKo6Js"')
        self.assertEqual(entityTag(render({"error": error}, 2)), b'W/"11a-w7LC0RR21PFNq/D11nSshqKCj7k"')
