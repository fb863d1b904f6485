# -*- test-case-name: tests.wire.test_deadlines -*-
"""
How long a connection may draw things out. Pure: Unix times go in, what is overdue comes out.

A client can draw out its head, its body, the reading of its answer, and the time between two requests. Each has a clock
of its own, and none is reset by a single byte: a client that sends one every minute is late all the same.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

LINGER_SECONDS = 2.0
"""How long a connection whose answer came early is still read, so that a reset does not take the answer away."""


class IPatience(Protocol):
    """What the settings allow, in seconds and bytes a second."""

    @property
    def headTimeout(self) -> float:
        """From the first byte of a head to its last."""

    @property
    def bodyGrace(self) -> float:
        """Before a body must keep up its rate."""

    @property
    def bodyRate(self) -> int:
        """Bytes a second that a body must have after that."""

    @property
    def idleTimeout(self) -> float:
        """Between two requests, and before the first."""

    @property
    def writeStallTimeout(self) -> float:
        """While the client takes nothing of what is written."""


class Overdue(Enum):
    """What took too long."""

    HEAD = "head"
    BODY = "body"
    IDLE = "idle"
    WRITE = "write"
    LINGER = "linger"


class Deadlines:
    """The clocks of one connection. 0 is a clock that stands still."""

    def __init__(self, now: float) -> None:
        self._idleSince = now
        self._headSince = 0.0
        self._bodySince = 0.0
        self._stalledSince = 0.0
        self._lingerSince = 0.0
        self._pausedSince = 0.0

    def headBegun(self, now: float) -> None:
        """The first byte of a head came."""
        self._idleSince = 0.0
        self._headSince = now

    def headEnded(self) -> None:
        """The head is whole."""
        self._idleSince = self._headSince = 0.0

    def bodyBegun(self, now: float) -> None:
        """A body is awaited, if it was not before."""
        self._bodySince = self._bodySince or now

    def bodyEnded(self) -> None:
        """No body is awaited."""
        self._bodySince = 0.0

    def answered(self, now: float, *, idle: bool) -> None:
        """An answer is finished. Nobody read meanwhile, so a head that has begun gets its time anew."""
        if self._headSince:
            self._headSince = now
        elif idle:
            self._idleSince = now

    def readingPaused(self, now: float) -> None:
        """We read no more for now, which is not the client's fault."""
        self._pausedSince = now

    def readingResumed(self, now: float) -> None:
        """We read on."""
        if self._bodySince:
            self._bodySince += now - self._pausedSince
        self._pausedSince = 0.0

    def stalled(self, now: float) -> None:
        """The client takes nothing of what is written."""
        self._stalledSince = now

    def flowing(self) -> None:
        """The client took all that was written."""
        self._stalledSince = 0.0

    @property
    def isStalled(self) -> bool:
        """Whether the client is behind."""
        return bool(self._stalledSince)

    def lingering(self, now: float) -> None:
        """The connection is only still read to be closed well."""
        self._idleSince = self._headSince = self._bodySince = 0.0
        self._lingerSince = now

    def overdue(self, now: float, patience: IPatience, *, bodyBytes: int, answering: bool) -> Overdue | None:
        """
        Tell what took too long, if anything did.

        :param bodyBytes: how much of the awaited body has come.
        :param answering: whether a request is being answered; a head that is begun is not read on meanwhile.
        """
        if self._lingerSince:
            return Overdue.LINGER if now - self._lingerSince >= LINGER_SECONDS else None
        if self._stalledSince and now - self._stalledSince >= patience.writeStallTimeout:
            return Overdue.WRITE
        if self._headSince and not answering and now - self._headSince >= patience.headTimeout:
            return Overdue.HEAD
        if self._idleSince and now - self._idleSince >= patience.idleTimeout:
            return Overdue.IDLE
        if self._bodySince and not self._pausedSince:
            late = now - self._bodySince - patience.bodyGrace
            if late > 0 and bodyBytes < late * patience.bodyRate:
                return Overdue.BODY
        return None
