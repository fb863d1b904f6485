# -*- test-case-name: tests.wire.test_secured -*-
"""
TLS connections that count as made once it is known who is there.

Twisted's own TLS endpoint has connected before the handshake has begun. A certificate that is not trusted then looks like
an answer that broke off, and a server that never answers the handshake is waited for without end.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """
    Stands where the protocol will stand, until the handshake is done.

    :ivar done: fires with the protocol, connected; fails with what the handshake failed with. Cancelling it closes the
        connection at once.
    """

    transport: Any

    def __init__(self, factory: IProtocolFactory, address: Any) -> None:
        self.done: Deferred[IProtocol | None] = Deferred(lambda _: self.transport.abortConnection())
        self._factory = factory
        self._address = address

    def handshakeCompleted(self) -> None:
        """Make room for the protocol."""
        if self.done.called:
            return
        protocol = self._factory.buildProtocol(self._address)
        self.transport.wrappedProtocol = protocol
        if protocol is not None:
            protocol.makeConnection(self.transport)
        self.done.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell why it will never be done."""
        if not self.done.called:
            self.done.errback(reason)


class _HandshakeFactory(Factory):
    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: object) -> _Handshake:
        return _Handshake(self._factory, addr)


@implementer(IStreamClientEndpoint)
class SecuredEndpoint:
    """
    An endpoint over TLS.

    :param clock: for the deadline.
    :param endpoint: how to reach the other end.
    :param creator: with whom to speak, and whom to trust.
    :param seconds: that the handshake may take, once connected.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        creator: IOpenSSLClientConnectionCreator,
        seconds: float,
    ) -> None:
        self._clock = clock
        self._endpoint = wrapClientTLS(creator, endpoint, clock)
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Connect, and shake hands.

        :return: fires with the protocol. Fails with what connecting failed with; an OpenSSL ``Error`` or a
            ``VerificationError`` where TLS did; ``TimeoutError`` where it took too long; ``ConnectionLost`` or
            ``ConnectionDone`` where the other end hung up.
        """
        connecting: Deferred[Any] = self._endpoint.connect(_HandshakeFactory(protocolFactory))
        return connecting.addCallback(self._awaitHandshake)

    def _awaitHandshake(self, handshake: _Handshake) -> Deferred[Any]:
        return handshake.done.addTimeout(self._seconds, self._clock, onTimeoutCancel=_tooLate)


def _tooLate(result: Any, _seconds: float) -> Any:
    if isinstance(result, Failure):
        result.trap(CancelledError)
        raise ConnectTimeout
    return result
