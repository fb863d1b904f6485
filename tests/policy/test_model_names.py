"""Which names LM Studio knows, and which somebody may have meant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.inventory import DownloadedModel, Inventory, LoadedModel
from lmgateway.policy.model_names import KnownModels
from twisted.trial.unittest import SynchronousTestCase

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
INVENTORY = Inventory(
    (
        DownloadedModel("qwen/qwen3-8b", "llm", "qwen/qwen3-8b", variants=("qwen/qwen3-8b@q8_0",)),
        DownloadedModel("google/gemma-3-4b", "llm", "google/gemma-3-4b"),
    ),
    (LoadedModel("fast", "qwen/qwen3-8b", "llm", "x"), LoadedModel("elsewhere", "linked/model", "llm", "y")),
)


class KeyOfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = KnownModels(INVENTORY)

    def test_known(self) -> None:
        """A key, a key with any variant, an instance and the key of an instance mean their model."""
        for name, key in (
            ("qwen/qwen3-8b", "qwen/qwen3-8b"),
            ("qwen/qwen3-8b@q8_0", "qwen/qwen3-8b"),
            ("qwen/qwen3-8b@q4_k_m", "qwen/qwen3-8b"),
            ("fast", "qwen/qwen3-8b"),
            ("linked/model", "linked/model"),
        ):
            self.assertEqual(self.known.keyOf(name), key)

    def test_unknown(self) -> None:
        """Nothing else means anything: not a part of a key, another case, or nothing."""
        for name in ("", "qwen3-8b", "QWEN/qwen3-8b", "qwen/qwen3-8b ", "@q8_0", "nope@fast"):
            self.assertIsNone(self.known.keyOf(name))

    @given(st.lists(NAMES, unique=True), NAMES)
    def test_anything(self, keys: list[str], name: str) -> None:
        """A name is known exactly if it, or what stands before its first @, is a key."""
        known = KnownModels(Inventory(tuple(DownloadedModel(key, "llm", key) for key in keys)))
        isKey = name in keys or name.partition("@")[0] in keys
        self.assertEqual(known.keyOf(name) is not None, isKey)


class NearTests(SynchronousTestCase):
    def test_near(self) -> None:
        """Somebody who left the publisher away, mistyped, or got the case wrong is told the right name first."""
        known = KnownModels(INVENTORY)
        for name in ("qwen3-8b", "QWEN/Qwen3-8B", "qwen/qwen3-8"):
            self.assertEqual(known.near(name)[0], "qwen/qwen3-8b")
        self.assertEqual(known.near("gemma-3")[0], "google/gemma-3-4b")

    def test_far(self) -> None:
        """What is like nothing is told nothing."""
        self.assertEqual(KnownModels(INVENTORY).near("gpt-4o"), ())
        self.assertEqual(KnownModels(Inventory()).near("gpt-4o"), ())

    @given(st.lists(NAMES, unique=True), NAMES, st.integers(1, 5))
    def test_total(self, keys: list[str], name: str, most: int) -> None:
        """Whatever there is and is asked, known names come, no more than wanted and none twice."""
        near = KnownModels(Inventory(tuple(DownloadedModel(key, "llm", key) for key in keys))).near(name, most)
        self.assertLessEqual(len(near), most)
        self.assertEqual(len(set(near)), len(near))
        self.assertLessEqual(set(near), set(keys))
