# -*- test-case-name: tests.telemetry.test_history -*-
"""
The last hour by the minute and the last day by ten minutes: what charts are drawn from. In memory, and bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from zope.interface import implementer

from lmgateway.exchange import Exchange
from lmgateway.interfaces import IExchangeListener

MOST_TIMES = 500
"""Times that are kept of one step, the first ones: percentiles are of these."""


class _Step(Struct):
    """What ended in one step of time."""

    index: int
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    generated: int = 0
    seconds: float = 0.0
    times: list[float] = []
    firsts: list[float] = []


class Series:
    """
    Steps of equal length, the last ones.

    :param step: seconds of each.
    :param most: how many are kept.
    """

    def __init__(self, step: int, most: int) -> None:
        self.step = step
        self.most = most
        self._steps: deque[_Step] = deque(maxlen=most)

    def add(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        index = int(exchange.endedAt // self.step)
        if not self._steps or self._steps[-1].index < index:
            self._steps.append(_Step(index))
        step = self._steps[-1]
        step.requests += 1
        status = exchange.status
        step.errors += exchange.ending in {"cut", "failed"} or (status is not None and status >= 400)
        if len(step.times) < MOST_TIMES:
            step.times.append(exchange.totalTimeMs(exchange.endedAt))
            first = exchange.ttftMs
            if first is not None:
                step.firsts.append(first)
        usage = exchange.usage
        if usage is not None:
            step.tokens += usage.totalTokens or 0
            if usage.completionTokens and exchange.tokensPerSecond:
                step.generated += usage.completionTokens
                step.seconds += usage.completionTokens / exchange.tokensPerSecond

    def points(self, now: float) -> tuple[float, list[dict[str, Any]]]:
        """
        Give every step up to now, those too in which nothing happened.

        :return: when the first of them began, and what each adds up to.
        """
        last = int(now // self.step)
        first = last - self.most + 1
        known = {step.index: step for step in self._steps}
        return float(first * self.step), [_point(known.get(index, _Step(index))) for index in range(first, last + 1)]


@implementer(IExchangeListener)
class History:
    """
    What charts are drawn from.

    :param now: tells the Unix time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._series = {60: Series(60, 60), 1440: Series(600, 144)}

    def exchangeBegun(self, exchange: Exchange) -> None:
        """Wait for its end."""

    def firstTokenPassed(self, exchange: Exchange) -> None:
        """Wait for its end."""

    def exchangeEnded(self, exchange: Exchange) -> None:
        """Count it."""
        for series in self._series.values():
            series.add(exchange)

    @property
    def spans(self) -> tuple[int, ...]:
        """The minutes that can be asked for."""
        return tuple(self._series)

    def show(self, minutes: int) -> tuple[int, float, list[dict[str, Any]]]:
        """
        Give a series.

        :param minutes: one of :attr:`spans`.
        :return: the seconds of a step, when the first began, and what each adds up to.
        """
        series = self._series[minutes]
        return series.step, *series.points(self._now())


def percentile(values: Sequence[float], fraction: float) -> float | None:
    """Give the value below which that fraction of all values lies, itself one of them; None where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] if ordered else None


def _point(step: _Step) -> dict[str, Any]:
    return {
        "requests": step.requests,
        "errors": step.errors,
        "p50Ms": percentile(step.times, 0.5),
        "p95Ms": percentile(step.times, 0.95),
        "ttftP50Ms": percentile(step.firsts, 0.5),
        "ttftP95Ms": percentile(step.firsts, 0.95),
        "tokens": step.tokens,
        "tokensPerSecond": round(step.generated / step.seconds, 2) if step.seconds else None,
    }
