"""
The other end of an upstream connection, in memory.

:class:`MemoryEndpoints` connects; each connection has a :class:`Peer` at its other end that a test makes say what it likes.
:class:`PeerTransport` behaves like Twisted's transport over TCP where it matters: an abort is told to the protocol by the
next turn of the reactor (``clock.advance(0)``), nothing is delivered while reading is paused, and a registered producer is
paused as soon as more is written than the other end takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(ITransport)
class PeerTransport:
    """
    The gateway's end of a connection in memory.

    :param clock: turns.
    :ivar writes: what was written, one item each time.
    :ivar aborted: whether the gateway closed it at once.
    :ivar paused: whether the gateway reads no more.
    :ivar room: bytes that the other end takes before a producer is paused.
    """

    disconnecting = False

    def __init__(self, clock: Clock, protocol: Any) -> None:
        self.writes: list[bytes] = []
        self.aborted = False
        self.paused = False
        self.lost = False
        self.noDelay = False
        self.room: float = float("inf")
        self.producer: Any = None
        self._clock = clock
        self._protocol = protocol
        self._arrived: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        if self.lost or self.aborted:
            return
        self.writes.append(data)
        self.room -= len(data)
        if self.room < 0 and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - ITransport
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        assert not self.lost
        self.paused = False
        self._clock.callLater(0, self._deliver)

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001 - ITCPTransport
        self.noDelay = enabled

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.168.1.9", 1234)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.168.1.2", 50000)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._clock.callLater(0, self.lose, ConnectionDone())

    def abortConnection(self) -> None:
        if not self.aborted and not self.lost:
            self.aborted = True
            self._arrived.clear()
            self._clock.callLater(0, self.lose, ConnectionAborted())

    # what comes from the other end

    def arrive(self, data: bytes) -> None:
        """Bytes came in."""
        self._arrived.append(lambda: self._protocol.dataReceived(data))
        self._deliver()

    def end(self, reason: Exception) -> None:
        """The other end closed."""
        self._arrived.append(lambda: self.lose(reason))
        self._deliver()

    def lose(self, reason: Exception) -> None:
        """Tell the protocol that the connection is gone, as Twisted's transports do."""
        if not self.lost:
            self.lost = True
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self._protocol.connectionLost(Failure(reason))

    def _deliver(self) -> None:
        while self._arrived and not self.paused and not self.lost and not self.aborted:
            self._arrived.pop(0)()


class Peer:
    """
    The other end of one connection: what it was sent, and what it says.

    :ivar transport: the gateway's end.
    """

    def __init__(self, transport: PeerTransport) -> None:
        self.transport = transport
        self._heard = 0

    @property
    def received(self) -> bytes:
        """All that the gateway sent."""
        return b"".join(self.transport.writes)

    def heard(self) -> bytes:
        """What the gateway sent since this was last asked."""
        heard, self._heard = self.received[self._heard :], len(self.received)
        return heard

    @property
    def closed(self) -> bool:
        """Whether the gateway knows the connection as gone."""
        return self.transport.lost

    def say(self, *pieces: bytes) -> None:
        """Send, each piece in a segment of its own."""
        for piece in pieces:
            self.transport.arrive(piece)

    def finish(self) -> None:
        """Close in good order."""
        self.transport.end(ConnectionDone())

    def reset(self) -> None:
        """Break off."""
        self.transport.end(ConnectionLost())

    def take(self, room: float = float("inf")) -> None:
        """Take what was sent, and have room for more: a paused producer goes on."""
        self.transport.room = room
        if self.transport.producer is not None:
            self.transport.producer.resumeProducing()


@implementer(IStreamClientEndpoint)
class _MemoryEndpoint:
    def __init__(self, endpoints: MemoryEndpoints) -> None:
        self._endpoints = endpoints

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        endpoints = self._endpoints
        if endpoints.refusal is not None:
            return fail(endpoints.refusal)
        if endpoints.waiting is None:
            return succeed(endpoints.accept(protocolFactory))
        connecting: Deferred[Any] = Deferred()
        connecting.addCallback(lambda _: endpoints.accept(protocolFactory))
        endpoints.waiting.append(connecting)
        return connecting


@implementer(IAgentEndpointFactory)
class MemoryEndpoints:
    """
    Endpoints that connect to peers in memory.

    :ivar peers: the other end of every connection so far.
    :ivar uris: what endpoints were asked for.
    :ivar refusal: what connecting fails with, or None.
    :ivar waiting: None, or the attempts that wait to be let through (``callback(None)``) or failed.
    """

    def __init__(self, clock: Clock) -> None:
        self.peers: list[Peer] = []
        self.uris: list[URI] = []
        self.refusal: Exception | None = None
        self.waiting: list[Deferred[Any]] | None = None
        self._clock = clock

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        self.uris.append(uri)
        return _MemoryEndpoint(self)

    def accept(self, factory: IProtocolFactory) -> Any:
        """Make one connection."""
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", "192.168.1.9", 1234))
        transport = PeerTransport(self._clock, protocol)
        self.peers.append(Peer(transport))
        protocol.makeConnection(transport)
        return protocol
