"""The lists of models, member by member in the recorded order."""

from __future__ import annotations

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.models import LANGUAGE
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, Studio


class OpenAIModelsTests(SynchronousTestCase):
    def test_shape(self) -> None:
        """``data`` comes first, and there is no ``created``."""
        answer = Studio().ask("/v1/models")
        self.assertEqual(list(answer.json), ["data", "object"])
        first = {"id": QWEN, "object": "model", "owned_by": "organization_owner"}
        self.assertEqual(answer.json["data"][0], first)
        self.assertEqual([model["id"] for model in answer.json["data"]], [QWEN, GEMMA, GPT_OSS, NOMIC])

    def test_noJustInTime(self) -> None:
        """Without loading just in time only what is loaded is listed."""
        answer = Studio(jit=False).ask("/v1/models")
        self.assertEqual([model["id"] for model in answer.json["data"]], [QWEN])


class V0ModelsTests(SynchronousTestCase):
    def test_shape(self) -> None:
        """The list is indented by 2, has no final newline, and tells of what is loaded its context."""
        answer = Studio().ask("/api/v0/models")
        self.assertTrue(answer.text.startswith('{\n  "data": [\n    {\n      "id": "qwen/qwen3-8b",\n'))
        self.assertTrue(answer.text.endswith('\n  ],\n  "object": "list"\n}'))
        qwen, gemma, _, nomic = answer.json["data"]
        self.assertEqual(
            list(qwen.items()),
            [
                ("id", QWEN),
                ("object", "model"),
                ("type", "llm"),
                ("publisher", "qwen"),
                ("arch", "qwen3"),
                ("compatibility_type", "gguf"),
                ("quantization", "Q4_K_M"),
                ("state", "loaded"),
                ("max_context_length", 40960),
                ("loaded_context_length", 8192),
                ("capabilities", ["tool_use"]),
            ],
        )
        self.assertEqual((gemma["type"], gemma["state"]), ("vlm", "not-loaded"))
        self.assertNotIn("loaded_context_length", gemma)
        self.assertEqual(nomic["type"], "embeddings")
        self.assertNotIn("capabilities", nomic)

    def test_one(self) -> None:
        """One model, by its key with the slash in it, encoded or not."""
        studio = Studio()
        expected = studio.ask("/api/v0/models").json["data"][2]
        for target in (
            "/api/v0/models/openai/gpt-oss-20b",
            "/api/v0/models/openai%2Fgpt-oss-20b",
            "/api/v0/models/gpt-oss-20b",
        ):
            self.assertEqual(studio.ask(target).json, expected)
        self.assertEqual(studio.ask("/api/v0/models/nope").status, 404)

    def test_loading(self) -> None:
        """A model that is being loaded is neither loaded nor not."""
        studio = Studio()
        behaviour = Behaviour(loadTime=5)
        studio.simulator.shelf.obtain(GEMMA, LANGUAGE, 0.0, behaviour, None)
        self.assertEqual(studio.ask(f"/api/v0/models/{GEMMA}").json["state"], "loading")
        studio.clock.advance(5)
        self.assertEqual(studio.ask(f"/api/v0/models/{GEMMA}").json["state"], "loaded")


class V1ModelsTests(SynchronousTestCase):
    def test_language(self) -> None:
        """All about a model that generates text."""
        qwen = Studio().ask("/api/v1/models").json["models"][0]
        config = {
            "context_length": 8192,
            "eval_batch_size": 512,
            "parallel": 4,
            "flash_attention": True,
            "offload_kv_cache_to_gpu": True,
        }
        self.assertEqual(
            list(qwen.items()),
            [
                ("type", "llm"),
                ("publisher", "qwen"),
                ("key", QWEN),
                ("display_name", "Qwen3 8B"),
                ("architecture", "qwen3"),
                ("quantization", {"name": "Q4_K_M", "bits_per_weight": 4}),
                ("size_bytes", 5027783808),
                ("params_string", "8B"),
                ("loaded_instances", [{"id": QWEN, "config": config}]),
                ("max_context_length", 40960),
                ("format", "gguf"),
                (
                    "capabilities",
                    {
                        "vision": False,
                        "trained_for_tool_use": True,
                        "reasoning": {"allowed_options": ["off", "on"], "default": "on"},
                    },
                ),
                ("description", None),
            ],
        )

    def test_embedding(self) -> None:
        """A model for embeddings has no architecture, no capabilities and no description, and tells only its context."""
        studio = Studio()
        studio.ask("/v1/embeddings", {"model": NOMIC, "input": "x"})
        nomic = studio.ask("/api/v1/models").json["models"][3]
        self.assertEqual(nomic["type"], "embedding")
        self.assertEqual(nomic["loaded_instances"][0]["config"], {"context_length": 2048})
        self.assertEqual(set(nomic) & {"architecture", "capabilities", "description"}, set())

    def test_timeToLive(self) -> None:
        """An instance that was loaded just in time tells how long it stays."""
        studio = Studio()
        studio.ask("/v1/completions", {"model": GEMMA, "prompt": "x", "ttl": 90})
        studio.clock.advance(30)
        (instance,) = studio.ask("/api/v1/models").json["models"][1]["loaded_instances"]
        self.assertEqual(instance["remaining_ttl_seconds"], 60)
        self.assertEqual(list(instance), ["id", "config", "remaining_ttl_seconds"])

    def test_noModels(self) -> None:
        """Where nothing is downloaded the lists are empty."""
        studio = Studio(noModels=True)
        self.assertEqual(studio.ask("/api/v1/models").json, {"models": []})
        self.assertEqual(studio.ask("/api/v0/models").json["data"], [])
