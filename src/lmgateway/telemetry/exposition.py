# -*- test-case-name: tests.telemetry.test_exposition -*-
"""
The metrics in Prometheus' text format, by its own client library. Names begin with ``lmgateway_``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from lmgateway.telemetry.metrics import BUCKETS, Histogram, Metrics


class GatewayCollector(Collector):
    """
    Gives what was counted, at the moment somebody asks.

    :param metrics: what was counted.
    :param gauges: names, what they mean, and how to get their values now.
    """

    def __init__(self, metrics: Metrics, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Give every family."""
        metrics = self._metrics
        requests = CounterMetricFamily(
            "lmgateway_inference_requests",
            "Inference requests that have ended.",
            labels=("route", "status_class", "model", "key"),
        )
        for labels, count in metrics.requests.items():
            requests.add_metric(labels, count)
        yield requests
        answers = CounterMetricFamily(
            "lmgateway_http_requests", "Requests of any kind that have ended.", labels=("route", "status")
        )
        for (route, status), count in metrics.answers.items():
            answers.add_metric((route, status), count)
        yield answers
        turnedAway = CounterMetricFamily(
            "lmgateway_connections_turned_away", "Connections that were closed unheard.", labels=("reason",)
        )
        for reason, count in metrics.turnedAway.items():
            turnedAway.add_metric((reason,), count)
        yield turnedAway
        endings = CounterMetricFamily(
            "lmgateway_inference_endings", "How inference requests ended.", labels=("ending",)
        )
        for ending, count in metrics.endings.items():
            endings.add_metric((ending,), count)
        yield endings
        tokens = CounterMetricFamily(
            "lmgateway_tokens", "Tokens that were read and generated.", labels=("model", "key", "kind")
        )
        for (model, key, kind), count in metrics.tokens.items():
            tokens.add_metric((model, key, kind), count)
        yield tokens
        yield from self._histograms()
        for name, (meaning, value) in self._gauges.items():
            yield GaugeMetricFamily(f"lmgateway_{name}", meaning, value=value())

    def _histograms(self) -> Iterator[Metric]:
        yield _family(
            "lmgateway_inference_duration_seconds",
            "From the complete head of a request to the end of its answer.",
            self._metrics.latency,
        )
        yield _family(
            "lmgateway_inference_first_token_seconds",
            "From the complete head of a request to the first piece of generated text.",
            self._metrics.firstToken,
        )


def _family(name: str, meaning: str, histograms: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, meaning, labels=("model",))
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    for model, histogram in histograms.items():
        running = 0
        buckets = []
        for bound, count in zip(bounds, histogram.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        family.add_metric((model,), buckets, histogram.total)
    return family


class Exposition:
    """
    What ``GET /metrics`` answers.

    :param metrics: what was counted.
    :param gauges: what is measured when somebody asks: name, meaning, value.
    """

    contentType = b"text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, metrics: Metrics, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(GatewayCollector(metrics, gauges))
        ProcessCollector(namespace="lmgateway", registry=self._registry)

    def render(self) -> bytes:
        """Write all of it."""
        return generate_latest(self._registry)
