# -*- test-case-name: tests.telemetry.test_sse -*-
"""
Event streams, written and read by the letter of WHATWG HTML, section 9.2 ("Server-sent events"). Pure.
"""

from __future__ import annotations

from msgspec import Struct

EVENT_SIZE = 1 << 20
"""Bytes that one event, or one line, may have before a decoder gives up: the gateway's own events are far smaller."""

_BOM = b"\xef\xbb\xbf"
_LONGEST_RETRY = 9
"""Digits of a ``retry`` that are believed: a billion milliseconds are eleven days."""


class StreamError(ValueError):
    """An event stream that cannot be read on."""


class StreamEvent(Struct, frozen=True):
    """
    One event, as a reader dispatches it.

    :param kind: its type; ``message`` where the stream names none.
    :param data: its data lines, joined by line feeds.
    :param id: the last event id at that time: what a reader sends as ``Last-Event-ID`` when it comes back.
    """

    kind: str
    data: str
    id: str


def encodeEvent(data: bytes, kind: str = "", eventId: str = "") -> bytes:
    """
    Write one event. Total: what the format cannot say of a name is left out of it.

    :param data: UTF-8. Of its line breaks a reader sees line feeds.
    :param kind: the event's type, or nothing.
    :param eventId: its id, or nothing: then the reader keeps the one before.
    """
    spelledId = _oneLine(eventId).replace(b"\0", b"")
    spelledKind = _oneLine(kind)
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"%b%bdata: %b\n\n" % (
        b"id: %b\n" % spelledId if spelledId else b"",
        b"event: %b\n" % spelledKind if spelledKind else b"",
        data,
    )


def encodeComment(text: str = "") -> bytes:
    """
    Write a comment, which readers ignore.

    No empty line follows it: that would end an event, and some readers dispatch an empty one then.
    """
    return b":" + _oneLine(text) + b"\n"


def encodeRetry(milliseconds: int) -> bytes:
    """Write how long a reader that loses its connection waits before it comes back."""
    return b"retry: %d\n" % milliseconds


def _oneLine(text: str) -> bytes:
    return text.replace("\r", "").replace("\n", "").encode("utf-8", "replace")


class EventStreamDecoder:
    """
    Reads an event stream as it arrives, in any chunking.

    An event counts once the empty line after it has come: what is unfinished at the end of the stream is none (9.2.6:
    "Once the end of the file is reached, any pending data must be discarded").

    :param maxSize: bytes that a line, or the lines of one event together, may have.
    :ivar lastEventId: what to send as ``Last-Event-ID``.
    :ivar retry: milliseconds to wait before coming back, where the stream has told.
    """

    def __init__(self, maxSize: int = EVENT_SIZE) -> None:
        self.lastEventId = ""
        self.retry: int | None = None
        self._maxSize = maxSize
        self._started = False
        self._afterReturn = False
        self._partial = bytearray()
        self._kind = ""
        self._data: list[str] = []
        self._size = 0
        self._idBuffer = ""

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """
        Take what has arrived.

        :return: the events that it completes.
        :raise StreamError: a line or an event grows beyond what is allowed. Then there is no reading on.
        """
        events: list[StreamEvent] = []
        if not chunk:
            return events
        # A line ends with CR, LF or both; of a CR at the end of a chunk the LF may be still to come.
        if self._afterReturn:
            chunk = chunk.removeprefix(b"\n")
        self._afterReturn = chunk.endswith(b"\r")
        for line in chunk.splitlines(keepends=True):
            self._partial += line
            if len(self._partial) + self._size > self._maxSize:
                raise StreamError(f"An event of the stream has more than {self._maxSize} bytes.")
            if line.endswith((b"\n", b"\r")):
                text = bytes(self._partial).removesuffix(b"\n").removesuffix(b"\r")
                self._partial.clear()
                self._takeLine(text, events)
        return events

    def _takeLine(self, line: bytes, events: list[StreamEvent]) -> None:
        # "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any" (9.2.6). No byte of a line break
        # occurs within a character, so it does not matter that lines are parted first.
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name == "data":
            self._size += len(line) + 1
        self._takeField(name, value.removeprefix(" "))

    def _takeField(self, name: str, value: str) -> None:
        """Process one field; a comment is one whose name is empty, and ignored like all that are unknown."""
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            if "\0" not in value:
                self._idBuffer = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= _LONGEST_RETRY:
            self.retry = int(value)

    def _dispatch(self, events: list[StreamEvent]) -> None:
        self.lastEventId = self._idBuffer
        if self._data:
            events.append(StreamEvent(self._kind or "message", "\n".join(self._data), self.lastEventId))
        self._kind = ""
        self._data = []
        self._size = 0
