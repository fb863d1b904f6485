"""What charts are drawn from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import Exchange, TokenUsage
from lmgateway.interfaces import IExchangeListener
from lmgateway.telemetry.history import History, percentile
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

NOW = 1_800_000_000.0


def exchange(endedAt: float, status: int = 200) -> Exchange:
    """One that took a second."""
    return Exchange(
        "r", "POST", "/x", "/x", "k", None, "c", endedAt - 1, lambda: None, endedAt=endedAt, firstTokenAt=endedAt - 0.5,
        status=status, ending="complete", usage=TokenUsage(1, 10), tokensPerSecond=20.0,
    )  # fmt: skip


class HistoryTests(SynchronousTestCase):
    def test_step(self) -> None:
        """A minute tells what ended in it."""
        history = History(lambda: NOW)
        verifyObject(IExchangeListener, history)
        for status in (200, 400):
            history.exchangeEnded(exchange(NOW, status))
        step, since, points = history.show(60)
        self.assertEqual((step, since, len(points)), (60, NOW - 59 * 60, 60))
        point = points[-1]
        self.assertEqual((point["requests"], point["errors"], point["tokens"]), (2, 1, 22))
        self.assertEqual((point["p50Ms"], point["ttftP50Ms"], point["tokensPerSecond"]), (1000.0, 500.0, 20.0))
        self.assertEqual((points[0]["requests"], points[0]["p50Ms"]), (0, None))

    @given(st.lists(st.floats(0, 200_000), max_size=30).map(sorted))
    def test_all(self, ages: list[float]) -> None:
        """Whatever ended within the span is counted once, and nothing else; as many steps as ever are told."""
        history = History(lambda: NOW)
        for age in reversed(ages):
            history.exchangeEnded(exchange(NOW - age))
        for minutes, steps in ((60, 60), (1440, 144)):
            _, since, points = history.show(minutes)
            self.assertEqual(len(points), steps)
            self.assertEqual(sum(each["requests"] for each in points), sum(NOW - age >= since for age in ages))

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
    def test_percentile(self, values: list[float], fraction: float) -> None:
        """A percentile is one of the values."""
        self.assertIn(percentile(values, fraction), values)
