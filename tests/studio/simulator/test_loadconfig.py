"""What a model is loaded with: known fields only, values that make sense, under two kinds of names."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.loadconfig import (
    REST,
    applied,
    defaults,
    fromREST,
    fromStack,
    toFields,
    toREST,
)
from lmgateway.studio.simulator.models import CATALOGUE
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.sdk import JSON

QWEN, _, GPT_OSS, NOMIC = CATALOGUE
MODELS = st.sampled_from((*CATALOGUE, replace(QWEN, format="mlx")))
RATIO = "llm.load.llama.acceleration.offloadRatio"


class AppliedTests(SynchronousTestCase):
    def one(self, key: str, value: object) -> object:
        """What becomes of one field."""
        return applied(QWEN, 4, {key: value}).get(key)

    def test_usual(self) -> None:
        """What is not said is as usual; only a mixture of experts has experts, and only text is made several at once."""
        self.assertEqual(applied(QWEN, 3, {}), defaults(QWEN, 3))
        self.assertEqual(applied(QWEN, 3, {})["llm.load.numParallelSessions"], 3)
        self.assertEqual(applied(GPT_OSS, 3, {})["llm.load.numExperts"], 4)
        self.assertNotIn("llm.load.numExperts", applied(QWEN, 3, {}))
        self.assertEqual(applied(NOMIC, 3, {})["embedding.load.contextLength"], 2048)

    def test_said(self) -> None:
        """What is said and makes sense is kept."""
        for key, value in (
            ("llm.load.contextLength", 100),
            ("llm.load.numParallelSessions", 1),
            ("llm.load.llama.flashAttention", False),
            (RATIO, 0.25),
            (RATIO, 0),
            ("llm.load.llama.ropeFrequencyBase", {"checked": True, "value": 3}),
        ):
            self.assertEqual(self.one(key, value), value)

    def test_words(self) -> None:
        """A ratio may be a word, and is a number from then on."""
        self.assertEqual((self.one(RATIO, "max"), self.one(RATIO, "off"), self.one(RATIO, "half")), (1, 0, 1))

    def test_dropped(self) -> None:
        """Unknown fields and senseless values are dropped in silence."""
        usual = defaults(QWEN, 4)
        for key, value in (
            ("llm.load.nope", 1),
            ("embedding.load.contextLength", 100),
            ("llm.load.contextLength", 0),
            ("llm.load.contextLength", "100"),
            ("llm.load.contextLength", 1.5),
            ("llm.load.contextLength", True),
            ("llm.load.llama.flashAttention", 1),
            (RATIO, 1.1),
            (RATIO, True),
            ("llm.load.seed", 4),
        ):
            self.assertEqual(applied(QWEN, 4, {key: value}), usual, key)

    def test_longest(self) -> None:
        """No context is longer than the model's."""
        self.assertEqual(self.one("llm.load.contextLength", 10**9), QWEN.maxContextLength)

    def test_engine(self) -> None:
        """A model that llama.cpp does not run has none of its fields."""
        mlx = applied(replace(QWEN, format="mlx"), 4, {"llm.load.llama.flashAttention": False})
        self.assertEqual([key for key in mlx if "llama" in key], [])

    @given(MODELS, st.dictionaries(st.sampled_from(sorted(defaults(GPT_OSS, 4))), JSON))
    def test_total(self, model: Any, wanted: dict[str, Any]) -> None:
        """Whatever is wanted, the fields are those of the model, each of the type that it always has."""
        usual = defaults(model, 4)
        got = applied(model, 4, wanted)
        self.assertEqual(list(got), list(usual))
        for key, value in got.items():
            number = isinstance(usual[key], int) and not isinstance(usual[key], bool)
            self.assertIsInstance(value, (int, float) if number else type(usual[key]))

    @given(MODELS, st.dictionaries(st.text(), JSON))
    def test_settled(self, model: Any, wanted: dict[str, Any]) -> None:
        """What has been applied once is not changed by applying it again."""
        once = applied(model, 4, wanted)
        self.assertEqual(applied(model, 4, once), once)


class RestTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Everything that REST has a name for is told under it, in its order; of an embedding model the context only."""
        self.assertEqual(list(toREST(GPT_OSS, applied(GPT_OSS, 4, {}))), list(REST))
        self.assertEqual(toREST(NOMIC, applied(NOMIC, 4, {})), {"context_length": 2048})

    def test_roundTrip(self) -> None:
        """What a body sets comes back in the answer."""
        body = {"model": "x", "context_length": 77, "flash_attention": False, "num_experts": 2, "eval_batch_size": None}
        told = toREST(GPT_OSS, applied(GPT_OSS, 4, fromREST(GPT_OSS, body)))
        self.assertEqual((told["context_length"], told["flash_attention"], told["num_experts"]), (77, False, 2))
        self.assertEqual(told["eval_batch_size"], 512)


class StackTests(SynchronousTestCase):
    def test_layers(self) -> None:
        """Fields of all layers count, and the last of a name."""
        layers = [
            {"layerName": "a", "config": {"fields": [{"key": "x", "value": 1}, {"key": "y", "value": 2}]}},
            {"layerName": "b", "config": {"fields": [{"key": "x", "value": 3}, {"key": "z"}]}},
        ]
        self.assertEqual(fromStack({"layers": layers}), {"x": 3, "y": 2, "z": None})

    def test_roundTrip(self) -> None:
        """What is told as fields is read again as a layer."""
        fields = defaults(QWEN, 4)
        self.assertEqual(fromStack({"layers": [{"config": toFields(fields)}]}), fields)

    @given(JSON)
    def test_total(self, value: object) -> None:
        """Any JSON is a stack, if an empty one."""
        for stack in (
            value,
            {"layers": value},
            {"layers": [{"config": value}]},
            {"layers": [{"config": {"fields": value}}]},
        ):
            self.assertIsInstance(fromStack(stack), dict)
