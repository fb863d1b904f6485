"""What would be sent upstream, told without sending it."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.inventory import DownloadedModel, Inventory
from lmgateway.message import ActiveModel, Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.completion import Alias, ModelDefaults
from lmgateway.policy.model_names import KnownModels
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Answer, MemoryGateway

CHAT = "/v1/chat/completions"
ALICE = Principal("alice", frozenset({Scope.INFERENCE}), "key_1", Grant(defaultInference={"topP": 0.5}))


class ExplainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway(keys={digestOf("alice-key"): ALICE})
        self.gateway.completions.configure(
            {"gpt": Alias("a/b", {"topK": 4})}, {"a/b": ModelDefaults({"temperature": 0.1})}, isStrict=True
        )
        self.gateway.active.model = ActiveModel("a/b", None, {"temperature": 0.7, "maxTokens": 9})

    def ask(self, path: str, body: object, **more: Any) -> Answer:
        """Have a request explained."""
        return self.gateway.ask("POST", "/admin/explain", {"path": path, "body": body, **more})

    def explain(self, path: str, body: object, **more: Any) -> dict[str, Any]:
        """Have a request explained that can be."""
        answer = self.ask(path, body, **more)
        self.assertEqual(answer.status, 200, answer.body)
        told: dict[str, Any] = answer.json()
        return told

    def origins(self, told: dict[str, Any]) -> dict[str, str]:
        """Whose each injected member is."""
        return {each["member"]: each["origin"] for each in told["injected"]}

    def test_origins(self) -> None:
        """Each injected member is told with whose it is."""
        told = self.explain(CHAT, {"messages": []}, key="alice")
        self.assertEqual(told["upstream"], f"{self.gateway.state.url}{CHAT}")
        self.assertEqual(
            self.origins(told),
            {
                "model": "active model",
                "temperature": "active model",
                "max_tokens": "active model",
                "top_p": "key alice",
            },
        )
        self.assertEqual(
            json.loads(told["upstreamBody"]),
            {"model": "a/b", "temperature": 0.7, "max_tokens": 9, "top_p": 0.5, "messages": []},
        )

    def test_same(self) -> None:
        """What is told is what is sent, to the letter."""
        body = '{ "stream": true, "temperature" : 0.10 }'
        told = self.explain(CHAT, body)
        self.assertEqual(list(self.gateway.simulator.received), [])
        self.gateway.ask("POST", CHAT, body.encode(), headers={"Content-Type": "application/json"})
        self.assertEqual(told["upstreamBody"].encode(), self.gateway.simulator.received[-1].body)

    def test_left(self) -> None:
        """What is not injected is told with the reason."""
        told = self.explain(CHAT, {"max_completion_tokens": 1, "temperature": None})
        why = {each["name"]: each["why"] for each in told["notInjected"]}
        self.assertEqual(why["maxTokens"], 'The request has "max_completion_tokens".')
        self.assertEqual(why["temperature"], 'The request has "temperature".')

    def test_noParameter(self) -> None:
        """A default that the API has no parameter for is told."""
        told = self.explain("/v1/responses", {"model": "gpt"})
        self.assertIn(("topK", "This API has no such parameter."), [(e["name"], e["why"]) for e in told["notInjected"]])
        told = self.explain("/v1/embeddings", {})
        self.assertEqual(self.origins(told), {"model": "active model"})

    def test_alias(self) -> None:
        """An alias is told with its model."""
        told = self.explain("/chat/completions?x=1", {"model": "gpt"})
        self.assertEqual(told["alias"], {"name": "gpt", "model": "a/b"})
        self.assertEqual(told["upstream"], f"{self.gateway.state.url}{CHAT}?x=1")
        self.assertEqual(self.origins(told)["top_k"], "alias gpt")

    def test_stream(self) -> None:
        """That a stream is asked for its usage is told."""
        self.assertEqual(self.explain(CHAT, {"stream": True})["injected"][-1]["member"], "stream_options.include_usage")

    def test_refused(self) -> None:
        """A request that would be refused is explained, too."""
        self.gateway.completions.known = KnownModels(Inventory((DownloadedModel("a/b", "llm", "a/b"),)))
        told = self.explain(CHAT, {"model": "a/c"})
        self.assertEqual((told["refused"]["status"], told["refused"]["code"]), (404, "model_not_found"))
        self.assertIsNone(told["upstreamBody"])
        self.assertEqual(self.explain(CHAT, "[]")["refused"]["code"], "invalid_json")

    def test_untouched(self) -> None:
        """A request that passes untouched is told as it is."""
        self.assertEqual(self.explain("/v1/other", {"a": 1})["upstreamBody"], '{"a": 1}')

    def test_notUpstream(self) -> None:
        """A path that goes nowhere is an error."""
        for path, status in (("/admin/usage", 405), ("/admin/explain", 400), ("/nothing", 404), ("/v1/../x", 400)):
            self.assertEqual(self.ask(path, {}).status, status, path)

    def test_badQuestion(self) -> None:
        """A question that is none is refused with what is wrong with it."""
        for body in ({}, {"path": 1, "body": {}}, {"path": "/v1/x"}, {"path": "/v1/x", "body": {}, "more": 1}):
            answer = self.gateway.ask("POST", "/admin/explain", body)
            self.assertEqual(answer.status, 400)
            self.assertTrue(answer.json()["details"])
        self.assertEqual(self.ask(CHAT, {}, key="bob").status, 404)

    def test_scope(self) -> None:
        """It needs an admin."""
        answer = self.gateway.ask("POST", "/admin/explain", {"path": CHAT, "body": {}}, key="alice-key")
        self.assertEqual(answer.status, 403)
