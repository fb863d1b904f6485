"""How far the answers that pass are, as an event stream tells it."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.exchange import Exchange, TokenUsage
from lmgateway.telemetry.progress import MOST, encodeProgress
from lmgateway.telemetry.sse import EventStreamDecoder
from twisted.trial.unittest import SynchronousTestCase


def exchange(requestId: str, usage: TokenUsage | None) -> Exchange:
    """One in flight, of whose answer this has been told so far."""
    one = Exchange(requestId, "POST", "/v1/x", "/v1/x", "alice", None, "10.0.0.1", startedAt=100.0, cancel=lambda: None)
    one.usageSoFar = lambda: usage
    return one


def told(data: bytes) -> Any:
    """What the one event says."""
    (event,) = EventStreamDecoder().feed(data)
    assert (event.kind, event.id) == ("inference_progress", "")
    return json.loads(event.data)


class ProgressTests(SynchronousTestCase):
    def test_tells(self) -> None:
        """Of each answer that tells its tokens it is told how many, whether they were counted, and since when; it has no id."""
        estimated, exact = TokenUsage(None, 3, estimated=True), TokenUsage(5, 7)
        waiting = [exchange("c", None), exchange("d", TokenUsage(5, None))]
        data = encodeProgress([exchange("a", estimated), exchange("b", exact), *waiting], 102.5)
        self.assertEqual(
            told(data),
            {
                "timestamp": "1970-01-01T00:01:42.500Z",
                "requests": [
                    {"requestId": "a", "completionTokens": 3, "estimated": True, "totalTimeMs": 2500.0},
                    {"requestId": "b", "completionTokens": 7, "estimated": False, "totalTimeMs": 2500.0},
                ],
            },
        )

    def test_nothing(self) -> None:
        """While no answer passes there is nothing to tell."""
        self.assertEqual(encodeProgress([], 1.0), b"")
        self.assertEqual(encodeProgress([exchange("a", None)], 1.0), b"")

    def test_bounded(self) -> None:
        """Of many the oldest are told."""
        many = [exchange(str(number), TokenUsage(None, 1)) for number in range(MOST + 50)]
        requests = told(encodeProgress(many, 101.0))["requests"]
        self.assertEqual([each["requestId"] for each in requests], [str(number) for number in range(MOST)])
