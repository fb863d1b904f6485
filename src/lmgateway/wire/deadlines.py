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
    def handshakeTimeout(self) -> float:
        """From the beginning of a connection to the end of its TLS handshake."""

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
        """Until the client has taken what it was held back for, or what was written before its connection closed."""


class Overdue(Enum):
    """What took too long."""

    HEAD = "head"
    BODY = "body"
    IDLE = "idle"
    WRITE = "write"
    HANDSHAKE = "handshake"
    CLOSING = "closing"


class Deadlines:
    """The clocks of one connection. 0 is a clock that stands still."""

    def __init__(self, now: float) -> None:
        self._idleSince = now
        self._headSince = 0.0
        self._bodySince = 0.0
        self._stalledSince = 0.0
        self._handshakeSince = 0.0
        self._closingSince = 0.0
        self._lingers = False
        self._pausedSince = 0.0

    def handshakeBegun(self, now: float) -> None:
        """TLS is being agreed upon."""
        self._idleSince = 0.0
        self._handshakeSince = now

    def handshakeEnded(self, now: float) -> None:
        """TLS is agreed upon."""
        self._handshakeSince = 0.0
        self._idleSince = now

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

    def closing(self, now: float, *, lingers: bool) -> None:
        """
        All is written that will be; what still comes is thrown away.

        :param lingers: whether it is read only so that the last answer is not lost.
        """
        if not self._closingSince:
            self._closingSince = now
            self._lingers = lingers

    def overdue(self, now: float, patience: IPatience, *, bodyBytes: int, answering: bool) -> Overdue | None:
        """
        Tell what took too long, if anything did.

        :param bodyBytes: how much of the awaited body has come.
        :param answering: whether a request is being answered; a head that is begun is not read on meanwhile.
        """
        if self._closingSince:
            # A client that is behind gets the time that it has anyway: it may still take its last answer.
            seconds = LINGER_SECONDS if self._lingers and not self._stalledSince else patience.writeStallTimeout
            return Overdue.CLOSING if now - self._closingSince >= seconds else None
        clocks = (
            (self._handshakeSince, patience.handshakeTimeout, Overdue.HANDSHAKE),
            (self._stalledSince, patience.writeStallTimeout, Overdue.WRITE),
            (0.0 if answering else self._headSince, patience.headTimeout, Overdue.HEAD),
            (self._idleSince, patience.idleTimeout, Overdue.IDLE),
        )
        for since, seconds, overdue in clocks:
            if since and now - since >= seconds:
                return overdue
        if self._bodySince and not self._pausedSince:
            late = now - self._bodySince - patience.bodyGrace
            if late > 0 and bodyBytes < late * patience.bodyRate:
                return Overdue.BODY
        return None
