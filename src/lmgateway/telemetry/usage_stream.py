# -*- test-case-name: tests.telemetry.test_usage_stream -*-
"""
The figures of an event stream, read as it passes.

An event is not decoded as WHATWG's grammar has it, which costs several times as much: each ``data`` line is read by
itself, since every server writes an event's JSON on one, and the name of an event is also its ``type``. What follows no
line break is read when one comes, or at the end of the stream.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from lmgateway.telemetry.usage_figures import HELD_LIMIT, Figures, decode, decodeEnd, promptTokensOf

_LINE_FEED = 10
_CARRIAGE_RETURN = 13


class StreamReader(Figures):
    """
    Splits a stream into lines. One that is too long to hold is read from its end, as an event that repeats a whole answer
    tells its figures there.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bool:
        """
        Read the lines that this piece completes.

        :return: whether one of them held the first generated text.
        """
        before = self.texts
        if _CARRIAGE_RETURN in data:
            data = data.replace(b"\r", b"\n")
        if self._held or not data or data[-1] != _LINE_FEED:
            data = self._completed(data)
        if len(data) > HELD_LIMIT:
            self._readLongLines(data)
        else:
            for line in data.split(b"\n"):
                if line[:5] == b"data:":
                    self.readData(line[5:])
        return not before and self.texts > 0

    def finish(self) -> None:
        """Read the line that was not completed."""
        if self._held:
            self.feed(b"\n")

    def readData(self, data: bytes) -> None:
        """
        Read the data of one event.

        :param data: most likely JSON, or ``[DONE]``; there may be white space before it.
        """
        raise NotImplementedError

    def readEnd(self, end: bytes) -> None:
        """
        Read what is left of an event that was too long.

        :param end: its last bytes.
        """

    def _completed(self, data: bytes) -> bytes:
        """The lines that are complete; the rest is held, and if it gets too long, the end of it."""
        lines, lineFeed, rest = data.rpartition(b"\n")
        if lineFeed:
            lines = bytes(self._held) + lines
            self._held.clear()
        self._held += rest
        # One byte more than a line may have, and so it stays too long.
        del self._held[: -HELD_LIMIT - 1]
        return lines

    def _readLongLines(self, data: bytes) -> None:
        for line in data.split(b"\n"):
            if len(line) > HELD_LIMIT:
                self.readEnd(line[-HELD_LIMIT:])
            elif line.startswith(b"data:"):
                self.readData(line[5:])


class _Delta(Struct):
    """What a chunk adds. All of these are text, or calls, that were generated; of any type."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class _Choice(Struct):
    """One choice of a chunk: of chat it has a delta, of text completions a text."""

    delta: _Delta | None = None
    text: Any = None
    finish_reason: Any = None


class _Chunk(Struct):
    """A chunk of ``/v1`` and ``/api/v0``, as much of it as is of interest."""

    choices: list[_Choice] | None = None
    usage: Any = None
    stats: Any = None


class _Event(Struct):
    """An event of the other dialects."""

    type: str = ""
    delta: Any = None
    response: Any = None
    message: Any = None
    usage: Any = None
    content: Any = None
    arguments: Any = None
    result: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_EVENT = msgspec.json.Decoder(_Event)


class CompletionStream(StreamReader):
    """
    Reads a stream of chat or text completions.

    Usage may come in a chunk of its own, in the last one or in each; the last to be told counts. A chunk that only tells
    the role holds no text.
    """

    def readData(self, data: bytes) -> None:
        """Read one chunk."""
        chunk = decode(_CHUNK, data)
        if chunk is None:
            return
        isText = False
        for choice in chunk.choices or ():
            isText = isText or _isText(choice)
            if choice.finish_reason:
                self.readReason(choice.finish_reason)
        if isText:
            self.texts += 1
        if chunk.usage:
            self.readUsage(chunk.usage)
        if chunk.stats:
            self.readStats(chunk.stats)


def _isText(choice: _Choice) -> bool:
    """Whether a choice holds something that was generated."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    return bool(
        delta.content
        or delta.reasoning_content
        or delta.reasoning
        or delta.tool_calls
        or delta.function_call
        or delta.refusal
    )


class ResponsesStream(StreamReader):
    """Reads a stream of ``/v1/responses``: the event that ends it repeats the whole response."""

    _ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})

    def readData(self, data: bytes) -> None:
        """Read one event."""
        event = decode(_EVENT, data)
        if event is None:
            return
        if event.type.endswith(".delta"):
            self.texts += bool(event.delta)
        elif event.type in self._ENDS:
            self._readResponse(event.response)

    def readEnd(self, end: bytes) -> None:
        """Read the usage of a response that is too long to hold; its status, at its beginning, is lost."""
        event = decodeEnd(_EVENT, end, b'"usage"', b'{"response":{')
        if event is not None:
            self._readResponse(event.response)

    def _readResponse(self, response: Any) -> None:
        if isinstance(response, dict):
            self.readUsage(response.get("usage"))
            self.readReason(response.get("status"))


class MessageStream(StreamReader):
    """
    Reads a stream of ``/v1/messages``.

    The prompt's tokens come with the start, or, of servers that do not know them yet, only with the end. The output tokens
    of the start are none that count; those of ``message_delta`` are cumulative.
    """

    def readData(self, data: bytes) -> None:
        """Read one event."""
        event = decode(_EVENT, data)
        if event is None:
            return
        if event.type == "content_block_delta":
            delta = event.delta
            if isinstance(delta, dict):
                self.texts += bool(delta.get("text") or delta.get("thinking") or delta.get("partial_json"))
        elif event.type == "message_start":
            usage = event.message.get("usage") if isinstance(event.message, dict) else None
            self.promptTokens = promptTokensOf(usage) if isinstance(usage, dict) else None
        elif event.type == "message_delta":
            before = self.promptTokens or 0
            self.readUsage(event.usage)
            if self.promptTokens is not None:
                self.promptTokens = max(before, self.promptTokens)
            if isinstance(event.delta, dict):
                self.readReason(event.delta.get("stop_reason"))


class ChatStream(StreamReader):
    """Reads a stream of ``/api/v1/chat``: its last event tells the whole result, the statistics at its end."""

    def readData(self, data: bytes) -> None:
        """Read one event."""
        event = decode(_EVENT, data)
        if event is None:
            return
        if event.type in {"message.delta", "reasoning.delta"}:
            self.texts += bool(event.content)
        elif event.type == "tool_call.arguments":
            self.texts += bool(event.arguments)
        elif event.type == "chat.end":
            self._readResult(event.result)

    def readEnd(self, end: bytes) -> None:
        """Read the statistics of a result that is too long to hold."""
        event = decodeEnd(_EVENT, end, b'"stats"', b'{"result":{')
        if event is not None:
            self._readResult(event.result)

    def _readResult(self, result: Any) -> None:
        stats = result.get("stats") if isinstance(result, dict) else None
        self.readUsage(stats)
        self.readStats(stats)
