"""
Answers that are read whole before anybody decides what becomes of them; through treq and directly alike.

How the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from lmgateway.wire.answer import MOST_HELD, HeldResponse, holdWhole
from lmgateway.wire.headers import VerbatimHeaders
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse
from zope.interface.verify import verifyObject

from tests.wire.upstream_support import Directly, ThroughTreq


class Held:
    """What is held, and what is told of it again."""

    def hold(self, *pieces: bytes) -> Deferred[HeldResponse]:
        """Have a request answered with these pieces, and hold the answer."""
        sent = self.send()
        self.peer.say(*pieces)
        held = holdWhole(self.successResultOf(sent))
        self.turn()
        return held

    def test_whole(self) -> None:
        """A whole answer is held with its head, and its body is told again; its connection takes the next request meanwhile."""
        holding = self.hold(b"HTTP/1.1 400 Bad\r\nX-A: 1\r\nContent-Length: 9\r\n\r\n", b"it ", b"is ", b"bad")
        held = self.successResultOf(holding)
        verifyObject(IResponse, held)
        assert isinstance(held.headers, VerbatimHeaders)
        self.assertEqual((held.code, held.phrase, held.length, held.body), (400, b"Bad", 9, b"it is bad"))
        self.assertEqual(held.headers.pairs, ((b"X-A", b"1"), (b"Content-Length", b"9")))
        self.send()
        self.assertEqual(len(self.bench.peers), 1)
        collected = self.taken(held)
        assert collected.transport is not None
        collected.transport.pauseProducing()
        collected.transport.resumeProducing()
        collected.transport.loseConnection()
        self.assertWhole(collected, b"it is bad")
        self.assertFalse(self.peer.transport.aborted)

    def test_empty(self) -> None:
        """An answer without a body is held like any other."""
        held = self.successResultOf(self.hold(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n"))
        self.assertWhole(self.taken(held), b"")

    def test_broken(self) -> None:
        """An answer that breaks off is told again as one that breaks off."""
        holding = self.hold(b"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n", b"it ")
        self.assertNoResult(holding)
        self.peer.reset()
        collected = self.taken(self.successResultOf(holding))
        self.assertEqual(collected.body, b"it ")
        self.assertBroken(collected)

    def test_untilClose(self) -> None:
        """An answer that ends with the connection is told again as one that does."""
        holding = self.hold(b"HTTP/1.1 400 Bad\r\n\r\nit is bad")
        self.peer.finish()
        collected = self.taken(self.successResultOf(holding))
        assert collected.reason is not None
        collected.reason.trap(PotentialDataLoss)
        self.assertEqual(collected.body, b"it is bad")

    def test_tooLarge(self) -> None:
        """More than is held is not: the connection is closed, and the answer is told as broken off, never as whole."""
        for framing in (b"Content-Length: %d\r\n" % (2 * MOST_HELD), b""):
            piece = b"x" * 65536
            count = MOST_HELD // len(piece)
            holding = self.hold(b"HTTP/1.1 400 Bad\r\n" + framing + b"\r\n", *[piece] * count)
            self.assertFalse(self.peer.transport.aborted)
            self.peer.say(piece)
            self.assertTrue(self.peer.transport.aborted)
            self.turn()
            self.assertBroken(self.taken(self.successResultOf(holding)))

    def test_cancelled(self) -> None:
        """Cancelled, the connection is closed at once."""
        holding = self.hold(b"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\nit ")
        holding.cancel()
        self.failureResultOf(holding, CancelledError)
        self.assertTrue(self.peer.transport.aborted)


class TreqHeldTests(Held, ThroughTreq):
    """Through treq."""


class DirectHeldTests(Held, Directly):
    """Directly."""
