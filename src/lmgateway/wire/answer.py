# -*- test-case-name: tests.wire.test_answer -*-
"""
What an upstream connection makes of an answer: a response whose body waits to be asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol as BodyProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from lmgateway.interfaces import IReplayable
from lmgateway.wire.headers import VerbatimHeaders

MOST_HELD = 1 << 20
"""Bytes of an answer that are held; errors have a few hundred. One that has more is broken off."""


class ConnectFailed(Exception):
    """No connection could be made; ``reason`` says why."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.getErrorMessage())
        self.reason = reason


class AnswerBroken(Exception):
    """The upstream broke off or spoke no HTTP; the text says which, for the log."""


def noAnswer() -> AnswerBroken:
    """Say that the connection ended before anything came."""
    return AnswerBroken("it closed the connection without an answer")


class IAnswerSource(Protocol):
    """What an answer asks of the connection that it comes on."""

    def pauseReading(self) -> None:
        """Read no more for now."""

    def resumeReading(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close at once."""


@implementer(IResponse, IPushProducer)
class AgentResponse:
    """
    An answer whose head is complete. Its body waits, unread, for :meth:`deliverBody`.

    It is also the transport that the body's protocol is given: pausing it pauses the connection, ``loseConnection``
    closes it at once.
    """

    request: IClientRequest | None = None
    previousResponse: IResponse | None = None
    disconnecting = False

    def __init__(self, connection: IAnswerSource, status: int, reason: bytes, headers: VerbatimHeaders) -> None:
        self.version = (b"HTTP", 1, 1)
        self.code = status
        self.phrase = reason
        self.headers: Headers = headers
        self.length: Any = UNKNOWN_LENGTH
        self._connection: IAnswerSource | None = connection
        self._consumer: IProtocol | None = None
        self._waiting: list[bytes] = []
        self._isDelivering = False
        self._paused = False
        self._ended: Failure | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body to ``protocol`` as it comes; its ``connectionLost`` tells how it ended."""
        self._consumer = protocol
        self._isDelivering = True
        protocol.makeConnection(self)  # type: ignore[arg-type]  # as much of a transport as bodies need
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            protocol.dataReceived(b"".join(waiting))
        self._isDelivering = False
        if self._ended is not None:
            self._tellEnd(protocol, self._ended)
        elif not self._paused:
            self.resumeProducing()

    def setPreviousResponse(self, response: IResponse) -> None:
        """Remember what this answer followed (redirects; the gateway follows none)."""
        self.previousResponse = response

    @property
    def isAwaited(self) -> bool:
        """Whether somebody takes the body, or took it."""
        return self._consumer is not None or self._ended is not None

    # what the connection tells

    def bodyReceived(self, data: bytes) -> None:
        """More of the body came."""
        if self._consumer is None:
            self._waiting.append(data)
        else:
            self._consumer.dataReceived(data)

    def bodyEnded(self, reason: Failure) -> None:
        """No more will come: ``ResponseDone``, ``PotentialDataLoss`` or ``ResponseFailed``."""
        if self._ended is not None:
            return
        self._ended = reason
        self._connection = None
        if self._consumer is not None and not self._isDelivering:
            self._tellEnd(self._consumer, reason)

    def _tellEnd(self, consumer: IProtocol, reason: Failure) -> None:
        """Let go of each other, too: a ring of objects would be left to the garbage collector with each request."""
        self._consumer = None
        consumer.connectionLost(reason)

    # what the body's protocol asks of its transport

    def pauseProducing(self) -> None:
        """Read no more of the answer for now."""
        self._paused = True
        if self._connection is not None:
            self._connection.pauseReading()

    def resumeProducing(self) -> None:
        """Read on."""
        self._paused = False
        if self._connection is not None:
            self._connection.resumeReading()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close the connection at once; LM Studio then stops generating."""
        if self._connection is not None:
            self._connection.abort()

    def abortConnection(self) -> None:
        """
        Close the connection, and tell the body's protocol so before this returns.

        ``readBody`` calls it when it is cancelled, and does not bear to be told later.
        """
        self.loseConnection()
        self._waiting.clear()
        self.bodyEnded(Failure(ResponseFailed([Failure(ConnectionAborted())])))


class Exchange:
    """
    One request and its answer, from the call of ``request`` to the end of the answer.

    :ivar sentAt: when it was sent, in the agent's seconds, where that was over a connection from the pool.
    """

    def __init__(self, method: bytes, head: bytes, body: IBodyProducer | None) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.fired = False
        self.sentAt = 0.0
        self.abandon: Any = None
        self.answer: Deferred[IResponse] = Deferred(self._cancelled)

    @property
    def replayable(self) -> bool:
        """Whether the request can be sent a second time."""
        return self.body is None or IReplayable.providedBy(self.body)

    def _cancelled(self, _: Deferred[IResponse]) -> None:
        self.fired = True
        if self.abandon is not None:
            self.abandon()

    def succeed(self, response: IResponse) -> None:
        """The head of the answer is whole."""
        if not self.fired:
            self.fired = True
            self.answer.callback(response)

    def fail(self, reason: Failure) -> None:
        """There will be no answer."""
        if not self.fired:
            self.fired = True
            self.answer.errback(reason)


class HeldResponse(AgentResponse):
    """
    An answer that was read whole before anybody decided what becomes of it.

    :ivar body: all of it.
    """

    def __init__(self, response: IResponse, body: bytes, reason: Failure) -> None:
        super().__init__(_Finished(), response.code, response.phrase, response.headers)
        self.length = response.length
        self.body = body
        if body:
            self.bodyReceived(body)
        self.bodyEnded(reason)


class _Finished:
    """The source of an answer that is here already."""

    def pauseReading(self) -> None:
        """Nothing more comes."""

    resumeReading = abort = pauseReading


class _Holding(BodyProtocol):
    """Collects an answer."""

    def __init__(self, response: IResponse, held: Deferred[HeldResponse], most: int) -> None:
        self._response = response
        self._held = held
        self._most = most
        self._body = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._most:
            self.abandon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._held.called:
            self._held.callback(HeldResponse(self._response, bytes(self._body), reason))

    def abandon(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


def holdWhole(response: IResponse, most: int = MOST_HELD) -> Deferred[HeldResponse]:
    """
    Read an answer whole, as an error is read that decides what is done next.

    :param most: bytes that are held; an answer that has more is broken off.
    :return: fires with it, however it ended; its end is told again to whoever takes its body. Cancelling closes the
        connection.
    """
    held: Deferred[HeldResponse] = Deferred(lambda _: holding.abandon())
    holding = _Holding(response, held, most)
    response.deliverBody(holding)
    return held
