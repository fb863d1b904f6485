# -*- test-case-name: tests.wire.test_agent -*-
"""
What an upstream connection makes of an answer: a response whose body waits to be asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer

from lmgateway.interfaces import IReplayable
from lmgateway.wire.headers import VerbatimHeaders


class ConnectFailed(Exception):
    """No connection could be made; ``reason`` says why."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.getErrorMessage())
        self.reason = reason


class AnswerBroken(Exception):
    """The upstream broke off or spoke no HTTP; the text says which, for the log."""


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
        self._paused = False
        self._ended: Failure | None = None

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body to ``protocol`` as it comes; its ``connectionLost`` tells how it ended."""
        self._consumer = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            protocol.dataReceived(b"".join(waiting))
        if self._ended is not None:
            protocol.connectionLost(self._ended)
        elif not self._paused:
            self.resumeProducing()

    def setPreviousResponse(self, response: IResponse) -> None:
        """Remember what this answer followed (redirects; the gateway follows none)."""
        self.previousResponse = response

    @property
    def isAwaited(self) -> bool:
        """Whether somebody takes the body."""
        return self._consumer is not None

    # what the connection tells

    def bodyReceived(self, data: bytes) -> None:
        """More of the body came."""
        if self._consumer is None:
            self._waiting.append(data)
        else:
            self._consumer.dataReceived(data)

    def bodyEnded(self, reason: Failure) -> None:
        """No more will come: ``ResponseDone``, ``PotentialDataLoss`` or ``ResponseFailed``."""
        self._ended = reason
        self._connection = None
        if self._consumer is not None:
            self._consumer.connectionLost(reason)

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

    abortConnection = loseConnection


class Exchange:
    """One request and its answer, from the call of ``request`` to the end of the answer."""

    def __init__(self, method: bytes, head: bytes, body: IBodyProducer | None) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.fired = False
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
