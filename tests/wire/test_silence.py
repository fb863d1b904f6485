"""The timer of the upstream's silence."""

from __future__ import annotations

from lmgateway.wire.silence import SilenceTimer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase


class SilenceTimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[float] = []

    def timer(self, seconds: float) -> SilenceTimer:
        """A timer that has been started."""
        timer = SilenceTimer(self.clock, seconds)
        timer.start(self.expired)
        return timer

    def expired(self) -> None:
        """Note when."""
        self.calls.append(self.clock.seconds())

    def test_expires(self) -> None:
        """It calls back once the silence has lasted, once."""
        timer = self.timer(5)
        self.clock.advance(4.9)
        self.assertEqual((self.calls, timer.expired), ([], False))
        self.clock.advance(0.1)
        self.assertEqual((self.calls, timer.expired), ([5.0], True))
        timer.touch()
        timer.stop()
        self.clock.advance(100)
        self.assertEqual(self.calls, [5.0])

    def test_touched(self) -> None:
        """Whatever comes begins the silence anew."""
        timer = self.timer(5)
        for _ in range(10):
            self.clock.advance(4)
            timer.touch()
        self.clock.advance(5)
        self.assertEqual(self.calls, [45.0])

    def test_stopped(self) -> None:
        """A stopped timer leaves nothing on the clock, and a touch does not start it."""
        timer = self.timer(5)
        timer.stop()
        timer.touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(timer.expired)

    def test_any(self) -> None:
        """Zero allows any silence."""
        self.timer(0).touch()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restarted(self) -> None:
        """Started again it counts from then, and there is still one call only."""
        timer = self.timer(5)
        self.clock.advance(3)
        timer.start(self.expired)
        self.clock.advance(4)
        self.assertEqual(self.calls, [])
        self.clock.advance(1)
        self.assertEqual(self.calls, [8.0])

    def test_allow(self) -> None:
        """Another silence can be allowed, from the next start on."""
        timer = self.timer(5)
        timer.allow(10)
        timer.start(self.expired)
        self.clock.advance(9)
        self.assertEqual(self.calls, [])
        self.clock.advance(1)
        self.assertEqual(self.calls, [10.0])
