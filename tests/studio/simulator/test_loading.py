"""Waiting for a load: its progress, and every way it can end."""

from __future__ import annotations

from typing import Any

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.errors import MODEL_UNLOADED
from lmgateway.studio.simulator.loading import STEPS, LoadError, Loading
from lmgateway.studio.simulator.models import CATALOGUE
from lmgateway.studio.simulator.shelf import Shelf
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase


class LoadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.shelf = Shelf()
        self.progress: list[float] = []

    def load(self, **switches: Any) -> Deferred[None]:
        """Begin to load the first model."""
        self.instance = self.shelf.load(CATALOGUE[0], 0, Behaviour(**switches), ttl=None, jit=False)
        return Deferred.fromCoroutine(Loading(self.clock, self.shelf, self.instance).run(self.progress.append))

    @property
    def there(self) -> bool:
        """Whether the instance is on the shelf."""
        return self.instance in self.shelf.instances(self.clock.seconds())

    def test_progress(self) -> None:
        """Its progress grows from 0 to 1 in even steps, and then it is done."""
        loading = self.load(loadTime=10)
        self.assertEqual(self.progress, [0])
        self.clock.advance(5)
        self.assertNoResult(loading)
        self.clock.pump([0.5] * 10)
        self.successResultOf(loading)
        self.assertEqual(self.progress, [step / STEPS for step in range(STEPS + 1)])
        self.assertTrue(self.there)
        self.assertEqual(self.instance.lastUsed, 10)

    def test_instant(self) -> None:
        """A load that takes no time has begun and ended."""
        self.successResultOf(self.load())
        self.assertEqual(self.progress, [0, 1])

    def test_failure(self) -> None:
        """A load that fails does so at its end, and leaves nothing."""
        loading = self.load(loadTime=1, failLoad="no memory")
        self.clock.pump([0.1] * 9)
        self.assertNoResult(loading)
        self.assertTrue(self.there)
        self.clock.advance(0.2)
        self.assertEqual(self.failureResultOf(loading, LoadError).value.cause, "no memory")
        self.assertLess(max(self.progress), 1)
        self.assertFalse(self.there)

    def test_cancelled(self) -> None:
        """Cancelling takes the instance away, and leaves no delayed call."""
        loading = self.load(loadTime=1)
        self.clock.advance(0.5)
        loading.cancel()
        self.failureResultOf(loading, CancelledError)
        self.assertFalse(self.there)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unloaded(self) -> None:
        """Somebody who unloads the instance ends the load."""
        loading = self.load(loadTime=1)
        self.shelf.unload(self.instance)
        self.assertEqual(self.failureResultOf(loading, LoadError).value.cause, MODEL_UNLOADED)
        self.assertEqual(self.instance.users, set())
