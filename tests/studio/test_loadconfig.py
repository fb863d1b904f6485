"""Tests for :mod:`lmgateway.studio.loadconfig`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.loading import LOAD_CONFIG
from lmgateway.studio.loadconfig import flatten, fromRest, fromSdk, nest, notApplied, toRest, toSdk
from lmgateway.studio.simulator import loadconfig as simulated
from lmgateway.studio.simulator.models import CATALOGUE
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES

_COUNTS = st.integers(1, 2**53 - 1)
_POSITIVE = st.floats(min_value=1e-6, max_value=1e12)
_FLAT: dict[str, st.SearchStrategy[Any]] = {
    "contextLength": _COUNTS,
    "gpu.ratio": st.floats(0, 1),
    "gpu.layers": st.integers(0, 200),
    "cpuThreads": _COUNTS,
    "ropeFrequencyBase": _POSITIVE,
    "ropeFrequencyScale": _POSITIVE,
    "evalBatchSize": _COUNTS,
    "flashAttention": st.booleans(),
    "numExperts": _COUNTS,
    "offloadKvCacheToGpu": st.booleans(),
    "parallel": _COUNTS,
}
CONFIGS = st.fixed_dictionaries({}, optional=_FLAT).map(nest)
JSON: st.SearchStrategy[Any] = JSON_VALUES.map(json.loads)

ALL: dict[str, Any] = {
    "contextLength": 4096,
    "gpu": {"ratio": 0.5, "layers": 10},
    "cpuThreads": 6,
    "ropeFrequencyBase": 10000.0,
    "ropeFrequencyScale": 0.25,
    "evalBatchSize": 256,
    "flashAttention": False,
    "numExperts": 4,
    "offloadKvCacheToGpu": True,
    "parallel": 2,
}


class NamesTests(SynchronousTestCase):
    """Nesting, and that nothing is forgotten."""

    @given(CONFIGS)
    def test_roundTrip(self, config: dict[str, Any]) -> None:
        """What is flattened and nested again is what it was."""
        self.assertEqual(config, nest(flatten(config)))

    def test_nothing(self) -> None:
        """Members that are null, or objects without members, say nothing."""
        self.assertEqual({}, flatten({"contextLength": None, "gpu": {"ratio": None}}))
        self.assertEqual({}, flatten({"gpu": {}}))

    def test_theContract(self) -> None:
        """Every member that the contract allows is one that is tested here."""
        self.assertEqual(list(LOAD_CONFIG), list(ALL))
        self.assertEqual(list(_FLAT), list(flatten(ALL)))


class SdkTests(SynchronousTestCase):
    """The SDKs' keys."""

    def test_languageModel(self) -> None:
        """Each field has the key that LM Studio reads, the RoPE ones wrapped; the number of layers has none."""
        fields, missing = toSdk(ALL, "llm")
        self.assertEqual(
            {
                "llm.load.contextLength": 4096,
                "llm.load.llama.acceleration.offloadRatio": 0.5,
                "llm.load.llama.cpuThreadPoolSize": 6,
                "llm.load.llama.ropeFrequencyBase": {"checked": True, "value": 10000.0},
                "llm.load.llama.ropeFrequencyScale": {"checked": True, "value": 0.25},
                "llm.load.llama.evalBatchSize": 256,
                "llm.load.llama.flashAttention": False,
                "llm.load.numExperts": 4,
                "llm.load.offloadKVCacheToGpu": True,
                "llm.load.numParallelSessions": 2,
            },
            {field["key"]: field["value"] for field in fields},
        )
        self.assertEqual(("gpu.layers",), missing)

    def test_embeddingModel(self) -> None:
        """Embedding models have keys and fields of their own, and what they lack is told."""
        fields, missing = toSdk(ALL, "embedding")
        self.assertEqual({"embedding"}, {field["key"].split(".")[0] for field in fields})
        self.assertEqual(
            ("gpu.layers", "cpuThreads", "flashAttention", "numExperts", "offloadKvCacheToGpu", "parallel"), missing
        )

    def test_simulatorKnowsThem(self) -> None:
        """The simulator, which has a table of its own, has a field of every key, but for experts where there are none."""
        for kind, key in (("llm", "qwen/qwen3-8b"), ("embedding", "text-embedding-nomic-embed-text-v1.5")):
            (model,) = (each for each in CATALOGUE if each.key == key)
            keys = {field["key"] for field in toSdk(ALL, kind)[0]} - {"llm.load.numExperts"}
            self.assertEqual(set(), keys - set(simulated.defaults(model, 4)))

    @given(CONFIGS)
    def test_roundTrip(self, config: dict[str, Any]) -> None:
        """What is said and read back is the same, but for what cannot be said; and nothing else is missing."""
        for kind in ("llm", "embedding"):
            fields, missing = toSdk(config, kind)
            self.assertEqual(missing, notApplied(config, fromSdk(fields)))

    def test_ratioInWords(self) -> None:
        """LM Studio may say of a ratio that it is the most, or nothing."""
        key = "llm.load.llama.acceleration.offloadRatio"
        for word, ratio in (("max", {"gpu": {"ratio": 1}}), ("off", {"gpu": {"ratio": 0}}), ("auto", {})):
            self.assertEqual(ratio, fromSdk([{"key": key, "value": word}]))

    def test_unchecked(self) -> None:
        """A value that is not checked is not set."""
        key = "llm.load.llama.ropeFrequencyBase"
        self.assertEqual({}, fromSdk([{"key": key, "value": {"checked": False, "value": 1}}]))

    @given(
        JSON
        | st.lists(
            st.fixed_dictionaries({"key": st.sampled_from(sorted(_FLAT)).map("llm.load.".__add__), "value": JSON})
        )
    )
    def test_total(self, fields: Any) -> None:
        """Whatever JSON LM Studio sends, what is read of it are names of the contract with plain values."""
        flat = flatten(fromSdk(fields))
        self.assertLessEqual(set(flat), set(_FLAT))
        self.assertTrue(all(isinstance(value, bool | int | float) for value in flat.values()))


class RestTests(SynchronousTestCase):
    """REST's names."""

    def test_said(self) -> None:
        """REST takes five of the fields, and the others are told."""
        members, missing = toRest(ALL)
        self.assertEqual(
            {
                "context_length": 4096,
                "eval_batch_size": 256,
                "flash_attention": False,
                "num_experts": 4,
                "offload_kv_cache_to_gpu": True,
            },
            members,
        )
        self.assertEqual(
            ("gpu.ratio", "gpu.layers", "cpuThreads", "ropeFrequencyBase", "ropeFrequencyScale", "parallel"), missing
        )

    def test_read(self) -> None:
        """What it tells is read, with ``parallel``, and without what the contract does not know."""
        config = {"context_length": 8192, "parallel": 4, "flash_attention": True, "reasoning_budget_message": ""}
        self.assertEqual({"contextLength": 8192, "parallel": 4, "flashAttention": True}, fromRest(config))

    @given(JSON)
    def test_total(self, config: Any) -> None:
        """Whatever JSON LM Studio sends, what is read of it are names of the contract with plain values."""
        flat = flatten(fromRest(config))
        self.assertLessEqual(set(flat), set(_FLAT))

    @given(CONFIGS)
    def test_roundTrip(self, config: dict[str, Any]) -> None:
        """What is said and read back is the same, but for what cannot be said."""
        members, missing = toRest(config)
        self.assertEqual(missing, notApplied(config, fromRest(members)))


class NotAppliedTests(SynchronousTestCase):
    """Comparing."""

    @given(CONFIGS)
    def test_same(self, config: dict[str, Any]) -> None:
        """What is applied as it was ordered is not told."""
        self.assertEqual((), notApplied(config, config))

    def test_other(self) -> None:
        """A value that was changed is told, and so is one that is not there; what was not ordered is not."""
        applied = {"contextLength": 2048, "gpu": {"ratio": 0.5}, "parallel": 4}
        self.assertEqual(
            ("contextLength", "gpu.layers", "cpuThreads", "flashAttention"),
            notApplied(
                {"contextLength": 4096, "gpu": {"ratio": 0.5, "layers": 1}, "cpuThreads": 2, "flashAttention": False},
                applied,
            ),
        )

    def test_numbers(self) -> None:
        """Numbers are compared as numbers, as exactly as LM Studio keeps them; whether is no number."""
        self.assertEqual((), notApplied({"gpu": {"ratio": 1}}, {"gpu": {"ratio": 1.0}}))
        self.assertEqual((), notApplied({"gpu": {"ratio": 0.3}}, {"gpu": {"ratio": 0.30000001192092896}}))
        self.assertEqual(("contextLength",), notApplied({"contextLength": 2**52}, {"contextLength": 2**52 + 1}))
        self.assertEqual(("flashAttention",), notApplied({"flashAttention": True}, {"flashAttention": 1}))
        self.assertEqual(("numExperts",), notApplied({"numExperts": 10**400}, {"numExperts": 1.5}))
