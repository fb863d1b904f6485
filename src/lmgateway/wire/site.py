# -*- test-case-name: tests.wire.test_site -*-
"""
What the connections from downstream share: the resource, the limits, the deadlines, the drain.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Site

from lmgateway.errors import GatewayError
from lmgateway.message import HeaderPairs
from lmgateway.policy.addresses import LOCAL
from lmgateway.policy.limits import Throttle
from lmgateway.wire.caps import TOO_MANY, TOO_MANY_OF_ADDRESS, TOO_MANY_STRANGERS, ConnectionCaps, ICaps
from lmgateway.wire.channel import GatewayChannel
from lmgateway.wire.deadlines import IPatience
from lmgateway.wire.parser import IHeadLimits
from lmgateway.wire.request import GatewayRequest

_log = Logger()

SWEEP_SECONDS = 1.0
"""How often deadlines are looked at: one timer for all connections costs nothing per request."""


TOLD_SECONDS = 10.0
"""How often the log tells that connections were turned away, however many."""

NOT_ALLOWED = "not_allowed"
"""Why a connection is closed: its address may not ask anything."""


class IChannelLimits(IHeadLimits, IPatience, ICaps, Protocol):
    """The part of the settings that a channel goes by."""

    @property
    def maxBody(self) -> int:
        """Bytes of a request body."""


class TurnedAway(TwistedProtocol):
    """A connection that is not wanted: it is closed at once, before a byte of it is looked at."""

    def connectionMade(self) -> None:
        """Close it."""
        transport: Any = self.transport
        transport.abortConnection()


class GatewaySite(Site):
    """
    The factory of :class:`~lmgateway.wire.channel.GatewayChannel`.

    :param resource: what requests are rendered by.
    :param reactor: the clock.
    :param limits: what a connection may take; assign to change them for what comes after.
    :param refuse: answers a request with an error, in the dialect of its path.
    :param ended: told of every request, once: its answer is finished, cut or abandoned, or will never be begun.
    :ivar identitiesOf: reads the names in the certificate of a connection's client, given its transport.
    :ivar strictTransport: the header field that answers over TLS have besides (RFC 6797), if any.
    :ivar permits: tells whether an address may connect by TLS. Whoever comes without is told with an answer, and not here.
    :ivar turnedAway: told of every connection that is closed unheard, with the reason.
    """

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        limits: IChannelLimits,
        refuse: Callable[[GatewayRequest, GatewayError], None],
        ended: Callable[[GatewayRequest], None],
    ) -> None:
        super().__init__(resource, reactor=reactor, parsePOSTFormSubmission=False)
        self.limits = limits
        self.refuse = refuse
        self.ended = ended
        self.identitiesOf: Callable[[Any], tuple[str, ...]] = lambda _: ()
        self.strictTransport: HeaderPairs = ()
        self.permits: Callable[[str], bool] = lambda _: True
        self.turnedAway: Callable[[str], None] = lambda _: None
        self._telling = Throttle(1, TOLD_SECONDS)
        self._caps: ConnectionCaps[GatewayChannel] = ConnectionCaps(reactor, lambda: self.limits, self._endProbation)
        self.draining = False
        self.channels: set[GatewayChannel] = set()
        self._reactor = reactor
        self.now = reactor.seconds
        self._requestPrefix = f"req_{secrets.token_hex(5)}"
        self._requests = 0
        self._dateAt = 0
        self._dateLine = b""
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self._drained: Deferred[None] | None = None
        self._hurry: IDelayedCall | None = None

    def buildProtocol(self, addr: object) -> Any:
        """
        Make the channel of a new connection, or what closes one that is too many.

        It is always a protocol: what wraps a factory in TLS cannot take None for one.

        :param addr: of the other end; None where it is not known yet, and then nothing is decided here.
        """
        address = _hostOf(addr)
        reason = None if addr is None else self._caps.refusal(address)
        if reason is None:
            return GatewayChannel(self)
        self._tellTurnedAway(address, reason)
        return TurnedAway()

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone by ALPN, whatever ``twisted.web`` could speak."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Watch deadlines. The access log of ``twisted.web`` is not opened: ours is the web layer's."""
        if not self._sweeping.running:
            self._sweeping.start(SWEEP_SECONDS, now=False).addErrback(_tellDefect)

    def stopFactory(self) -> None:
        """Nobody listens any more; connections that are left are watched until they are drained."""
        if not self.channels:
            self._stopSweeping()

    def log(self, request: object) -> None:
        """Write no log of ``twisted.web``'s own."""

    def opened(self, channel: GatewayChannel) -> None:
        """A connection was made; perhaps just before the listening stopped."""
        self.channels.add(channel)
        address = _hostOf(channel.getPeer())
        self._caps.opened(channel, address)
        if channel.isSecure() and not self.permits(address):
            self._tellTurnedAway(address, NOT_ALLOWED)
            channel.abortConnection()
        elif self.draining:
            channel.closeWhenIdle()

    def closed(self, channel: GatewayChannel) -> None:
        """A connection is gone."""
        self.channels.discard(channel)
        self._caps.closed(channel)
        if self.draining and not self.channels:
            self._finishDrain()

    def recognised(self, channel: GatewayChannel) -> None:
        """A connection has sent the head of a request that may be answered."""
        self._caps.recognised(channel)

    def _endProbation(self, channel: GatewayChannel) -> None:
        self._tellTurnedAway(_hostOf(channel.getPeer()), TOO_MANY_STRANGERS)
        channel.abortConnection()

    def _tellTurnedAway(self, address: str, reason: str) -> None:
        self.turnedAway(reason)
        omitted = self._telling.admit(self.now())
        if omitted is not None:
            _log.warn(
                "A connection from {address} was closed unheard: {why}. {omitted} others were since this was last told.",
                address=address,
                why=_WHY[reason],
                omitted=omitted,
            )

    def nextRequestId(self) -> str:
        """Give a request its name: unique in this process, unlikely to be met in another."""
        self._requests += 1
        return f"{self._requestPrefix}{self._requests:06x}"

    def dateLine(self) -> bytes:
        """Give the ``Date`` field of now, made once a second."""
        now = int(self.now())
        if now != self._dateAt:
            self._dateAt = now
            self._dateLine = b"Date: " + datetimeToString(now) + b"\r\n"
        return self._dateLine

    def drain(self, seconds: float) -> Deferred[None]:
        """
        Let running answers finish, and close everything else.

        :param seconds: after which what still runs is cut off.
        :return: fires when no connection is left.
        """
        if self._drained is None:
            self.draining = True
            self._drained = Deferred()
            self._hurry = self._reactor.callLater(seconds, self.abortAll)
            for channel in list(self.channels):
                channel.closeWhenIdle()
            if not self.channels:
                self._finishDrain()
        done: Deferred[None] = Deferred()
        self._drained.addCallback(lambda _: done.callback(None))
        return done

    def abortAll(self) -> None:
        """Close every connection at once."""
        self._stopWaiting()
        for channel in list(self.channels):
            channel.cut(reset=True)

    def _finishDrain(self) -> None:
        self._stopSweeping()
        self._stopWaiting()
        if self._drained is not None and not self._drained.called:
            self._drained.callback(None)

    def _stopWaiting(self) -> None:
        hurry, self._hurry = self._hurry, None
        if hurry is not None and hurry.active():
            hurry.cancel()

    def _stopSweeping(self) -> None:
        if self._sweeping.running:
            self._sweeping.stop()

    def _sweep(self) -> None:
        now = self.now()
        for channel in list(self.channels):
            try:
                channel.checkDeadlines(now)
            except Exception:  # noqa: BLE001 - a defect met on one connection must not stop the clocks of all others
                _log.failure("Defect while looking at a connection's deadlines")
                channel.abortConnection()


_WHY = {
    TOO_MANY: "there are as many as limits.maxConnections allows",
    TOO_MANY_OF_ADDRESS: "there are as many from its address as limits.maxConnectionsPerAddress allows",
    TOO_MANY_STRANGERS: "there are more from its address that ask nothing than limits.maxUnauthenticatedPerAddress allows",
    NOT_ALLOWED: "its address may not connect (access.allow)",
}
"""The reasons for closing a connection unheard, for people."""


def _tellDefect(reason: Failure) -> None:
    _log.failure("Defect while looking at deadlines; none is kept any more", reason)


def _hostOf(address: object) -> str:
    """Tell the IP address in a Twisted one. Who comes by a unix socket is on this machine."""
    host: str = getattr(address, "host", LOCAL)
    return host
