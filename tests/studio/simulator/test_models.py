"""The models that are downloaded."""

from __future__ import annotations

from lmgateway.studio.simulator.models import CATALOGUE
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN


class CatalogueTests(SynchronousTestCase):
    def test_variety(self) -> None:
        """There is a model that thinks, one that sees, one for embeddings, and one with tools."""
        byKey = {model.key: model for model in CATALOGUE}
        self.assertEqual(byKey[QWEN].reasoningField, "reasoning_content")
        self.assertEqual(byKey[GEMMA].kind, "vlm")
        self.assertEqual(byKey[GPT_OSS].reasoningField, "reasoning")
        self.assertEqual((byKey[NOMIC].kind, byKey[NOMIC].dimensions), ("embeddings", 768))

    def test_names(self) -> None:
        """A model answers to its variant, its key, and its key without the publisher."""
        self.assertEqual(CATALOGUE[0].names, ("qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b", "qwen3-8b"))
