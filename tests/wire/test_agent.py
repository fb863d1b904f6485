"""
The pool: which connections are used again, when one is replaced, and that nothing stays when it is closed.

Through treq and directly alike; how the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from lmgateway.errors import UpstreamBroken, UpstreamUnavailable
from lmgateway.interfaces import IUpstream
from lmgateway.wire.agent import IDLE_SECONDS, STALE_SECONDS, UpstreamAgent
from lmgateway.wire.body import BytesBodyProducer
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from tests.wire.memory_peer import MemoryEndpoints, Peer
from tests.wire.upstream_support import OK, Collected, Directly, Following, SteeredBody, ThroughTreq

LM_STUDIO_CLOSES = 5.0
"""Seconds after which LM Studio closes an idle connection."""

NOT_KEPT = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, Close\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
)
"""Whole answers after which the connection is to be closed."""


class Pool:
    """Which connections are used again."""

    def exchange(self, answer: bytes = OK, body: bytes = b"ok") -> Peer:
        """Have a request answered; give the connection it went over."""
        sent = self.send()
        self.peer.say(answer)
        self.assertWhole(self.answered(sent)[1], body)
        return self.peer

    def test_reused(self) -> None:
        """After a whole answer that lets it live, a connection takes the next request, any number of times."""
        for _ in range(5):
            self.exchange()
            self.clock.advance(IDLE_SECONDS - 0.1)
        self.assertEqual(len(self.bench.peers), 1)
        self.assertEqual(self.peer.received.count(b"GET /v1/models HTTP/1.1\r\n"), 5)

    def test_http10(self) -> None:
        """HTTP/1.0 keeps a connection only where it says so."""
        self.exchange(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
        self.exchange()
        self.assertEqual(len(self.bench.peers), 1)

    def test_notKept(self) -> None:
        """A connection that is to be closed is closed, and the next request gets its own."""
        for number, answer in enumerate(NOT_KEPT):
            self.assertTrue(self.exchange(answer).transport.aborted)
            self.assertEqual(len(self.bench.peers), number + 1)

    def test_parallel(self) -> None:
        """Requests at the same time have a connection each; afterwards all of them can be used again, and are."""
        for _ in range(2):
            all_ = [self.send(b"GET", b"/%d" % number) for number in range(7)]
            self.assertEqual(len(self.bench.peers), 7)
            for peer in self.bench.peers:
                number = peer.heard().split(b" ")[1][1:]
                peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + number)
            bodies = [self.answered(sent)[1].body for sent in all_]
            self.assertEqual(bodies, [b"%d" % number for number in range(7)])

    def test_withinAnswer(self) -> None:
        """A request that is sent the moment an answer is whole finds its connection free."""
        first = self.send()
        following = Following(first, self.send)
        self.peer.say(OK)
        self.assertEqual(len(self.bench.peers), 1)
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
        self.assertWhole(self.answered(first)[1], b"ok")
        self.assertWhole(self.answered(following.sent)[1], b"second")

    def test_idle(self) -> None:
        """A connection that nobody used for so long is closed before LM Studio would close it, and its timer ends with it."""
        for wait in (0.0, 0.5, 3.9):
            peer = self.exchange()
            self.clock.advance(wait)
        self.clock.pump([0.5] * int(IDLE_SECONDS / 0.5))
        self.turn()
        self.assertTrue(peer.transport.aborted)
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tooOld(self) -> None:
        """A connection that is old enough for LM Studio to close is not used, even where the sweep has not come round."""
        one, two = self.send(), self.send()
        early, late = self.bench.peers
        early.say(OK)
        self.answered(one)
        self.clock.advance(1)
        late.say(OK)
        self.answered(two)
        self.clock.pump([0.25] * int((LM_STUDIO_CLOSES - 0.5) * 4))
        self.assertFalse(late.transport.aborted)
        self.exchange()
        self.assertEqual(len(self.bench.peers), 3)
        self.assertTrue(late.transport.aborted)

    def test_closedWhileIdle(self) -> None:
        """A connection that LM Studio closed while it was idle is not used."""
        for end in ("finish", "reset"):
            peer = self.exchange()
            getattr(peer, end)()
            self.assertIsNot(self.exchange(), peer)

    def test_unsolicited(self) -> None:
        """Bytes on an idle connection close it, and it is not used from that moment on."""
        for said in (b"x", OK, b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"):
            peer = self.exchange()
            peer.say(said)
            self.assertTrue(peer.transport.aborted)
            body = SteeredBody(2)
            sent = self.send(b"POST", b"/", (), body)
            self.assertIsNot(self.peer, peer)
            body.consumer.write(b"hi")
            assert body.done is not None
            body.done.callback(None)
            self.peer.say(OK)
            self.assertWhole(self.answered(sent)[1], b"ok")
            self.turn()

    def test_afterHead(self) -> None:
        """After HEAD a connection is not used again, since what follows may be a body that should not be there."""
        sent = self.send(b"HEAD")
        peer = self.peer
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        self.assertWhole(self.answered(sent)[1], b"")
        self.assertTrue(peer.transport.aborted)
        self.assertIsNot(self.exchange(), peer)

    def test_afterCancel(self) -> None:
        """A connection whose request was cancelled is not used again, not even before it is gone."""
        sent = self.send()
        peer = self.peer
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertIsNot(self.exchange(), peer)
        peer.say(OK)


class Retry:
    """The connection that LM Studio closed the moment it was used."""

    def reuse(self, method: bytes = b"GET", body: BytesBodyProducer | SteeredBody | None = None) -> Deferred[IResponse]:
        """Send a request over a connection that was used before."""
        first = self.send()
        self.peer.say(OK)
        self.answered(first)
        self.peer.heard()
        sent = self.send(method, b"/again", (), body)
        self.assertEqual(len(self.bench.peers), 1)
        return sent

    def test_once(self) -> None:
        """Where no byte of an answer came, the same request goes out again over a fresh connection."""
        for end in ("finish", "reset"):
            for body in (None, BytesBodyProducer(b"short"), BytesBodyProducer(b"long" * 100_000)):
                with self.subTest(end=end, body=body):
                    self.bench.peers.clear()
                    sent = self.reuse(b"POST", body)
                    stale = self.peer
                    getattr(stale, end)()
                    self.assertNoResult(sent)
                    self.assertIsNot(self.peer, stale)
                    self.assertEqual(self.peer.received, stale.heard())
                    self.peer.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
                    self.assertWhole(self.answered(sent)[1], b"ok")

    def test_notLater(self) -> None:
        """A connection that ends later was not stale: LM Studio has worked on the request, and is not made to once more."""
        sent = self.reuse(b"POST", BytesBodyProducer(b"{}"))
        self.clock.advance(STALE_SECONDS + 0.1)
        self.peer.reset()
        self.failureResultOf(sent, UpstreamBroken)
        self.assertEqual(len(self.bench.peers), 1)

    def test_soon(self) -> None:
        """A stale connection may take a moment to say so."""
        sent = self.reuse()
        self.clock.advance(STALE_SECONDS / 2)
        self.peer.reset()
        self.peer.say(OK)
        self.assertWhole(self.answered(sent)[1], b"ok")

    def test_neverTwice(self) -> None:
        """A fresh connection that ends without an answer is no stale one: there is no second retry."""
        sent = self.reuse()
        self.peer.reset()
        self.peer.reset()
        self.failureResultOf(sent, UpstreamBroken)
        self.assertEqual(len(self.bench.peers), 2)

    def test_notFresh(self) -> None:
        """A request on a connection that carried none before is not retried."""
        sent = self.send()
        self.peer.finish()
        self.failureResultOf(sent, UpstreamBroken)
        self.assertEqual(len(self.bench.peers), 1)

    def test_notStreamed(self) -> None:
        """A body that cannot be had twice is not sent twice."""
        body = SteeredBody(5)
        sent = self.reuse(b"POST", body)
        self.peer.reset()
        self.failureResultOf(sent, UpstreamBroken)
        self.assertEqual(len(self.bench.peers), 1)
        self.assertTrue(body.stopped)

    def test_notAfterBytes(self) -> None:
        """One byte of an answer, or an interim one, and LM Studio has seen the request: it is not sent again."""
        for said in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n"):
            self.bench.peers.clear()
            sent = self.reuse()
            self.peer.say(said)
            self.peer.reset()
            self.failureResultOf(sent, UpstreamBroken)
            self.assertEqual(len(self.bench.peers), 1)

    def test_refusedThen(self) -> None:
        """Where the fresh connection cannot be made, that is what the request fails with."""
        sent = self.reuse()
        self.endpoints.refusal = error.ConnectionRefusedError()
        self.peer.reset()
        self.failureResultOf(sent, UpstreamUnavailable)

    def test_cancelledThen(self) -> None:
        """A request that is cancelled is not retried; one that is cancelled while it is retried is given up."""
        sent = self.reuse()
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.turn()
        self.assertEqual(len(self.bench.peers), 1)
        self.bench.peers.clear()
        sent = self.reuse()
        self.endpoints.waiting = []
        self.peer.reset()
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(self.endpoints.waiting[0].called)


class Closing:
    """The end of the pool."""

    def test_nothing(self) -> None:
        """An upstream that was never used is closed at once, as often as one asks."""
        self.assertIsNone(self.successResultOf(self.upstream.close()))
        self.assertIsNone(self.successResultOf(self.upstream.close()))

    def test_fires(self) -> None:
        """It fires once every connection is gone, busy ones and idle ones, and not before; each who asks is told."""
        idle, busy = self.send(), self.send()
        self.bench.peers[0].say(OK)
        self.answered(idle)
        closed = [self.upstream.close(), self.upstream.close()]
        self.assertTrue(all(peer.transport.aborted for peer in self.bench.peers))
        self.assertNoResult(closed[0])
        self.turn()
        self.successResultOf(closed[0])
        self.successResultOf(closed[1])
        self.failureResultOf(busy, UpstreamBroken)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_withinAnswer(self) -> None:
        """Closed by whoever takes the last piece of an answer, nothing stays of the connection that it came over."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        closing = ClosingConsumer(self.upstream)
        self.successResultOf(sent).deliverBody(closing)
        self.peer.say(b"ok")
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertWhole(closing, b"ok")

    def test_noRetry(self) -> None:
        """A request that closing cuts off is not sent again."""
        first = self.send()
        self.peer.say(OK)
        self.answered(first)
        sent = self.send()
        self.upstream.close()
        self.turn()
        self.failureResultOf(sent, UpstreamUnavailable)
        self.assertEqual(len(self.bench.peers), 1)

    def test_connecting(self) -> None:
        """A connection that is still being made is given up, and its request fails."""
        self.endpoints.waiting = []
        sent = self.send()
        closed = self.upstream.close()
        self.failureResultOf(sent, UpstreamUnavailable)
        self.assertTrue(self.endpoints.waiting[0].called)
        self.successResultOf(closed)

    def test_afterwards(self) -> None:
        """Closed, it connects no more: a request fails at once."""
        self.upstream.close()
        self.failureResultOf(self.send(), UpstreamUnavailable)
        self.assertEqual(self.endpoints.uris, [])


class ClosingConsumer(Collected):
    """Closes the upstream with the first piece that it takes."""

    def __init__(self, upstream: IUpstream) -> None:
        super().__init__()
        self._upstream = upstream

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._upstream.close()


class TreqPoolTests(Pool, ThroughTreq):
    """Through treq."""


class DirectPoolTests(Pool, Directly):
    """Directly."""


class TreqRetryTests(Retry, ThroughTreq):
    """Through treq."""


class DirectRetryTests(Retry, Directly):
    """Directly."""


class TreqClosingTests(Closing, ThroughTreq):
    """Through treq."""


class DirectClosingTests(Closing, Directly):
    """Directly."""


class AgentTests(SynchronousTestCase):
    """What Twisted's own callers of an agent rely on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints = MemoryEndpoints(self.clock)
        self.agent = UpstreamAgent(self.clock, self.endpoints)

    def test_provides(self) -> None:
        """It is an agent like Twisted's."""
        verifyObject(IAgent, self.agent)

    def test_stockHeaders(self) -> None:
        """Headers of Twisted's kind are sent as they tell themselves; none at all are none."""
        self.agent.request(b"GET", b"http://a/x", Headers({b"x-one": [b"1", b"2"]}))
        self.agent.request(b"GET", b"http://a")
        self.assertEqual(
            self.endpoints.peers[0].received, b"GET /x HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-One: 2\r\n\r\n"
        )
        self.assertEqual(self.endpoints.peers[1].received, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    def test_origins(self) -> None:
        """A connection serves its own scheme, host and port only."""
        for origin in (b"http://a:1", b"http://a:2", b"http://b:1", b"https://a:1"):
            self.agent.request(b"GET", origin + b"/")
            self.endpoints.peers[-1].say(OK)
        self.assertEqual(len(self.endpoints.peers), 4)
        self.agent.request(b"GET", b"http://a:2/again")
        self.assertIn(b"GET /again", self.endpoints.peers[1].received)
