# -*- test-case-name: tests.telemetry.test_events -*-
"""
The events of an inference request (contract, section 5).

Each has one ``inference_start``, at most one ``inference_first_token``, and one that ends it: ``inference_complete`` where it
was answered whole, whatever the status; ``inference_cancelled`` where its client left; ``error`` where LM Studio never
answered, or broke off in the midst of its answer.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from lmgateway.exchange import Exchange, TokenUsage
from lmgateway.interfaces import IEventJournal, IExchangeListener


@implementer(IExchangeListener)
class ExchangeEvents:
    """
    Records what becomes of inference requests.

    :param journal: takes the events.
    """

    def __init__(self, journal: IEventJournal) -> None:
        self._journal = journal

    def exchangeBegun(self, exchange: Exchange) -> None:
        """Record ``inference_start``."""
        self._journal.record(
            "inference_start",
            {
                "requestId": exchange.requestId,
                "method": exchange.method,
                "path": exchange.path,
                "model": exchange.model,
                "stream": exchange.stream,
                "injected": exchange.injected,
                "key": exchange.key,
                "client": exchange.client,
            },
        )

    def firstTokenPassed(self, exchange: Exchange) -> None:
        """Record ``inference_first_token``."""
        self._journal.record("inference_first_token", {"requestId": exchange.requestId, "ttftMs": exchange.ttftMs})

    def exchangeEnded(self, exchange: Exchange) -> None:
        """Record the event that ends it."""
        if exchange.ending == "complete":
            self._completed(exchange)
        elif exchange.ending == "cancelled":
            self._cancelled(exchange)
        else:
            self._failed(exchange)

    def _completed(self, exchange: Exchange) -> None:
        self._journal.record(
            "inference_complete",
            {
                "requestId": exchange.requestId,
                "status": exchange.status,
                "totalTimeMs": exchange.totalTimeMs(exchange.endedAt),
                "tokenUsage": usageData(exchange.usage),
                "tokensPerSecond": exchange.tokensPerSecond,
                "finishReason": exchange.finishReason,
            },
        )

    def _cancelled(self, exchange: Exchange) -> None:
        self._journal.record(
            "inference_cancelled",
            {
                "requestId": exchange.requestId,
                "totalTimeMs": exchange.totalTimeMs(exchange.endedAt),
                "phase": _lastPhase(exchange),
            },
        )

    def _failed(self, exchange: Exchange) -> None:
        self._journal.record(
            "error",
            {
                "operation": "inference",
                "error": exchange.error or "The answer broke off.",
                "requestId": exchange.requestId,
                "status": exchange.status,
                "totalTimeMs": exchange.totalTimeMs(exchange.endedAt),
                "phase": _lastPhase(exchange),
            },
        )


def _lastPhase(exchange: Exchange) -> str:
    """Tell where an exchange was when it ended."""
    if exchange.answeredAt:
        return "answering"
    return "waiting" if exchange.sentAt else "reading"


def usageData(usage: TokenUsage | None) -> dict[str, Any] | None:
    """Tell token counts as the contract has them, and ``estimated`` where they were counted rather than told."""
    if usage is None:
        return None
    told: dict[str, Any] = {
        "promptTokens": usage.promptTokens,
        "completionTokens": usage.completionTokens,
        "totalTokens": usage.totalTokens,
    }
    return {**told, "estimated": True} if usage.estimated else told
