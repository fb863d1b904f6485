# -*- test-case-name: tests.studio.sdk.test_link -*-
"""
One WebSocket to LM Studio: text out, whole texts in, and one reason why it is no more.

Twisted's WebSocket client leaves to its user what a peer can do wrong: to break off or to be silent before the WebSocket is
there, to answer with something else, to send what is no WebSocket or a message without end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.websocket import ConnectionRejected, WebSocketClientEndpoint, WebSocketTransport
from wsproto.utilities import LocalProtocolError
from zope.interface import implementer

from lmgateway.errors import Forbidden, GatewayError, UpstreamBroken, UpstreamSilent, UpstreamUnavailable
from lmgateway.studio.sdk.refusals import PERMISSION
from lmgateway.wire.upstream import whyUnreachable

MOST = 16 << 20
"""Bytes of a message: ten thousand models have about six million."""

UPGRADE_SECONDS = 10.0
"""How long LM Studio may take to answer the request for a WebSocket, once there is a connection."""

CLOSE_SECONDS = 1.0
"""How long a connection may take to close in good order."""


class Link:
    """
    A WebSocket, from before it is made until after it is lost. It is a
    :class:`~twisted.web.websocket.WebSocketProtocol`, and what makes it.

    :param endpoints: how to reach LM Studio.
    :param baseUrl: scheme, host and port of it, for messages.
    :param path: of the WebSocket, such as ``/llm``.
    :param clock: for what is awaited only so long.
    :param received: takes each message.
    :param lost: told once why there is no WebSocket any more, and never where there was none.
    """

    def __init__(
        self,
        endpoints: IAgentEndpointFactory,
        baseUrl: str,
        path: str,
        clock: IReactorTime,
        received: Callable[[str], None],
        lost: Callable[[GatewayError], None],
    ) -> None:
        self._endpoints = endpoints
        self._baseUrl = baseUrl
        self._path = path
        self._clock = clock
        self._received = received
        self._lost = lost
        self._isOpen = False
        self._reason: GatewayError | None = None
        self._wire: _Wire | None = None
        self._transport: WebSocketTransport | None = None
        self._deadline: IDelayedCall | None = None
        self._opened: Deferred[None] = Deferred(self._cancel)
        self._connecting: Deferred[Any] | None = None
        self._gone: Deferred[None] = Deferred()

    def open(self) -> Deferred[None]:
        """
        Connect. To be called once.

        :return: fires when messages can be sent. Fails with :class:`~lmgateway.errors.UpstreamUnavailable` (no connection),
            ``UpstreamSilent`` (no answer), ``Forbidden`` or ``UpstreamBroken`` (an answer that is no WebSocket's).
            Cancelling closes the connection at once.
        """
        # Twisted takes the port and the scheme of http URLs as they are meant, and those of ws URLs not.
        endpoint = WebSocketClientEndpoint(_Endpoints(self._endpoints, self), self._baseUrl + self._path)
        self._connecting = Deferred.fromCoroutine(endpoint.connect(self))
        self._connecting.addCallbacks(lambda _: None, self._failed)
        return self._opened

    def send(self, text: str) -> None:
        """Send a message; on a WebSocket that is no more, nothing."""
        if self._transport is not None and self._isOpen:
            with suppress(LocalProtocolError):
                self._transport.sendTextMessage(text)

    def abort(self, reason: GatewayError) -> None:
        """
        Break it off at once.

        :param reason: why, for whoever waits.
        """
        if self._reason is None:
            self._reason = reason
        if self._wire is not None:
            self._wire.abort()
        if self._connecting is not None:
            self._connecting.cancel()
        self._end(reason)

    def close(self) -> Deferred[None]:
        """
        Close it in good order, or break it off where that takes too long.

        :return: fires when it is closed.
        """
        if not self._isOpen or self._transport is None:
            self.abort(self._stopped())
            return self._gone
        self._reason = self._stopped()
        with suppress(LocalProtocolError):
            self._transport.loseConnection()
        assert self._wire is not None  # noqa: S101 - there is a transport
        late = self._clock.callLater(CLOSE_SECONDS, self._wire.abort)
        self._gone.addBoth(lambda _: late.cancel() if late.active() else None)
        return self._gone

    def buildProtocol(self, url: str) -> Link:
        """Be the protocol: there is one for each link."""
        return self

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """There is a connection, and the request for a WebSocket goes out."""
        self._transport = transport
        silence = UpstreamSilent(
            f"{self._who} did not answer within {UPGRADE_SECONDS:g} s when it was asked for a WebSocket. "
            "Is it LM Studio that listens there (LMSTUDIO_BASE_URL)?"
        )
        self._deadline = self._clock.callLater(UPGRADE_SECONDS, self.abort, silence)

    def negotiationFinished(self) -> None:
        """The WebSocket is there."""
        self._forgetDeadline()
        if self._reason is None:
            self._isOpen = True
            self._opened.callback(None)

    def textMessageReceived(self, message: str) -> None:
        """A message came."""
        if self._wire is not None:
            self._wire.settle()
        if self._isOpen and self._reason is None:
            self._received(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """A message came as bytes, which makes no difference to LM Studio either."""
        self.textMessageReceived(bytes(data).decode("utf-8", "replace"))

    def pongReceived(self, payload: bytes) -> None:
        """Nobody pinged."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._end(self._broken("broke off"))
        if self._connecting is not None:
            self._connecting.cancel()

    def hold(self, wire: _Wire) -> None:
        """The connection is being made."""
        self._wire = wire

    def overflow(self) -> None:
        """A message is too long."""
        self.abort(self._broken(f"sent a message of more than {MOST >> 20} MiB over its WebSocket"))

    def garble(self) -> None:
        """Something came that is no WebSocket's."""
        self.abort(self._broken("sent what makes no sense over its WebSocket"))

    def _cancel(self, opened: Deferred[None]) -> None:
        """Nobody wants it any more."""
        opened.errback(CancelledError())
        self.abort(self._stopped())

    def _failed(self, failure: Failure) -> None:
        """No WebSocket came of it."""
        error = failure.value
        if isinstance(error, ConnectionRejected):
            self.abort(self._rejected(error.response.code))
        elif failure.check(CancelledError):
            self._end(self._stopped())
        elif isinstance(error, _Unreachable):
            self._end(UpstreamUnavailable(f"{self._who} {whyUnreachable(error.reason)}"))
        else:
            self.garble()

    def _rejected(self, status: int) -> GatewayError:
        if status in {401, 403}:
            return Forbidden(f"{self._who} refused the WebSocket {self._path} with the status {status}. {PERMISSION}")
        return UpstreamBroken(
            f"{self._who} offers no WebSocket at {self._path}: it answered with the status {status}. "
            "LM Studio's SDKs cannot be served there."
        )

    def _end(self, reason: GatewayError) -> None:
        """Tell whoever waits, once."""
        self._forgetDeadline()
        reason = self._reason = self._reason or reason
        wasOpen, self._isOpen = self._isOpen, False
        if not self._opened.called:
            self._opened.errback(reason)
        if wasOpen:
            self._lost(reason)
        if not self._gone.called:
            self._gone.callback(None)

    def _forgetDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    @property
    def _who(self) -> str:
        return f"LM Studio at {self._baseUrl}"

    def _broken(self, what: str) -> UpstreamBroken:
        return UpstreamBroken(f"{self._who} {what}. It may have crashed or been restarted; try again.")

    def _stopped(self) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"{self._who} is no longer connected to, because this gateway is stopping or was told another address. Try again."
        )


class _Unreachable(Exception):
    """
    There is no connection.

    :param reason: why not.
    """

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.getErrorMessage())
        self.reason = reason


class _Wire(Protocol):
    """
    Stands between the transport and Twisted's WebSocket, which raises its peer's mistakes and keeps what never ends.

    :param websocket: Twisted's protocol.
    """

    transport: Any

    def __init__(self, websocket: IProtocol, link: Link) -> None:
        self.websocket = websocket
        self._link = link
        self._pending = 0
        self._isOver = False

    def connectionMade(self) -> None:
        """Begin. Packets are small, and each is waited for."""
        self.transport.setTcpNoDelay(True)
        self._link.hold(self)
        self.websocket.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Hand it on, unless nobody wants it any more."""
        if self._isOver:
            return
        self._pending += len(data)
        if self._pending > MOST:
            self._link.overflow()
            return
        try:
            self.websocket.dataReceived(data)
        except Exception:  # noqa: BLE001 - wsproto, h11 and Twisted raise their own each
            self._link.garble()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand it on."""
        self._isOver = True
        self.websocket.connectionLost(reason)

    def settle(self) -> None:
        """A message is whole."""
        self._pending = 0

    def abort(self) -> None:
        """Break the connection."""
        self._isOver = True
        self.transport.abortConnection()


@implementer(IProtocolFactory)
class _WireFactory(Factory):
    """Puts the wire in front of what another factory makes."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, link: Link) -> None:
        self._factory = factory
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> _Wire | None:
        """Make it."""
        websocket = self._factory.buildProtocol(addr)  # type: ignore[arg-type]  # whatever address it is
        return None if websocket is None else _Wire(websocket, self._link)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Endpoints:
    """
    Connects as others do, with the wire in front.

    :param endpoints: connect.
    """

    def __init__(self, endpoints: IAgentEndpointFactory, link: Link) -> None:
        self._endpoints = endpoints
        self._link = link
        self._endpoint: IStreamClientEndpoint | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Give itself, with where to connect."""
        self._endpoint = self._endpoints.endpointForURI(uri)
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with :class:`_Unreachable`."""
        assert self._endpoint is not None  # noqa: S101 - an endpoint is asked for first
        connecting: Deferred[Any] = self._endpoint.connect(_WireFactory(protocolFactory, self._link))
        return connecting.addCallbacks(lambda wire: wire.websocket, _unreachable)


def _unreachable(reason: Failure) -> Failure:
    if reason.check(CancelledError):
        return reason
    raise _Unreachable(reason)
