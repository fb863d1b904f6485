"""What all routes have in common: memory, timing, ids."""

from __future__ import annotations

import re

from lmgateway.studio.simulator.generation import Turn
from lmgateway.studio.simulator.speech import Memory, Timing, randomId, responseId, thousandths
from twisted.trial.unittest import SynchronousTestCase


class MemoryTests(SynchronousTestCase):
    def test_recall(self) -> None:
        """What was said under an id can be gone on from; what was not, cannot."""
        memory = Memory()
        memory.remember("a", (Turn("user", "x"),))
        self.assertEqual(memory.recall("a"), (Turn("user", "x"),))
        self.assertIsNone(memory.recall("b"))

    def test_bounded(self) -> None:
        """It forgets the oldest, so that it does not grow for ever."""
        memory = Memory(2)
        for name in "abc":
            memory.remember(name, ())
        self.assertEqual([memory.recall(name) for name in "abc"], [None, (), ()])


class TimingTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Seconds and speed, as far as there was any time."""
        timing = Timing(started=10, firstToken=10.5, finished=12.5)
        self.assertEqual((timing.toFirstToken, timing.generating, timing.tokensPerSecond(30)), (0.5, 2, 15))
        self.assertEqual(Timing().tokensPerSecond(30), 0)

    def test_thousandths(self) -> None:
        """Numbers are short, and spelled without ``.0``."""
        self.assertEqual(repr(thousandths(0.12345)), "0.123")
        self.assertEqual(repr(thousandths(2.0)), "2")


class IdTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Ids look like LM Studio's, and no two are the same."""
        self.assertTrue(re.fullmatch("chatcmpl-[a-z0-9]{21}", randomId("chatcmpl-", 21)))
        self.assertTrue(re.fullmatch("resp_[0-9a-f]{48}", responseId()))
        self.assertEqual(len({responseId() for _ in range(100)}), 100)
