"""LM Studio's models over HTTP: listed, loaded, unloaded, and seen in the state of the gateway."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.errors import NotFound, Unavailable, UpstreamBroken, UpstreamFailed
from lmgateway.inventory import DownloadedModel, Inventory
from lmgateway.message import ActiveModel
from lmgateway.web.models import PATIENCE_SECONDS
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.support import DOWN, ScriptedChoice, ScriptedStudio, instance
from tests.web.support import Answer, Client, MemoryGateway, ScriptedUpstreams, requestBytes

LOAD = "/admin/models/load"
UNLOAD = "/admin/models/unload"


class ModelsTestCase(SynchronousTestCase):
    """A gateway in front of whoever says what the test says."""

    def setUp(self) -> None:
        self.studio = ScriptedStudio()
        self.choice = ScriptedChoice(self.studio)
        self.upstreams = ScriptedUpstreams()
        self.gateway = MemoryGateway(choice=self.choice, listen=self.upstreams)

    def begin(self, target: str, body: object) -> Client:
        """Ask for something that takes its time."""
        client = self.gateway.connect()
        client.send(requestBytes("POST", target, body))
        return client

    def answerOf(self, client: Client) -> Answer:
        """What came of it."""
        self.gateway.network.flush()
        (answer,) = client.answers
        return answer

    def events(self) -> list[tuple[str, Any]]:
        """What has happened."""
        return [(event.kind, json.loads(event.data)) for event in self.gateway.journal.read(0).events]

    def infer(self, model: str) -> Client:
        """Have a request in flight."""
        return self.begin("/v1/chat/completions", {"model": model})


class ListTests(ModelsTestCase):
    def test_list(self) -> None:
        """What is loaded and what is downloaded is listed as the contract has it, with what more is known."""
        loaded = instance("i", "q/m", ttlSeconds=60, loadConfig={"contextLength": 8})
        downloaded = DownloadedModel(
            "q/m", "llm", "q/m.gguf", 1234, ("q/m@q8",), 4096, {"displayName": "M", "path": "nonsense"}
        )
        self.studio.answer = Inventory((downloaded,), (loaded,))
        answer = self.gateway.ask("GET", "/admin/models")
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            answer.json(),
            {
                "loaded": [
                    {
                        "path": "q/m",
                        "identifier": "i",
                        "modelKey": "q/m",
                        "type": "llm",
                        "ttlSeconds": 60,
                        "loadConfig": {"contextLength": 8},
                    }
                ],
                "downloaded": [
                    {
                        "displayName": "M",
                        "path": "q/m.gguf",
                        "size": 1234,
                        "type": "llm",
                        "modelKey": "q/m",
                        "variants": ["q/m@q8"],
                        "maxContextLength": 4096,
                    }
                ],
                "active": None,
                "management": "rest",
                "reason": None,
                "knownAt": "2027-01-15T08:00:00.000Z",
                "stale": False,
            },
        )

    def test_fresh(self) -> None:
        """Each time LM Studio is asked."""
        self.gateway.ask("GET", "/admin/models")
        self.studio.has("m")
        self.assertEqual(len(self.gateway.ask("GET", "/admin/models").json()["loaded"]), 1)

    def test_stale(self) -> None:
        """While LM Studio is down it is what it had when it was last seen, and says so, since when, and why."""
        self.studio.has("m")
        first = self.gateway.ask("GET", "/admin/models").json()
        self.studio.answer = self.choice.choice = DOWN
        answer = self.gateway.ask("GET", "/admin/models")
        self.assertEqual((answer.status, answer.json()["loaded"]), (200, first["loaded"]))
        self.assertEqual((answer.json()["stale"], answer.json()["reason"]), (True, DOWN.message))
        self.assertEqual(answer.json()["knownAt"], first["knownAt"])

    def test_silent(self) -> None:
        """An LM Studio that does not answer is not waited for longer than somebody waits."""
        self.gateway.ask("GET", "/admin/models")
        self.studio.answer = None
        client = self.gateway.connect()
        client.send(requestBytes("GET", "/admin/models"))
        self.gateway.network.advance(PATIENCE_SECONDS - 1)
        self.assertEqual(client.answers, [])
        self.gateway.network.advance(1)
        self.assertEqual((client.answers[0].status, client.answers[0].json()["stale"]), (200, True))

    def test_leaves(self) -> None:
        """A client that leaves meanwhile is no error of anybody's."""
        self.studio.answer = None
        client = self.gateway.connect()
        client.send(requestBytes("GET", "/admin/models"))
        client.leave()
        self.assertEqual(self.gateway.records[-1].outcome, "cancelled")

    def test_unknown(self) -> None:
        """Where LM Studio was never seen, that is why nothing is listed."""
        self.choice.choice = DOWN
        answer = self.gateway.ask("GET", "/admin/models")
        self.assertEqual((answer.status, answer.json()), (503, {"error": DOWN.message}))

    def test_active(self) -> None:
        """The active model is told with whether it is loaded, from memory."""
        for path in ("/admin/models", "/admin/models/active"):
            self.gateway.active.model = None
            self.studio.has("m")
            self.assertIsNone(self.gateway.ask("GET", path).json()["active"])
            self.gateway.ask("GET", "/admin/models")
            for name, resident in (("m", True), ("n", False)):
                self.gateway.active.model = ActiveModel(name, None, {"topP": 0.5})
                self.assertEqual(
                    self.gateway.ask("GET", path).json()["active"],
                    {"modelKey": name, "instanceId": None, "defaultInference": {"topP": 0.5}, "resident": resident},
                )

    def test_scope(self) -> None:
        """None of it is for those without a key."""
        for method, path in (
            ("GET", "/admin/models"),
            ("GET", "/admin/models/active"),
            ("POST", LOAD),
            ("POST", "/admin/models/load/cancel"),
            ("POST", UNLOAD),
        ):
            self.assertEqual(self.gateway.ask(method, path, {} if method == "POST" else None, key=None).status, 401)
        self.assertEqual(self.studio.asked, 0)


class LoadTests(ModelsTestCase):
    def test_load(self) -> None:
        """The answer comes when the model is loaded, and says what it was really loaded with; then it is active."""
        body = {
            "modelKey": "m",
            "loadConfig": {"gpu": {"ratio": 0.5}},
            "ttlSeconds": 60,
            "defaultInference": {"topK": 1},
        }
        client = self.begin(LOAD, body)
        self.gateway.network.advance(2)
        self.assertEqual(client.answers, [])
        self.studio.loads[0].succeed("m:2", ("gpu.ratio", "ttlSeconds"))
        answer = self.answerOf(client)
        self.assertEqual(answer.status, 200)
        told = answer.json()
        self.assertIn("m is loaded as m:2", told.pop("message"))
        self.assertEqual(
            told,
            {
                "status": "loaded",
                "modelKey": "m",
                "instanceId": "m:2",
                "activated": True,
                "totalTimeMs": 2000.0,
                "loadConfig": {"contextLength": 4096, "gpu": {"ratio": 0.5}},
                "notApplied": ["gpu.ratio", "ttlSeconds"],
            },
        )
        self.assertEqual(self.gateway.active.current(), ActiveModel("m", "m:2", {"topK": 1}))

    def test_inert(self) -> None:
        """Where it is not to be activated, the active model stays what it is."""
        client = self.begin(LOAD, {"modelKey": "m", "activate": False})
        self.studio.loads[0].succeed()
        told = self.answerOf(client).json()
        self.assertEqual((told["activated"], self.gateway.active.current()), (False, None))
        self.assertNotIn("notApplied", told)

    def test_notStored(self) -> None:
        """What is loaded but could not be activated is loaded, and the message says why it is not active."""
        self.gateway.active.activate = lambda _: fail(Unavailable("The disk is full."))  # type: ignore[method-assign]
        client = self.begin(LOAD, {"modelKey": "m"})
        self.studio.loads[0].succeed()
        answer = self.answerOf(client)
        self.assertEqual((answer.status, answer.json()["activated"]), (200, False))
        self.assertIn("The disk is full.", answer.json()["message"])

    def test_invalid(self) -> None:
        """Every fault is told with its path, and nothing is loaded."""
        answer = self.gateway.ask("POST", LOAD, {"modelKey": "m", "loadConfig": {"gpu": {"ratio": 2}, "parallel": 0}})
        self.assertEqual((answer.status, answer.json()["error"]), (400, "Validation failed"))
        paths = [detail["path"] for detail in answer.json()["details"]]
        self.assertEqual(paths, [["loadConfig", "gpu", "ratio"], ["loadConfig", "parallel"]])
        self.assertEqual(self.studio.loads, [])

    def test_notJson(self) -> None:
        """Bodies that a web page could send from another site are refused."""
        for path in (LOAD, UNLOAD, "/admin/models/load/cancel"):
            answer = self.gateway.ask("POST", path, b'{"modelKey":"m"}', headers={"Content-Type": "text/plain"})
            self.assertEqual(answer.status, 415)

    def test_twoCallers(self) -> None:
        """Two clients who order the same get one load and the same answer."""
        clients = [self.begin(LOAD, {"modelKey": "m"}) for _ in range(2)]
        (load,) = self.studio.loads
        load.succeed()
        first, second = map(self.answerOf, clients)
        self.assertEqual((first.status, first.json()), (200, second.json()))

    def test_leaves(self) -> None:
        """A client that leaves undoes nothing: the model is loaded, and active."""
        client = self.begin(LOAD, {"modelKey": "m"})
        client.leave()
        self.assertFalse(self.studio.loads[0].isCancelled)
        self.studio.loads[0].succeed()
        self.assertEqual(self.gateway.active.current(), ActiveModel("m", "m"))
        kinds = [kind for kind, _ in self.events()]
        self.assertEqual(kinds[-2:], ["model_activate", "model_load_complete"])

    def test_errors(self) -> None:
        """What went wrong decides the status, and the message is LM Studio's."""
        for error, status in (
            (NotFound("No such model."), 404),
            (UpstreamFailed("Not enough memory."), 502),
            (UpstreamBroken("LM Studio broke off."), 502),
        ):
            client = self.begin(LOAD, {"modelKey": "m"})
            self.studio.loads[-1].fail(error)
            answer = self.answerOf(client)
            self.assertEqual((answer.status, answer.json()), (status, {"error": error.message}))
        self.studio.answer = self.choice.choice = DOWN
        self.gateway.ask("GET", "/admin/models")
        self.assertEqual(self.gateway.ask("POST", LOAD, {"modelKey": "m"}).status, 503)

    def test_cancel(self) -> None:
        """A load can be cancelled; whoever waits for it hears of that, and a load that there is not cannot."""
        client = self.begin(LOAD, {"modelKey": "m"})
        answer = self.gateway.ask("POST", "/admin/models/load/cancel", {"modelKey": "m"})
        self.assertEqual((answer.status, answer.json()["status"]), (200, "cancelled"))
        self.assertIn("to the end", answer.json()["message"])
        self.assertTrue(self.studio.loads[0].isCancelled)
        self.assertEqual(self.answerOf(client).status, 409)
        self.assertEqual(self.gateway.ask("POST", "/admin/models/load/cancel", {"modelKey": "m"}).status, 404)

    def test_cancelSdk(self) -> None:
        """Where LM Studio can be told of it, nothing else is said."""
        self.studio.management = "sdk"
        self.begin(LOAD, {"modelKey": "m"})
        answer = self.gateway.ask("POST", "/admin/models/load/cancel", {"modelKey": "m"})
        self.assertEqual(answer.json()["message"], "The load of m is cancelled.")

    def test_status(self) -> None:
        """While it loads, that is what the gateway does, with how far it is."""
        self.begin(LOAD, {"modelKey": "m"})
        self.studio.loads[0].progress(0.25)
        told = self.gateway.ask("GET", "/debug/status").json()
        self.assertEqual((told["status"], told["management"]), ("loading_model", "rest"))
        operation = {
            "type": "model_load",
            "modelKey": "m",
            "progress": 25.0,
            "startedAt": "2027-01-15T08:00:00.000Z",
        }
        self.assertEqual(told["currentOperation"], operation)
        self.assertEqual(self.gateway.ask("GET", "/debug/metrics").json()["currentOperation"], operation)
        self.studio.loads[0].succeed()
        told = self.gateway.ask("GET", "/debug/status").json()
        self.assertEqual((told["status"], told["currentOperation"]), ("idle", None))
        self.gateway.ask("GET", "/admin/models")
        self.assertTrue(self.gateway.ask("GET", "/debug/status").json()["activeModel"]["resident"])


class UnloadTests(ModelsTestCase):
    def test_unload(self) -> None:
        """The answer comes when the instance is gone; the active model goes with it, and that is said."""
        self.studio.has("m")
        self.gateway.active.model = ActiveModel("m", "m")
        client = self.begin(UNLOAD, {"modelKey": "m"})
        self.gateway.network.advance(1)
        self.studio.gone()
        answer = self.answerOf(client)
        told = answer.json()
        self.assertIn("active model", told.pop("message"))
        self.assertEqual(
            (answer.status, told),
            (
                200,
                {
                    "status": "unloaded",
                    "modelKey": "m",
                    "instanceId": "m",
                    "totalTimeMs": 1000.0,
                    "deactivated": True,
                },
            ),
        )
        self.assertIsNone(self.gateway.active.current())

    def test_notFound(self) -> None:
        """What is not loaded is not found."""
        answer = self.gateway.ask("POST", UNLOAD, {"modelKey": "m", "instanceId": "i"})
        told = answer.json()
        self.assertEqual((answer.status, told["status"]), (404, "not_found"))
        self.assertEqual((told["modelKey"], told["instanceId"]), ("m", "i"))
        self.assertIn("not loaded", told["error"])

    def test_several(self) -> None:
        """Where it could be several, they are named."""
        self.studio.has(instance("m:2", "m"), instance("m:3", "m"))
        answer = self.gateway.ask("POST", UNLOAD, {"modelKey": "m"})
        self.assertEqual(answer.status, 409)
        self.assertIn('"m:2", "m:3"', answer.json()["error"])

    def test_answering(self) -> None:
        """An instance that is answering is unloaded only by force; else what runs is told."""
        self.studio.has("m")
        self.infer("m")
        answer = self.gateway.ask("POST", UNLOAD, {"modelKey": "m"})
        self.assertEqual(answer.status, 409)
        (running,) = answer.json()["details"]
        self.assertEqual((running["model"], running["key"]), ("m", "GATEWAY_API_KEY"))
        (requestId,) = self.gateway.exchanges.inFlight
        self.assertEqual(running["requestId"], requestId)
        client = self.begin(UNLOAD, {"modelKey": "m", "force": True})
        self.studio.gone()
        self.assertEqual(self.answerOf(client).status, 200)

    def test_leaves(self) -> None:
        """A client that leaves undoes nothing."""
        self.studio.has("m")
        client = self.begin(UNLOAD, {"modelKey": "m"})
        client.leave()
        self.studio.gone()
        self.assertEqual([kind for kind, _ in self.events()][-1], "model_unload_complete")


class GatewayOnlyTests(ModelsTestCase):
    """An LM Studio that offers no model management."""

    def setUp(self) -> None:
        super().setUp()
        self.studio.management = "gateway"

    def test_load(self) -> None:
        """The model is activated, what to do is said, and what is not applied; the configuration is kept and told."""
        body = {"modelKey": "m", "loadConfig": {"gpu": {"ratio": 1}, "parallel": 2}, "ttlSeconds": 9}
        answer = self.gateway.ask("POST", LOAD, body)
        told = answer.json()
        self.assertEqual((answer.status, told["status"], told["modelKey"]), (200, "activated", "m"))
        self.assertTrue(told["message"].startswith("Model activated in gateway"))
        self.assertEqual(list(told["workflow"]), ["step1", "step2", "step3"])
        self.assertEqual(told["workflow"]["step1"], "Load the model manually in LM Studio UI")
        self.assertEqual(told["notApplied"], ["gpu.ratio", "parallel", "ttlSeconds"])
        self.assertEqual(self.gateway.active.current(), ActiveModel("m", None, {}, body["loadConfig"]))  # type: ignore[arg-type]
        self.assertEqual(
            self.gateway.ask("GET", "/admin/models/active").json()["active"]["loadConfig"], body["loadConfig"]
        )
        ((kind, data),) = [event for event in self.events() if event[0].startswith("model_")]
        self.assertEqual((kind, data["loadConfig"]), ("model_activate", body["loadConfig"]))
        self.assertEqual(self.studio.loads, [])

    def test_inert(self) -> None:
        """Where it is not to be activated either, there is nothing to do, and that is no success."""
        answer = self.gateway.ask("POST", LOAD, {"modelKey": "m", "activate": False})
        self.assertEqual((answer.status, self.gateway.active.current()), (409, None))

    def test_unload(self) -> None:
        """The model is deactivated if it is the active one, and what to do is said."""
        self.gateway.active.model = ActiveModel("m", "i")
        for body in ({"modelKey": "n"}, {"modelKey": "m", "instanceId": "j"}):
            answer = self.gateway.ask("POST", UNLOAD, body)
            self.assertEqual((answer.status, answer.json()["status"]), (404, "not_found"))
        answer = self.gateway.ask("POST", UNLOAD, {"modelKey": "m"})
        told = answer.json()
        self.assertEqual((answer.status, told["status"], list(told["workflow"])), (200, "cleared", ["step1", "step2"]))
        self.assertIsNone(self.gateway.active.current())

    def test_metrics(self) -> None:
        """How many instances are loaded is a figure where it is known, and none where it is not."""
        self.gateway.ask("GET", "/admin/models")
        self.assertIn(b"lmgateway_models_loaded NaN", self.gateway.ask("GET", "/metrics").body)
        gateway = MemoryGateway(choice=ScriptedChoice(ScriptedStudio("a", "b")))
        gateway.ask("GET", "/admin/models")
        self.assertIn(b"lmgateway_models_loaded 2.0", gateway.ask("GET", "/metrics").body)

    def test_activate(self) -> None:
        """Where it is known that a model is not loaded, its activation says so."""
        answer = self.gateway.ask("POST", "/admin/models/activate", {"modelKey": "m"})
        self.assertNotIn("not loaded", answer.json()["message"])
        gateway = MemoryGateway(choice=ScriptedChoice(ScriptedStudio("a")))
        gateway.ask("GET", "/admin/models")
        self.assertIn("not loaded", gateway.ask("POST", "/admin/models/activate", {"modelKey": "m"}).json()["message"])
