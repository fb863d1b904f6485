"""
Answers that break off: never passed off as whole, and the client is told why where it can be; through treq and directly alike.

How both ends are played stands in :mod:`tests.wire.relay_support`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import UpstreamBroken, UpstreamSilent
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.relay_support import EVENT, SILENCE, STREAM, Proxied, RelayCase, asChunk, errorEvent
from tests.wire.upstream_support import Directly, ThroughTreq

BREAKS = ("finish", "reset", "nonsense")
"""Ways to break off an answer whose end is known."""


def breakOff(proxied: Proxied, how: str) -> None:
    """Have LM Studio break off."""
    if how == "nonsense":
        proxied.say(b"this is no chunk\r\n")
    else:
        getattr(proxied.peer, how)()
        proxied.clock.advance(0)


class Streams:
    """Event streams."""

    def test_errorEvent(self) -> None:
        """A stream that breaks off ends with its dialect's error event and no last chunk, and the connection is closed."""
        for how in BREAKS:
            proxied = self.begin()
            proxied.say(STREAM, asChunk(EVENT))
            breakOff(proxied, how)
            self.assertEqual(proxied.client.answer.chunks, (EVENT, errorEvent(UpstreamBroken(""))))
            self.assertCut(proxied, UpstreamBroken)

    def test_halfAnEvent(self) -> None:
        """Half an event is ended by a blank line first, so that it does not swallow the error."""
        for half in (b"data: {", b"data: x\n", b"d", b": comment"):
            proxied = self.begin()
            proxied.say(STREAM, asChunk(EVENT + half))
            breakOff(proxied, "reset")
            self.assertEqual(proxied.client.answer.body, EVENT + half + b"\n\n" + errorEvent(UpstreamBroken("")))
            self.assertCut(proxied, UpstreamBroken)

    def test_byteByByte(self) -> None:
        """Whether an event is whole is seen when its last bytes come one by one, too."""
        proxied = self.begin()
        proxied.say(STREAM, *[asChunk(bytes([byte])) for byte in EVENT])
        breakOff(proxied, "reset")
        self.assertEqual(proxied.client.answer.body, EVENT + errorEvent(UpstreamBroken("")))

    def test_nothingYet(self) -> None:
        """A stream that breaks off before its first event consists of the error."""
        proxied = self.begin()
        proxied.say(STREAM)
        breakOff(proxied, "finish")
        self.assertEqual(proxied.client.answer.body, errorEvent(UpstreamBroken("")))
        self.assertCut(proxied, UpstreamBroken)

    def test_withLength(self) -> None:
        """Where its length was told, a stream has no room for an event: it is cut off."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n" + EVENT)
        breakOff(proxied, "reset")
        self.assertEqual(proxied.client.answer.body, EVENT)
        self.assertCut(proxied, UpstreamBroken)

    def test_http10(self) -> None:
        """To a client for whom the connection's end is the answer's end, the connection is reset."""
        proxied = self.begin(version="1.0")
        proxied.say(STREAM, asChunk(EVENT))
        breakOff(proxied, "reset")
        self.assertTrue(proxied.client.transport.aborted)
        self.assertEqual([type(outcome) for outcome in proxied.outcomes], [UpstreamBroken])

    def test_slowClient(self) -> None:
        """A client that is behind gets what came, and the error event, before its connection closes."""
        proxied = self.begin()
        proxied.say(STREAM)
        proxied.client.stall()
        proxied.say(asChunk(EVENT))
        breakOff(proxied, "reset")
        self.assertFalse(proxied.client.closed)
        proxied.client.take()
        self.assertTrue(proxied.client.closed)
        self.assertFalse(proxied.client.transport.aborted)
        self.assertTrue(proxied.client.answer.body.endswith(errorEvent(UpstreamBroken(""))))

    def test_silence(self) -> None:
        """A stream that falls silent for too long ends likewise, and LM Studio's connection is closed; each piece counts anew."""
        proxied = self.begin()
        proxied.say(STREAM)
        for _ in range(3):
            proxied.downstream.wait(SILENCE - 1)
            proxied.say(asChunk(EVENT))
        self.assertEqual(proxied.outcomes, [])
        proxied.downstream.wait(SILENCE)
        self.assertTrue(proxied.upstreamClosed)
        self.assertEqual(proxied.client.answer.body, EVENT * 3 + errorEvent(UpstreamSilent("")))
        self.assertCut(proxied, UpstreamSilent)


class Others:
    """Answers that are no stream."""

    def test_cut(self) -> None:
        """An answer whose head is sent is cut off, without a word more."""
        for head in (b"Content-Length: 99", b"Transfer-Encoding: chunked"):
            for how in ("finish", "reset"):
                proxied = self.begin()
                piece = asChunk(b'{"id":1') if b"chunked" in head else b'{"id":1'
                proxied.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + piece)
                breakOff(proxied, how)
                self.assertEqual(proxied.client.answer.body, b'{"id":1')
                self.assertCut(proxied, UpstreamBroken)

    def test_untilReset(self) -> None:
        """An answer that ends with LM Studio's connection is cut off where that is reset."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\n\r\n[1, 2")
        breakOff(proxied, "reset")
        self.assertCut(proxied, UpstreamBroken)

    def test_beforeHead(self) -> None:
        """While nothing was sent, nothing is: the error is told, and can still be answered with its own status."""
        for body in (b"", b' {"err'):
            for how in ("finish", "reset"):
                proxied = self.begin()
                proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + body)
                breakOff(proxied, how)
                self.assertEqual([type(outcome) for outcome in proxied.outcomes], [UpstreamBroken])
                self.assertEqual(proxied.client.transport.written, b"")
                self.assertFalse(proxied.request.startedWriting)
                proxied.request.sendWhole(502, (), b"{}")
                self.assertEqual((proxied.client.answer.status, proxied.client.closed), (502, False))

    def test_silence(self) -> None:
        """Silence before anything was sent is told as such; after it, it cuts the answer off. Its timer ends with it."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        proxied.downstream.wait(SILENCE)
        self.assertEqual([type(outcome) for outcome in proxied.outcomes], [UpstreamSilent])
        self.assertEqual(proxied.client.transport.written, b"")
        self.assertTrue(proxied.upstreamClosed)
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[1")
        proxied.downstream.wait(SILENCE)
        self.assertCut(proxied, UpstreamSilent)
        self.assertLessEqual(len(proxied.clock.getDelayedCalls()), proxied.before)

    def test_clientGoneFirst(self) -> None:
        """What breaks off after the client has left is nobody's error."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[1")
        proxied.request.notifyDisconnect(proxied.request.notifyFinish().addErrback(lambda _: None))
        proxied.client.leave()
        breakOff(proxied, "reset")
        self.assertEqual(proxied.outcomes, [None])


class AnyStreamTests(SynchronousTestCase):
    @given(st.binary(max_size=20), st.lists(st.sampled_from((b"\n", b"\r\n", b"\n\n", b"\r", b"data: x")), max_size=6))
    def test_alwaysSeen(self, start: bytes, rest: list[bytes]) -> None:
        """Whatever came before it, in whatever pieces, the error event is the last and begins on a line of its own."""
        pieces = [piece for piece in (start, *rest) if piece]
        for way in (ThroughTreq, Directly):
            proxied = Proxied(way)
            proxied.say(STREAM, *map(asChunk, pieces))
            breakOff(proxied, "reset")
            body = proxied.client.answer.body
            event = errorEvent(UpstreamBroken(""))
            before = body.removesuffix(event)
            self.assertEqual(before + event, body)
            self.assertTrue(before.startswith(b"".join(pieces)))
            self.assertTrue(not before or before.endswith(b"\n\n"), before)


class TreqStreamTests(Streams, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectStreamTests(Streams, RelayCase):
    """Directly."""

    way = Directly


class TreqOtherTests(Others, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectOtherTests(Others, RelayCase):
    """Directly."""

    way = Directly
