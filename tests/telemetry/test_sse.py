"""
Event streams.

The reference is the algorithm of WHATWG HTML 9.2.5 and 9.2.6 as it stands there, on the whole text at once: decoded first,
then parted into lines by the grammar, then interpreted. The decoder parts bytes, in pieces, and decodes last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.telemetry.sse import (
    EventStreamDecoder,
    StreamError,
    StreamEvent,
    encodeComment,
    encodeEvent,
    encodeRetry,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import cut

Reading = tuple[list[StreamEvent], str, int | None]


def reference(stream: bytes) -> Reading:
    """The events, the last event id and the reconnection time of a whole stream, by the letter."""
    text = stream.decode("utf-8", "replace")
    text = text.removeprefix("\ufeff")
    events: list[StreamEvent] = []
    data, kind, idBuffer, lastId = "", "", "", ""
    retry = None
    # end-of-line = ( cr lf / cr / lf ); what follows the last one is no line.
    for line in re.split(r"\r\n|\r|\n", text)[:-1]:
        if line == "":
            lastId = idBuffer
            if data:
                events.append(StreamEvent(kind or "message", data[:-1], lastId))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        field, value = line, ""
        if ":" in line:
            field, value = line.split(":", 1)
            value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            idBuffer = value
        elif field == "retry" and re.fullmatch("[0-9]{1,9}", value):
            retry = int(value)
    return events, lastId, retry


def read(pieces: Iterable[bytes]) -> Reading:
    """What the decoder makes of a stream in pieces."""
    decoder = EventStreamDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.lastEventId, decoder.retry


_TELLING = (
    b"data", b"data:", b"data: ", b"data:  x", b"event: e", b"event", b"id: 7", b"id", b"id: a\0b", b"retry: 10", b"retry:x",
    b"retry: \xd9\xa3", b": comment", b":", b"unknown: 1", b" data: 1", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n",
    b"\xef\xbb\xbf", b"\xf0\x9f", b"\x98\x80", b"\xff", b"\x0b", b"\x0c", b"\xc2\x85", b"\xe2\x80\xa8", b"\0", b"x",
)  # fmt: skip

STREAMS = st.lists(st.one_of(st.sampled_from(_TELLING), st.binary(max_size=4)), max_size=30).map(b"".join)
"""Streams made of everything that means something in one, and of bytes that do not."""

TEXTS = st.text(max_size=40)


class DecoderTests(SynchronousTestCase):
    @given(STREAMS, st.lists(st.integers(0, 150), max_size=10))
    @example(b"\xef\xbb\xbfdata: x\r\n\r\n", [1, 2, 10, 11, 12])
    @example(b"data: \xf0\x9f\x98\x80\r\r", [7, 8, 9])
    @example(b"id: 1\n\nid\n\ndata\n\n", [])
    @example(b"\n\xef\xbb\xbfdata: x\n\n\xef\xbb\xbf\xef\xbb\xbf\n", [])
    @example(b"retry: 123456789\n\nretry: 1234567890\n\n", [])
    def test_anyChunking(self, stream: bytes, places: list[int]) -> None:
        """Whatever the stream and however it is cut, the events, the last id and the retry are those of the standard."""
        self.assertEqual(read(cut(stream, places)), reference(stream))

    def test_everyCut(self) -> None:
        """A stream with all there is reads the same, cut in two anywhere, and byte by byte."""
        stream = (
            b"\xef\xbb\xbf: hello\r\nretry: 2000\r\nid: 41\r\nevent: connected\r\ndata: {}\r\n\r\n:\n"
            b"id: 42\rdata: first\rdata: \xf0\x9f\x98\x80\r\rdata\n\nevent: none\n\nid: 43\ndata:end\n\ndata: unfinished"
        )
        whole = read([stream])
        self.assertEqual(whole, reference(stream))
        self.assertEqual([event.id for event in whole[0]], ["41", "42", "42", "43"])
        self.assertEqual(whole[0][1].data, "first\n\U0001f600")
        for place in range(len(stream) + 1):
            self.assertEqual(read([stream[:place], stream[place:]]), whole)
        self.assertEqual(read(stream[n : n + 1] for n in range(len(stream))), whole)

    def test_emptyChunk(self) -> None:
        """A chunk of nothing between CR and LF changes nothing."""
        self.assertEqual(
            read([b"data: a\r", b"", b"\ndata: b\r", b"", b"\n\r\n"])[0], [StreamEvent("message", "a\nb", "")]
        )

    def test_longLine(self) -> None:
        """A line that does not end is given up, rather than kept."""
        decoder = EventStreamDecoder(maxSize=1000)
        with self.assertRaises(StreamError):
            for _ in range(1000):
                decoder.feed(b"data: " + b"x" * 20)
        self.assertLess(len(decoder._partial), 1100)

    def test_longEvent(self) -> None:
        """An event that does not end is given up as well."""
        decoder = EventStreamDecoder(maxSize=1000)
        with self.assertRaises(StreamError):
            for _ in range(1000):
                decoder.feed(b"data: x\n")

    def test_longStream(self) -> None:
        """A stream may be as long as it likes, and its comments and nameless fields are not kept."""
        decoder = EventStreamDecoder(maxSize=1000)
        for _ in range(100):
            decoder.feed(b": " + b"x" * 100 + b"\nunknown: " + b"y" * 100 + b"\ndata: " + b"z" * 300 + b"\n\n")
        self.assertEqual((decoder._data, decoder._size, len(decoder._partial)), ([], 0, 0))


class EncoderTests(SynchronousTestCase):
    @given(TEXTS, TEXTS, TEXTS, st.lists(st.integers(0, 80), max_size=6))
    def test_roundTrip(self, data: str, kind: str, eventId: str, places: list[int]) -> None:
        """Whatever is written is read again as one event: its data with line feeds for line breaks, its names without any."""
        stream = encodeEvent(data.encode(), kind, eventId)
        events, lastId, _ = read(cut(stream, places))
        oneLine = re.compile("[\r\n]")
        self.assertEqual(
            events,
            [
                StreamEvent(
                    oneLine.sub("", kind) or "message",
                    re.sub("\r\n?", "\n", data),
                    oneLine.sub("", eventId).replace("\0", ""),
                )
            ],
        )
        self.assertEqual(lastId, events[0].id)

    @given(st.lists(st.tuples(TEXTS, st.text(st.characters(), max_size=20)), max_size=6))
    def test_nothingBetween(self, parts: list[tuple[str, str]]) -> None:
        """Comments and retries between events are no events, whatever they say, and part none in two."""
        stream = b"".join(encodeEvent(data.encode()) + encodeComment(text) + encodeRetry(7) for data, text in parts)
        events, _, retry = read([stream])
        self.assertEqual([event.data for event in events], [re.sub("\r\n?", "\n", data) for data, _ in parts])
        self.assertEqual(retry, 7 if parts else None)

    def test_bytes(self) -> None:
        """An event is written as everybody writes it."""
        self.assertEqual(encodeEvent(b"{}", "error", "7"), b"id: 7\nevent: error\ndata: {}\n\n")
        self.assertEqual(encodeEvent(b""), b"data: \n\n")
        self.assertEqual(encodeComment("hello"), b":hello\n")

    def test_halfCharacter(self) -> None:
        """A name with half a character in it is written all the same."""
        (event,) = read([encodeEvent(b"x", "a\ud83d")])[0]
        self.assertEqual(event.kind, "a?")

    def test_splitsEvents(self) -> None:
        """The decoder keeps apart what pairs of events put side by side."""
        streams = [encodeEvent(b"%d" % n, "k", str(n)) for n in range(4)]
        for first, second in pairwise(streams):
            self.assertEqual(len(read([first + second])[0]), 2)
