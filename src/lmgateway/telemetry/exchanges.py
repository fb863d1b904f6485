# -*- test-case-name: tests.telemetry.test_exchanges -*-
"""
The inference requests in flight and the last ones that ended, and who is told of each step: events, metrics, usage kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from lmgateway.exchange import Exchange
from lmgateway.interfaces import IExchangeListener

REMEMBERED = 1000
"""Ended exchanges that are remembered."""


class Exchanges:
    """
    Every exchange in flight, and the last that ended.

    :param listeners: told of each step, in this order. None may raise.
    """

    def __init__(self, listeners: Iterable[IExchangeListener] = ()) -> None:
        self.inFlight: dict[str, Exchange] = {}
        self.ended: deque[Exchange] = deque(maxlen=REMEMBERED)
        self._listeners = tuple(listeners)

    def begin(self, exchange: Exchange) -> None:
        """Its body is read, and it goes to LM Studio."""
        self.inFlight[exchange.requestId] = exchange
        for listener in self._listeners:
            listener.exchangeBegun(exchange)

    def firstToken(self, exchange: Exchange) -> None:
        """The first piece of generated text passes."""
        for listener in self._listeners:
            listener.firstTokenPassed(exchange)

    def end(self, exchange: Exchange) -> None:
        """It is over; all that will be known of it is known."""
        del self.inFlight[exchange.requestId]
        exchange.release()
        self.ended.append(exchange)
        for listener in self._listeners:
            listener.exchangeEnded(exchange)

    def find(self, requestId: str) -> Exchange | None:
        """Give the exchange of an id, in flight or remembered."""
        found = self.inFlight.get(requestId)
        if found is not None:
            return found
        return next((exchange for exchange in reversed(self.ended) if exchange.requestId == requestId), None)
