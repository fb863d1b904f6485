"""LM Studio's models by REST, against the simulator and against servers that say something else."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.errors import Forbidden, NotFound, UpstreamBroken, UpstreamFailed, UpstreamSilent, UpstreamUnavailable
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import LoadOrder
from lmgateway.studio.rest import PATIENCE_SECONDS, RestManager
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.studio.asking_support import GEMMA, QWEN, TOKEN, StudioTestCase, orderOf

LOAD = "/api/v1/models/load"
MODELS = "/api/v1/models"


class RestTestCase(StudioTestCase):
    """With one that manages by REST."""

    def setUp(self) -> None:
        super().setUp()
        self.rest = RestManager(self.upstream, TOKEN, self.clock)
        self.told: list[float] = []

    def load(self, order: LoadOrder) -> Deferred[Any]:
        """Load, and note what progress is told."""
        return self.rest.load(order, self.told.append)

    def loaded(self) -> list[str]:
        """What the simulator has loaded."""
        return [instance.id for instance in self.simulator.shelf.instances(self.clock.seconds())]


class InventoryTests(RestTestCase):
    def test_provides(self) -> None:
        """It is a manager of models, by REST."""
        verifyObject(IModelManager, self.rest)
        self.assertEqual(self.rest.management, "rest")
        self.assertIsNone(self.result(self.rest.close()))

    def test_list(self) -> None:
        """All that is downloaded and loaded is there, in LM Studio's order, with what is known of it."""
        inventory = self.result(self.rest.inventory())
        self.assertEqual(
            [model.modelKey for model in inventory.downloaded], [each.key for each in self.simulator.shelf.downloaded]
        )
        qwen = inventory.downloaded[0]
        theirs = self.simulator.shelf.downloaded[0]
        self.assertEqual(
            (qwen.modelKey, qwen.type, qwen.path, qwen.size, qwen.maxContextLength),
            (QWEN, "llm", QWEN, theirs.sizeBytes, theirs.maxContextLength),
        )
        self.assertEqual(qwen.details["quantization"], theirs.quantization)
        (instance,) = inventory.loaded
        self.assertEqual((instance.identifier, instance.modelKey, instance.ttlSeconds), (QWEN, QWEN, None))
        self.assertEqual(instance.loadConfig["contextLength"], 8192)

    def test_unchanged(self) -> None:
        """A list that is the same to the byte is not read a second time; one that changed is."""
        first = self.result(self.rest.inventory())
        self.assertIs(self.result(self.rest.inventory()), first)
        self.result(self.load(orderOf()))
        self.assertEqual([each.identifier for each in self.result(self.rest.inventory()).loaded], [QWEN, GEMMA])

    def test_token(self) -> None:
        """LM Studio's token goes with each question; a wrong one is told by the setting's name, and never quoted."""
        self.simulator.behaviour.requireToken = TOKEN
        self.result(self.rest.inventory())
        wrong = RestManager(self.upstream, "sk-lm-AbCdEfGh:9123456789abcdefghij", self.clock)
        error = self.failure(wrong.inventory(), Forbidden)
        self.assertIn("LMSTUDIO_API_TOKEN", error.message)
        self.assertNotIn("sk-lm", error.message)

    def test_noEndpoint(self) -> None:
        """An LM Studio before 0.4 says with 200 that it has no such endpoint, and is broken for this purpose."""
        self.simulator.behaviour.apiV1 = False
        self.assertIn("no such endpoint", self.failure(self.rest.inventory(), UpstreamBroken).message)

    def test_garbage(self) -> None:
        """What is no list of LM Studio's models is an upstream that is broken, whatever the status."""
        for said in (
            b"",
            b"<html>",
            b"[]",
            b"[" * 100_000,
            b'{"models": [',
            {},
            {"models": {}},
            {"models": [{"name": "x"}]},
        ):
            for status in (200, 500):
                self.play({MODELS: (status, said)})
                self.failure(self.rest.inventory(), UpstreamBroken)

    def test_silent(self) -> None:
        """A list that does not come is given up, and its connection closed."""
        self.play({MODELS: None})
        asking = self.rest.inventory()
        self.network.advance(PATIENCE_SECONDS - 1)
        self.assertNoResult(asking)
        self.failure(asking, UpstreamSilent, 2)
        self.assertTrue(self.played[0].ended)

    def test_nobody(self) -> None:
        """Where nobody listens, that is said."""
        self.vanish()
        self.failure(self.rest.inventory(), UpstreamUnavailable)

    def test_many(self) -> None:
        """Ten thousand models are listed whole."""
        models = [{"key": f"publisher/model-{n}", "type": "llm", "description": "x" * 500} for n in range(10_000)]
        self.play({MODELS: (200, {"models": models})})
        self.assertEqual(len(self.result(self.rest.inventory()).downloaded), 10_000)


class LoadTests(RestTestCase):
    def test_load(self) -> None:
        """The model is loaded with what REST can set, and the configuration that LM Studio made of it comes back."""
        outcome = self.result(self.load(orderOf(loadConfig={"contextLength": 4096, "flashAttention": False})))
        self.assertEqual((outcome.instanceId, outcome.notApplied), (GEMMA, ()))
        self.assertEqual((outcome.loadConfig["contextLength"], outcome.loadConfig["flashAttention"]), (4096, False))
        self.assertEqual((self.loaded(), self.told), ([QWEN, GEMMA], []))

    def test_notApplied(self) -> None:
        """What REST cannot set, or LM Studio did not, is named."""
        config = {"contextLength": 10**9, "gpu": {"ratio": 0.5}, "cpuThreads": 3, "parallel": 7}
        order = orderOf(loadConfig=config, instanceId="mine", ttlSeconds=60)
        outcome = self.result(self.load(order))
        expected = {"contextLength", "gpu.ratio", "cpuThreads", "parallel", "instanceId", "ttlSeconds"}
        self.assertEqual((set(outcome.notApplied), outcome.instanceId), (expected, GEMMA))

    def test_namedAnyway(self) -> None:
        """An instance that LM Studio happens to call what was ordered is called what was ordered."""
        self.assertEqual(self.result(self.load(orderOf(instanceId=GEMMA))).notApplied, ())

    def test_readBack(self) -> None:
        """Where the load's answer does not tell the configuration, the list does."""
        instance = {"id": "g", "config": {"context_length": 2048}}
        models = [{"key": GEMMA, "type": "llm", "loaded_instances": [{"id": "f"}, instance]}]
        self.play({LOAD: (200, {"instance_id": "g"}), MODELS: (200, {"models": models})})
        outcome = self.result(self.load(orderOf(loadConfig={"contextLength": 4096})))
        self.assertEqual((dict(outcome.loadConfig), outcome.notApplied), ({"contextLength": 2048}, ("contextLength",)))

    def test_noReadBack(self) -> None:
        """A model is loaded even if nobody can tell with what; then nothing is said to be applied."""
        self.play({LOAD: (200, {"instance_id": "g"})})
        outcome = self.result(self.load(orderOf(loadConfig={"contextLength": 4096})))
        self.assertEqual((outcome.instanceId, dict(outcome.loadConfig)), ("g", {}))
        self.assertEqual(outcome.notApplied, ("contextLength",))

    def test_sent(self) -> None:
        """What is sent is what REST has names for, and the wish to have the configuration back."""
        self.result(self.load(orderOf(loadConfig={"contextLength": 4096, "gpu": {"ratio": 1}}, ttlSeconds=9)))
        sent = json.loads(self.simulator.received[-1].body)
        self.assertEqual(sent, {"model": GEMMA, "context_length": 4096, "echo_load_config": True})

    def test_slow(self) -> None:
        """A load takes as long as it takes."""
        self.simulator.behaviour.loadTime = 600
        loading = self.load(orderOf())
        self.network.advance(599)
        self.assertNoResult(loading)
        self.assertEqual(self.result(loading, 1).instanceId, GEMMA)

    def test_cancelled(self) -> None:
        """Cancelling a load closes its connection at once."""
        self.play({LOAD: None})
        loading = self.load(orderOf())
        self.network.flush()
        loading.cancel()
        self.network.flush()
        self.failureResultOf(loading, CancelledError)
        self.assertTrue(self.played[0].ended)

    def test_cancelledHalfway(self) -> None:
        """Cancelling while the answer comes is a cancelling too, not a broken answer."""
        self.play({LOAD: None})
        loading = self.load(orderOf())
        self.network.flush()
        self.played[0].transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"inst')  # type: ignore[union-attr]
        self.network.flush()
        loading.cancel()
        self.failureResultOf(loading, CancelledError)

    def test_unknown(self) -> None:
        """A model that is not downloaded is not found, in LM Studio's own words."""
        error = self.failure(self.load(orderOf("no/such")), NotFound)
        self.assertIn("Model no/such not found in downloaded models", error.message)

    def test_failed(self) -> None:
        """A model that does not load is LM Studio's failure, with its reason."""
        self.simulator.behaviour.failLoad = "Out of memory"
        self.assertIn("Out of memory", self.failure(self.load(orderOf()), UpstreamFailed).message)

    def test_forbidden(self) -> None:
        """A token without the permission is told by the setting's name."""
        self.simulator.behaviour.forbidManagement = True
        self.assertIn("LMSTUDIO_API_TOKEN", self.failure(self.load(orderOf()), Forbidden).message)

    def test_refused(self) -> None:
        """What LM Studio refuses for other reasons is told in its words."""
        error = {"type": "invalid_request", "message": "Unrecognized key(s) in object: 'x'"}
        self.play({LOAD: (400, {"error": error})})
        self.assertIn("Unrecognized key(s)", self.failure(self.load(orderOf()), UpstreamBroken).message)

    def test_noInstance(self) -> None:
        """An answer that names no instance makes no sense."""
        self.play({LOAD: (200, {"status": "loaded"})})
        self.failure(self.load(orderOf()), UpstreamBroken)


class UnloadTests(RestTestCase):
    def test_unload(self) -> None:
        """The instance is gone."""
        self.assertIsNone(self.result(self.rest.unload(QWEN)))
        self.assertEqual(self.loaded(), [])

    def test_unknown(self) -> None:
        """What is not loaded is not found."""
        self.assertIn("not loaded", self.failure(self.rest.unload("nobody"), NotFound).message)

    def test_silent(self) -> None:
        """An unload that is not answered is given up."""
        self.simulator.behaviour.muteManagement = True
        self.failure(self.rest.unload(QWEN), UpstreamSilent, PATIENCE_SECONDS + 1)
