"""The metrics as Prometheus reads them, read back with its own parser."""

from __future__ import annotations

from lmgateway.exchange import TokenUsage
from lmgateway.telemetry.exposition import Exposition
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.telemetry.test_metrics import counted, exchangeOf


class ExpositionTests(SynchronousTestCase):
    def samples(self, *args: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        metrics = counted(
            exchangeOf(1, seconds=0.2, usage=TokenUsage(3, 4)),
            exchangeOf(2, model='<b>"\\\n', status=400),
            exchangeOf(3, seconds=1000.0),
        )
        metrics.answerSent("/health", 200)
        for reason in ("address", "address", "connections"):
            metrics.connectionTurnedAway(reason)
        text = Exposition(metrics, {"in_flight": ("Now.", lambda: 2.0)}).render().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_reads(self) -> None:
        """What was counted is read back, hostile names included."""
        samples = self.samples()
        labels = {"key": "key", "model": "m", "route": "/v1/chat/completions", "status_class": "2xx"}
        self.assertEqual(samples["lmgateway_inference_requests_total", tuple(sorted(labels.items()))], 2)
        labels = {**labels, "model": '<b>"\\\n', "status_class": "4xx"}
        self.assertEqual(samples["lmgateway_inference_requests_total", tuple(sorted(labels.items()))], 1)
        self.assertEqual(samples["lmgateway_http_requests_total", (("route", "/health"), ("status", "200"))], 1)
        self.assertEqual(samples["lmgateway_tokens_total", (("key", "key"), ("kind", "completion"), ("model", "m"))], 4)
        self.assertEqual(samples["lmgateway_connections_turned_away_total", (("reason", "address"),)], 2)
        self.assertEqual(samples["lmgateway_in_flight", ()], 2)

    def test_histogram(self) -> None:
        """Buckets are cumulative, and the last holds everything."""
        samples = self.samples()
        name = "lmgateway_inference_duration_seconds_bucket"
        self.assertEqual(samples[name, (("le", "0.1"), ("model", "m"))], 0)
        self.assertEqual(samples[name, (("le", "0.25"), ("model", "m"))], 1)
        self.assertEqual(samples[name, (("le", "+Inf"), ("model", "m"))], 2)
        self.assertEqual(samples["lmgateway_inference_duration_seconds_count", (("model", "m"),)], 2)

    def test_process(self) -> None:
        """The process tells its own figures, under our prefix like all others."""
        names = {name for name, _ in self.samples()}
        self.assertTrue(all(name.startswith("lmgateway_") for name in names), names)
