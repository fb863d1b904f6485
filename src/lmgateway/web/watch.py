# -*- test-case-name: tests.web.test_watch -*-
"""
Watching an inference request on its way through the proxy: the one place where what moves and what remembers meet.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from lmgateway.errors import GatewayError
from lmgateway.exchange import Ending, Exchange
from lmgateway.interfaces import IAnswerReader
from lmgateway.message import HeaderPairs, Rewritten
from lmgateway.policy.routes import Route
from lmgateway.telemetry.captures import Capture, Captures
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.usage_chunk import UsageChunkRemover
from lmgateway.wire.request import GatewayRequest

LONGEST_MODEL = 500
"""Characters of a model's name that are remembered. Clients write it, and a thousand requests are remembered."""


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
    :param dialect: whose shapes its answer has.
    :param readerFor: makes what reads it.
    :param capture: keeps what passes, where that is wanted.
    """

    def __init__(
        self,
        exchange: Exchange,
        exchanges: Exchanges,
        clock: IReactorTime,
        dialect: str,
        readerFor: IReaderMaker,
        capture: Capture | None,
    ) -> None:
        self.exchange = exchange
        self._exchanges = exchanges
        self._clock = clock
        self._dialect = dialect
        self._readerFor = readerFor
        self._capture = capture
        self._reader: IAnswerReader = Unread()
        self._remover: UsageChunkRemover | None = None

    def answered(self, status: int, headers: HeaderPairs, *, isStream: bool, removesUsage: bool) -> None:
        """
        The head of the answer came. A body that is compressed passes unread.

        :param removesUsage: whether the chunk that tells the usage is there only because we asked for it.
        """
        self.exchange.answeredAt = self._clock.seconds()
        self.exchange.status = status
        if self._capture is not None:
            self._capture.answered(status, headers)
        if not isEncoded(headers):
            self._reader = reader = self._readerFor(self._dialect, isStream)
            self.exchange.usageSoFar = lambda: reader.usage
            self._remover = UsageChunkRemover() if removesUsage and isStream else None

    def passing(self, data: bytes) -> bytes:
        """See a piece of the answer, and give what goes on: all of it, but for a usage chunk that only we asked for."""
        if self._capture is not None:
            self._capture.passing(data)
        if self._reader.feed(data) and not self.exchange.firstTokenAt:
            self.exchange.firstTokenAt = self._clock.seconds()
            self._exchanges.firstToken(self.exchange)
        return data if self._remover is None else self._remover.feed(data)

    def passed(self) -> bytes:
        """Give what was held back of an answer that is whole now."""
        return b"" if self._remover is None else self._remover.finish()

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
    :param captures: keeps what requests and answers say, where that is wanted.
    """

    def __init__(self, exchanges: Exchanges, clock: IReactorTime, readerFor: IReaderMaker, captures: Captures) -> None:
        self.exchanges = exchanges
        self._captures = captures
        self._clock = clock
        self._readerFor = readerFor

    def begin(self, request: GatewayRequest, route: Route, body: bytes, rewritten: Rewritten) -> ExchangeWatch:
        """
        An inference request goes upstream.

        :param body: what the client sent.
        :param rewritten: what goes upstream.
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
            cancel=request.cancel,
            model=rewritten.model[:LONGEST_MODEL] if rewritten.model is not None else None,
            stream=rewritten.stream,
            injected=rewritten.injected,
            sentAt=self._clock.seconds(),
        )
        self.exchanges.begin(exchange)
        capture = self._captures.begin(
            exchange.key,
            exchange.requestId,
            exchange.method,
            exchange.path,
            head.headers,
            isWanted=None if principal is None else principal.grant.capture,
        )
        if capture is not None:
            capture.sent(body, rewritten.body)
        return ExchangeWatch(exchange, self.exchanges, self._clock, route.dialect, self._readerFor, capture)


def isEncoded(headers: HeaderPairs) -> bool:
    """Whether an answer's body is compressed (RFC 9110 section 8.4)."""
    return any(
        len(name) == 16 and name.lower() == b"content-encoding" and value.lower() != b"identity"
        for name, value in headers
    )
