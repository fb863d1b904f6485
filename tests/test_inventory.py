"""What LM Studio has: values that nothing can change behind anybody's back."""

from __future__ import annotations

from lmgateway.inventory import Inventory, LoadedModel, LoadOrder
from twisted.trial.unittest import SynchronousTestCase


class ValueTests(SynchronousTestCase):
    def test_frozen(self) -> None:
        """No default that several values share can be written to."""
        with self.assertRaises(TypeError):
            LoadOrder("a").loadConfig["contextLength"] = 1  # type: ignore[index]

    def test_sameness(self) -> None:
        """Two inventories of the same models are equal, so that a change can be told from a new look."""
        first, second = (Inventory(loaded=(LoadedModel("a", "a", "llm", "a"),)) for _ in range(2))
        self.assertEqual(first, second)
        self.assertNotEqual(first, Inventory())
