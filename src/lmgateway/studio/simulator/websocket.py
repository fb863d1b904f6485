# -*- test-case-name: tests.studio.simulator.test_websocket -*-
"""
The WebSockets that LM Studio's SDKs speak over, on the port of the REST API: ``/llm``, ``/embedding``, ``/system`` and more.

One connection is one namespace to one client. The first message authenticates, within 10 seconds; then packets go both ways.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request
from twisted.web.websocket import WebSocketProtocol, WebSocketResource, WebSocketTransport
from wsproto.utilities import LocalProtocolError
from zope.interface import implementer

from lmgateway.studio.simulator import packets
from lmgateway.studio.simulator.behaviour import HEADER, Behaviour, overridden
from lmgateway.studio.simulator.namespaces import OTHERS, namespaces
from lmgateway.studio.simulator.packets import Authentication
from lmgateway.studio.simulator.port import Line, Port
from lmgateway.studio.simulator.simulator import Received, Simulator

AUTHENTICATION = 10.0
"""Seconds that a client has to authenticate."""

NAMESPACES = ("llm", "embedding", "system", *OTHERS)

_TIMED_OUT = "Authentication timed out"
_NO_TOKEN = "An LM Studio API token is required to connect to this server."  # noqa: S105 - a message
_WRONG_TOKEN = "The LM Studio API token provided was not recognized."  # noqa: S105 - a message


class StudioSockets:
    """
    The WebSockets of a simulator.

    :param clock: what their timeouts and their namespaces go by.
    """

    def __init__(self, simulator: Simulator, clock: IReactorTime) -> None:
        self._simulator = simulator
        self._clock = clock
        self._clients: dict[str, tuple[str, int]] = {}

    def wants(self, request: Request) -> bool:
        """Whether a request is the beginning of a WebSocket. Without SDKs there are none, and the request is any other."""
        upgrade = request.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0]
        if request.method != b"GET" or upgrade.lower() != b"websocket":
            return False
        try:
            return self._behaviour(request).sdk
        except ValueError:
            return False

    def open(self, request: Request) -> None:
        """
        Begin a WebSocket. On a path that is no namespace nothing happens at all: Node leaves it to listeners, and LM
        Studio's overlook what is not theirs.
        """
        name = request.path[1:].decode("latin-1")
        if name not in NAMESPACES:
            return
        pairs = tuple((key, value) for key, values in request.requestHeaders.getAllRawHeaders() for value in values)
        self._simulator.received.append(Received(request.method, request.uri, pairs, b""))
        refusal = WebSocketResource(self).render(request)
        if isinstance(refusal, bytes):
            request.write(refusal)
            request.finish()
        else:
            _guard(request.channel)

    def buildProtocol(self, request: Request) -> WebSocketProtocol:
        """One connection."""
        return StudioSocket(self, request)

    def port(self, request: Request, line: Line, client: str) -> Port:
        """
        The namespace that a request asks for.

        :param client: what the client calls itself.
        """
        name = request.path[1:].decode("latin-1")
        namespace = namespaces(self._simulator, self._clock, lambda: self._behaviour(request))[name]

        def complain(endpoint: str, message: str) -> None:
            self.tell("ERROR", message, f"Client={client}", f"Endpoint={endpoint}")

        return Port(namespace, line, complain)

    def refusal(self, request: Request, packet: Authentication) -> str | None:
        """
        Why a client may not come in, or None. The halves of the token let in where one is required; elsewhere whoever
        comes first under a name keeps it while a connection lasts.
        """
        token = self._behaviour(request).requireToken
        given = f"sk-lm-{packet.clientIdentifier}:{packet.clientPasskey}"
        if token is not None:
            if hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
                return None
            return _NO_TOKEN if packet.clientIdentifier.startswith("guest:") else _WRONG_TOKEN
        passkey, _ = self._clients.get(packet.clientIdentifier, (packet.clientPasskey, 0))
        if passkey == packet.clientPasskey:
            return None
        return f'Failed to validate client: Invalid client passkey for client "{packet.clientIdentifier}"'

    def hold(self, packet: Authentication) -> None:
        """A client has come in."""
        _, connections = self._clients.get(packet.clientIdentifier, ("", 0))
        self._clients[packet.clientIdentifier] = (packet.clientPasskey, connections + 1)

    def release(self, identifier: str) -> None:
        """A connection of a client has gone."""
        passkey, connections = self._clients.pop(identifier)
        if connections > 1:
            self._clients[identifier] = (passkey, connections - 1)

    def isMute(self, request: Request) -> bool:
        """Whether nothing is answered."""
        return self._behaviour(request).muteManagement

    def settle(self) -> None:
        """What has been downloaded by now is there."""
        self._simulator.downloads.settle(self._clock.seconds())

    def tell(self, level: str, message: str, *tags: str) -> None:
        """Log something where LM Studio does."""
        if self._simulator.studioLog is not None:
            self._simulator.studioLog.write(level, message, *tags)

    def note(self, line: str) -> None:
        """Log something for whoever runs the simulator."""
        self._simulator.log(line)

    def later(self, function: Callable[[], object]) -> IDelayedCall:
        """Call something when the time to authenticate is up."""
        return self._clock.callLater(AUTHENTICATION, function)

    def _behaviour(self, request: Request) -> Behaviour:
        """
        How to behave towards a client.

        :raise ValueError: the switches of its request are wrong.
        """
        switches = request.requestHeaders.getRawHeaders(HEADER, [b""])[0]
        return overridden(self._simulator.behaviour, switches.decode("latin-1"))


@implementer(IPushProducer)
class StudioSocket:
    """
    One connection.

    :param request: that it began with.
    """

    def __init__(self, sockets: StudioSockets, request: Request) -> None:
        self._sockets = sockets
        self._request = request
        self._transport: WebSocketTransport | None = None
        self._timeout: IDelayedCall | None = None
        self._port: Port | None = None
        self._client = ""
        self._lost = False
        self._paused = False
        self._waiting: set[Deferred[None]] = set()

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """The request is being answered."""
        self._transport = transport

    def negotiationFinished(self) -> None:
        """The client may speak."""
        # The channel has registered itself with its transport, and hands on what that says (twisted.web.http).
        self._request.channel.registerProducer(self, True)
        self._timeout = self._sockets.later(self._expire)

    def textMessageReceived(self, message: str) -> None:
        """A packet came."""
        self._sockets.settle()
        if self._port is None:
            self._authenticate(message)
        elif not self._sockets.isMute(self._request):
            self._port.received(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """A packet came as bytes, which makes no difference to LM Studio."""
        self.textMessageReceived(bytes(data).decode("utf-8", "replace"))

    def pongReceived(self, payload: bytes) -> None:
        """Nobody pinged."""

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone."""
        self._lost = True
        self._forgetTimeout()
        if self._port is not None:
            self._sockets.tell("DEBUG", "Client disconnected.", f"Client={self._client}")
            self._sockets.release(self._client)
            self._port.lose()
        self._sockets.note(f"GET {self._request.uri.decode('latin-1')} 101, the client left")

    def send(self, packet: bytes) -> None:
        """Send a packet; to a client that has gone, or is going, nothing."""
        if not self._lost and self._transport is not None:
            with suppress(LocalProtocolError):
                self._transport.sendTextMessage(packet.decode())

    def cut(self) -> None:
        """Break the connection, without a word."""
        if not self._lost:
            transport: Any = self._request.channel.transport
            transport.abortConnection()

    async def room(self) -> None:
        """Wait until the client has taken what was sent; each channel for itself."""
        while self._paused:
            waiting: Deferred[None] = Deferred(self._waiting.discard)
            self._waiting.add(waiting)
            await waiting

    def pauseProducing(self) -> None:
        """The client reads too slowly."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._paused = False
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            each.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; that is told by other means."""

    def _authenticate(self, message: str) -> None:
        """Let the client in, or not; what is no authentication is overlooked."""
        packet = packets.readAuthentication(message)
        if packet is None:
            return
        refusal = self._sockets.refusal(self._request, packet)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._forgetTimeout()
        self._sockets.hold(packet)
        self._client = packet.clientIdentifier
        self._port = self._sockets.port(self._request, Line(self.send, self.cut, self.room), self._client)
        self._sockets.tell("DEBUG", "Client created.", f"Client={self._client}")
        self.send(packets.authenticated())

    def _expire(self) -> None:
        """The client has said nothing."""
        self._timeout = None
        self._refuse(_TIMED_OUT)

    def _refuse(self, error: str) -> None:
        self._forgetTimeout()
        self.send(packets.refused(error))
        if self._transport is not None:
            self._transport.loseConnection()

    def _forgetTimeout(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.cancel()


def _guard(channel: Any) -> None:
    """Have a connection that goes on after its good-bye closed, instead of raising out of it."""
    receive = channel.dataReceived

    def received(data: bytes) -> None:
        try:
            receive(data)
        except LocalProtocolError:
            channel.transport.loseConnection()

    channel.dataReceived = received
