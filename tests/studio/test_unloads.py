"""Unloading instances: not while they answer, unless that is wanted, and to the end, whoever leaves meanwhile."""

from __future__ import annotations

from lmgateway.errors import Conflict, NotFound, Unavailable, UpstreamBroken, UpstreamUnavailable
from lmgateway.message import ActiveModel
from lmgateway.policy.loading import UnloadRequest
from lmgateway.studio.unloads import Unloaded
from twisted.internet.defer import CancelledError, Deferred, fail

from tests.studio.support import DOWN, ServiceTestCase, exchange, instance


class UnloadTests(ServiceTestCase):
    def unload(
        self, modelKey: str = "m", instanceId: str | None = None, *, force: bool = False
    ) -> Deferred[Unloaded | None]:
        """Ask for an unload."""
        return Deferred.fromCoroutine(self.service.unload(UnloadRequest(modelKey, instanceId, force)))

    def test_unload(self) -> None:
        """The instance is unloaded, it is told from the beginning to the end, and is no change from outside."""
        self.start("a", instance("i", "m"))
        unloading = self.unload()
        self.clock.advance(0.5)
        self.assertNoResult(unloading)
        self.studio.gone()
        unloaded = self.successResultOf(unloading)
        assert unloaded is not None
        self.assertEqual(
            (unloaded.instance.identifier, unloaded.totalTimeMs, unloaded.deactivated), ("i", 500.0, False)
        )
        self.wait(10)
        self.assertEqual(self.kinds(), ["model_unload_start", "model_unload_complete"])
        start, complete = self.told("model_unload_start", "model_unload_complete")
        self.assertEqual(start, {"modelKey": "m", "instanceId": "i"})
        self.assertEqual(complete, {"modelKey": "m", "instanceId": "i", "totalTimeMs": 500.0})

    def test_fresh(self) -> None:
        """It goes by what is loaded now, not by what was some seconds ago."""
        self.start()
        self.studio.has("m")
        unloading = self.unload()
        self.studio.gone()
        self.successResultOf(unloading)

    def test_missing(self) -> None:
        """What is not loaded is not found, and nothing is told."""
        self.start("a")
        self.failureResultOf(self.unload(), NotFound)
        self.failureResultOf(self.unload("a", "b"), NotFound)
        self.assertEqual((self.studio.unloading, self.journal.events), ([], []))

    def test_down(self) -> None:
        """While LM Studio is down, that is why."""
        self.start("m")
        self.studio.answer = self.choice.choice = DOWN
        self.failureResultOf(self.unload(), UpstreamUnavailable)

    def test_noManagement(self) -> None:
        """Where LM Studio offers no management, nothing is unloaded and nothing told."""
        self.studio.management = "gateway"
        self.start("m")
        self.assertIsNone(self.successResultOf(self.unload()))
        self.assertEqual((self.studio.unloading, self.journal.events), ([], []))

    def test_answering(self) -> None:
        """An instance that is answering is not unloaded; what runs is told, with whose it is."""
        self.start("m", "n")
        self.exchanges += [exchange("m"), exchange("n", "other")]
        error = self.failureResultOf(self.unload(), Conflict).value
        self.assertIn('"m" is answering a request', error.message)
        self.assertEqual(
            error.details,
            [{"requestId": "r1", "key": "alice", "startedAt": "2027-01-15T08:00:00.000Z", "model": "m"}],
        )
        self.assertEqual(self.studio.unloading, [])

    def test_force(self) -> None:
        """Unless that is wanted."""
        self.start("m")
        self.exchanges.append(exchange("m"))
        unloading = self.unload(force=True)
        self.studio.gone()
        self.assertIsNotNone(self.successResultOf(unloading))

    def test_twice(self) -> None:
        """Two who want the same instance unloaded get one unload and the same answer; who leaves undoes nothing."""
        self.start("m")
        first, second, third = self.unload(), self.unload(), self.unload()
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual(len(self.studio.unloading), 1)
        self.studio.gone()
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(self.kinds(), ["model_unload_start", "model_unload_complete"])

    def test_failed(self) -> None:
        """An unload that fails is told as what it is."""
        self.start("m")
        unloading = self.unload()
        self.studio.unloading.pop()[1].errback(UpstreamBroken("It broke off."))
        self.failureResultOf(unloading, UpstreamBroken)
        self.assertEqual(
            self.told("error"),
            [{"operation": "model_unload", "modelKey": "m", "instanceId": "m", "error": "It broke off."}],
        )
        self.assertEqual(self.told("model_unload_complete"), [])

    def test_active(self) -> None:
        """The active model is no longer active once it is unloaded, which is told, and is no error."""
        self.active.model = ActiveModel("m", "m:2", {"topP": 0.5})
        self.start("m", instance("m:2", "m"))
        unloading = self.unload("m", "m:2")
        self.wait(10)
        self.studio.gone()
        unloaded = self.successResultOf(unloading)
        assert unloaded is not None
        self.assertTrue(unloaded.deactivated)
        self.assertIsNone(self.active.current())
        self.assertEqual(self.kinds(), ["model_unload_start", "model_unload_complete", "model_deactivate"])

    def test_othersStay(self) -> None:
        """A model that is active by its key stays so while another instance of it is loaded."""
        self.active.model = ActiveModel("m")
        self.start("m", instance("m:2", "m"))
        for instanceId, deactivated in (("m:2", False), ("m", True)):
            unloading = self.unload("m", instanceId)
            self.studio.gone()
            unloaded = self.successResultOf(unloading)
            assert unloaded is not None
            self.assertEqual(unloaded.deactivated, deactivated)

    def test_notStored(self) -> None:
        """What is unloaded but could not be deactivated is unloaded, and the answer says what is wrong."""
        self.active.model = ActiveModel("m")
        self.start("m")
        self.active.deactivate = lambda: fail(Unavailable("The disk is full."))  # type: ignore[method-assign]
        unloading = self.unload()
        self.studio.gone()
        unloaded = self.successResultOf(unloading)
        assert unloaded is not None
        self.assertEqual((unloaded.deactivated, unloaded.trouble), (False, "The disk is full."))
