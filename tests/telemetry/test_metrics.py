"""Counters and summaries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import Ending, Exchange, TokenUsage
from lmgateway.interfaces import IExchangeListener
from lmgateway.telemetry.exchanges import REMEMBERED, Exchanges
from lmgateway.telemetry.metrics import BUCKETS, KNOWN_MODELS, Histogram, Metrics
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject


def exchangeOf(
    number: int = 1,
    *,
    model: str | None = "m",
    seconds: float = 1.0,
    status: int | None = 200,
    ending: Ending = "complete",
    usage: TokenUsage | None = None,
) -> Exchange:
    """An exchange that ended."""
    exchange = Exchange(
        f"req_{number}",
        "POST",
        "/v1/chat/completions",
        "/v1/chat/completions",
        "key",
        None,
        "::1",
        1000.0,
        lambda: None,
    )
    exchange.model = model
    exchange.endedAt = 1000.0 + seconds
    exchange.status = status
    exchange.ending = ending
    exchange.usage = usage
    return exchange


def counted(*exchanges: Exchange) -> Metrics:
    """Metrics that saw these pass."""
    metrics = Metrics()
    passing = Exchanges([metrics])
    for exchange in exchanges:
        passing.begin(exchange)
        if exchange.firstTokenAt:
            passing.firstToken(exchange)
        passing.end(exchange)
    return metrics


class MetricsTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """Metrics listen to exchanges."""
        verifyObject(IExchangeListener, Metrics())

    def test_empty(self) -> None:
        """Before the first request there are zeros and nothing made up."""
        told = Metrics().performance()
        self.assertEqual((told["totalRequests"], told["errorRate"]), (0, 0))
        self.assertIsNone(told["avgResponseTimeMs"])
        self.assertIsNone(told["p95ResponseTimeMs"])
        self.assertIsNone(told["tokenStats"]["avgPromptTokens"])

    def test_times(self) -> None:
        """Average, bounds, median and percentile are those of the complete answers, in milliseconds."""
        told = counted(
            *(exchangeOf(n, seconds=n) for n in range(1, 101)), exchangeOf(999, ending="cancelled")
        ).performance()
        self.assertEqual(told["completedRequestCount"], 100)
        self.assertEqual((told["minResponseTimeMs"], told["maxResponseTimeMs"]), (1000, 100_000))
        self.assertEqual((told["avgResponseTimeMs"], told["medianResponseTimeMs"]), (50_500, 50_500))
        self.assertAlmostEqual(told["p95ResponseTimeMs"], 95_050, delta=100)

    def test_errors(self) -> None:
        """What LM Studio refused, broke off or never answered is an error; a client that leaves is none."""
        told = counted(
            exchangeOf(1),
            exchangeOf(2, status=400),
            exchangeOf(3, ending="cut"),
            exchangeOf(4, status=503, ending="failed"),
            exchangeOf(5, status=None, ending="cancelled"),
        ).performance()
        self.assertEqual((told["totalRequests"], told["totalErrors"], told["errorRate"]), (5, 3, 60.0))

    def test_tokens(self) -> None:
        """Tokens are summed up over the answers that told them."""
        told = counted(
            exchangeOf(1, usage=TokenUsage(10, 4)),
            exchangeOf(2, usage=TokenUsage(None, 2, estimated=True)),
            exchangeOf(3),
        ).performance()
        self.assertEqual((told["totalTokensProcessed"], told["requestsWithTokenData"]), (16, 2))
        self.assertEqual(
            told["tokenStats"],
            {"totalPromptTokens": 10, "totalCompletionTokens": 6, "avgPromptTokens": 5, "avgCompletionTokens": 3},
        )

    def test_firstToken(self) -> None:
        """The time to the first token is averaged over those that had one."""
        exchange = exchangeOf(1)
        exchange.firstTokenAt = 1000.25
        metrics = counted(exchange, exchangeOf(2))
        self.assertEqual(metrics.performance()["avgTtftMs"], 250)
        self.assertEqual(sum(metrics.firstToken["m"].counts), 1)

    def test_boundedLabels(self) -> None:
        """Clients cannot make up labels without end."""
        metrics = counted(*(exchangeOf(n, model=f"model-{n}") for n in range(500)), exchangeOf(501, model="x" * 5000))
        models = {labels[2] for labels in metrics.requests}
        self.assertEqual(len(models), KNOWN_MODELS + 1)
        self.assertIn("other", models)

    @given(st.lists(st.floats(0, 1000), max_size=50))
    def test_histogram(self, seconds: list[float]) -> None:
        """A histogram has every observation in the first bucket whose bound is not below it."""
        histogram = Histogram()
        for each in seconds:
            histogram.observe(each)
        for index, bound in enumerate(BUCKETS):
            self.assertEqual(sum(histogram.counts[: index + 1]), sum(each <= bound for each in seconds))
        self.assertEqual(sum(histogram.counts), len(seconds))


class ExchangesTests(SynchronousTestCase):
    def test_remembers(self) -> None:
        """Those in flight and the last thousand are found by their id, older ones are forgotten."""
        exchanges = Exchanges()
        for number in range(REMEMBERED + 5):
            exchange = exchangeOf(number)
            exchanges.begin(exchange)
            self.assertIs(exchanges.find(exchange.requestId), exchange)
            exchanges.end(exchange)
        self.assertEqual(exchanges.inFlight, {})
        self.assertIsNone(exchanges.find("req_4"))
        self.assertIsNotNone(exchanges.find("req_5"))

    def test_release(self) -> None:
        """Once it is over, an exchange holds on to nothing that could still be cancelled."""
        cancelled: list[int] = []
        exchange = exchangeOf()
        exchange.cancel = lambda: cancelled.append(1)
        exchanges = Exchanges()
        exchanges.begin(exchange)
        exchanges.end(exchange)
        exchange.cancel()
        self.assertEqual(cancelled, [])

    def test_phases(self) -> None:
        """The phase tells where a request is."""
        exchange = exchangeOf()
        exchange.endedAt = 0.0
        self.assertEqual(exchange.phase, "reading")
        exchange.sentAt = 1.0
        self.assertEqual(exchange.phase, "waiting")
        exchange.answeredAt = 2.0
        self.assertEqual(exchange.phase, "answering")
        exchange.endedAt = 3.0
        self.assertEqual(exchange.phase, "ended")
