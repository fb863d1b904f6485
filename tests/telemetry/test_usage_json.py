"""The figures of answers that are one JSON object."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import TokenUsage
from lmgateway.interfaces import IAnswerReader
from lmgateway.telemetry.usage_figures import HELD_LIMIT
from lmgateway.telemetry.usage_json import JsonReader
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import mutations
from tests.telemetry.chunking import CUTS, cut, everyCut

LONG = 'Say \\ "usage":{"prompt_tokens":7} \U0001f600 ' * 2_000
"""Text that is longer than what is kept, and about usage."""

Spelled = tuple[int | None, tuple[str, str]]

SPELLINGS: tuple[Spelled, ...] = ((None, (",", ":")), (None, (", ", ": ")), (2, (",", ": ")), (4, (",", ": ")))


def completion(text: str) -> dict[str, Any]:
    """A chat completion of ``/v1``, as LM Studio has it."""
    return {
        "id": "chatcmpl-7njt60psmkjkeabst905o",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": text}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 148, "completion_tokens": 21, "total_tokens": 169},
        "stats": {},
        "system_fingerprint": "m",
    }


def completionV0(text: str) -> dict[str, Any]:
    """A chat completion of ``/api/v0``, the message last, the statistics after the usage."""
    return {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": text}}],
        "usage": {"prompt_tokens": 148, "completion_tokens": 21, "total_tokens": 169},
        "stats": {"tokens_per_second": 51.4, "time_to_first_token": 0.111, "stop_reason": "eosFound"},
        "model_info": {"arch": "granite"},
    }


def message(text: str) -> dict[str, Any]:
    """A message of Anthropic's, with a call whose arguments are about usage."""
    call = {"type": "tool_use", "input": {"usage": {"input_tokens": 1}, "stop_reason": 5}}
    return {
        "type": "message",
        "content": [{"type": "text", "text": text}, call],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 148, "output_tokens": 21},
    }


def response(text: str) -> dict[str, Any]:
    """A response of ``/v1/responses``, which repeats the tools after the usage."""
    return {
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "status": "completed", "content": [{"type": "output_text", "text": text}]}],
        "usage": {"input_tokens": 148, "output_tokens": 21, "output_tokens_details": {"reasoning_tokens": 2}},
        "tools": [{"parameters": {"properties": {"usage": {"type": "string"}}}}],
    }


def chat(text: str) -> dict[str, Any]:
    """A chat of ``/api/v1``, with a call whose arguments are about statistics."""
    return {
        "model_instance_id": "m",
        "output": [{"type": "message", "content": text}, {"type": "tool_call", "arguments": {"stats": {}, "usage": 1}}],
        "stats": {"input_tokens": 148, "total_output_tokens": 21, "tokens_per_second": 51.4},
        "response_id": "resp_1",
    }


def spell(value: object, spelled: Spelled) -> bytes:
    """JSON with the white space of some server."""
    return json.dumps(value, indent=spelled[0], separators=spelled[1]).encode()


def read(pieces: list[bytes]) -> JsonReader:
    """A reader of an answer in these pieces."""
    reader = JsonReader()
    for piece in pieces:
        assert not reader.feed(piece), "A JSON answer tells nothing of its first token."
    reader.finish()
    return reader


def figuresOf(reader: JsonReader) -> tuple[object, ...]:
    """All that a reader found."""
    return reader.usage, reader.finishReason, reader.tokensPerSecond, reader.timeToFirstToken


class JsonReaderTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The reader is what watches an exchange asks for."""
        verifyObject(IAnswerReader, JsonReader())

    def test_each(self) -> None:
        """Each API's answer tells its figures, however it is spelled."""
        usage = TokenUsage(148, 21)
        for value, expected in (
            (completion("Hi"), (usage, "stop", None, None)),
            (completionV0("Hi"), (usage, "stop", 51.4, 0.111)),
            (message("Hi"), (usage, "tool_use", None, None)),
            (response("Hi"), (usage, "completed", None, None)),
            (chat("Hi"), (usage, None, 51.4, None)),
        ):
            for spelled in SPELLINGS:
                self.assertEqual(figuresOf(read([spell(value, spelled)])), expected)

    def test_long(self) -> None:
        """An answer of which only the end is kept tells the same, but for reasons that stand before its text."""
        usage = TokenUsage(148, 21)
        for value, expected in (
            (completion(LONG), (usage, "stop", None, None)),
            (completionV0(LONG), (usage, "eosFound", 51.4, 0.111)),
            (message(LONG), (usage, "tool_use", None, None)),
            (response(LONG), (usage, None, None, None)),
            (chat(LONG), (usage, None, 51.4, None)),
        ):
            for spelled in SPELLINGS:
                body = spell(value, spelled)
                self.assertGreater(len(body), HELD_LIMIT)
                self.assertEqual(figuresOf(read([body])), expected)
                self.assertEqual(figuresOf(read(cut(body, range(0, len(body), 999)))), expected)

    def test_boundary(self) -> None:
        """Just as long as what is kept, and a byte longer: the same figures."""
        short = len(spell(completion(""), SPELLINGS[0]))
        for length in range(HELD_LIMIT - 2, HELD_LIMIT + 3):
            body = spell(completion("x" * (length - short)), SPELLINGS[0])
            self.assertEqual(len(body), length)
            self.assertEqual(figuresOf(read([body])), (TokenUsage(148, 21), "stop", None, None))

    def test_embeddings(self) -> None:
        """Embeddings tell a prompt only; LM Studio always says 0."""
        data = [{"object": "embedding", "embedding": [0.1] * 20_000, "index": 0}]
        for count in (0, 9):
            value = {"object": "list", "data": data, "usage": {"prompt_tokens": count, "total_tokens": count}}
            self.assertEqual(read([spell(value, SPELLINGS[0])]).usage, TokenUsage(count, None))

    def test_textAboutUsage(self) -> None:
        """A text that holds a whole answer, even escaped twice, is not taken for one."""
        text = json.dumps(completion(json.dumps(completion("Hi")).replace("148", "7"))).replace("148", "7")
        for filling in ("", "x" * HELD_LIMIT):
            self.assertEqual(read([spell(completion(filling + text), SPELLINGS[0])]).usage, TokenUsage(148, 21))
            alone = {"choices": [{"message": {"content": filling + text}}]}
            self.assertIsNone(read([spell(alone, SPELLINGS[0])]).usage)

    def test_nothing(self) -> None:
        """Errors, other answers and what breaks off tell nothing."""
        body = spell(completion("Hi"), SPELLINGS[0])
        for other in (
            b"",
            b'{"error":"usage"}',
            b"[]",
            b"<html>",
            body[:-1],
            body[1:],
            b"x" * 70_000,
            b'"usage"' * 20_000,
        ):
            self.assertEqual(figuresOf(read([other])), (None, None, None, None))

    def test_cutEverywhere(self) -> None:
        """Cut at any byte, an answer tells the same."""
        body = spell(completionV0('Hi \\ "'), SPELLINGS[2])
        for pieces in everyCut(body):
            self.assertEqual(figuresOf(read(pieces)), (TokenUsage(148, 21), "stop", 51.4, 0.111))

    def test_bounded(self) -> None:
        """However long an answer is, and in however large or small pieces, no more than its end is kept."""
        reader = JsonReader()
        for piece in (b"x" * 1_000_000, b"x", b"x" * 50_000, *(b"x" for _ in range(100)), b"x" * 65_536):
            reader.feed(piece)
            self.assertLessEqual(len(reader._end), HELD_LIMIT + 1)

    @given(st.sampled_from((completion, completionV0, message, response, chat)), st.text(), st.data())
    def test_anyText(self, make: Any, text: str, data: st.DataObject) -> None:
        """Whatever was generated, long or short, in whatever pieces, the figures are those beside it."""
        filling = "x" * data.draw(st.sampled_from((0, 65_000, 65_536, 200_000)))
        body = spell(make(text + filling + text), data.draw(st.sampled_from(SPELLINGS)))
        places = data.draw(st.lists(st.integers(0, len(body)), max_size=5))
        self.assertEqual(read(cut(body, places)).usage, TokenUsage(148, 21))

    @given(mutations(st.just(spell(chat("Hi"), SPELLINGS[1]))), CUTS)
    def test_broken(self, body: bytes, places: list[int]) -> None:
        """What is no longer JSON, or no longer an answer, never raises, and reads the same in any pieces."""
        self.assertEqual(figuresOf(read(cut(body, places))), figuresOf(read([body])))
