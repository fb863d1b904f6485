"""What is known of an inference request, and when."""

from __future__ import annotations

from lmgateway.exchange import Exchange, TokenUsage
from twisted.trial.unittest import SynchronousTestCase


def exchange() -> Exchange:
    """One that has just begun."""
    return Exchange("req_1", "POST", "/v1/x", "/v1/x", "alice", None, "10.0.0.1", startedAt=100.0, cancel=lambda: None)


class ExchangeTests(SynchronousTestCase):
    def test_phase(self) -> None:
        """Where it is follows from what has happened: the last thing counts."""
        one = exchange()
        phases = [one.phase]
        for name in ("sentAt", "answeredAt", "endedAt"):
            setattr(one, name, 101.0)
            phases.append(one.phase)
        self.assertEqual(phases, ["reading", "waiting", "answering", "ended"])

    def test_times(self) -> None:
        """Times are told in milliseconds from the complete head; how long it takes grows until it has ended."""
        one = exchange()
        self.assertEqual((one.ttftMs, one.totalTimeMs(100.25)), (None, 250.0))
        one.firstTokenAt, one.endedAt = 100.5, 102.0
        self.assertEqual((one.ttftMs, one.totalTimeMs(500.0)), (500.0, 2000.0))

    def test_release(self) -> None:
        """What is over holds on to nothing of its request, and there is nothing left to cancel."""
        called: list[str] = []
        one = exchange()
        one.cancel = lambda: called.append("cancelled")
        one.release()
        one.cancel()
        self.assertEqual(called, [])

    def test_usageSoFar(self) -> None:
        """The tokens are what its answer tells so far, until it is over; then it holds on to its answer no more."""
        one = exchange()
        self.assertIsNone(one.usageSoFar())
        one.usageSoFar = lambda: TokenUsage(None, 3, estimated=True)
        self.assertEqual(one.usageSoFar(), TokenUsage(None, 3, estimated=True))
        one.release()
        self.assertIsNone(one.usageSoFar())


class TokenUsageTests(SynchronousTestCase):
    def test_total(self) -> None:
        """Both counts together, as far as they are known; and nothing where neither is."""
        for prompt, completion, total in ((3, 4, 7), (3, None, 3), (None, 4, 4), (None, None, None), (0, None, 0)):
            self.assertEqual(TokenUsage(prompt, completion).totalTokens, total)
