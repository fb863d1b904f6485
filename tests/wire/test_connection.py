"""
When the socket is read: never ahead of whoever takes the body.

Through treq and directly alike; how the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from tests.wire.upstream_support import OK, Collected, Directly, ThroughTreq


class BodyFlow:
    """When the socket is read."""

    def test_waits(self) -> None:
        """Until somebody takes the body, the connection is not read on."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", b"def")
        self.assertTrue(self.peer.transport.paused)
        _, collected = self.answered(sent)
        self.assertFalse(self.peer.transport.paused)
        self.assertWhole(collected, b"abcdef")

    def test_pauses(self) -> None:
        """A body's consumer pauses and resumes the connection."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        _, collected = self.answered(sent)
        assert collected.transport is not None
        collected.transport.pauseProducing()
        self.peer.say(b"def")
        self.assertEqual(collected.body, b"abc")
        collected.transport.resumeProducing()
        self.turn()
        self.assertWhole(collected, b"abcdef")

    def test_pausedFromTheStart(self) -> None:
        """A consumer that pauses as it is given the body, or its first bytes, is not read for until it resumes."""
        for moment in ("connectionMade", "dataReceived"):
            sent = self.send()
            self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", b"def")
            reluctant = _Reluctant(moment)
            self.successResultOf(sent).deliverBody(reluctant)
            self.turn()
            self.assertEqual(reluctant.body, b"abc")
            self.assertTrue(self.peer.transport.paused)
            reluctant.resume()
            self.turn()
            self.assertWhole(reluctant, b"abcdef")

    def test_pausedAtTheEnd(self) -> None:
        """A connection whose last answer was paused is read again for the next."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        reluctant = _Reluctant("dataReceived")
        self.successResultOf(sent).deliverBody(reluctant)
        self.turn()
        self.peer.say(b"abcdef")
        self.assertWhole(reluctant, b"abcdef")
        self.assertFalse(self.peer.transport.paused)
        self.assertWhole(self.answeredNext(), b"ok")

    def answeredNext(self) -> Collected:
        """Send another request over the same connection."""
        connections = len(self.bench.peers)
        sent = self.send()
        self.assertEqual(len(self.bench.peers), connections)
        self.peer.say(OK)
        return self.answered(sent)[1]

    def test_pauseAfterEnd(self) -> None:
        """Who pauses or resumes after the end pauses nobody else's answer."""
        sent = self.send()
        self.peer.say(OK)
        _, collected = self.answered(sent)
        assert collected.transport is not None
        collected.transport.pauseProducing()
        self.assertFalse(self.peer.transport.paused)
        collected.transport.resumeProducing()
        collected.transport.loseConnection()
        self.assertFalse(self.peer.transport.aborted)


class _Reluctant(Collected):
    """Takes no more at a given moment."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self._moment: str | None = moment

    def connectionMade(self) -> None:
        self._now("connectionMade")

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._now("dataReceived")

    def resume(self) -> None:
        assert self.transport is not None
        self.transport.resumeProducing()

    def _now(self, moment: str) -> None:
        if moment == self._moment:
            self._moment = None
            assert self.transport is not None
            self.transport.pauseProducing()


class TreqBodyFlowTests(BodyFlow, ThroughTreq):
    """Through treq."""


class DirectBodyFlowTests(BodyFlow, Directly):
    """Directly."""
