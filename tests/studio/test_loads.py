"""Loading models: each order once, however many ask for it, and to its end, whoever leaves meanwhile."""

from __future__ import annotations

from typing import Any

from lmgateway.errors import Conflict, NotFound, Unavailable, UpstreamBroken, UpstreamFailed
from lmgateway.inventory import LoadOrder
from lmgateway.message import ActiveModel
from lmgateway.policy.loading import CancelRequest, LoadRequest
from lmgateway.studio.loads import Loaded, keyOf
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.support import ScriptedChoice, ScriptedStudio, ServiceTestCase


def wish(modelKey: str = "m", instanceId: str | None = None, *, activate: bool = False, **more: Any) -> LoadRequest:
    """A request for a load."""
    inference = more.pop("defaultInference", {})
    return LoadRequest(LoadOrder(modelKey, instanceId, **more), activate, inference)


class LoadTestCase(ServiceTestCase):
    def load(self, request: LoadRequest | None = None) -> Deferred[Loaded | None]:
        """Ask for a load."""
        return Deferred.fromCoroutine(self.service.load(request or wish()))


class LoadTests(LoadTestCase):
    def test_load(self) -> None:
        """What was ordered is loaded, and it is told from the beginning to the end."""
        self.start()
        loading = self.load(wish("m", "i", loadConfig={"contextLength": 8}, ttlSeconds=60))
        (load,) = self.studio.loads
        self.assertEqual(load.order, LoadOrder("m", "i", {"contextLength": 8}, 60))
        self.clock.advance(1.5)
        load.succeed(notApplied=("ttlSeconds",))
        loaded = self.successResultOf(loading)
        assert loaded is not None
        self.assertEqual((loaded.outcome.instanceId, loaded.outcome.notApplied), ("i", ("ttlSeconds",)))
        self.assertEqual((loaded.activated, loaded.totalTimeMs, loaded.trouble), (False, 1500.0, None))
        self.assertEqual(self.kinds(), ["model_load_start", "model_load_complete"])
        start, complete = self.told("model_load_start", "model_load_complete")
        self.assertEqual(start, {"modelKey": "m", "instanceId": "i", "loadConfig": {"contextLength": 8}})
        self.assertEqual(
            complete,
            {
                "modelKey": "m",
                "instanceId": "i",
                "loadConfig": {"contextLength": 8},
                "activated": False,
                "totalTimeMs": 1500.0,
            },
        )

    def test_defaults(self) -> None:
        """What is set for the model counts where the order does not say."""
        self.start()
        self.defaults["m"] = {"contextLength": 8, "parallel": 2}
        self.load(wish(loadConfig={"contextLength": 16}))
        self.assertEqual(self.studio.loads[0].order.loadConfig, {"contextLength": 16, "parallel": 2})

    def test_known(self) -> None:
        """The instance is known as soon as it is loaded, and is no change from outside."""
        self.start("a")
        self.load()
        self.studio.loads[0].succeed("m:1")
        inventory = self.service.inventory
        assert inventory is not None
        self.assertEqual([each.identifier for each in inventory.loaded], ["a", "m:1"])
        self.wait(20)
        self.assertEqual(self.told("model_state"), [])

    def test_noManagement(self) -> None:
        """Where LM Studio offers no management, nothing is loaded and nothing told."""
        self.studio.management = "gateway"
        self.start()
        self.assertIsNone(self.successResultOf(self.load()))
        self.assertEqual((self.studio.loads, self.journal.events), ([], []))


class SharedLoadTests(LoadTestCase):
    def test_twoCallers(self) -> None:
        """Two who order the same get one load, and the same answer."""
        self.start()
        first, second = self.load(wish(loadConfig={"a": 1, "b": 2})), self.load(wish(loadConfig={"b": 2, "a": 1}))
        (load,) = self.studio.loads
        load.succeed()
        self.assertIs(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(self.kinds(), ["model_load_start", "model_load_complete"])

    def test_others(self) -> None:
        """Another model, instance, configuration or TTL is another load."""
        self.start()
        orders = (wish(), wish("n"), wish(instanceId="i"), wish(loadConfig={"parallel": 1}), wish(ttlSeconds=9))
        waiting = [self.load(order) for order in orders]
        self.assertEqual([load.order for load in self.studio.loads], [order.order for order in orders])
        for load in self.studio.loads:
            load.fail(UpstreamFailed("No."))
        for each in waiting:
            self.failureResultOf(each, UpstreamFailed)

    def test_again(self) -> None:
        """What is loaded is loaded once more for those who order it later."""
        self.start()
        for number in (1, 2):
            loading = self.load()
            self.studio.loads[-1].succeed(f"m:{number}")
            self.successResultOf(loading)
        self.assertEqual(len(self.studio.loads), 2)

    def test_callerLeaves(self) -> None:
        """A caller who leaves undoes nothing: the model is loaded, activated, and told."""
        self.start()
        loading = self.load(wish(activate=True))
        loading.cancel()
        self.failureResultOf(loading, CancelledError)
        self.assertFalse(self.studio.loads[0].isCancelled)
        self.studio.loads[0].succeed()
        self.assertEqual(self.active.current(), ActiveModel("m", "m"))
        self.assertIn("model_load_complete", self.kinds())

    def test_keys(self) -> None:
        """The order of members makes no difference, what they hold does."""
        self.assertEqual(keyOf(LoadOrder("m", None, {"a": 1, "b": 2})), keyOf(LoadOrder("m", None, {"b": 2, "a": 1})))
        self.assertNotEqual(keyOf(LoadOrder("m", None, {"a": 1})), keyOf(LoadOrder("m", None, {"a": True})))


class ActivateTests(LoadTestCase):
    def test_activate(self) -> None:
        """A load that is to activate does so with its parameters, and tells of it."""
        self.start()
        loading = self.load(wish(activate=True, defaultInference={"topP": 0.5}))
        self.assertIsNone(self.active.current())
        self.studio.loads[0].succeed("m:2")
        loaded = self.successResultOf(loading)
        assert loaded is not None
        self.assertTrue(loaded.activated)
        self.assertEqual(self.active.current(), ActiveModel("m", "m:2", {"topP": 0.5}))
        (event,) = self.told("model_activate")
        self.assertEqual(event, {"modelKey": "m", "instanceId": "m:2", "defaultInference": {"topP": 0.5}})

    def test_lastDecides(self) -> None:
        """Of several who order the same, the last who wants it active decides with which parameters."""
        self.start()
        waiting = [
            self.load(wish(activate=True, defaultInference={"topP": 0.1})),
            self.load(wish(activate=True, defaultInference={"topP": 0.2})),
            self.load(wish(activate=False)),
        ]
        self.studio.loads[0].succeed()
        self.assertTrue(all(result is not None and result.activated for result in map(self.successResultOf, waiting)))
        self.assertEqual(self.active.current(), ActiveModel("m", "m", {"topP": 0.2}))

    def test_notStored(self) -> None:
        """A model that is loaded but could not be activated is loaded, and the answer says what is wrong."""
        self.start()
        self.active.activate = lambda _: fail(Unavailable("The disk is full."))  # type: ignore[method-assign]
        loading = self.load(wish(activate=True))
        self.studio.loads[0].succeed()
        loaded = self.successResultOf(loading)
        assert loaded is not None
        self.assertEqual((loaded.activated, loaded.trouble), (False, "The disk is full."))
        self.assertEqual(self.told("model_load_complete")[0]["activated"], False)
        self.assertEqual(self.told("model_activate"), [])


class ProgressTests(LoadTestCase):
    def test_progress(self) -> None:
        """Progress is told in percent to one decimal, and as it came."""
        self.start()
        self.load(wish("m", "i"))
        self.studio.loads[0].progress(0.12345)
        (event,) = self.told("model_load_progress")
        self.assertEqual(event, {"modelKey": "m", "instanceId": "i", "progress": 12.3, "progressRaw": 0.12345})
        load = self.service.currentLoad
        assert load is not None
        self.assertEqual((load.percent, load.startedAt), (12.3, self.clock.seconds()))

    def test_bounded(self) -> None:
        """However often LM Studio tells, it is told four times a second at most, and each percent once; the last is known."""
        self.start()
        self.load()
        progress = self.studio.loads[0].progress
        for number in range(1000):
            progress(number / 1000)
            self.clock.advance(0.01)
        percents = [event["progress"] for event in self.told("model_load_progress")]
        self.assertEqual(percents, sorted(percents))
        self.assertLessEqual(len(percents), 41)
        self.assertGreater(len(percents), 30)
        load = self.service.currentLoad
        assert load is not None
        self.assertEqual(load.percent, 99.9)
        for _ in range(100):
            progress(0.9995)
            self.clock.advance(1)
        self.assertLessEqual(len(self.told("model_load_progress")), 42)

    def test_nonsense(self) -> None:
        """What is no fraction is no progress, and after the end there is none."""
        self.start()
        self.load()
        for fraction in (-0.1, 1.1, float("nan"), float("inf")):
            self.studio.loads[0].progress(fraction)
        self.studio.loads[0].succeed()
        self.clock.advance(1)
        self.studio.loads[0].progress(0.5)
        self.assertEqual(self.told("model_load_progress"), [])
        self.assertIsNone(self.service.currentLoad)


class FailureTests(LoadTestCase):
    def test_failed(self) -> None:
        """A load that fails is told as what it is, and looked at; nothing is activated."""
        self.start()
        waiting = [self.load(wish(activate=True)), self.load(wish(activate=True))]
        asked = self.studio.asked
        self.studio.loads[0].fail(UpstreamFailed("Not enough memory."))
        for each in waiting:
            self.failureResultOf(each, UpstreamFailed)
        (event,) = self.told("error")
        self.assertEqual(
            event, {"operation": "model_load", "modelKey": "m", "instanceId": None, "error": "Not enough memory."}
        )
        self.assertEqual(self.studio.asked, asked + 1)
        self.assertEqual((self.active.current(), self.service.currentLoad), (None, None))
        self.assertNotIn("model_load_complete", self.kinds())

    def test_loadedAfterAll(self) -> None:
        """A load that failed although LM Studio has the model is told as a change: the state told is the state that is."""
        self.start()
        self.failing = self.load()
        self.studio.has("m")
        self.wait(10)
        self.assertEqual(self.told("model_state"), [])
        self.studio.loads[0].fail(UpstreamBroken("It broke off."))
        self.failureResultOf(self.failing, UpstreamBroken)
        self.assertEqual(self.told("model_state"), [{"loaded": ("m",), "unloaded": ()}])

    def test_stopsMidLoad(self) -> None:
        """LM Studio stops in the midst of a load: that is told, and that it is down."""
        self.start("a")
        loading = self.load()
        down = UpstreamBroken("LM Studio broke off.")
        self.studio.answer = self.choice.choice = down
        self.studio.loads[0].fail(down)
        self.failureResultOf(loading, UpstreamBroken)
        self.assertEqual(self.told("error")[0]["operation"], "model_load")
        self.assertEqual((self.service.reason, self.service.isStale), (down.message, True))
        self.assertEqual(self.studio.closed, 1)

    def test_silentMeanwhile(self) -> None:
        """A load goes on while LM Studio is too busy to say what it has, and whoever does it is closed only then."""
        self.start()
        loading = self.load()
        self.studio.answer = None
        self.wait(30)
        self.assertTrue(self.service.isStale)
        self.assertEqual((self.studio.closed, self.studio.loads[0].isCancelled), (0, False))
        self.studio.has()
        self.studio.loads[0].succeed()
        self.assertIsNotNone(self.successResultOf(loading))
        self.assertEqual(self.service.isStale, False)

    def test_replaced(self) -> None:
        """What one LM Studio is loading, it loads, though another is asked meanwhile; whoever does it is closed then."""
        self.start()
        loading = self.load()
        other = ScriptedStudio("b")
        self.service.replaceUpstream(ScriptedChoice(other), self.state)
        self.assertEqual((self.studio.closed, self.service.inventory), (0, other.answer))
        self.studio.loads[0].succeed()
        self.assertIsNotNone(self.successResultOf(loading))
        self.assertEqual((self.studio.closed, other.closed), (1, 0))


class CancelTests(LoadTestCase):
    def test_cancel(self) -> None:
        """A load that is cancelled is cancelled in LM Studio; whoever waits hears of it, and so do the events."""
        self.start()
        waiting = [self.load(), self.load()]
        self.assertEqual(self.service.cancelLoad(CancelRequest("m", None)), 1)
        self.assertTrue(self.studio.loads[0].isCancelled)
        for each in waiting:
            self.assertEqual(self.failureResultOf(each, Conflict).value.code, "load_cancelled")
        (event,) = self.told("error")
        self.assertIn("was cancelled", event["error"])
        self.assertIsNone(self.service.currentLoad)

    def test_which(self) -> None:
        """Without an instance the load without one is meant, or else all of the model; with one, that one."""
        self.start()
        waiting = [self.load(wish(instanceId=name)) for name in (None, "i", "j")]
        for each in waiting:
            each.addErrback(lambda reason: reason.trap(Conflict) and None)
        for name, expected in (("j", [False, False, True]), (None, [True, False, True]), (None, [True, True, True])):
            self.service.cancelLoad(CancelRequest("m", name))
            self.assertEqual([load.isCancelled for load in self.studio.loads], expected)

    def test_none(self) -> None:
        """Where nothing is being loaded, there is nothing to cancel."""
        self.start()
        self.assertRaises(NotFound, self.service.cancelLoad, CancelRequest("m", None))
        loading = self.load()
        self.assertRaises(NotFound, self.service.cancelLoad, CancelRequest("m", "i"))
        self.assertRaises(NotFound, self.service.cancelLoad, CancelRequest("n", None))
        self.studio.loads[0].succeed()
        self.successResultOf(loading)
        self.assertRaises(NotFound, self.service.cancelLoad, CancelRequest("m", None))


class KeyTests(SynchronousTestCase):
    def test_ttl(self) -> None:
        """Two orders that differ in their TTL alone are two."""
        self.assertNotEqual(keyOf(LoadOrder("m", None, {}, 1)), keyOf(LoadOrder("m", None, {}, 2)))
