"""Whether LM Studio answers."""

from __future__ import annotations

from lmgateway.telemetry.upstreams import UpstreamState
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryJournal


class UpstreamStateTests(SynchronousTestCase):
    def test_changesAreEvents(self) -> None:
        """Only a change is an event, and each says why."""
        journal = MemoryJournal()
        state = UpstreamState(journal, "http://u")
        for step in (
            state.answered,
            state.answered,
            lambda: state.failed("x"),
            lambda: state.failed("y"),
            state.answered,
        ):
            step()
        self.assertEqual([kind for kind, _ in journal.events], ["upstream_up", "upstream_down", "upstream_up"])
        self.assertEqual(journal.events[1][1], {"upstream": "http://u", "reason": "x"})
        self.assertEqual((state.isUp, state.reason), (True, None))

    def test_firstFailure(self) -> None:
        """An upstream that was never up is told to be down, too."""
        journal = MemoryJournal()
        UpstreamState(journal, "http://u").failed("x")
        self.assertEqual([kind for kind, _ in journal.events], ["upstream_down"])
