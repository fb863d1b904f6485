"""Asking for the usage of a stream, and nothing else changed."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.message import Completion, Injection, Rewritten
from lmgateway.policy.injection import SMALL_BODY, MemberSplicer
from lmgateway.policy.routes import ROUTES
from lmgateway.policy.stream_options import (
    ASKABLE_DIALECTS,
    WATCHED,
    UsageAsking,
    askForUsage,
    refusesUsage,
    withUsage,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES, jsonObjects, mutations
from tests.studio.simulator.wire import Studio, chat

MODEL = Injection("model", "model", b'"m"')
STREAM = Injection("stream", "stream", b"true")
OPTIONS = jsonObjects("include_usage", "include_obfuscation").map(bytes.decode)
MEMBERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(('"stream_options"', r'"stream\u005foptions"')), st.one_of(OPTIONS, JSON_VALUES)),
        st.tuples(st.sampled_from(('"a"', '"messages"', r'"\"{:"', '""', r'"\\"')), JSON_VALUES),
        st.tuples(st.just('"b"'), OPTIONS),
    ),
    max_size=4,
)
SPACES = st.sampled_from(("", " ", "\n\t\r "))


class Pairs(list[tuple[str, Any]]):
    """The members of an object in order, repeated ones too."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Request bodies, spelled in every way, many of which have options for their stream."""
    space = draw(SPACES)
    members = [f"{space}{key}{space}:{space}{value}{space}" for key, value in draw(MEMBERS)]
    return f"{space}{{{','.join(members)}}}{space}".encode()


BODIES = st.one_of(bodies(), jsonObjects("stream_options", "stream"))


def refuseConstant(name: str) -> NoReturn:
    """NaN and Infinity are Python's JSON, not RFC 8259's."""
    raise ValueError(name)


def parse(body: bytes) -> Any:
    """Read JSON strictly by Python's own parser: numbers as they are spelled, objects as pairs."""
    return json.loads(
        body.decode(), object_pairs_hook=Pairs, parse_constant=refuseConstant, parse_int=str, parse_float=str
    )


def expected(pairs: Pairs) -> Pairs | None:
    """The members of the body that asks, said as simply as can be; None for one that is left alone."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        return None
    if "stream_options" not in names:
        return Pairs([("stream_options", Pairs([("include_usage", True)])), *pairs])
    options = dict(pairs)["stream_options"]
    if not isinstance(options, Pairs) or len(dict(options)) < len(options) or "include_usage" in dict(options):
        return None
    more = Pairs([("include_usage", True), *options])
    return Pairs([(name, more if name == "stream_options" else value) for name, value in pairs])


def rewritten(body: bytes, *injections: Injection) -> Rewritten:
    """What the proxy has of a body when it asks for the usage."""
    return MemberSplicer().rewrite(body, lambda _: Completion(injections), WATCHED)


class WithUsageTests(SynchronousTestCase):
    def test_absent(self) -> None:
        """Where there are no options, they are the first member."""
        for body, result in (
            (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
            (b" { }\n", b' {"stream_options":{"include_usage":true} }\n'),
            (b'{"x":{"stream_options":{}}}', b'{"stream_options":{"include_usage":true},"x":{"stream_options":{}}}'),
        ):
            self.assertEqual(withUsage(body), result)

    def test_present(self) -> None:
        """Where there are some, the option is their first member, however they are spelled and whatever stands before."""
        for start in (
            b"",
            b'"a":{},',
            b'"b" : [{"x":"}\\"{"}, 1e999] ,\n',
            b'"\\"{":-0.0,"\\ud83d":"\\\\",',
            '"é":{},'.encode(),
        ):
            for key in (b'"stream_options":', b'"stream\\u005foptions" :\n\t'):
                for options, result in (
                    (b"{}", b'{"include_usage":true}'),
                    (b'{ "x": {} }', b'{"include_usage":true, "x": {} }'),
                    (b'{"x":{"include_usage":false}}', b'{"include_usage":true,"x":{"include_usage":false}}'),
                    (b'{"x":"\\ud83d"}', b'{"include_usage":true,"x":"\\ud83d"}'),
                ):
                    body = b'{%b%b%b,"stream":true}' % (start, key, b"%b")
                    self.assertEqual(withUsage(body % options), body % result)

    def test_said(self) -> None:
        """A client that says whether it wants the usage, whatever it says, is left alone; and so are no options."""
        for value in (b"true", b"false", b"null", b"0", b'"x"', b"{}"):
            for key in (b"include_usage", b"include\\u005fusage"):
                self.assertIsNone(withUsage(b'{"stream_options":{"x":1,"%b":%b}}' % (key, value)))
            self.assertIsNone(withUsage(b'{"stream_options":[{}],"x":%b}' % value))
        for value in (b"true", b"null", b"0", b'"{}"', b"[]", b"[{}]"):
            self.assertIsNone(withUsage(b'{"stream_options":%b}' % value))

    def test_twice(self) -> None:
        """Of a body that names any member twice nobody knows which one counts: it is left alone."""
        for body in (
            b'{"x":1,"x":2}',
            b'{"stream_options":{},"stream_options":{}}',
            b'{"stream_options":{"x":1,"x":2}}',
        ):
            self.assertIsNone(withUsage(body))

    def test_large(self) -> None:
        """A large body is read as a small one."""
        text = b"x" * SMALL_BODY
        self.assertEqual(withUsage(b'{"x":"%b"}' % text), b'{"stream_options":{"include_usage":true},"x":"%b"}' % text)
        body = b'{"x":"%b" , "stream_options" : {%b}}'
        self.assertEqual(withUsage(body % (text, b"")), body % (text, b'"include_usage":true'))

    def test_deep(self) -> None:
        """Nesting without end is left alone, and crashes nothing."""
        for body in (b'{"x":' + b"[" * 100_000, b'{"stream_options":' + b'{"x":' * 100_000):
            self.assertIsNone(withUsage(body))

    @given(BODIES)
    @example('{"stream_options":{"😀":[],"\\uD83D\\uDE00":[],"\\ud83d":[]}}'.encode())
    def test_members(self, body: bytes) -> None:
        """The body that asks has the members that it had, and asks; every byte of the client's is in it, in order."""
        result = withUsage(body)
        asking = expected(parse(body))
        # Where a surrogate is unpaired, names that are one only when the others are paired count as two (readCarefully).
        if result is None or asking is not None or b"\\ud" not in body.lower():
            self.assertEqual(None if result is None else parse(result), asking)
        if result is not None:
            self.assertIsNone(withUsage(result))
            start = next((at for at, (a, b) in enumerate(zip(body, result, strict=False)) if a != b), len(body))
            self.assertEqual(result[:start] + result[start + len(result) - len(body) :], body)

    @given(st.one_of(st.binary(), mutations(BODIES)))
    @example(b'{"":{"\x80":null,"":null,"":""}}')
    def test_anything(self, body: bytes) -> None:
        """Bytes at random never raise; what is left is asked for only where it is a JSON object."""
        result = withUsage(body)
        if result is not None:
            # What is not UTF-8 has been refused before; here it is only passed on.
            self.assertIsInstance(json.loads(result.decode("utf-8", "surrogateescape")), dict)


class AskForUsageTests(SynchronousTestCase):
    def test_noStream(self) -> None:
        """Only a stream is asked: without one the option is an error."""
        for body in (b"{}", b'{"stream":false}', b'{"stream":null,"stream_options":{}}'):
            self.assertIsNone(askForUsage(rewritten(body, MODEL)))

    def test_injected(self) -> None:
        """A stream that the gateway's defaults ask for is a stream."""
        result = askForUsage(rewritten(b" {}", MODEL, STREAM))
        self.assertEqual(result, b' {"stream_options":{"include_usage":true},"model":"m","stream":true}')

    def test_told(self) -> None:
        """The simulator then tells the usage, and takes nothing amiss."""
        body = json.dumps(chat("hi", stream=True)).encode()
        asking = askForUsage(rewritten(body))
        assert asking is not None
        plain, told = (Studio().ask("/v1/chat/completions", one).data for one in (body, asking))
        self.assertEqual(len(told), len(plain) + 1)
        self.assertEqual(told[-2]["usage"]["prompt_tokens"], 5)

    @given(BODIES)
    def test_once(self, body: bytes) -> None:
        """Reading the body once, with the rewriter, or again is the same."""
        names = [name for name, _ in parse(body)]
        if len(set(names)) == len(names):
            result = rewritten(body, STREAM)
            self.assertEqual(askForUsage(result), withUsage(result.body) if result.stream else None)


class UsageAskingTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """One upstream's refusal holds for that upstream, for good."""
        asking = UsageAsking()
        self.assertTrue(asking.asks("http://a"))
        asking.refused("http://a")
        asking.refused("http://a")
        self.assertEqual([asking.asks(one) for one in ("http://a", "http://b")], [False, True])

    def test_unwanted(self) -> None:
        """A setting turns it off."""
        self.assertFalse(UsageAsking(isWanted=False).asks("http://a"))

    def test_refuses(self) -> None:
        """A refusal is a status that blames the request, and a text that names the member."""
        for body in (
            b'{"error":"Unrecognized key(s) in object: \'stream_options\'"}',
            b'{"detail":[{"loc":["body","stream_options","include_usage"],"msg":"extra fields not permitted"}]}',
            b"include_usage?",
        ):
            self.assertTrue(refusesUsage(400, body))
            self.assertTrue(refusesUsage(422, body))
            for status in (200, 401, 404, 413, 429, 500, 503):
                self.assertFalse(refusesUsage(status, body))
        self.assertFalse(refusesUsage(400, b'{"error":"\'messages\' field is required"}'))

    def test_routes(self) -> None:
        """The routes whose streams are asked are the completions, of LM Studio's own old API too."""
        asked = {route.name for route in ROUTES if route.inject == "all" and route.dialect in ASKABLE_DIALECTS}
        completions = {"/chat/completions", "/completions"}
        self.assertEqual(asked, {prefix + path for prefix in ("", "/v1", "/api/v0") for path in completions})
