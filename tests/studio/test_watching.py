"""Knowing what LM Studio has without being asked: how often it is looked at, and who is asked."""

from __future__ import annotations

from lmgateway.errors import UpstreamBroken, UpstreamSilent, UpstreamUnavailable
from lmgateway.inventory import Inventory
from lmgateway.studio.watching import (
    BACKOFF,
    CHOICE_SECONDS,
    IDLE_AFTER,
    IDLE_POLL_SECONDS,
    LOOK_SECONDS,
    POLL_SECONDS,
    ModelWatch,
)
from lmgateway.telemetry.upstreams import UpstreamState
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.support import DOWN, ScriptedChoice, ScriptedStudio
from tests.web.support import MemoryJournal


class WatchTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_800_000_000.0
        self.studio = ScriptedStudio("a")
        self.choice = ScriptedChoice(self.studio)
        self.journal = MemoryJournal()
        self.state = UpstreamState(self.journal, "http://127.0.0.1:1234")
        self.seen: list[Inventory] = []
        self.dropped: list[object] = []
        self.watch = ModelWatch(self.choice, self.state, self.clock, self.seen.append, self.dropped.append)  # type: ignore[arg-type]

    def start(self) -> None:
        self.watch.start()
        self.addCleanup(self.watch.stop)
        self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds))


class PollTests(WatchTestCase):
    def test_start(self) -> None:
        """It looks at once, and knows what there is, since when, and how."""
        self.start()
        self.assertEqual((self.seen, self.watch.inventory), ([self.studio.answer], self.studio.answer))
        self.assertEqual((self.watch.knownAt, self.watch.management), (self.clock.seconds(), "rest"))
        self.assertIs(self.state.isUp, True)

    def test_poll(self) -> None:
        """It looks every few seconds."""
        self.start()
        self.wait(3 * POLL_SECONDS)
        self.assertEqual((self.studio.asked, self.choice.asked), (4, 1))

    def test_defect(self) -> None:
        """A defect in whoever is told of the models is logged, and does not end the watching."""
        told: list[Inventory] = []

        def fail(inventory: Inventory) -> None:
            told.append(inventory)
            raise ZeroDivisionError

        self.watch = ModelWatch(self.choice, self.state, self.clock, fail, self.dropped.append)  # type: ignore[arg-type]
        self.start()
        self.wait(POLL_SECONDS)
        self.assertEqual((len(told), self.studio.asked), (2, 2))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_idle(self) -> None:
        """While nothing is asked of the gateway it looks less often, and at once when something is."""
        self.start()
        self.wait(IDLE_AFTER + POLL_SECONDS)
        before = self.studio.asked
        self.wait(IDLE_POLL_SECONDS * 4)
        self.assertEqual(self.studio.asked, before + 4)
        self.wait(10)
        self.watch.asked()
        self.clock.advance(0)
        self.assertEqual(self.studio.asked, before + 5)
        self.wait(POLL_SECONDS)
        self.assertEqual(self.studio.asked, before + 6)

    def test_asked(self) -> None:
        """Any number of requests have it look no more often than it does anyway."""
        self.start()
        for _ in range(100):
            self.watch.asked()
            self.clock.advance(0.1)
        self.assertLess(self.studio.asked, 5)

    def test_wake(self) -> None:
        """It can be woken, but not driven: one look a second."""
        self.start()
        for _ in range(50):
            self.watch.wake()
            self.clock.advance(0.1)
        self.assertIn(self.studio.asked, (5, 6))

    def test_stop(self) -> None:
        """Stopped, it looks no more, breaks off the look that is under way, and leaves nothing behind."""
        self.start()
        self.studio.answer = None
        self.wait(POLL_SECONDS)
        self.watch.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.dropped), ([], [self.studio]))
        self.assertEqual(self.watch.error, None)


class DownTests(WatchTestCase):
    def test_backoff(self) -> None:
        """While LM Studio is down it is looked for ever more rarely."""
        self.choice.choice = DOWN
        self.start()
        looks = []
        for _ in range(200):
            before = self.choice.asked
            self.clock.advance(1.0)
            if self.choice.asked > before:
                looks.append(self.clock.seconds() - 1_800_000_000.0)
        gaps = [after - before for before, after in zip([0.0, *looks], looks, strict=False)]
        self.assertEqual(gaps, [*BACKOFF, BACKOFF[-1]])

    def test_known(self) -> None:
        """What is known is kept while LM Studio is down, with the reason; it is chosen anew once it is back."""
        self.start()
        known = self.watch.inventory
        self.studio.answer = self.choice.choice = DOWN
        self.wait(POLL_SECONDS)
        self.assertEqual((self.watch.inventory, self.watch.error, self.watch.chosen), (known, DOWN, None))
        self.assertEqual((self.dropped, self.state.isUp), ([self.studio], False))
        other = self.choice.choice = ScriptedStudio("b", management="sdk")
        self.wait(BACKOFF[0])
        self.assertEqual((self.watch.inventory, self.watch.error), (other.answer, None))
        self.assertEqual((self.watch.management, self.state.isUp), ("sdk", True))

    def test_otherVersion(self) -> None:
        """Where an LM Studio answers that makes no sense any more, it is asked anew how to be spoken to, in the same look."""
        self.start()
        other = self.choice.choice = ScriptedStudio("b", management="gateway")
        self.studio.answer = UpstreamBroken("Unexpected endpoint or method.")
        self.wait(POLL_SECONDS)
        self.assertEqual((self.watch.error, self.watch.management, self.watch.chosen), (None, "gateway", other))
        self.assertEqual(self.dropped, [self.studio])

    def test_noManagement(self) -> None:
        """That LM Studio offers no management counts for a while only."""
        self.studio.management = "gateway"
        self.start()
        self.wait(CHOICE_SECONDS - POLL_SECONDS)
        self.assertEqual(self.choice.asked, 1)
        self.choice.choice = ScriptedStudio(management="rest")
        self.wait(IDLE_POLL_SECONDS + POLL_SECONDS)
        self.assertEqual((self.watch.management, self.dropped), ("rest", [self.studio]))

    def test_silent(self) -> None:
        """An LM Studio that never answers is down, after a while."""
        self.start()
        self.studio.answer = None
        self.wait(POLL_SECONDS + LOOK_SECONDS)
        self.assertIsInstance(self.watch.error, UpstreamSilent)
        self.assertIsNotNone(self.watch.inventory)
        self.studio.has("a", "b")
        self.wait(BACKOFF[0])
        self.assertIsNone(self.watch.error)

    def test_silentChoice(self) -> None:
        """Nor can the choice be waited for without end."""
        waiting: Deferred[ScriptedStudio] = Deferred()
        self.choice.choose = lambda: waiting  # type: ignore[method-assign]
        watch = ModelWatch(self.choice, self.state, self.clock, self.seen.append, self.dropped.append)  # type: ignore[arg-type,return-value]
        looking = watch.look()
        self.wait(LOOK_SECONDS)
        self.assertIs(self.successResultOf(looking), False)

    def test_defect(self) -> None:
        """A defect in who is asked is logged, and does not end the watching."""
        self.start()
        self.studio.answer = ZeroDivisionError("never mind")
        self.wait(POLL_SECONDS)
        self.assertIsInstance(self.watch.error, UpstreamBroken)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.studio.has("a")
        self.wait(BACKOFF[0])
        self.assertIsNone(self.watch.error)


class LookTests(WatchTestCase):
    def test_shared(self) -> None:
        """Whoever wants a look while one is under way waits for it; who leaves takes it from nobody."""
        self.studio.answer = None
        first, second = self.watch.look(), self.watch.look()
        first.addErrback(lambda _: None)
        first.cancel()
        self.assertNoResult(second)
        self.studio.silent[0].callback(ScriptedStudio("z").answer)
        self.assertIs(self.successResultOf(second), True)
        self.assertEqual(self.studio.asked, 1)

    def test_down(self) -> None:
        """A look that saw nothing says so, and fails for nobody."""
        self.choice.choice = DOWN
        self.assertIs(self.successResultOf(self.watch.look()), False)

    def test_fresh(self) -> None:
        """What was seen is good for a second, unless something was done about it."""
        self.assertFalse(self.watch.isFresh)
        self.successResultOf(self.watch.look())
        self.assertTrue(self.watch.isFresh)
        self.clock.advance(1.5)
        self.assertFalse(self.watch.isFresh)
        self.successResultOf(self.watch.look())
        self.watch.outdate()
        self.assertFalse(self.watch.isFresh)

    def test_freshFailure(self) -> None:
        """So is a look that saw nothing: nor can an LM Studio that is down be driven."""
        self.choice.choice = DOWN
        self.successResultOf(self.watch.look())
        self.assertTrue(self.watch.isFresh)

    def test_outdated(self) -> None:
        """An answer that was on its way while something was done is not believed: it is asked again."""
        self.start()
        self.studio.answer = None
        looking = self.watch.look()
        self.studio.has("new")
        self.watch.outdate()
        self.studio.silent[0].callback(ScriptedStudio("old").answer)
        self.assertIs(self.successResultOf(looking), True)
        self.assertEqual([each.loaded[0].identifier for each in self.seen], ["a", "new"])

    def test_obtain(self) -> None:
        """Whoever has something to be done gets who does it, or hears why there is nobody, each in an exception of its own."""
        self.choice.choice = DOWN
        first = self.failureResultOf(Deferred.fromCoroutine(self.watch.obtain()), UpstreamUnavailable)
        second = self.failureResultOf(Deferred.fromCoroutine(self.watch.obtain()), UpstreamUnavailable)
        self.assertEqual(first.getErrorMessage(), DOWN.message)
        self.assertIsNot(first.value, second.value)
        self.choice.choice = self.studio
        self.assertIs(self.successResultOf(Deferred.fromCoroutine(self.watch.obtain())), self.studio)

    def test_unknownReason(self) -> None:
        """Before the first look there is a reason for knowing nothing as well."""
        self.assertIn("not known yet", self.watch.reason().message)


class ReplaceTests(WatchTestCase):
    def test_replace(self) -> None:
        """Another LM Studio is looked at at once, and of the one before nothing is known any more."""
        self.start()
        other = ScriptedStudio("b", management="sdk")
        state = UpstreamState(self.journal, "http://10.0.0.1:1234")
        self.watch.replace(ScriptedChoice(other), state)
        self.assertEqual((self.watch.inventory, self.watch.chosen, self.dropped), (other.answer, other, [self.studio]))
        self.assertIs(state.isUp, True)

    def test_whileLooking(self) -> None:
        """A look at the one before is broken off, and its answer belongs to nobody."""
        self.start()
        self.studio.answer = None
        looking = self.watch.look()
        other = ScriptedStudio("b")
        self.watch.replace(ScriptedChoice(other), self.state)
        self.assertIs(self.successResultOf(looking), True)
        self.assertEqual(self.watch.inventory, other.answer)

    def test_down(self) -> None:
        """Where the other is down, nothing is known."""
        self.start()
        self.watch.replace(ScriptedChoice(DOWN), self.state)
        self.assertEqual((self.watch.inventory, self.watch.knownAt, self.watch.management), (None, None, None))
        self.assertEqual(self.watch.error, DOWN)
