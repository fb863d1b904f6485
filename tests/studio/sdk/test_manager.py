"""Tests for :mod:`lmgateway.studio.sdk.manager`, with the simulator at the other end."""

from __future__ import annotations

from typing import Any

from lmgateway.errors import (
    Conflict,
    Forbidden,
    NotFound,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamSilent,
    UpstreamUnavailable,
)
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import Inventory, LoadOrder, LoadOutcome
from lmgateway.studio.sdk.connection import DEAD_SECONDS, KEEP_ALIVE_SECONDS
from lmgateway.studio.sdk.manager import CALL_SECONDS, SdkManager
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.network import MemoryEndpoints, Network
from tests.studio.sdk.support import TOKEN, URL

QWEN = "qwen/qwen3-8b"
GEMMA = "google/gemma-3-4b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"

ALL: dict[str, Any] = {
    "contextLength": 4096,
    "gpu": {"ratio": 0.5},
    "cpuThreads": 6,
    "ropeFrequencyBase": 10000.0,
    "ropeFrequencyScale": 0.25,
    "evalBatchSize": 256,
    "flashAttention": False,
    "offloadKvCacheToGpu": False,
    "parallel": 2,
}


class SimulatorCase(SynchronousTestCase):
    """With a simulator that has nothing loaded, and one who manages its models."""

    def setUp(self) -> None:
        self.network = Network()
        self.clock: Any = self.network.clock
        self.simulator = Simulator(loaded=())
        site = simulatorSite(self.simulator, self.clock)
        self.endpoints = MemoryEndpoints(self.network, lambda: site.buildProtocol(None))
        self.progress: list[float] = []
        self.subject = self.manager()

    def manager(self, apiToken: str | None = None) -> SdkManager:
        """Make one, closed at the end, after which nothing goes on."""
        manager = SdkManager(self.endpoints, URL, apiToken, self.clock)
        self.addCleanup(self.end, manager)
        return manager

    def end(self, manager: SdkManager) -> None:
        """Close it."""
        closing = manager.close()
        self.network.advance(2)
        self.successResultOf(closing)

    def behave(self, **switches: Any) -> None:
        """Set switches of the simulator."""
        for name, value in switches.items():
            self.assertTrue(hasattr(self.simulator.behaviour, name))
            setattr(self.simulator.behaviour, name, value)

    def inventory(self) -> Inventory:
        """Ask what there is."""
        asking = self.subject.inventory()
        self.network.flush()
        return self.successResultOf(asking)

    def loading(self, modelKey: str = GEMMA, **order: Any) -> Deferred[LoadOutcome]:
        """Begin to load."""
        loading = self.subject.load(LoadOrder(modelKey, **order), self.progress.append)
        self.network.flush()
        return loading

    def load(self, modelKey: str = GEMMA, **order: Any) -> LoadOutcome:
        """Load at once."""
        return self.successResultOf(self.loading(modelKey, **order))

    def unloading(self, identifier: str) -> Deferred[None]:
        """Unload."""
        unloading = self.subject.unload(identifier)
        self.network.flush()
        return unloading

    def loaded(self) -> list[str]:
        """What the simulator has loaded, or is loading."""
        return [instance.id for instance in self.simulator.shelf.instances(self.clock.seconds())]

    def failure(self, waiting: Deferred[Any], kind: type[Exception]) -> Any:
        """Give the error."""
        self.network.flush()
        return self.failureResultOf(waiting, kind).value

    def websockets(self) -> list[bytes]:
        """The paths of the WebSockets that were opened."""
        return [request.target for request in self.simulator.received]


class InventoryTests(SimulatorCase):
    """What there is."""

    def test_interface(self) -> None:
        """It is an ``IModelManager``, by the SDKs' protocol."""
        verifyObject(IModelManager, self.subject)
        self.assertEqual("sdk", self.subject.management)

    def test_everything(self) -> None:
        """Every model is told with its kind, every instance with its configuration and its time to live."""
        self.load(QWEN, ttlSeconds=60, loadConfig={"parallel": 3})
        self.load(NOMIC, instanceId="words")
        inventory = self.inventory()
        kinds = {model.modelKey: model.type for model in inventory.downloaded}
        self.assertEqual(("llm", "embedding"), (kinds[QWEN], kinds[NOMIC]))
        qwen, words = inventory.loaded
        self.assertEqual((QWEN, QWEN, "llm", 60.0), (qwen.identifier, qwen.modelKey, qwen.type, qwen.ttlSeconds))
        self.assertEqual(3, qwen.loadConfig["parallel"])
        self.assertEqual(
            ("words", NOMIC, "embedding", None), (words.identifier, words.modelKey, words.type, words.ttlSeconds)
        )
        self.assertEqual(2048, words.loadConfig["contextLength"])

    def test_unchanged(self) -> None:
        """A list that is the same is not read anew, and one that is another is."""
        first = self.inventory().downloaded
        self.assertIs(self.inventory().downloaded, first)
        self.behave(noModels=True)
        self.assertEqual(self.inventory().downloaded, ())

    def test_oneConnection(self) -> None:
        """However often it is asked, there is one connection for each namespace, and between two questions nothing."""
        for _ in range(3):
            self.inventory()
            self.network.advance(30)
        self.assertEqual([b"/embedding", b"/llm", b"/system"], sorted(self.websockets()))
        self.assertEqual([], [call for call in self.clock.getDelayedCalls() if "keepAlive" in str(call)])

    def test_cancelled(self) -> None:
        """Cancelling ends the asking, and the next one is answered."""
        self.behave(muteManagement=True)
        asking = self.subject.inventory()
        self.network.flush()
        asking.cancel()
        self.failure(asking, CancelledError)
        self.behave(muteManagement=False)
        self.inventory()

    def test_mute(self) -> None:
        """A server that never answers is silent, and is connected to anew when it is asked again."""
        self.behave(muteManagement=True)
        asking = self.subject.inventory()
        self.network.advance(CALL_SECONDS)
        self.failure(asking, UpstreamSilent)
        self.behave(muteManagement=False)
        self.inventory()
        self.assertEqual(6, len(self.websockets()))

    def test_noSdk(self) -> None:
        """A server without these WebSockets answers as to any unknown path, and that is told."""
        self.behave(sdk=False)
        error = self.failure(self.subject.inventory(), UpstreamBroken)
        self.assertIn("offers no WebSocket at /", error.message)
        self.assertIn("with the status 200", error.message)

    def test_nobody(self) -> None:
        """A server that is down is unreachable, and is found when it is back."""
        listen, self.endpoints.listen = self.endpoints.listen, None
        self.failure(self.subject.inventory(), UpstreamUnavailable)
        self.endpoints.listen = listen
        self.inventory()

    def test_lost(self) -> None:
        """After a loss nothing is done until the next question, which is answered over new connections."""
        self.inventory()
        for transport in list(self.network.transports):
            transport.abortConnection()
        self.network.advance(3600)
        self.assertEqual(3, len(self.websockets()))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.inventory()
        self.assertEqual(6, len(self.websockets()))


class AuthenticationTests(SimulatorCase):
    """Who asks."""

    def test_token(self) -> None:
        """A token lets in where one is demanded."""
        self.behave(requireToken=TOKEN)
        self.subject = self.manager(TOKEN)
        self.assertTrue(self.inventory().downloaded)

    def test_guest(self) -> None:
        """Without one it is told which variable to set."""
        self.behave(requireToken=TOKEN)
        error = self.failure(self.subject.inventory(), Forbidden)
        self.assertIn("An LM Studio API token is required", error.message)
        self.assertIn("LMSTUDIO_API_TOKEN", error.message)

    def test_wrongToken(self) -> None:
        """With another it is told so, and the token is not repeated."""
        self.behave(requireToken=TOKEN)
        self.subject = self.manager("sk-lm-WrongOne:WrongSecretWrongSecr")
        error = self.failure(self.subject.inventory(), Forbidden)
        self.assertIn("was not recognized", error.message)
        self.assertNotIn("Wrong", error.message)

    def test_twoGateways(self) -> None:
        """Two guests do not get into each other's way."""
        self.inventory()
        self.subject = self.manager()
        self.inventory()


class LoadTests(SimulatorCase):
    """Loading."""

    def test_whole(self) -> None:
        """Everything that is ordered is applied, and read back."""
        outcome = self.load(QWEN, instanceId="me", loadConfig=ALL, ttlSeconds=90)
        self.assertEqual("me", outcome.instanceId)
        self.assertEqual((), outcome.notApplied)
        self.assertEqual(ALL, outcome.loadConfig)
        (instance,) = self.simulator.shelf.instances(self.clock.seconds())
        self.assertEqual(("me", QWEN, 90), (instance.id, instance.model.key, instance.ttl))
        self.assertEqual(0.5, instance.config["llm.load.llama.acceleration.offloadRatio"])
        self.assertEqual({"checked": True, "value": 10000.0}, instance.config["llm.load.llama.ropeFrequencyBase"])

    def test_notApplied(self) -> None:
        """What cannot be set, and what LM Studio set otherwise, is told in the order of the order."""
        order = {"numExperts": 4, "gpu": {"layers": 12, "ratio": 0.25}, "contextLength": 10**9}
        outcome = self.load(QWEN, loadConfig=order)
        self.assertEqual(("numExperts", "gpu.layers", "contextLength"), outcome.notApplied)
        self.assertEqual(40960, outcome.loadConfig["contextLength"])

    def test_embedding(self) -> None:
        """An embedding model is loaded in its own namespace, with keys of its own."""
        outcome = self.load(NOMIC, loadConfig={"contextLength": 512, "gpu": {"ratio": 0}, "parallel": 2})
        self.assertEqual(("parallel",), outcome.notApplied)
        self.assertEqual((512, {"ratio": 0}), (outcome.loadConfig["contextLength"], outcome.loadConfig["gpu"]))
        self.assertNotIn(b"/llm", self.websockets())

    def test_progress(self) -> None:
        """The progress is told from 0 to 1, and never after the end."""
        self.behave(loadTime=10.0)
        loading = self.loading()
        self.network.advance(5)
        self.assertNoResult(loading)
        self.assertEqual(0.5, self.progress[-1])
        self.network.advance(5)
        self.successResultOf(loading)
        self.assertEqual((0, 1), (self.progress[0], self.progress[-1]))
        self.assertEqual(sorted(self.progress), self.progress)
        told = len(self.progress)
        self.network.advance(60)
        self.assertEqual(told, len(self.progress))

    def test_slow(self) -> None:
        """A load takes as long as it takes."""
        self.behave(loadTime=3600.0)
        loading = self.loading()
        self.network.advance(3599)
        self.assertNoResult(loading)
        self.network.advance(1)
        self.successResultOf(loading)

    def test_several(self) -> None:
        """Each load makes one more instance, and two at once do not mix."""
        self.behave(loadTime=10.0)
        first, second = self.loading(instanceId="a"), self.loading(instanceId="b")
        self.network.advance(10)
        self.assertEqual(["a", "b"], [self.successResultOf(each).instanceId for each in (first, second)])
        self.assertEqual(f"{GEMMA}", self.load_now().instanceId)
        self.assertEqual(f"{GEMMA}:2", self.load_now().instanceId)

    def load_now(self) -> LoadOutcome:
        """Load without delay."""
        self.behave(loadTime=0.0)
        return self.load()

    def test_cancelled(self) -> None:
        """Cancelling takes it back in LM Studio, and the connection serves on."""
        self.behave(loadTime=10.0)
        loading = self.loading()
        self.network.advance(3)
        self.assertEqual([GEMMA], self.loaded())
        loading.cancel()
        self.failure(loading, CancelledError)
        self.assertEqual([], self.loaded())
        told = len(self.progress)
        self.network.advance(20)
        self.assertEqual(told, len(self.progress))
        self.behave(loadTime=0.0)
        self.load()
        self.assertEqual(2, len(self.websockets()))

    def test_unknown(self) -> None:
        """A model that is not there is 404, with what LM Studio says."""
        error = self.failure(self.loading("no/such"), NotFound)
        self.assertEqual(
            'LM Studio could not load the model "no/such". It says: Cannot find a model with path: no/such.',
            error.message,
        )

    def test_taken(self) -> None:
        """A name that is taken is a conflict."""
        self.load(instanceId="me")
        self.assertIn("identifier me", self.failure(self.loading(QWEN, instanceId="me"), Conflict).message)

    def test_failed(self) -> None:
        """A load that fails tells why, and leaves nothing."""
        self.behave(loadTime=2.0, failLoad="Out of memory. Token sk-lm-****WXYZ.")
        loading = self.loading()
        self.network.advance(2)
        error = self.failure(loading, UpstreamFailed)
        self.assertIn("Out of memory. Token [token]", error.message)
        self.assertEqual([], self.loaded())

    def test_dropped(self) -> None:
        """A connection that is lost within a load fails it; what LM Studio made of it is seen afterwards."""
        self.behave(loadTime=10.0, dropSocket=0.5)
        loading = self.loading()
        self.network.advance(5)
        self.failure(loading, UpstreamBroken)
        told = len(self.progress)
        self.network.advance(5)
        self.assertEqual(told, len(self.progress))
        self.assertEqual([GEMMA], [each.identifier for each in self.inventory().loaded])

    def test_hung(self) -> None:
        """A server that goes silent within a load is given up, and its silence told."""
        self.behave(loadTime=3600.0)
        loading = self.loading()
        self.network.advance(KEEP_ALIVE_SECONDS)
        self.behave(muteManagement=True)
        for transport in self.network.transports:
            transport.out.clear()
            transport.pauseProducing()
        self.network.advance(DEAD_SECONDS + KEEP_ALIVE_SECONDS)
        self.failure(loading, UpstreamSilent)

    def test_forbidden(self) -> None:
        """A token without the permission is told what to do."""
        self.behave(forbidManagement=True)
        self.assertIn("LMSTUDIO_API_TOKEN", self.failure(self.loading(), Forbidden).message)
        self.assertEqual([], self.loaded())

    def test_down(self) -> None:
        """Nobody there: so it says."""
        self.endpoints.listen = None
        self.failure(self.loading(), UpstreamUnavailable)

    def test_closed(self) -> None:
        """Closing ends the waiting for a load."""
        self.behave(loadTime=3600.0)
        loading = self.loading()
        self.end(self.subject)
        self.failure(loading, UpstreamUnavailable)
        self.failure(self.loading(), UpstreamUnavailable)


class UnloadTests(SimulatorCase):
    """Unloading."""

    def test_both(self) -> None:
        """Instances of either kind are unloaded, and no others."""
        self.load(QWEN)
        self.load(NOMIC, instanceId="words")
        self.load(GEMMA)
        for identifier in ("words", QWEN):
            self.successResultOf(self.unloading(identifier))
        self.assertEqual([GEMMA], self.loaded())
        self.assertEqual([GEMMA], [each.identifier for each in self.inventory().loaded])

    def test_unknown(self) -> None:
        """What is not there is 404, with what LM Studio says."""
        error = self.failure(self.unloading("me"), NotFound)
        self.assertIn('could not unload "me". It says: Cannot find a model with identifier: me.', error.message)

    def test_forbidden(self) -> None:
        """A token without the permission is told what to do, and nothing is unloaded."""
        self.load()
        self.behave(forbidManagement=True)
        self.failure(self.unloading(GEMMA), Forbidden)
        self.assertEqual([GEMMA], self.loaded())

    def test_lost(self) -> None:
        """A connection that is lost meanwhile fails it."""
        self.load()
        self.inventory()
        unloading = self.subject.unload(GEMMA)
        for transport in list(self.network.transports):
            transport.abortConnection()
        self.failure(unloading, UpstreamBroken)
