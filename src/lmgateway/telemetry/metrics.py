# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
Counters and summaries of what passed.

What is counted on the way of a request is a few additions; everything else is computed when somebody looks. Labels are
bounded: a route is a row of the route table, a key a name of the key store, a model one of the first
:data:`KNOWN_MODELS` that were seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from statistics import fmean, median, quantiles
from typing import Any

from zope.interface import implementer

from lmgateway.exchange import Exchange
from lmgateway.interfaces import IExchangeListener

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms, in seconds: from a cached word to a long answer of a large model."""

KNOWN_MODELS = 64
"""Models with a label of their own. Clients can make names up; the rest share the label ``other``."""

WINDOW = 1000
"""Ended requests that medians and percentiles are computed from."""


Labels = tuple[str, str, str, str]
"""What an answer is counted under: route, class of its status (``2xx``), model, key."""

_CLASSES = {status: f"{status // 100}xx" for status in range(100, 600)}


class Histogram:
    """Counts by upper bound, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@implementer(IExchangeListener)
class Metrics:
    """
    What passed since the start.

    :ivar requests: answers to inference requests, by labels.
    :ivar answers: answers to every request, by route and status.
    :ivar turnedAway: connections that were closed unheard, by reason.
    :ivar latency: seconds from the complete head to the end of the answer, by model.
    :ivar firstToken: seconds to the first piece of generated text, by model.
    :ivar tokens: prompt and completion tokens, by model and key.
    """

    def __init__(self) -> None:
        self.requests: Counter[Labels] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.turnedAway: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.latency: dict[str, Histogram] = {}
        self.firstToken: dict[str, Histogram] = {}
        self.tokens: Counter[tuple[str, str, str]] = Counter()
        self.total = 0
        self.errors = 0
        self.recent: deque[Exchange] = deque(maxlen=WINDOW)
        self._sums = _Sums()
        self._models: set[str] = set()

    def answerSent(self, route: str, status: int | None) -> None:
        """Any request has ended; ``status`` is None for one whose client left before an answer began."""
        self.answers[route, str(status) if status is not None else "none"] += 1

    def connectionTurnedAway(self, reason: str) -> None:
        """A connection was closed unheard: there are too many, or its address may not connect."""
        self.turnedAway[reason] += 1

    def exchangeBegun(self, exchange: Exchange) -> None:
        """See :class:`~lmgateway.interfaces.IExchangeListener`."""
        self.total += 1

    def firstTokenPassed(self, exchange: Exchange) -> None:
        """See :class:`~lmgateway.interfaces.IExchangeListener`."""
        label = self.labelOf(exchange.model)
        self._histogram(self.firstToken, label).observe(exchange.firstTokenAt - exchange.startedAt)

    def exchangeEnded(self, exchange: Exchange) -> None:
        """See :class:`~lmgateway.interfaces.IExchangeListener`."""
        status = exchange.status
        failed = exchange.ending in {"cut", "failed"} or (status is not None and status >= 400)
        self.errors += failed
        model = self.labelOf(exchange.model)
        self.requests[exchange.route, _CLASSES.get(status or 0, "none"), model, exchange.key] += 1
        self.endings[exchange.ending or "complete"] += 1
        self.recent.append(exchange)
        if exchange.ending == "complete":
            seconds = exchange.endedAt - exchange.startedAt
            self._histogram(self.latency, model).observe(seconds)
            self._sums.add(exchange, seconds)
        usage = exchange.usage
        if usage is not None:
            self.tokens[model, exchange.key, "prompt"] += usage.promptTokens or 0
            self.tokens[model, exchange.key, "completion"] += usage.completionTokens or 0

    def labelOf(self, model: str | None) -> str:
        """Give the label of a model's name: the name, or ``other`` once there are too many."""
        if model is None:
            return "none"
        if model in self._models:
            return model
        if len(self._models) < KNOWN_MODELS and len(model) <= 200:
            self._models.add(model)
            return model
        return "other"

    def performance(self) -> dict[str, Any]:
        """Give the ``performance`` of ``/debug/metrics``."""
        sums = self._sums
        times = [(each.endedAt - each.startedAt) * 1000 for each in self.recent if each.ending == "complete"]
        return {
            "totalRequests": self.total,
            "totalErrors": self.errors,
            "errorRate": _rounded(self.errors / self.total * 100 if self.total else 0.0),
            "recentRequestCount": len(self.recent),
            "completedRequestCount": sums.completed,
            "avgResponseTimeMs": _rounded(sums.seconds / sums.completed * 1000) if sums.completed else None,
            "minResponseTimeMs": _rounded(sums.shortest * 1000) if sums.completed else None,
            "maxResponseTimeMs": _rounded(sums.longest * 1000) if sums.completed else None,
            "medianResponseTimeMs": _rounded(median(times)) if times else None,
            "p95ResponseTimeMs": _rounded(_p95(times)) if times else None,
            "avgTokensPerSec": _mean([each.tokensPerSecond for each in self.recent]),
            "avgTtftMs": _mean([each.ttftMs for each in self.recent]),
            "totalTokensProcessed": sums.promptTokens + sums.completionTokens,
            "requestsWithTokenData": sums.counted,
            "tokenStats": {
                "totalPromptTokens": sums.promptTokens,
                "totalCompletionTokens": sums.completionTokens,
                "avgPromptTokens": _rounded(sums.promptTokens / sums.counted) if sums.counted else None,
                "avgCompletionTokens": _rounded(sums.completionTokens / sums.counted) if sums.counted else None,
            },
        }

    def _histogram(self, histograms: dict[str, Histogram], label: str) -> Histogram:
        found = histograms.get(label)
        if found is None:
            found = histograms[label] = Histogram()
        return found


class _Sums:
    """What is summed up over all answers that were complete."""

    completed = 0
    seconds = 0.0
    shortest = float("inf")
    longest = 0.0
    counted = 0
    promptTokens = 0
    completionTokens = 0

    def add(self, exchange: Exchange, seconds: float) -> None:
        self.completed += 1
        self.seconds += seconds
        self.shortest = min(self.shortest, seconds)
        self.longest = max(self.longest, seconds)
        usage = exchange.usage
        if usage is not None and usage.totalTokens is not None:
            self.counted += 1
            self.promptTokens += usage.promptTokens or 0
            self.completionTokens += usage.completionTokens or 0


def _rounded(value: float) -> float:
    return round(value, 2)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(fmean(known)) if known else None


def _p95(times: list[float]) -> float:
    return quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]
