"""The figures of event streams, in any pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import TokenUsage
from lmgateway.interfaces import IAnswerReader
from lmgateway.telemetry.usage_figures import HELD_LIMIT
from lmgateway.telemetry.usage_stream import (
    ChatStream,
    CompletionStream,
    MessageStream,
    ResponsesStream,
    StreamReader,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import mutations
from tests.telemetry.chunking import CUTS, cut, everyCut, fed, singly

READERS = (CompletionStream, ResponsesStream, MessageStream, ChatStream)
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 148, "completion_tokens": 21, "total_tokens": 169}


def event(**members: object) -> bytes:
    """An event as most servers write it."""
    return b"data: %b\n\n" % json.dumps(members, separators=(",", ":")).encode()


def named(name: str, **members: object) -> bytes:
    """An event that says its name twice."""
    return b"event: %b\n%b" % (name.encode(), event(type=name, **members))


def chunk(delta: object, reason: object = None, **more: object) -> bytes:
    """A chunk of a chat completion."""
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}], **more)


def read(make: type[StreamReader], *pieces: bytes) -> StreamReader:
    """A reader of a stream in these pieces."""
    reader = make()
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return reader


def figuresOf(reader: StreamReader) -> tuple[object, ...]:
    """All that a reader found."""
    return reader.usage, reader.finishReason, reader.tokensPerSecond, reader.timeToFirstToken


def firstOf(make: type[StreamReader], events: Iterable[bytes]) -> int | None:
    """Which of the events has the first text."""
    reader = make()
    heard = [reader.feed(one) for one in events]
    assert heard.count(True) <= 1, "There is only one first text."
    return heard.index(True) if any(heard) else None


class StreamReaderTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The readers are what watches an exchange asks for."""
        for make in READERS:
            verifyObject(IAnswerReader, make())

    def test_lineEnds(self) -> None:
        """A line ends with a line feed, a carriage return or both; a space before the data is no part of it."""
        for end in (b"\n", b"\r", b"\r\n"):
            for space in (b"", b" ", b" \t "):
                stream = b": hi%bevent: x%bdata:%b" % (end, end, space) + chunk({"content": "a"}, "stop")[6:]
                stream = stream.replace(b"\n\n", end * 2)
                for pieces in everyCut(stream):
                    reader = read(CompletionStream, *pieces)
                    self.assertEqual((reader.texts, reader.finishReason), (1, "stop"))

    def test_unfinished(self) -> None:
        """A line that the stream ends in is read; one that breaks off tells nothing."""
        whole = event(choices=[], usage=USAGE).rstrip()
        self.assertEqual(read(CompletionStream, whole).usage, TokenUsage(148, 21))
        self.assertIsNone(read(CompletionStream, whole[:-1]).usage)

    def test_notData(self) -> None:
        """Comments, other fields and data that is no JSON object tell nothing."""
        told = chunk({"content": "a"}, "stop", usage=USAGE)[6:]
        for field in (
            b": ",
            b"id: ",
            b"dat: ",
            b"Data: ",
            b" data: ",
            b"data",
            b"data: x",
            b"data: [",
            b"\xef\xbb\xbfdata: ",
        ):
            for make in READERS:
                reader = make()
                self.assertFalse(reader.feed(field + told))
                reader.finish()
                self.assertEqual(figuresOf(reader), (None, None, None, None))

    def test_broken(self) -> None:
        """An event with half an emoji, or bytes that are not UTF-8, still carries text."""
        for text in (b"\\ud83d", b"\xf0\x9f", b"\\\\ud83d\\ud83d"):
            self.assertEqual(read(CompletionStream, chunk({"content": "TEXT"}).replace(b"TEXT", text)).texts, 1)

    def test_bounded(self) -> None:
        """A line without an end is held to its last bytes, in pieces of any size, and the next line is read again."""
        for size in (1_000, 65_536, 300_000):
            reader = CompletionStream()
            for _ in range(3):
                reader.feed(b"x" * size)
                self.assertLessEqual(len(reader._held), HELD_LIMIT + 1)
            self.assertTrue(reader.feed(b"\n" + chunk({"content": "a"})))
            self.assertEqual(len(reader._held), 0)

    def test_longest(self) -> None:
        """A line of just the length that is held is read, one byte more is not: in one piece, or in many."""
        bare = len(chunk({"content": ""})) - 2
        for length, isRead in ((HELD_LIMIT, True), (HELD_LIMIT + 1, False)):
            stream = chunk({"content": "x" * (length - bare)})
            for pieces in ([stream], cut(stream, range(0, length, 1_000)), [stream[:-2], b"\n\n"], [stream[:-2]]):
                self.assertEqual(read(CompletionStream, *pieces).texts, int(isRead))

    @given(st.sampled_from(READERS), st.binary(), CUTS)
    def test_anything(self, make: type[StreamReader], data: bytes, places: list[int]) -> None:
        """Bytes at random never raise, and read the same in any pieces."""
        self.assertEqual(figuresOf(read(make, *cut(data, places))), figuresOf(read(make, data)))


class CompletionTests(SynchronousTestCase):
    STREAM = (
        chunk({"role": "assistant", "content": ""})
        + chunk({"role": "assistant", "content": "Hi"}, usage=None)
        + chunk({"role": "assistant", "content": ' \\ "usage":{'})
        + chunk({}, "stop")
        + event(choices=[], usage=USAGE)
        + DONE
    )

    def test_cutEverywhere(self) -> None:
        """Cut at any byte, the stream tells the same; the first text is told with the end of its line, and once."""
        end = self.STREAM.index(b'"Hi"')
        end = self.STREAM.index(b"\n", end) + 1
        for pieces in everyCut(self.STREAM):
            reader = CompletionStream()
            first = fed(reader.feed, pieces)
            reader.finish()
            assert first is not None
            self.assertEqual(figuresOf(reader), (TokenUsage(148, 21), "stop", None, None))
            whole = [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]
            self.assertEqual(first, min(place for place in whole if place >= end))

    def test_text(self) -> None:
        """Content, thoughts, calls and the text of text completions are generated; roles and empty ones are not."""
        for delta in (
            {"content": "a"},
            {"role": "assistant", "content": None, "reasoning_content": "hm"},
            {"content": "", "reasoning": "hm"},
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
            {"function_call": {"name": "f"}},
            {"refusal": "no"},
        ):
            self.assertEqual(firstOf(CompletionStream, [chunk({}), chunk(delta), chunk(delta)]), 1)
        for delta in ({}, None, {"role": "assistant"}, {"content": "", "tool_calls": [], "reasoning_content": None}):
            self.assertIsNone(firstOf(CompletionStream, [chunk(delta)]))
        self.assertEqual(firstOf(CompletionStream, [event(choices=[{"text": text}]) for text in ("", None, "a")]), 2)

    def test_estimated(self) -> None:
        """Without usage each event with text counts as a token, one with several choices once; ``null`` is no usage."""
        pair = [{"delta": {}}, {"delta": {"content": "a"}}, {"delta": {"content": "b"}}]
        stream = chunk({"content": "a"}, usage=None), event(choices=pair), chunk({}, "length"), DONE
        reader = read(CompletionStream, *stream)
        self.assertEqual(figuresOf(reader), (TokenUsage(None, 2, estimated=True), "length", None, None))

    def test_usageAnywhere(self) -> None:
        """Usage is read in the last chunk with choices too, and the last one counts of several."""
        for stream in (
            (chunk({}, "stop", usage=USAGE), DONE),
            (chunk({"content": "a"}, usage={**USAGE, "completion_tokens": 1}), chunk({}, "stop", usage=USAGE)),
        ):
            self.assertEqual(figuresOf(read(CompletionStream, *stream))[:2], (TokenUsage(148, 21), "stop"))

    def test_stats(self) -> None:
        """Statistics are read where a version tells them in a stream; ``stats`` may be empty."""
        told = {"tokens_per_second": 51.4, "time_to_first_token": 0.1, "stop_reason": "eosFound"}
        reader = read(CompletionStream, chunk({}, stats={}), chunk({}, "stop", stats=told))
        self.assertEqual(figuresOf(reader), (None, "stop", 51.4, 0.1))

    def test_otherShapes(self) -> None:
        """Chunks that are not as the API has them tell nothing, and the next one is read."""
        shapes: tuple[Any, ...] = (None, 5, "x", {}, [None], [5], [[]], [{}], [{"delta": 5}], [{"delta": [1]}])
        for choices in shapes:
            reader = read(CompletionStream, event(choices=choices, usage=5, stats="x"), chunk({"content": "a"}))
            self.assertEqual((reader.texts, reader.finishReason), (1, None))

    @given(mutations(st.just(STREAM)), CUTS)
    def test_mutated(self, stream: bytes, places: list[int]) -> None:
        """A stream with a few wrong bytes never raises, and reads the same in any pieces, the first text included."""
        whole, pieces = CompletionStream(), CompletionStream()
        told = fed(whole.feed, [stream]), fed(pieces.feed, cut(stream, places))
        self.assertEqual(told[0] is None, told[1] is None)
        whole.finish()
        pieces.finish()
        self.assertEqual(figuresOf(whole), figuresOf(pieces))


class ResponsesTests(SynchronousTestCase):
    END = {"status": "completed", "usage": {"input_tokens": 148, "output_tokens": 21}}

    def test_text(self) -> None:
        """Each kind of delta is generated; what announces, repeats or is empty is not."""
        for kind in ("output_text", "reasoning_text", "reasoning_summary_text", "function_call_arguments", "refusal"):
            begin = named("response.created", response={"status": "in_progress", "usage": None})
            delta = named(f"response.{kind}.delta", delta="a")
            events = [begin, named(f"response.{kind}.delta", delta=""), delta, named(f"response.{kind}.done", text="a")]
            self.assertEqual(firstOf(ResponsesStream, events), 2)
            reader = read(ResponsesStream, *events)
            self.assertEqual(figuresOf(reader)[:2], (TokenUsage(None, 1, estimated=True), None))

    def test_end(self) -> None:
        """Each event that ends a response tells its usage and its status."""
        for status in ("completed", "incomplete", "failed"):
            stream = named(f"response.{status}", response={**self.END, "status": status})
            for pieces in ([stream], singly(stream)):
                self.assertEqual(figuresOf(read(ResponsesStream, *pieces))[:2], (TokenUsage(148, 21), status))

    def test_longEnd(self) -> None:
        """An end that repeats more text than is held tells its usage all the same."""
        output = ['"usage":{"input_tokens":1} \\' * 5_000, {"usage": {"input_tokens": 1}}]
        response = {"status": "completed", "output": output, **self.END, "tools": [{"usage": "x"}]}
        stream = named("response.completed", response=response, sequence_number=9)
        for pieces in ([stream], cut(stream, range(0, len(stream), 999)), [stream[:-2], b"\n\n"]):
            self.assertEqual(read(ResponsesStream, *pieces).usage, TokenUsage(148, 21))

    def test_otherShapes(self) -> None:
        """Events that are not as the API has them tell nothing."""
        for response in (None, 5, [], {"usage": 5, "status": 5}):
            self.assertIsNone(read(ResponsesStream, named("response.completed", response=response)).usage)
        self.assertIsNone(read(ResponsesStream, event(type=["x"]), event(type={}), event()).usage)
        twice = b'data: {"x":"%b","response":{"usage":{}},"response":5}\n' % (b"x" * HELD_LIMIT)
        self.assertIsNone(read(ResponsesStream, twice).usage)


class MessageTests(SynchronousTestCase):
    START = named("message_start", message={"usage": {"input_tokens": 148, "output_tokens": 1}})
    TEXT = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
    END = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 21})

    def test_usual(self) -> None:
        """The prompt is told at the start, the output at the end, cut wherever."""
        stream = self.START + named("ping") + self.TEXT + self.END + named("message_stop")
        for pieces in everyCut(stream):
            self.assertEqual(figuresOf(read(MessageStream, *pieces))[:2], (TokenUsage(148, 21), "end_turn"))

    def test_text(self) -> None:
        """Text, thoughts and the input of tools are generated; signatures and empty ones are not."""
        deltas = [{"signature": "x"}, {"partial_json": ""}, None, {"text": ""}]
        empty = [self.START, *(named("content_block_delta", delta=delta) for delta in deltas)]
        for delta in ({"text": "a"}, {"thinking": "hm"}, {"partial_json": "{"}):
            self.assertEqual(firstOf(MessageStream, [*empty, named("content_block_delta", delta=delta)]), len(empty))

    def test_left(self) -> None:
        """A message that was left before its end tells its prompt, and what passed is counted."""
        reader = read(MessageStream, self.START, self.TEXT, self.TEXT)
        self.assertEqual(figuresOf(reader)[:2], (TokenUsage(148, 2, estimated=True), None))

    def test_promptAtEnd(self) -> None:
        """A prompt told only, or again, at the end is the larger of both; cumulative output is the last."""
        late = named("message_start", message={"usage": {"input_tokens": 0}})
        more = named("message_delta", usage={"output_tokens": 9, "input_tokens": 148})
        self.assertEqual(read(MessageStream, late, more, self.END).usage, TokenUsage(148, 21))
        low = named("message_start", message={"usage": {"input_tokens": 1}})
        self.assertEqual(read(MessageStream, low, more).usage, TokenUsage(148, 9))
        zero = named("message_delta", usage={"output_tokens": 21, "input_tokens": 0})
        self.assertEqual(read(MessageStream, self.START, zero).usage, TokenUsage(148, 21))

    def test_otherShapes(self) -> None:
        """Events that are not as the API has them tell nothing."""
        for value in (None, 5, [], {"usage": 5}):
            events = named("message_start", message=value), named("message_delta", usage=value, delta=value)
            self.assertEqual(figuresOf(read(MessageStream, *events)), (None, None, None, None))


class ChatTests(SynchronousTestCase):
    STATS = {
        "input_tokens": 148,
        "total_output_tokens": 21,
        "tokens_per_second": 51.4,
        "time_to_first_token_seconds": 0.1,
    }
    TOLD = (TokenUsage(148, 21), None, 51.4, 0.1)

    def test_usual(self) -> None:
        """The last event tells all, cut wherever."""
        stream = (
            named("chat.start", model_instance_id="m")
            + named("message.delta", content="a")
            + named("chat.end", result={"output": [{"content": '"stats":'}], "stats": self.STATS, "response_id": "x"})
        )
        for pieces in everyCut(stream):
            self.assertEqual(figuresOf(read(ChatStream, *pieces)), self.TOLD)

    def test_text(self) -> None:
        """The message, thoughts and a call's arguments are generated; progress is not."""
        before = [named("prompt_processing.progress", progress=0.5), named("message.delta", content="")]
        for text in (
            named("message.delta", content="a"),
            named("reasoning.delta", content="hm"),
            named("tool_call.arguments", tool="f", arguments={"x": 1}),
        ):
            self.assertEqual(firstOf(ChatStream, [*before, text]), 2)

    def test_longEnd(self) -> None:
        """A result longer than what is held tells its statistics all the same."""
        result = {"output": ["x" * 100_000, {"stats": {}}], "stats": self.STATS, "response_id": "x"}
        stream = named("chat.end", result=result)
        for pieces in ([stream], cut(stream, range(0, len(stream), 999)), [stream[:-2], b"\n\n"]):
            self.assertEqual(figuresOf(read(ChatStream, *pieces)), self.TOLD)

    def test_otherShapes(self) -> None:
        """Events that are not as the API has them tell nothing."""
        for result in (None, 5, [], {"stats": 5}):
            self.assertEqual(figuresOf(read(ChatStream, named("chat.end", result=result))), (None, None, None, None))
