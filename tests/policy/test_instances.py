"""Which of the loaded instances a name means, and which requests an instance is answering."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Conflict, NotFound
from lmgateway.inventory import Inventory
from lmgateway.message import ActiveModel
from lmgateway.policy.instances import MOST_NAMED, answering, instanceOf, isResident, isSameModel, without
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.support import exchange, instance, inventoryOf

NAMES = st.sampled_from(("q/m", "q/m@q4", "q/m@q8", "q/m:2", "other", "mine"))
INVENTORIES = st.lists(st.builds(instance, NAMES, NAMES), unique_by=lambda each: each.identifier, max_size=4).map(
    lambda loaded: inventoryOf(*loaded)
)


class SameModelTests(SynchronousTestCase):
    def test_variants(self) -> None:
        """A key means any variant, and a variant itself and what has none; two variants are two models."""
        for name, key, same in (
            ("m", "m", True),
            ("m", "m@q8", True),
            ("m@q8", "m", True),
            ("m@q8", "m@q8", True),
            ("m@q8", "m@q4", False),
            ("m", "n", False),
        ):
            self.assertIs(isSameModel(name, key), same, f"{name} {key}")


class InstanceOfTests(SynchronousTestCase):
    def test_named(self) -> None:
        """An instance is found by its name, which must be one of that model."""
        inventory = inventoryOf("m", instance("m:2", "m"), instance("mine", "n"))
        self.assertEqual(instanceOf(inventory, "m", "m:2").identifier, "m:2")
        self.assertEqual(instanceOf(inventory, "mine", None).identifier, "mine")
        self.assertRaises(NotFound, instanceOf, inventory, "m", "mine")
        self.assertRaises(NotFound, instanceOf, inventory, "m", "m:3")

    def test_byKey(self) -> None:
        """Without a name it is the one that is called as the model is, or else the only one."""
        inventory = inventoryOf(instance("m:2", "m"), "m", instance("mine", "n"))
        self.assertEqual(instanceOf(inventory, "m", None).identifier, "m")
        self.assertEqual(instanceOf(inventory, "n@q8", None).identifier, "mine")
        error = self.assertRaises(NotFound, instanceOf, inventory, "x", None)
        self.assertIn('"x" is not loaded', error.message)

    def test_several(self) -> None:
        """Where it could be several they are named, though not thousands."""
        inventory = inventoryOf(*(instance(f"m:{number}", "m") for number in range(1000)))
        error = self.assertRaises(Conflict, instanceOf, inventory, "m", None)
        self.assertIn('"m:0", "m:1"', error.message)
        self.assertEqual(error.message.count('"m:'), MOST_NAMED)

    @given(INVENTORIES, NAMES, st.none() | NAMES)
    def test_sound(self, inventory: Inventory, modelKey: str, instanceId: str | None) -> None:
        """Whatever is found is loaded, has the name that was given, and is of the model."""
        try:
            found = instanceOf(inventory, modelKey, instanceId)
        except (NotFound, Conflict):
            return
        self.assertIn(found, inventory.loaded)
        self.assertIn(instanceId, {None, found.identifier})
        self.assertTrue(modelKey == found.identifier or isSameModel(modelKey, found.modelKey))


class ResidentTests(SynchronousTestCase):
    def test_resident(self) -> None:
        """A model without an instance is there while any instance of it is; an instance while it is itself."""
        inventory = inventoryOf(instance("m:2", "m"), instance("mine", "n"))
        for active, resident in (
            (ActiveModel("m"), True),
            (ActiveModel("m@q8"), True),
            (ActiveModel("m", "m"), True),
            (ActiveModel("m", "m:2"), True),
            (ActiveModel("m", "m:3"), False),
            (ActiveModel("n", "mine"), True),
            (ActiveModel("mine"), True),
            (ActiveModel("x"), False),
        ):
            self.assertIs(isResident(inventory, active), resident, active)

    @given(INVENTORIES, NAMES)
    def test_without(self, inventory: Inventory, identifier: str) -> None:
        """Without an instance, everything else is there, and a model named by it alone is not."""
        rest = without(inventory, identifier)
        self.assertEqual([each for each in inventory.loaded if each.identifier != identifier], list(rest.loaded))
        self.assertFalse(isResident(rest, ActiveModel("no such model", identifier)))


class AnsweringTests(SynchronousTestCase):
    def test_concerned(self) -> None:
        """A request counts that names the instance, or its model where no other has that name, or nothing."""
        inventory = inventoryOf("m", instance("m:2", "m"), instance("mine", "n"))
        exchanges = [exchange(model, str(model)) for model in ("m", "m:2", "n", "n@q8", "mine", "x", None)]
        for loaded, expected in zip(
            inventory.loaded, (["m", "None"], ["m:2", "None"], ["n", "n@q8", "mine", "None"]), strict=True
        ):
            self.assertEqual([each.requestId for each in answering(inventory, loaded, exchanges)], expected)
