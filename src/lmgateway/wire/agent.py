# -*- test-case-name: tests.wire.test_agent -*-
"""
Connections to LM Studio: an :class:`~twisted.web.iweb.IAgent` of our own on llhttp.

One connection carries one request at a time. It goes back to the pool only after a complete, clean, keep-alive answer with
nothing left over; anything else closes it. Cancelling a request closes its connection at once, because that is the only
thing that makes LM Studio stop generating.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from lmgateway.wire.answer import ConnectFailed, Exchange, noAnswer
from lmgateway.wire.connection import UpstreamConnection
from lmgateway.wire.headers import VerbatimHeaders

IDLE_SECONDS = 4.0
"""How long a connection may wait in the pool. LM Studio closes its own after 5 s, and must not win that race."""

STALE_SECONDS = 1.0
"""How soon after a request is sent its connection ends if it had ended before."""


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, agent: UpstreamAgent, origin: bytes) -> None:
        self._agent = agent
        self._origin = origin

    def buildProtocol(self, addr: object) -> UpstreamConnection:
        return UpstreamConnection(self._agent, self._origin)


@implementer(IAgent)
class UpstreamAgent:
    """
    Sends requests over pooled connections.

    :param clock: for the age of pooled connections.
    :param endpoints: how to reach an origin; TLS is its business.
    """

    def __init__(self, clock: IReactorTime, endpoints: IAgentEndpointFactory) -> None:
        self._clock = clock
        self._endpoints = endpoints
        self._idle: dict[bytes, deque[UpstreamConnection]] = {}
        self._connecting: set[Deferred[Any]] = set()
        self._connections: set[UpstreamConnection] = set()
        self._sweep: IDelayedCall | None = None
        self._closing: Deferred[None] | None = None
        self._isRetired = False

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """
        Send a request; the target goes out byte for byte as it stands in ``uri``.

        :return: fires with the response once its head is complete. Fails with :class:`ConnectFailed`,
            :class:`AnswerBroken`, what the body failed with, or ``CancelledError``.
        """
        scheme, _, rest = uri.partition(b"://")
        authority, slash, target = rest.partition(b"/")
        origin = scheme + b"://" + authority
        head = renderHead(method, slash + target or b"/", authority, headers, bodyProducer)
        exchange = Exchange(method, head, bodyProducer)
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            exchange.sentAt = self._clock.seconds()
            if not connection.aborted and exchange.sentAt - connection.idleSince < IDLE_SECONDS:
                connection.start(exchange)
                return exchange.answer
            connection.abort()
        self.connect(origin, exchange)
        return exchange.answer

    def connect(self, origin: bytes, exchange: Exchange) -> None:
        """Send ``exchange`` over a fresh connection, unless the agent is closed."""
        if self._closing is not None:
            exchange.fail(Failure(ConnectFailed(Failure(CancelledError()))))
            return
        endpoint: IStreamClientEndpoint = self._endpoints.endpointForURI(URI.fromBytes(origin + b"/"))
        connecting: Deferred[Any] = endpoint.connect(_ConnectionFactory(self, origin))
        exchange.abandon = connecting.cancel
        self._connecting.add(connecting)

        def settled(result: Any) -> Any:
            self._connecting.discard(connecting)
            return result

        def connected(connection: UpstreamConnection) -> None:
            self._connections.add(connection)
            connection.start(exchange)

        connecting.addBoth(settled)
        connecting.addCallback(connected)
        connecting.addErrback(lambda reason: exchange.fail(Failure(ConnectFailed(reason))))

    def retry(self, origin: bytes, exchange: Exchange) -> None:
        """
        Send ``exchange`` once more, if the connection that it was sent over can have been closed before it arrived.

        "A proxy MUST NOT automatically retry non-idempotent requests" (RFC 9110 section 9.2.2). One that LM Studio never
        saw is none; one that it had for longer may have cost it minutes, and would cost them again.
        """
        if self._clock.seconds() - exchange.sentAt > STALE_SECONDS:
            exchange.fail(Failure(noAnswer()))
        else:
            self.connect(origin, exchange)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, unless none is to come."""
        if self._isRetired:
            connection.abort()
            return
        connection.idleSince = self._clock.seconds()
        self._idle.setdefault(connection.origin, deque()).append(connection)
        if self._sweep is None:
            self._sweep = self._clock.callLater(IDLE_SECONDS, self._sweepIdle)

    def forget(self, connection: UpstreamConnection) -> None:
        """Know no longer a connection that is closed."""
        self._connections.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)
        if self._closing is not None and not self._connections and not self._closing.called:
            self._closing.callback(None)

    def retire(self) -> None:
        """Close the connections that wait for a request, and from now on each other one after its answer."""
        self._isRetired = True
        self._stopSweeping()
        for idle in self._idle.values():
            for connection in list(idle):
                connection.abort()

    def close(self) -> Deferred[None]:
        """
        Close every connection, and make no more.

        :return: fires when all are closed. A request that still waited for one fails with :class:`ConnectFailed`, its
            reason a ``CancelledError``.
        """
        if self._closing is None:
            self._closing = Deferred()
        self._stopSweeping()
        for connecting in list(self._connecting):
            connecting.cancel()
        for connection in list(self._connections):
            connection.abort()
        if not self._connections and not self._closing.called:
            self._closing.callback(None)
        done: Deferred[None] = Deferred()
        self._closing.addCallback(lambda _: done.callback(None))
        return done

    def _stopSweeping(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _sweepIdle(self) -> None:
        self._sweep = None
        now = self._clock.seconds()
        for idle in self._idle.values():
            for connection in [each for each in idle if now - each.idleSince >= IDLE_SECONDS]:
                connection.abort()
        if any(self._idle.values()):
            self._sweep = self._clock.callLater(IDLE_SECONDS / 2, self._sweepIdle)


def renderHead(
    method: bytes, target: bytes, authority: bytes, headers: Headers | None, body: IBodyProducer | None
) -> bytes:
    """
    Write a request head from its parts.

    The framing and ``Host`` are ours: the fields given must not hold any of them.
    """
    lines = [method + b" " + target + b" HTTP/1.1\r\nHost: " + authority + b"\r\n"]
    if isinstance(headers, VerbatimHeaders):
        lines.extend([name + b": " + value + b"\r\n" for name, value in headers.pairs])
    elif headers is not None:
        lines.extend(
            [name + b": " + value + b"\r\n" for name, values in headers.getAllRawHeaders() for value in values]
        )
    if body is not None:
        if body.length is UNKNOWN_LENGTH:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        else:
            lines.append(b"Content-Length: %d\r\n" % body.length)
    elif method not in {b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"}:
        # "A user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed content
        # and it is not sending Transfer-Encoding" (RFC 9110 section 8.6): some servers refuse a POST without it.
        lines.append(b"Content-Length: 0\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
