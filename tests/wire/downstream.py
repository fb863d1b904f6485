"""
A client's connection to a gateway, in memory, on a clock that only the test moves.

The transport has the manners of Twisted's: what is asked of it happens at the next turn of the reactor, which is
``clock.advance(0)``; a reading that is paused delivers nothing; a client that takes nothing holds a producer back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lmgateway.errors import GatewayError
from lmgateway.wire.channel import GatewayChannel
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from tests.wire.answers import Answer, readAnswers

NOW = 1_800_000_000.0
"""When each test begins: Fri, 15 Jan 2027 08:00:00 GMT."""

SEND_BUFFER = 64 * 1024
"""Bytes written and not taken at which a transport pauses its producer; Twisted's figure."""

TEXT = ((b"Content-Type", b"text/plain"),)

Play = Callable[[GatewayRequest], object]


class Limits(Struct, frozen=True):
    """What a connection may take: the contract's defaults, with a smaller body."""

    maxBody: int = 1_000_000
    maxHead: int = 16_384
    maxFields: int = 100
    maxTarget: int = 8_192
    headTimeout: float = 10.0
    bodyGrace: float = 10.0
    bodyRate: int = 1_024
    idleTimeout: float = 75.0
    writeStallTimeout: float = 60.0
    handshakeTimeout: float = 10.0
    maxConnections: int = 10_000
    maxConnectionsPerAddress: int = 1_024
    maxUnauthenticatedPerAddress: int = 64


class Stage(Resource):
    """
    Renders every request by calling ``play``, and keeps them all.

    :param play: answers at once, or later, or never.
    """

    isLeaf = True

    def __init__(self, play: Play) -> None:
        super().__init__()
        self.play = play
        self.requests: list[GatewayRequest] = []

    def render(self, request: GatewayRequest) -> int:
        """Begin to play."""
        self.requests.append(request)
        self.play(request)
        return NOT_DONE_YET


def hello(request: GatewayRequest) -> None:
    """Answer at once, without a look at the body."""
    request.sendWhole(200, TEXT, b"hello")


def target(request: GatewayRequest) -> None:
    """Answer with the request target."""
    request.sendWhole(200, TEXT, request.head.target)


def later(request: GatewayRequest) -> None:
    """Answer when the test does."""


def echo(request: GatewayRequest) -> None:
    """Answer with the body, once it is there; or with what is wrong with it."""
    request.body.read().addCallbacks(
        lambda body: request.sendWhole(200, TEXT, body), lambda reason: refuse(request, reason.value)
    )


def refuse(request: GatewayRequest, error: Any) -> None:
    """Answer with an error, as the web layer does; a client that has left is told nothing."""
    request.error = error
    if request.ended:
        return
    assert isinstance(error, GatewayError), repr(error)
    if request.startedWriting:
        request.abort()
        return
    if error.closes:
        request.closeAfter()
    request.sendWhole(error.status, ((b"Content-Type", b"application/json"),), b'{"error":"%b"}' % error.code.encode())


class DownstreamTransport:
    """
    The gateway's end of a connection.

    :ivar writes: what the client was sent, write by write; a test that has seen them may clear it.
    :ivar reading: whether the gateway reads.
    :ivar taking: whether the client takes what is written.
    :ivar halfClosed: whether the gateway has said that it will write no more.
    :ivar closing: whether the gateway has asked to close once all is taken.
    :ivar aborted: whether it has asked to close at once.
    """

    def __init__(self, clock: Clock, peerHost: str) -> None:
        self.writes: list[bytes] = []
        self._sent: list[bytes] = []
        self.untaken = 0
        self.reading = self.taking = True
        self.halfClosed = self.closing = self.aborted = self.lost = False
        self.producer: Any = None
        self.protocol: Any = None
        self.inbox: list[bytes] = []
        self._producerPaused = False
        self._peer = IPv4Address("TCP", peerHost, 50_000)
        self._clock = clock

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8001)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.halfClosed or self.lost or self.aborted:
            return
        self.writes.append(data)
        self._sent.append(data)
        if not self.taking:
            self.untaken += len(data)
            if self.producer is not None and self.untaken > SEND_BUFFER:
                self._producerPaused = True
                self.producer.pauseProducing()

    @property
    def written(self) -> bytes:
        """Every byte that the client was sent, taken or not."""
        return b"".join(self._sent)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - IConsumer
        assert self.producer is None, "a producer is registered already"
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not self.lost and not self.stoppedReading:
            self.reading = True
            self._clock.callLater(0, self.deliver)

    @property
    def stoppedReading(self) -> bool:
        """Whether nothing is read any more, come what may."""
        return self.closing or self.aborted

    def loseConnection(self) -> None:
        assert self.producer is None, "a connection does not close while a producer is registered"
        self.closing = True
        self._clock.callLater(0, self._closeIfTaken)

    def loseWriteConnection(self) -> None:
        self.halfClosed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self._clock.callLater(0, self.lose, ConnectionAborted())

    # the client's doings

    def deliver(self) -> None:
        """Have the gateway read what the client sent, as far as it reads."""
        while self.inbox and self.reading and not self.stoppedReading and not self.lost:
            self.protocol.dataReceived(self.inbox.pop(0))

    def take(self, *, more: bool) -> None:
        """Take all that was written, and all that will be or nothing of it."""
        self.taking, self.untaken = more, 0
        if self._producerPaused and self.producer is not None:
            self._producerPaused = False
            self.producer.resumeProducing()
        self._closeIfTaken()

    def lose(self, error: Exception) -> None:
        """Be no more."""
        if not self.lost:
            self.lost = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(error))

    def _closeIfTaken(self) -> None:
        if self.closing and not self.untaken:
            self.lose(ConnectionDone())


class TLSDownstreamTransport(DownstreamTransport):
    """
    The same over TLS: no half-close, and the end comes when the client has said goodbye too. Until then it is read.
    """

    loseWriteConnection: Any = property()

    def getPeerCertificate(self) -> None:
        """There is none; that it can be asked for is what tells TLS."""

    @property
    def stoppedReading(self) -> bool:
        return self.aborted

    def _closeIfTaken(self) -> None:
        """Wait for the client's goodbye."""


class Client:
    """The other end."""

    def __init__(self, site: GatewaySite, clock: Clock, transport: DownstreamTransport) -> None:
        self.clock = clock
        self.transport = transport
        self.channel: GatewayChannel = site.buildProtocol(None)
        transport.protocol = self.channel
        self.channel.makeConnection(transport)  # type: ignore[arg-type]  # as much of a transport as a channel needs
        self.methods: list[str] = []

    def send(self, *pieces: bytes) -> None:
        """Send pieces; each is read by itself, as far as the gateway reads, and what it asks of the reactor then done."""
        self.transport.inbox += pieces
        self.transport.deliver()
        self.clock.advance(0)

    def ask(
        self, method: str, path: str = "/", body: bytes | None = None, *, version: str = "1.1", **fields: str
    ) -> None:
        """
        Send a request.

        :param fields: header fields, underscores for hyphens.
        """
        self.methods.append(method)
        self.send(requestBytes(method, path, body, version=version, **fields))

    def stall(self) -> None:
        """Take nothing any more."""
        self.transport.taking = False

    def take(self) -> None:
        """Take all there is, and what follows."""
        self.transport.take(more=True)
        self.clock.advance(0)

    def takeOnce(self) -> None:
        """Take all there is, and nothing of what follows."""
        self.transport.take(more=False)
        self.clock.advance(0)

    def leave(self) -> None:
        """Close the connection."""
        self.transport.lose(ConnectionDone())

    @property
    def answers(self) -> list[Answer]:
        """All that came, interim answers included."""
        return readAnswers(self.transport.written, self.methods, closed=self.closed and not self.transport.aborted)

    @property
    def answer(self) -> Answer:
        """The one answer that came."""
        (answer,) = self.answers
        return answer

    @property
    def statuses(self) -> list[int]:
        """The status of each answer."""
        return [answer.status for answer in self.answers]

    @property
    def bodies(self) -> list[bytes]:
        """The body of each answer."""
        return [answer.body for answer in self.answers]

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self.transport.lost

    @property
    def lingering(self) -> bool:
        """Whether the gateway has said all, and only still reads."""
        return self.transport.halfClosed and self.transport.reading and not self.transport.lost


class Downstream:
    """
    A site, its clock, and connections to it.

    :param play: what answers, unless ``resource`` is given.
    :param limits: changes to :class:`Limits`.
    :ivar ended: every request that the site was told the end of.
    """

    def __init__(self, play: Play = hello, resource: IResource | None = None, **limits: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.stage = Stage(play)
        self.ended: list[GatewayRequest] = []
        self.limits = replace(Limits(), **limits)
        self.site = GatewaySite(resource or self.stage, self.clock, self.limits, refuse, self.ended.append)  # type: ignore[arg-type]
        self.site.startFactory()

    @property
    def requests(self) -> list[GatewayRequest]:
        """Every request that was rendered."""
        return self.stage.requests

    def connect(self, peerHost: str = "192.0.2.7") -> Client:
        """A new connection."""
        return Client(self.site, self.clock, DownstreamTransport(self.clock, peerHost))

    def connectTLS(self, *, agreed: bool = True) -> Client:
        """A new connection over TLS, its handshake done or still to be done."""
        client = Client(self.site, self.clock, TLSDownstreamTransport(self.clock, "192.0.2.7"))
        if agreed:
            client.channel.handshakeCompleted()
        return client

    def wait(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)


class Source:
    """A producer that remembers whether it may."""

    def __init__(self) -> None:
        self.paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """Nobody wants more."""


def requestBytes(
    method: str, path: str = "/", body: bytes | None = None, *, version: str = "1.1", **fields: str
) -> bytes:
    """
    Write a request.

    :param fields: header fields, underscores for hyphens.
    """
    head = [f"{method} {path} HTTP/{version}", "Host: gateway.test"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None and "Transfer_Encoding" not in fields and "Content_Length" not in fields:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (body or b"")


def chunked(*pieces: bytes, trailers: Sequence[bytes] = ()) -> bytes:
    """Write a chunked body."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([*chunks, b"0\r\n", *(trailer + b"\r\n" for trailer in trailers), b"\r\n"])


def failureOf(deferred: Deferred[Any]) -> list[Failure]:
    """A list that the Deferred's failure will be in."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    return failures
