"""Tests for :mod:`lmgateway.studio.sdk.manager`, with a server that says what the simulator does not."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.errors import UpstreamBroken
from lmgateway.inventory import Inventory, LoadOrder, LoadOutcome
from lmgateway.studio.sdk.manager import CONFIG_SECONDS, SdkManager
from twisted.internet.defer import CancelledError, Deferred

from tests.studio.sdk.support import URL, PlayedCase, PlayedSocket


class Studio(PlayedSocket):
    """
    A server that answers each endpoint with what the test says.

    :param answers: results by endpoint; a function is called with the server and the packet.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__(None, {"success": True})
        self._answers = answers

    def _heard(self, packet: Any) -> None:
        super()._heard(packet)
        answer = self._answers.get(packet.get("endpoint"))
        if callable(answer):
            answer(self, packet)
        elif answer is not None:
            self.say({"type": "rpcResult", "callId": packet["callId"], "result": answer})


INSTANCE = {"identifier": "a", "modelKey": "a", "instanceReference": "r", "contextLength": 2048, "ttlMs": None}


class PlayedTests(PlayedCase):
    """What the simulator does not do."""

    def setUp(self) -> None:
        super().setUp()
        self.answers: dict[str, Any] = {
            "listDownloadedModels": [{"modelKey": "a", "type": "llm"}],
            "listLoaded": lambda server, packet: self.answer(server, packet, [INSTANCE] if self.isLlm(server) else []),
            "getLoadConfig": {"fields": [{"key": "llm.load.contextLength", "value": 2048}]},
            "loadModel": lambda server, _: server.message(type="success", info=INSTANCE),
        }
        self.subject = SdkManager(self.endpoints, URL, None, self.clock)

    def listen(self) -> PlayedSocket:
        self.servers.append(Studio(self.answers))
        return self.servers[-1]

    def isLlm(self, server: PlayedSocket) -> bool:
        """Whether it is the namespace of language models."""
        return server.request.startswith(b"GET /llm ")

    def answer(self, server: PlayedSocket, packet: Any, result: object) -> None:
        """Answer a call."""
        server.say({"type": "rpcResult", "callId": packet["callId"], "result": result})

    def asked(self, endpoint: str) -> list[Any]:
        """What was asked of an endpoint."""
        return [packet for server in self.servers for packet in server.packets if packet.get("endpoint") == endpoint]

    def flushed(self, waiting: Deferred[Any]) -> Any:
        """Give what comes at once."""
        self.network.flush()
        return self.successResultOf(waiting)

    def loading(self, **order: Any) -> Deferred[LoadOutcome]:
        """Begin to load."""
        return self.subject.load(LoadOrder("a", **order), lambda _: None)

    def test_packets(self) -> None:
        """A load says what the SDKs of LM Studio say, and only what was ordered."""
        self.flushed(self.loading(loadConfig={"contextLength": 2048}, ttlSeconds=7, instanceId="a"))
        (created,) = self.asked("loadModel")
        fields = [{"key": "llm.load.contextLength", "value": 2048}]
        stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}
        expected = {"modelKey": "a", "identifier": "a", "ttlMs": 7000, "loadConfigStack": stack}
        self.assertEqual(expected, created["creationParameter"])
        self.flushed(self.loading())
        stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": []}}]}
        self.assertEqual({"modelKey": "a", "loadConfigStack": stack}, self.asked("loadModel")[-1]["creationParameter"])

    def test_configOnce(self) -> None:
        """What an instance was loaded with is asked for once, as long as it is there."""
        for _ in range(3):
            self.assertEqual({"contextLength": 2048}, self.flushed(self.subject.inventory()).loaded[0].loadConfig)
        (asked,) = self.asked("getLoadConfig")
        self.assertEqual({"type": "instanceReference", "instanceReference": "r"}, asked["parameter"]["specifier"])
        self.answers["listLoaded"] = []
        self.assertEqual((), self.flushed(self.subject.inventory()).loaded)
        self.answers["listLoaded"] = [INSTANCE]
        self.flushed(self.subject.inventory())
        self.assertGreater(len(self.asked("getLoadConfig")), 1)

    def test_otherName(self) -> None:
        """A name or a time to live that LM Studio did not take is told."""
        outcome = self.flushed(self.loading(instanceId="mine", ttlSeconds=5))
        self.assertEqual("a", outcome.instanceId)
        self.assertEqual(("instanceId", "ttlSeconds"), outcome.notApplied)

    def test_noConfig(self) -> None:
        """Where the configuration cannot be read back, the load has succeeded, and what is known otherwise is told."""
        for refusal in ({"title": "No"}, None):
            self.answers["getLoadConfig"] = lambda server, packet, error=refusal: server.say(
                {"type": "rpcError", "callId": packet["callId"], "error": error}
            )
            outcome = self.flushed(
                self.loading(loadConfig={"contextLength": 4096, "parallel": 2, "gpu": {"layers": 1}})
            )
            self.assertEqual({"contextLength": 2048}, outcome.loadConfig)
            self.assertEqual(("contextLength", "gpu.layers"), outcome.notApplied)

    def test_silentConfig(self) -> None:
        """Reading it back is not waited for long."""
        del self.answers["getLoadConfig"]
        loading = self.loading()
        self.network.advance(CONFIG_SECONDS)
        self.assertEqual("a", self.successResultOf(loading).instanceId)

    def test_cancelledAtTheEnd(self) -> None:
        """Who cancels when it is loaded but was not told so has it unloaded again."""
        del self.answers["getLoadConfig"]
        loading = self.loading()
        self.network.flush()
        loading.cancel()
        self.failure(loading, CancelledError)
        (unload,) = self.asked("unloadModel")
        self.assertEqual({"identifier": "a"}, unload["parameter"])
        self.network.advance(60)
        self.assertStill()

    def test_nameless(self) -> None:
        """A load whose instance has no name makes no sense."""
        for info in (None, {}, {"identifier": ""}, "a"):
            self.answers["loadModel"] = lambda server, _, info=info: server.message(type="success", info=info)
            self.failure(self.loading(), UpstreamBroken)

    def test_oddLists(self) -> None:
        """Lists that are none are empty ones."""
        answers: tuple[Any, ...] = ({}, 1, "a", [1, None, {}])
        for answer in answers:
            self.answers["listDownloadedModels"] = self.answers["listLoaded"] = answer
            self.assertEqual(Inventory(), self.flushed(self.subject.inventory()))

    def test_unknownEndpoint(self) -> None:
        """A server that does not know the question says so in a warning, and is not waited for."""
        self.answers["listDownloadedModels"] = lambda server, _: server.say(
            {
                "type": "communicationWarning",
                "warning": "Received rpcCall for unknown endpoint, endpoint = listDownloadedModels",
            }
        )
        self.failure(self.subject.inventory(), UpstreamBroken)

    def test_manyModels(self) -> None:
        """Ten thousand models are listed, and are no message that is too long."""
        model = {"type": "llm", "path": "p" * 200, "displayName": "d" * 200, "variants": ["v" * 60] * 4, "sizeBytes": 1}
        self.answers["listDownloadedModels"] = [{**model, "modelKey": f"model-{number}"} for number in range(10_000)]
        self.assertGreater(len(json.dumps(self.answers["listDownloadedModels"])), 5_000_000)
        self.assertEqual(10_000, len(self.flushed(self.subject.inventory()).downloaded))
