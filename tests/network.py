"""
A network in memory: pairs of transports with the manners of TCP.

What is written waits until :meth:`Network.flush` delivers it. A transport that is paused does not read; one whose peer does not
read holds its producer back, as the kernel's buffers would; closing delivers what was written before; aborting does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

HIGH_WATER = 64 * 1024


class MemoryTransport:
    """One end of a connection."""

    def __init__(self, network: Network, protocol: Any, host: str, peerHost: str) -> None:
        self.protocol = protocol
        self.peer: MemoryTransport = self
        self.out = bytearray()
        self.writes: list[bytes] = []
        self.closing = self.aborted = self.lost = self.paused = False
        self.producer: Any = None
        self._producerPaused = False
        self._network = network
        self._host = IPv4Address("TCP", host, 8001)
        self._peerHost = IPv4Address("TCP", peerHost, 50000)

    def write(self, data: bytes) -> None:
        if not self.closing and not self.lost:
            self.writes.append(data)
            self.out += data
            if self.producer is not None and len(self.out) > HIGH_WATER and not self._producerPaused:
                self._producerPaused = True
                self.producer.pauseProducing()

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - IConsumer
        assert self.producer is None, "a producer is registered already"
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._producerPaused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.closing = True

    def loseWriteConnection(self) -> None:
        self.closing = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.out.clear()
        self.closing = True

    @property
    def disconnecting(self) -> bool:
        return self.closing

    def getPeer(self) -> IPv4Address:
        return self._peerHost

    def getHost(self) -> IPv4Address:
        return self._host

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001 - ITCPTransport
        """Nothing is delayed here anyway."""

    def step(self) -> bool:
        """Move what can be moved; tell whether anything was."""
        moved = False
        peer = self.peer
        if self.out and not peer.paused and not peer.lost:
            data = bytes(self.out)
            self.out.clear()
            peer.protocol.dataReceived(data)
            moved = True
        if not self.out and self._producerPaused and self.producer is not None:
            self._producerPaused = False
            self.producer.resumeProducing()
            moved = True
        if self.closing and not self.out and not self.lost:
            self._network.close(self, ConnectionLost if self.aborted else ConnectionDone)
            moved = True
        return moved


class Network:
    """Every connection of a test, and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_800_000_000.0
        self.transports: list[MemoryTransport] = []

    def connect(self, server: Any, client: Any, peerHost: str = "127.0.0.1") -> tuple[MemoryTransport, MemoryTransport]:
        """Connect two protocols; give the server's transport and the client's."""
        ours = MemoryTransport(self, server, "127.0.0.1", peerHost)
        theirs = MemoryTransport(self, client, peerHost, "127.0.0.1")
        ours.peer, theirs.peer = theirs, ours
        self.transports += [ours, theirs]
        server.makeConnection(ours)
        client.makeConnection(theirs)
        return ours, theirs

    def close(self, transport: MemoryTransport, reason: type[Exception]) -> None:
        """End a connection on both sides. A peer that does not read does not notice a clean end."""
        for end in (transport, transport.peer):
            if not end.lost:
                end.lost = True
                self.transports.remove(end)
                end.protocol.connectionLost(Failure(reason()))

    def flush(self) -> None:
        """Deliver everything that can be delivered."""
        self.clock.advance(0)
        while sum(transport.step() for transport in list(self.transports)):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, a second at a time, delivering as it goes."""
        self.flush()
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            seconds -= 1.0
            self.flush()


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to what ``listen`` makes, unless that is None: then it refuses."""

    def __init__(self, network: Network, listen: Callable[[], Any] | None) -> None:
        self._network = network
        self._listen = listen

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        if self._listen is None:
            return fail(Failure(error.ConnectionRefusedError()))
        client = protocolFactory.buildProtocol(None)
        self._network.connect(self._listen(), client)
        return succeed(client)


@implementer(IAgentEndpointFactory)
class MemoryEndpoints:
    """
    One upstream for every URL. Assign ``listen`` to make it another, or None to make it refuse.

    :ivar asked: every host and port that a connection was asked for.
    """

    def __init__(self, network: Network, listen: Callable[[], Any] | None) -> None:
        self.network = network
        self.listen = listen
        self.asked: set[tuple[bytes, int]] = set()

    def endpointForURI(self, uri: Any) -> MemoryEndpoint:
        self.asked.add((uri.host, uri.port))
        return MemoryEndpoint(self.network, self.listen)


class Recorder(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason
