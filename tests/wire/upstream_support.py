"""
An upstream whose LM Studio is played by the test (:mod:`tests.wire.memory_peer`).

Tests of what every :class:`~lmgateway.interfaces.IUpstream` must do stand in plain classes, which are run twice: mixed into
:class:`ThroughTreq` and into :class:`Directly`. After each test, closing the upstream must leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmgateway.interfaces import IUpstream
from lmgateway.message import HeaderPairs
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.upstream import DirectUpstream, TreqUpstream
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
from zope.interface import implementer

from tests.wire.memory_peer import MemoryEndpoints, Peer

BASE_URL = "http://studio.lan:1234"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
"""A whole answer that lets the connection live."""


class Collected(Protocol):
    """
    Takes a body.

    :ivar pieces: as they came.
    :ivar reason: how it ended, once it did.
    :ivar endings: how often it was told an end.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reason: Failure | None = None
        self.endings = 0

    @property
    def body(self) -> bytes:
        """All that came."""
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        assert self.reason is None
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.endings += 1


@implementer(IBodyProducer)
class SteeredBody:
    """
    A request body that a test produces piece by piece, and that cannot be had twice.

    :ivar paused: whether the connection wants no more for now.
    :ivar stopped: whether it wants no more at all.
    """

    def __init__(self, length: int | None = None) -> None:
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self.paused = False
        self.stopped = False
        self.done: Deferred[None] | None = None
        self.consumer: Any = None

    def startProducing(self, consumer: Any) -> Deferred[None]:
        assert self.done is None, "a streamed body was asked for twice"
        self.consumer = consumer
        self.done = Deferred(lambda _: self.stopProducing())
        return self.done

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True


class Following:
    """
    Sends a request the moment another is answered.

    :ivar sent: what sending it gave.
    """

    sent: Deferred[IResponse]

    def __init__(self, first: Deferred[IResponse], send: Callable[[], Deferred[IResponse]]) -> None:
        self._send = send
        first.addCallback(self._cbAnswered)

    def _cbAnswered(self, response: IResponse) -> IResponse:
        self.sent = self._send()
        return response


class Bench:
    """
    An upstream over memory, and the hands to work it.

    :param make: makes the upstream from an agent and a clock.
    :param clock: its clock, where it shares one.
    """

    def __init__(self, make: Callable[[UpstreamAgent, Clock], IUpstream], clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.endpoints = MemoryEndpoints(self.clock)
        self.agent = UpstreamAgent(self.clock, self.endpoints)
        self.upstream = make(self.agent, self.clock)
        self._sent: list[Deferred[IResponse]] = []

    @property
    def peers(self) -> list[Peer]:
        """The other end of every connection so far."""
        return self.endpoints.peers

    def send(
        self,
        method: bytes = b"GET",
        target: bytes = b"/v1/models",
        headers: HeaderPairs = (),
        body: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request."""
        sent = self.upstream.send(method, target, headers, body)
        self._sent.append(sent)
        return sent

    @property
    def last(self) -> Deferred[IResponse]:
        """The newest request's answer."""
        return self._sent[-1]

    def turn(self) -> None:
        """Let the reactor turn once."""
        self.clock.advance(0)

    def leftovers(self) -> list[object]:
        """
        Close the upstream; tell what stays although it must not: connections,
        delayed calls, requests that wait for ever, or the closing itself.
        """
        closed: list[None] = []
        self.upstream.close().addCallback(closed.append)
        self.turn()
        left: list[object] = [peer for peer in self.peers if not peer.closed]
        left.extend(self.clock.getDelayedCalls())
        left.extend([*self.agent._connecting, *self.agent._connections])
        left.extend(connection for idle in self.agent._idle.values() for connection in idle)
        left.extend(sent for sent in self._sent if not sent.called)
        for sent in self._sent:
            # What closing made of a request that a test did not care to have answered is no failure of the test.
            sent.addErrback(lambda _: None)
        return left if closed else [*left, "close() did not fire"]


class UpstreamCase(SynchronousTestCase):
    """Tests of an upstream; after each one, nothing may stay."""

    @staticmethod
    def make(agent: UpstreamAgent, clock: Clock) -> IUpstream:
        """Make the upstream that is tested."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.bench = Bench(self.make)
        self.clock = self.bench.clock
        self.endpoints = self.bench.endpoints
        self.agent = self.bench.agent
        self.upstream = self.bench.upstream
        self.send = self.bench.send
        self.turn = self.bench.turn

    def tearDown(self) -> None:
        self.assertEqual(self.bench.leftovers(), [])

    @property
    def peer(self) -> Peer:
        """The newest connection's other end."""
        return self.bench.peers[-1]

    def answered(self, sent: Deferred[IResponse]) -> tuple[IResponse, Collected]:
        """The answer to a request, its body being taken."""
        response = self.successResultOf(sent)
        return response, self.taken(response)

    def taken(self, response: IResponse) -> Collected:
        """Take a body."""
        collected = Collected()
        response.deliverBody(collected)
        self.turn()
        return collected

    def assertWhole(self, collected: Collected, body: bytes) -> None:
        """The body came, all of it, and was told to be whole, once."""
        self.assertEqual(collected.body, body)
        assert collected.reason is not None
        collected.reason.trap(ResponseDone)
        self.assertEqual(collected.endings, 1)

    def assertBroken(self, collected: Collected) -> None:
        """The body was told to be broken off, once."""
        assert collected.reason is not None
        collected.reason.trap(ResponseFailed)
        self.assertEqual(collected.endings, 1)


class ThroughTreq(UpstreamCase):
    """On :class:`~lmgateway.wire.upstream.TreqUpstream`."""

    @staticmethod
    def make(agent: UpstreamAgent, clock: Clock) -> IUpstream:
        return TreqUpstream(agent, BASE_URL, clock)


class Directly(UpstreamCase):
    """On :class:`~lmgateway.wire.upstream.DirectUpstream`."""

    @staticmethod
    def make(agent: UpstreamAgent, clock: Clock) -> IUpstream:  # noqa: ARG004 - as the other way
        return DirectUpstream(agent, BASE_URL)
