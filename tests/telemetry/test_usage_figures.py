"""The figures of an answer, in the words of each API."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import TokenUsage
from lmgateway.telemetry.usage_figures import KEY_ATTEMPTS, MOST_TOKENS, Figures, decode, decodeEnd
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)
NO_COUNTS = (None, True, -1, 1.0, "7", [7], MOST_TOKENS)


class Told(Struct):
    """What the tests look for."""

    usage: Any = None
    more: Any = None


DECODER = msgspec.json.Decoder(Told)


def usageOf(*told: object) -> TokenUsage | None:
    """The usage of an answer that told this, in turn."""
    figures = Figures()
    for one in told:
        figures.readUsage(one)
    return figures.usage


class UsageTests(SynchronousTestCase):
    def test_words(self) -> None:
        """Each API's words for the same two numbers are known."""
        for prompt, completion in (
            ("prompt_tokens", "completion_tokens"),
            ("input_tokens", "output_tokens"),
            ("input_tokens", "total_output_tokens"),
        ):
            self.assertEqual(usageOf({prompt: 12, completion: 0, "total_tokens": 99}), TokenUsage(12, 0))

    def test_cached(self) -> None:
        """Anthropic's three kinds of input tokens are one prompt; OpenAI's cached ones are in it already."""
        anthropic = {"input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 500}
        self.assertEqual(usageOf(anthropic), TokenUsage(543, None))
        self.assertEqual(usageOf({**anthropic, "cache_read_input_tokens": None}), TokenUsage(503, None))
        responses = {"input_tokens": 50, "input_tokens_details": {"cached_tokens": 40}}
        self.assertEqual(usageOf(responses), TokenUsage(50, None))

    def test_noCounts(self) -> None:
        """What can be no number of tokens tells nothing, and takes nothing back that was told."""
        for value in NO_COUNTS:
            self.assertIsNone(usageOf({"prompt_tokens": value, "completion_tokens": value}))
            told = {"prompt_tokens": value, "completion_tokens": value}
            self.assertEqual(usageOf({"prompt_tokens": 1, "completion_tokens": 2}, told), TokenUsage(1, 2))

    def test_again(self) -> None:
        """What is told again is told anew."""
        self.assertEqual(usageOf({"output_tokens": 1}, {"input_tokens": 5, "output_tokens": 9}), TokenUsage(5, 9))

    def test_estimated(self) -> None:
        """Texts are counted only where the answer tells no completion tokens; without either there is no usage."""
        figures = Figures()
        self.assertIsNone(figures.usage)
        figures.texts = 3
        self.assertEqual(figures.usage, TokenUsage(None, 3, estimated=True))
        figures.readUsage({"prompt_tokens": 8})
        self.assertEqual(figures.usage, TokenUsage(8, 3, estimated=True))
        figures.readUsage({"completion_tokens": 2})
        self.assertEqual(figures.usage, TokenUsage(8, 2))

    @given(JSON)
    def test_anything(self, told: object) -> None:
        """Whatever is told, nothing fails, and what is then known are numbers and texts."""
        figures = Figures()
        figures.readUsage(told)
        figures.readStats(told)
        figures.readReason(told)
        self.assertTrue(figures.finishReason is None or figures.finishReason == told)
        self.assertIsNone(figures.usage)

    @given(st.dictionaries(st.sampled_from(("prompt_tokens", "input_tokens", "completion_tokens")), JSON))
    def test_anyValue(self, told: dict[str, object]) -> None:
        """Whatever the values are, the counts are integers that can be stored, and summed."""
        usage = usageOf(told)
        if usage is not None:
            for count in (usage.promptTokens, usage.completionTokens):
                self.assertTrue(count is None or (type(count) is int and 0 <= count < MOST_TOKENS))


class StatsTests(SynchronousTestCase):
    def test_words(self) -> None:
        """``/api/v0`` and ``/api/v1`` spell the time to the first token each in their way."""
        for name in ("time_to_first_token", "time_to_first_token_seconds"):
            figures = Figures()
            figures.readStats({"tokens_per_second": 51.4, name: 0.111, "stop_reason": "eosFound"})
            self.assertEqual(
                (figures.tokensPerSecond, figures.timeToFirstToken, figures.finishReason), (51.4, 0.111, "eosFound")
            )

    def test_unmeasured(self) -> None:
        """A rate of 0, or what is no number, was not measured; ``stats`` may also be empty."""
        figures = Figures()
        figures.readStats({})
        for value in (0, -1, None, True, "9", [1]):
            figures.readStats({"tokens_per_second": value, "time_to_first_token": value})
        self.assertEqual((figures.tokensPerSecond, figures.timeToFirstToken), (None, None))

    def test_reason(self) -> None:
        """LM Studio's own word for the end does not replace that of the API."""
        figures = Figures()
        figures.readReason("stop")
        figures.readStats({"stop_reason": "eosFound"})
        self.assertEqual(figures.finishReason, "stop")
        figures.readReason("")
        figures.readReason(None)
        self.assertEqual(figures.finishReason, "stop")


class DecodeTests(SynchronousTestCase):
    def test_mended(self) -> None:
        """Half an emoji and bytes that are not UTF-8 do not hide the figures beside them."""
        for text in (rb'"\ud83d"', rb'"\uDE00 \\ud83d"', b'"\xff"', b'"\xc3"'):
            told = decode(DECODER, b'{"more":%b,"usage":1}' % text)
            assert told is not None
            self.assertEqual(told.usage, 1)

    def test_deep(self) -> None:
        """Nesting without end is no answer, and no crash."""
        self.assertIsNone(decode(DECODER, b'{"usage":' + b"[" * 60_000))
        self.assertIsNone(decode(DECODER, b'{"usage":"\xff",' + b'"x":[' * 60_000))

    @given(st.binary())
    def test_anything(self, text: bytes) -> None:
        """Bytes at random are read or not, and never raise."""
        self.assertIsInstance(decode(DECODER, text), Told | None)
        self.assertIsInstance(decodeEnd(DECODER, text, b'"usage"', b"{"), Told | None)


class EndTests(SynchronousTestCase):
    @given(st.dictionaries(st.text(), JSON, max_size=4), JSON, st.data())
    def test_wherever(self, before: dict[str, object], usage: object, data: st.DataObject) -> None:
        """Wherever the end begins before the last ``usage``, its value is found, whatever stands before it."""
        text = json.dumps({**{f"x{name}": value for name, value in before.items()}, "usage": usage, "more": [usage]})
        body = text.encode()
        start = data.draw(st.integers(0, body.index(b'"usage"')))
        told = decodeEnd(DECODER, body[start:], b'"usage"', b"{")
        assert told is not None
        self.assertEqual((told.usage, told.more), (usage, [usage]))

    def test_deeper(self) -> None:
        """A ``usage`` inside another object is not the one, before it or behind it, nor is one in a text."""
        inner = b'{"usage":{"prompt_tokens":1}}'
        for value in (inner, b"[%b,%b]" % (inner, inner), rb'"{\"usage\":{\"prompt_tokens\":1}}"', b'"usage"'):
            for body in (b'{"usage":2,"x":%b}', b'{"x":%b,"usage":2}', b'{"x":%b,"usage": 2, "y":"usage"}\n'):
                told = decodeEnd(DECODER, (body % value)[1:], b'"usage"', b"{")
                assert told is not None
                self.assertEqual(told.usage, 2)

    def test_none(self) -> None:
        """There may be none; and some places are looked at, not thousands."""
        self.assertIsNone(decodeEnd(DECODER, b'"x":"usage"}', b'"usage"', b"{"))
        self.assertIsNone(decodeEnd(DECODER, b"", b'"usage"', b"{"))
        decoys = b'"usage",'
        for count in (KEY_ATTEMPTS - 1, KEY_ATTEMPTS):
            told = decodeEnd(DECODER, b'"usage":1,"x":[%b0]}' % (decoys * count), b'"usage"', b"{")
            self.assertEqual(told is not None, count < KEY_ATTEMPTS)

    def test_opening(self) -> None:
        """The object may lie in another one."""
        text = b'1}]},"usage":5,"y":{}},"z":0}'
        found = decodeEnd(msgspec.json.Decoder(dict[str, Any]), text, b'"usage"', b'{"response":{')
        self.assertEqual(found, {"response": {"usage": 5, "y": {}}, "z": 0})
