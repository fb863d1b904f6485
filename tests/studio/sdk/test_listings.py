"""Tests for :mod:`lmgateway.studio.sdk.listings`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.inventory import DownloadedModel, LoadedModel
from lmgateway.studio.sdk import listings
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES

JSON: st.SearchStrategy[Any] = JSON_VALUES.map(json.loads)
_MEMBERS = (
    "type", "modelKey", "path", "sizeBytes", "variants", "maxContextLength", "identifier", "instanceReference",
    "ttlMs", "contextLength", "vision", "quantization", "progress",
)  # fmt: skip
INFOS = st.dictionaries(st.sampled_from(_MEMBERS), JSON)

QWEN = {
    "type": "llm",
    "modelKey": "qwen/qwen3-8b",
    "path": "lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf",
    "sizeBytes": 5027783808,
    "variants": ["qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b@q8_0"],
    "maxContextLength": 40960,
    "displayName": "Qwen3 8B",
    "deviceIdentifier": None,
    "quantization": {"name": "Q4_K_M", "bits": 4},
    "vision": False,
}


class DownloadedTests(SynchronousTestCase):
    """What is downloaded."""

    def test_whole(self) -> None:
        """Everything that the gateway has a name for is read, and nothing else."""
        (model,) = listings.readDownloaded([QWEN])
        expected = DownloadedModel(
            modelKey="qwen/qwen3-8b",
            type="llm",
            path="lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf",
            size=5027783808,
            variants=("qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b@q8_0"),
            maxContextLength=40960,
            details={"displayName": "Qwen3 8B", "quantization": {"name": "Q4_K_M", "bits": 4}, "vision": False},
        )
        self.assertEqual(expected, model)

    def test_little(self) -> None:
        """A key is enough; without one it is no model."""
        self.assertEqual((DownloadedModel("a", "llm", "a"),), listings.readDownloaded([{"modelKey": "a"}, {}, None]))

    @given(JSON | st.lists(INFOS))
    def test_total(self, answer: Any) -> None:
        """Whatever JSON comes, each model has a key, and counts that are counts."""
        for model in listings.readDownloaded(answer):
            self.assertTrue(model.modelKey)
            self.assertTrue(model.size is None or model.size >= 0)
            self.assertTrue(all(isinstance(variant, str) for variant in model.variants))


class LoadedTests(SynchronousTestCase):
    """What is loaded."""

    def test_whole(self) -> None:
        """Times are seconds; what is known of the configuration otherwise goes before what the listing tells."""
        info = {**QWEN, "identifier": "me", "instanceReference": "r", "ttlMs": 90_500, "contextLength": 4096}
        expected = LoadedModel("me", "qwen/qwen3-8b", "llm", QWEN["path"], 90.5, {"contextLength": 4000, "parallel": 2})  # type: ignore[arg-type]
        self.assertEqual(expected, listings.readInstance(info, "llm", {"contextLength": 4000, "parallel": 2}))
        self.assertEqual({"contextLength": 4096}, listings.readInstance(info, "llm", {}).loadConfig)

    def test_specifier(self) -> None:
        """An instance is meant by its reference, and by its identifier where LM Studio tells none."""
        self.assertEqual(
            {"type": "instanceReference", "instanceReference": "r"},
            listings.specifierOf({"identifier": "a", "instanceReference": "r"}),
        )
        self.assertEqual({"type": "query", "query": {"identifier": "a"}}, listings.specifierOf({"identifier": "a"}))

    @given(JSON | st.lists(INFOS))
    def test_total(self, answer: Any) -> None:
        """Whatever JSON comes, each instance has a name, and a time to live that is a number."""
        for info in listings.instancesIn(answer):
            instance = listings.readInstance(info, "llm", {})
            self.assertTrue(instance.identifier)
            self.assertTrue(instance.ttlSeconds is None or isinstance(instance.ttlSeconds, int | float))


class KindTests(SynchronousTestCase):
    """Which namespace a model belongs to."""

    def setUp(self) -> None:
        self.models = (
            DownloadedModel("qwen", "llm", "q/qwen.gguf", variants=("qwen@q8_0",)),
            DownloadedModel("nomic", "embedding", "n/nomic.gguf", variants=("nomic@f16",)),
            DownloadedModel("voice", "tts", "v/voice.gguf"),
        )

    def test_kinds(self) -> None:
        """A key, a path, a variant that is listed and one that is not find the kind of the model."""
        for name in ("nomic", "n/nomic.gguf", "nomic@f16", "nomic@q2_k"):
            self.assertEqual("embedding", listings.kindOf(name, self.models))

    def test_unknown(self) -> None:
        """What is unknown, or of a kind without a namespace, is left to the namespace of language models to refuse."""
        for name in ("qwen", "nothing", "voice", ""):
            self.assertEqual("llm", listings.kindOf(name, self.models))


class ProgressTests(SynchronousTestCase):
    """How far a load is."""

    @given(INFOS)
    def test_total(self, message: dict[str, Any]) -> None:
        """Whatever comes, it is a number from 0 to 1, or nothing."""
        fraction = listings.fractionIn(message)
        self.assertTrue(fraction is None or 0 <= fraction <= 1)

    def test_read(self) -> None:
        """A number in that range is told as it is; true is no number."""
        self.assertEqual(0.25, listings.fractionIn({"progress": 0.25}))
        self.assertIsNone(listings.fractionIn({"progress": True}))
        self.assertIsNone(listings.fractionIn({"progress": 1.5}))
