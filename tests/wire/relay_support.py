"""
One request between a client in memory (:mod:`tests.wire.downstream`) and an LM Studio in memory
(:mod:`tests.wire.upstream_support`), with nothing between them but the relay.
"""

from __future__ import annotations

from typing import Any

from lmgateway.errors import GatewayError
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.relay import IAnswerWatch, ResponseRelay
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.silence import SilenceTimer
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IResponse

from tests.wire.downstream import Client, Downstream
from tests.wire.memory_peer import Peer
from tests.wire.upstream_support import Bench

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

EVENT = b'data: {"delta":"Hello"}\n\n'

SENTENCE = b'{"error":"Unexpected endpoint or method. (GET /v1/nonsense)"}'

SILENCE = 30.0

HOP_BY_HOP = {b"content-length", b"transfer-encoding", b"connection"}


def errorEvent(error: GatewayError) -> bytes:
    """The event that ends a broken stream."""
    return b"data: " + error.code.encode() + b"\n\n"


def asChunk(data: bytes) -> bytes:
    """One chunk, as either side writes it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Proxied:
    """
    One request that is relayed, and both its ends.

    :param way: how the upstream is spoken to.
    :param watch: sees the answer pass.
    :ivar relay: once there is an answer.
    :ivar outcomes: what the relay came to: None, or an error that the client was not told, or not in full.
    """

    relay: ResponseRelay

    def __init__(
        self, way: Any, method: str = "GET", version: str = "1.1", watch: IAnswerWatch | None = None, **fields: str
    ) -> None:
        self.watch = watch
        self.downstream = Downstream(self.play)
        self.clock = self.downstream.clock
        self.bench = Bench(way.make, self.clock)
        self.outcomes: list[Any] = []
        self.client: Client = self.downstream.connect()
        self.client.ask(method, "/v1/models", version=version, **fields)
        self.before = len(self.clock.getDelayedCalls())

    @property
    def peer(self) -> Peer:
        """LM Studio's end."""
        return self.bench.peers[-1]

    @property
    def request(self) -> GatewayRequest:
        """The request that is answered."""
        return self.downstream.requests[-1]

    def play(self, request: GatewayRequest) -> None:
        self.bench.send(request.method, request.uri).addCallback(self.relayTo, request)

    def relayTo(self, response: IResponse, request: GatewayRequest) -> None:
        headers = response.headers
        assert isinstance(headers, VerbatimHeaders)
        pairs = tuple((name, value) for name, value in headers.pairs if name.lower() not in HOP_BY_HOP)
        isStream = headers.getRawHeaders(b"content-type", [b""])[0].startswith(b"text/event-stream")
        silence = SilenceTimer(self.clock, SILENCE)
        self.relay = ResponseRelay(request, response, pairs, errorEvent, silence, isStream=isStream, watch=self.watch)
        response.deliverBody(self.relay)
        self.relay.begun()
        request.notifyDisconnect(self.relay.done)
        self.relay.done.addCallbacks(self.outcomes.append, lambda reason: self.outcomes.append(reason.value))

    def say(self, *pieces: bytes) -> None:
        """Have LM Studio say something."""
        self.peer.say(*pieces)
        self.clock.advance(0)

    def heard(self) -> list[bytes]:
        """What was written to the client since this was last asked, one item for each write; a head is cut to its end."""
        writes, self.client.transport.writes = self.client.transport.writes, []
        return [write[write.index(b"\r\n\r\n") + 4 :] if write.startswith(b"HTTP/") else write for write in writes]

    @property
    def upstreamClosed(self) -> bool:
        """Whether LM Studio's connection was closed at once."""
        return self.peer.transport.aborted


class RelayCase(SynchronousTestCase):
    """Tests of the relay over one kind of upstream."""

    way: Any

    def begin(
        self, method: str = "GET", version: str = "1.1", watch: IAnswerWatch | None = None, **fields: str
    ) -> Proxied:
        """Begin a request."""
        return Proxied(self.way, method, version, watch, **fields)

    def assertCut(self, proxied: Proxied, kind: type[GatewayError]) -> None:
        """The client's answer was cut off, in good order but without its end, and the relay tells why."""
        self.assertFalse(proxied.client.answer.complete)
        self.assertTrue(proxied.client.transport.closing)
        self.assertFalse(proxied.client.transport.aborted)
        self.assertTrue(proxied.request.cut)
        self.assertEqual([type(outcome) for outcome in proxied.outcomes], [kind])
