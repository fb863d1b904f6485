# -*- test-case-name: tests.wire.test_caps -*-
"""
How many connections there may be: in all, from one address, and of strangers from one address.

A stranger is a connection that has not yet sent the head of a request that may be answered: nothing tells it from one that
only takes up room. Of those an address may have a few for as long as deadlines allow. Any further one is on probation: it is
given half a second, which is enough for whoever has something to ask. So somebody who holds all places of an address open
does not lock out those who share it, and a client that opens a hundred connections at once is served on all of them.

Probation takes up room too, so there is none once half of all connections are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lmgateway.policy.limits import sourceOf

PROBATION_SECONDS = 0.5
"""Enough for a TLS handshake and a head on a slow wireless network."""

TOO_MANY = "connections"
"""Why a connection is closed: there are too many in all."""

TOO_MANY_OF_ADDRESS = "address"
"""There are too many from its address."""

TOO_MANY_STRANGERS = "unauthenticated"
"""There are too many from its address that ask nothing."""


class ICaps(Protocol):
    """The part of the settings that says how many."""

    @property
    def maxConnections(self) -> int:
        """Connections at the same time."""

    @property
    def maxConnectionsPerAddress(self) -> int:
        """The same, from one address."""

    @property
    def maxUnauthenticatedPerAddress(self) -> int:
        """The same, of strangers."""


C = TypeVar("C", bound=Hashable)


class ConnectionCaps(Generic[C]):
    """
    Counts connections, and knows which are too many. Its tables have no more entries than there are connections.

    :param clock: ends probations.
    :param limits: gives what is allowed now.
    :param turnAway: closes a connection whose probation is over.
    """

    def __init__(self, clock: IReactorTime, limits: Callable[[], ICaps], turnAway: Callable[[C], None]) -> None:
        self._clock = clock
        self._limits = limits
        self._turnAway = turnAway
        self._sources: dict[C, str] = {}
        self._perSource: dict[str, int] = {}
        self._strangers: dict[C, str] = {}
        self._strangersPerSource: dict[str, int] = {}
        self._probation: dict[C, float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._sources)

    def refusal(self, address: str) -> str | None:
        """
        Decide about a connection that is about to be made.

        :return: why it must be closed at once; None where it may come.
        """
        source, limits = sourceOf(address), self._limits()
        if len(self) >= limits.maxConnections:
            return TOO_MANY
        if self._perSource.get(source, 0) >= limits.maxConnectionsPerAddress:
            return TOO_MANY_OF_ADDRESS
        isCrowded = self._strangersPerSource.get(source, 0) >= limits.maxUnauthenticatedPerAddress
        return TOO_MANY_STRANGERS if isCrowded and 2 * len(self) >= limits.maxConnections else None

    def opened(self, connection: C, address: str) -> None:
        """Count a connection: a stranger's, so far."""
        source = self._sources[connection] = self._strangers[connection] = sourceOf(address)
        _add(self._perSource, source, 1)
        _add(self._strangersPerSource, source, 1)
        if self._strangersPerSource[source] > self._limits().maxUnauthenticatedPerAddress:
            self._probation[connection] = self._clock.seconds() + PROBATION_SECONDS
            self._watch()

    def recognised(self, connection: C) -> None:
        """It has sent the head of a request that may be answered."""
        source = self._strangers.pop(connection, None)
        if source is not None:
            _add(self._strangersPerSource, source, -1)
            self._endProbation(connection)

    def closed(self, connection: C) -> None:
        """It is gone."""
        self.recognised(connection)
        source = self._sources.pop(connection, None)
        if source is not None:
            _add(self._perSource, source, -1)

    def _endProbation(self, connection: C) -> None:
        if self._probation.pop(connection, None) is not None and not self._probation and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Wake up when the next probation ends, which is the one that began first."""
        if self._timer is None and self._probation:
            until = next(iter(self._probation.values()))
            self._timer = self._clock.callLater(max(until - self._clock.seconds(), 0), self._judge)

    def _judge(self) -> None:
        """Close those who used their probation for nothing, unless there is room for them by now."""
        self._timer = None
        now, most = self._clock.seconds(), self._limits().maxUnauthenticatedPerAddress
        over = [connection for connection, until in self._probation.items() if until <= now]
        for connection in over:
            del self._probation[connection]
            if self._strangersPerSource[self._strangers[connection]] > most:
                # It counts no more, though it is gone only with the reactor's next turn.
                self.closed(connection)
                self._turnAway(connection)
        self._watch()


def _add(counts: dict[str, int], source: str, number: int) -> None:
    count = counts.get(source, 0) + number
    if count:
        counts[source] = count
    else:
        del counts[source]
