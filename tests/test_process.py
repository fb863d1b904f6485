"""What signals do, with a reactor that keeps what it is asked."""

from __future__ import annotations

import signal
from collections.abc import Callable

from lmgateway.process import Signals
from twisted.trial.unittest import SynchronousTestCase


class Reactor:
    """Carries calls from a signal's own moment into its thread, when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.stops = 0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        call()

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def stop(self) -> None:
        self.stops += 1

    def turn(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


class SignalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.done: list[str] = []
        Signals(self.reactor, lambda: self.done.append("reload"), lambda: self.done.append("hurry")).startService()

    def send(self, *numbers: signal.Signals) -> None:
        """Have signals come, each in a turn of its own."""
        for number in numbers:
            signal.raise_signal(number)
            self.reactor.turn()

    def test_notAtOnce(self) -> None:
        """Nothing is done in the midst of whatever runs when a signal comes."""
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual((self.reactor.stops, self.done), (0, []))
        self.reactor.turn()
        self.assertEqual((self.reactor.stops, self.done), (1, ["reload"]))

    def test_second(self) -> None:
        """The first request to end lets running answers finish; each after it hurries, whichever signal it is."""
        for pair in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
            self.setUp()
            self.send(pair[0])
            self.assertEqual((self.reactor.stops, self.done), (1, []))
            self.send(pair[1])
            self.assertEqual((self.reactor.stops, self.done), (1, ["hurry"]))

    def test_hangUp(self) -> None:
        """SIGHUP reloads, as often as it comes, and ends nothing."""
        self.send(signal.SIGHUP, signal.SIGHUP)
        self.assertEqual((self.reactor.stops, self.done), (0, ["reload", "reload"]))
