"""The clocks of a connection by themselves: what is overdue, and when; times go in as numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.wire.deadlines import LINGER_SECONDS, Deadlines, Overdue
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import NOW, Limits

PATIENCE = Limits()


def overdue(deadlines: Deadlines, after: float, *, bodyBytes: int = 0, answering: bool = False) -> Overdue | None:
    """What is overdue so many seconds after the beginning."""
    return deadlines.overdue(NOW + after, PATIENCE, bodyBytes=bodyBytes, answering=answering)


class OverdueTests(SynchronousTestCase):
    def test_each(self) -> None:
        """Each clock runs out at its time, and not before."""
        for begin, seconds, expected in (
            (lambda _: None, 75, Overdue.IDLE),
            (lambda clocks: clocks.handshakeBegun(NOW), 10, Overdue.HANDSHAKE),
            (lambda clocks: clocks.headBegun(NOW), 10, Overdue.HEAD),
            (lambda clocks: (clocks.headEnded(), clocks.stalled(NOW)), 60, Overdue.WRITE),
            (lambda clocks: clocks.closing(NOW, lingers=True), LINGER_SECONDS, Overdue.CLOSING),
            (lambda clocks: clocks.closing(NOW, lingers=False), 60, Overdue.CLOSING),
            (lambda clocks: (clocks.stalled(NOW), clocks.closing(NOW, lingers=True)), 60, Overdue.CLOSING),
        ):
            deadlines = Deadlines(NOW)
            begin(deadlines)
            self.assertIsNone(overdue(deadlines, seconds - 0.1))
            self.assertIs(overdue(deadlines, seconds), expected)

    def test_ended(self) -> None:
        """What has come to its end is not overdue any more."""
        deadlines = Deadlines(NOW)
        deadlines.handshakeBegun(NOW)
        deadlines.handshakeEnded(NOW)
        deadlines.headBegun(NOW)
        deadlines.headEnded()
        deadlines.bodyBegun(NOW)
        deadlines.bodyEnded()
        deadlines.stalled(NOW)
        self.assertTrue(deadlines.isStalled)
        deadlines.flowing()
        self.assertFalse(deadlines.isStalled)
        self.assertIsNone(overdue(deadlines, 10_000))

    def test_answering(self) -> None:
        """A head that waits unread behind an answer is not late; after the answer it has its time anew."""
        deadlines = Deadlines(NOW)
        deadlines.headBegun(NOW)
        self.assertIsNone(overdue(deadlines, 500, answering=True))
        deadlines.answered(NOW + 500, idle=False)
        self.assertIsNone(overdue(deadlines, 509))
        self.assertIs(overdue(deadlines, 510), Overdue.HEAD)

    def test_idleAgain(self) -> None:
        """After an answer behind which nothing waits the connection is idle; with something waiting it is not."""
        deadlines = Deadlines(NOW)
        deadlines.headEnded()
        deadlines.answered(NOW, idle=False)
        self.assertIsNone(overdue(deadlines, 500))
        deadlines.answered(NOW + 500, idle=True)
        self.assertIs(overdue(deadlines, 575), Overdue.IDLE)

    def test_closingOnce(self) -> None:
        """To close what is closing does not begin its time anew."""
        deadlines = Deadlines(NOW)
        deadlines.closing(NOW, lingers=True)
        deadlines.closing(NOW + 100, lingers=False)
        self.assertIs(overdue(deadlines, 2), Overdue.CLOSING)

    def test_closingIsAll(self) -> None:
        """Once it closes nothing else is overdue."""
        deadlines = Deadlines(NOW)
        deadlines.headBegun(NOW)
        deadlines.bodyBegun(NOW)
        deadlines.closing(NOW + 100, lingers=False)
        self.assertIsNone(overdue(deadlines, 101))


class BodyTests(SynchronousTestCase):
    def test_grace(self) -> None:
        """For the time of grace nothing need come; after it the rate counts from its end."""
        deadlines = Deadlines(NOW)
        deadlines.headEnded()
        deadlines.bodyBegun(NOW)
        self.assertIsNone(overdue(deadlines, 10))
        self.assertIs(overdue(deadlines, 10.1), Overdue.BODY)
        self.assertIs(overdue(deadlines, 20, bodyBytes=10_239), Overdue.BODY)
        self.assertIsNone(overdue(deadlines, 20, bodyBytes=10_240))

    def test_begunOnce(self) -> None:
        """Whoever tells again that a body is awaited does not begin its time anew."""
        deadlines = Deadlines(NOW)
        deadlines.headEnded()
        deadlines.bodyBegun(NOW)
        deadlines.bodyBegun(NOW + 9)
        self.assertIs(overdue(deadlines, 11), Overdue.BODY)

    @given(
        st.lists(st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)), max_size=5),
        st.floats(10.5, 100),
    )
    def test_paused(self, pauses: list[tuple[float, float]], allowed: float) -> None:
        """However often and long we do not read, the client has the same time of our reading."""
        deadlines = Deadlines(NOW)
        deadlines.headEnded()
        deadlines.bodyBegun(NOW)
        clock, reading = 0.0, 0.0
        for read, paused in pauses:
            if reading + read > 9.9:
                break
            reading, clock = reading + read, clock + read
            deadlines.readingPaused(NOW + clock)
            self.assertIsNone(overdue(deadlines, clock + paused))
            clock += paused
            deadlines.readingResumed(NOW + clock)
        enough = int((allowed - 10) * PATIENCE.bodyRate)
        self.assertIsNone(overdue(deadlines, clock + allowed - reading, bodyBytes=enough + 20))
        self.assertIs(overdue(deadlines, clock + allowed - reading, bodyBytes=enough - 20), Overdue.BODY)
