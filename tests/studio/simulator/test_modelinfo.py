"""What the SDKs are told of models."""

from __future__ import annotations

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.modelinfo import instanceInfo, modelInfo
from lmgateway.studio.simulator.models import CATALOGUE
from lmgateway.studio.simulator.shelf import Shelf
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

QWEN, GEMMA, _, NOMIC = CATALOGUE


class ModelInfoTests(SynchronousTestCase):
    def test_language(self) -> None:
        """All about a model that generates text."""
        self.assertEqual(
            modelInfo(GEMMA),
            {
                "type": "llm",
                "modelKey": "google/gemma-3-4b",
                "format": "gguf",
                "displayName": "Gemma 3 4B",
                "publisher": "google",
                "path": "google/gemma-3-4b",
                "sizeBytes": 3341142368,
                "indexedModelIdentifier": "google/gemma-3-4b",
                "deviceIdentifier": None,
                "paramsString": "4B",
                "architecture": "gemma3",
                "quantization": {"name": "Q4_K_M", "bits": 4},
                "vision": True,
                "trainedForToolUse": False,
                "maxContextLength": 131072,
            },
        )

    def test_embedding(self) -> None:
        """An embedding model sees nothing, uses no tools, and has no parameters that anybody counted."""
        info = modelInfo(NOMIC)
        self.assertEqual(info["type"], "embedding")
        self.assertEqual(set(info) & {"vision", "trainedForToolUse", "paramsString"}, set())

    def test_format(self) -> None:
        """MLX goes by the name of its files."""
        self.assertEqual(modelInfo(replace(QWEN, format="mlx"))["format"], "safetensors")


class InstanceInfoTests(SynchronousTestCase):
    def test_instance(self) -> None:
        """An instance has an identifier, a reference and times in milliseconds beside."""
        shelf = Shelf()
        config = {"llm.load.contextLength": 100}
        instance = shelf.load(QWEN, 5, Behaviour(), ttl=1.5, jit=True, identifier="mine", config=config)
        info = instanceInfo(instance)
        self.assertEqual(
            {name: value for name, value in info.items() if name not in modelInfo(QWEN)},
            {
                "identifier": "mine",
                "instanceReference": instance.reference,
                "ttlMs": 1500,
                "lastUsedTime": 5000,
                "contextLength": 100,
            },
        )
        other = shelf.load(QWEN, 5, Behaviour(), ttl=None, jit=False)
        self.assertNotEqual(instanceInfo(other)["instanceReference"], instance.reference)
        self.assertIsNone(instanceInfo(other)["ttlMs"])
