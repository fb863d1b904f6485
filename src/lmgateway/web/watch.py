# -*- test-case-name: tests.web.test_watch -*-
"""
Watching an inference request on its way through the proxy: the one place where what moves and what remembers meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from lmgateway.errors import GatewayError
from lmgateway.exchange import Ending, Exchange
from lmgateway.interfaces import IAnswerReader
from lmgateway.message import Rewritten
from lmgateway.policy.routes import Route
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.wire.request import GatewayRequest


class IReaderMaker(Protocol):
    """Makes what reads an answer."""

    def __call__(self, dialect: str, isStream: bool) -> IAnswerReader:  # noqa: FBT001 - a shape, not an API
        """Make the reader of one answer."""


@implementer(IAnswerReader)
class Unread:
    """Reads nothing: for answers that are compressed, and for those that never came."""

    usage = None
    tokensPerSecond = None
    finishReason = None

    def feed(self, data: bytes) -> bool:
        """See nothing."""
        return False

    def finish(self) -> None:
        """Know nothing."""


class ExchangeWatch:
    """
    Watches one exchange.

    :param exchange: what is known of it.
    :param exchanges: is told of its steps.
    :param clock: tells when they happen.
    :param makeReader: makes the reader of its answer.
    """

    def __init__(
        self, exchange: Exchange, exchanges: Exchanges, clock: IReactorTime, makeReader: Callable[[bool], IAnswerReader]
    ) -> None:
        self.exchange = exchange
        self._exchanges = exchanges
        self._clock = clock
        self._makeReader = makeReader
        self._reader: IAnswerReader = Unread()

    def answered(self, status: int, *, isStream: bool, isEncoded: bool) -> None:
        """
        The head of the answer came.

        :param isEncoded: whether its body is compressed; such a body passes unread.
        """
        self.exchange.answeredAt = self._clock.seconds()
        self.exchange.status = status
        if not isEncoded:
            self._reader = self._makeReader(isStream)

    def passing(self, data: bytes) -> None:
        """A piece of the answer passes."""
        if self._reader.feed(data) and not self.exchange.firstTokenAt:
            self.exchange.firstTokenAt = self._clock.seconds()
            self._exchanges.firstToken(self.exchange)

    def ended(self, request: GatewayRequest, ending: Ending, error: GatewayError | None = None) -> None:
        """It is over."""
        exchange = self.exchange
        exchange.endedAt = self._clock.seconds()
        exchange.ending = ending
        exchange.bytesIn = request.body.received
        exchange.bytesOut = request.sentLength
        if error is not None:
            exchange.error = error.message
            exchange.status = exchange.status or error.status
        reader = self._reader
        reader.finish()
        exchange.usage = reader.usage
        exchange.finishReason = reader.finishReason
        exchange.tokensPerSecond = reader.tokensPerSecond or _rateOf(exchange)
        self._exchanges.end(exchange)


def _rateOf(exchange: Exchange) -> float | None:
    """Completion tokens over the time in which they came; of an answer that came at once, over all of its time."""
    usage = exchange.usage
    seconds = exchange.endedAt - (exchange.firstTokenAt or exchange.sentAt)
    if usage is None or not usage.completionTokens or seconds <= 0:
        return None
    return round(usage.completionTokens / seconds, 2)


class Watching:
    """
    Begins to watch.

    :param exchanges: the exchanges in flight and ended.
    :param clock: tells the time.
    :param readerFor: makes what reads the answers of a dialect.
    """

    def __init__(self, exchanges: Exchanges, clock: IReactorTime, readerFor: IReaderMaker) -> None:
        self.exchanges = exchanges
        self._clock = clock
        self._readerFor = readerFor

    def begin(
        self, request: GatewayRequest, route: Route, rewritten: Rewritten, cancel: Callable[[], None]
    ) -> ExchangeWatch:
        """
        An inference request goes upstream.

        :param cancel: ends it as if its client had left.
        """
        principal = request.principal
        head = request.head
        exchange = Exchange(
            requestId=request.requestId,
            method=head.method.decode("latin-1"),
            path=head.path.decode("latin-1"),
            route=route.name,
            key=principal.name if principal is not None else "",
            keyId=principal.keyId if principal is not None else None,
            client=head.peer,
            startedAt=request.startedAt,
            cancel=cancel,
        )
        exchange.model = rewritten.model
        exchange.stream = rewritten.stream
        exchange.injected = rewritten.injected
        exchange.sentAt = self._clock.seconds()
        self.exchanges.begin(exchange)
        dialect = route.dialect
        return ExchangeWatch(exchange, self.exchanges, self._clock, lambda isStream: self._readerFor(dialect, isStream))
