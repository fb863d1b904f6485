"""Which instances came and went without the gateway having done it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.changes import Changes, OutsideChanges
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.support import instance

NAMES = st.lists(st.sampled_from("abcdef"), unique=True)


class OutsideChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.changes = OutsideChanges()

    def compare(self, *names: str) -> Changes:
        """What is told of this list."""
        return self.changes.compare(instance(name, name.partition(":")[0]) for name in names)

    def test_first(self) -> None:
        """The first list is no change, nor is the first after what was known is forgotten."""
        self.assertFalse(self.compare("a", "b"))
        self.changes.forget()
        self.assertFalse(self.compare("c"))

    def test_change(self) -> None:
        """What came and what went is told once, in the order in which it came."""
        self.compare("a", "b")
        self.assertEqual(self.compare("b", "d", "c"), Changes(("d", "c"), ("a",)))
        self.assertFalse(self.compare("d", "b", "c"))

    def test_ownLoad(self) -> None:
        """What the gateway loads is never told: not while it loads, not when it is there, not when it is listed later."""
        self.compare()
        self.changes.loading("a")
        self.assertFalse(self.compare("a"))
        self.changes.loaded("a", "a")
        self.assertFalse(self.compare("a"))
        self.assertEqual(self.compare(), Changes((), ("a",)))

    def test_notOwn(self) -> None:
        """An instance that came while another of the model was loaded, or failed to, is told when that is over."""
        self.compare()
        self.changes.loading("a@q8")
        self.assertEqual(self.compare("a:2", "b"), Changes(("b",)))
        self.changes.loaded("a@q8", None)
        self.assertEqual(self.compare("a:2", "b"), Changes(("a:2",)))

    def test_ownUnload(self) -> None:
        """What the gateway unloads is not told, unless it comes back."""
        self.compare("a", "b")
        self.changes.unloading("a")
        self.assertFalse(self.compare("b"))
        self.changes.unloaded("a", isGone=True)
        self.assertFalse(self.compare("b"))
        self.assertEqual(self.compare("a", "b"), Changes(("a",)))

    def test_failedUnload(self) -> None:
        """What is gone though the gateway could not unload it is told."""
        self.compare("a")
        self.changes.unloading("a")
        self.changes.unloaded("a", isGone=False)
        self.assertEqual(self.compare(), Changes((), ("a",)))

    @given(st.lists(NAMES, min_size=1, max_size=6))
    def test_replay(self, lists: list[list[str]]) -> None:
        """Whoever applies all changes to the first list has the last one."""
        changes = OutsideChanges()
        known = set(lists[0])
        for names in lists:
            told = changes.compare([instance(name) for name in names])
            self.assertFalse(known & set(told.loaded))
            known = (known | set(told.loaded)) - set(told.unloaded)
        self.assertEqual(known, set(lists[-1]))
