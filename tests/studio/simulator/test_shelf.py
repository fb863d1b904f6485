"""Which model answers: found by its names, loaded just in time, evicted, forgotten when its time is up."""

from __future__ import annotations

from typing import Any

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.errors import NO_MODELS_LOADED, SEVERAL_MODELS_LOADED, ModelError
from lmgateway.studio.simulator.models import CATALOGUE, EMBEDDING, LANGUAGE, Model
from lmgateway.studio.simulator.shelf import JIT_TTL, IdentifierTaken, Instance, Shelf
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN


class User:
    """Somebody who uses an instance."""

    evicted = False

    def evict(self) -> None:
        """Note it."""
        self.evicted = True


class Shelves(SynchronousTestCase):
    """With a shelf."""

    def setUp(self) -> None:
        self.shelf = Shelf(loaded=(QWEN,))
        self.now = 1000.0

    def obtain(self, name: str | None, *, ttl: int | None = None, **switches: Any) -> Instance:
        """The instance that serves a request for text."""
        return self.shelf.obtain(name, LANGUAGE, self.now, Behaviour(**switches), ttl)

    def refusal(self, name: str | None, **switches: Any) -> str:
        """Why there is none."""
        return self.assertRaises(ModelError, self.obtain, name, **switches).message

    def loaded(self) -> list[str]:
        """The ids of what is loaded."""
        return [instance.id for instance in self.shelf.instances(self.now)]


class ObtainTests(Shelves):
    def test_loaded(self) -> None:
        """A loaded model answers to each of its names, and is not loaded twice."""
        for name in CATALOGUE[0].names:
            self.assertEqual(self.obtain(name).id, QWEN)
        self.assertEqual(self.loaded(), [QWEN])

    def test_unnamed(self) -> None:
        """A request that names none gets the one that is loaded."""
        self.assertEqual(self.obtain(None).id, QWEN)
        self.assertEqual(self.obtain("").id, QWEN)

    def test_unnamedAmongMany(self) -> None:
        """Where several are loaded, it must name one."""
        self.obtain(GEMMA)
        self.assertEqual(self.refusal(None), SEVERAL_MODELS_LOADED)

    def test_unnamedAmongNone(self) -> None:
        """Where none is loaded, that is the answer."""
        self.shelf = Shelf()
        self.assertEqual(self.refusal(None), NO_MODELS_LOADED)

    def test_justInTime(self) -> None:
        """A downloaded model is loaded when it is asked for, and takes its time."""
        instance = self.obtain(GEMMA, loadTime=5)
        self.assertEqual((instance.id, instance.jit, instance.readyAt), (GEMMA, True, 1005))
        self.assertEqual(self.obtain(GEMMA, loadTime=5), instance)

    def test_noJustInTime(self) -> None:
        """Unless that is off: then only the loaded are known."""
        self.assertIn('Invalid model identifier "google/gemma-3-4b"', self.refusal(GEMMA, jit=False))
        self.assertEqual(self.obtain(QWEN, jit=False).id, QWEN)

    def test_unknown(self) -> None:
        """A model that nobody knows is an error with examples of the right kind."""
        self.assertEqual(
            self.refusal("x"),
            'Invalid model identifier "x". Please specify a valid downloaded model '
            "(e.g., qwen/qwen3-8b@q4_k_m, qwen/qwen3-8b, qwen3-8b).",
        )

    def test_unknownServed(self) -> None:
        """Or it is served by what is loaded, if anything is."""
        self.assertEqual(self.obtain("x", unknownModel="served").id, QWEN)
        self.shelf = Shelf()
        self.assertIn("Invalid model identifier", self.refusal("x", unknownModel="served"))

    def test_wrongKind(self) -> None:
        """A model for embeddings does not chat, nor the other way round."""
        self.assertIn("Invalid model identifier", self.refusal(NOMIC))
        behaviour = Behaviour()
        error = self.assertRaises(ModelError, self.shelf.obtain, QWEN, EMBEDDING, 0.0, behaviour, None)
        self.assertIn(f"(e.g., {NOMIC}@q4_k_m, {NOMIC})", error.message)

    def test_noModels(self) -> None:
        """Where nothing is downloaded, no model is loaded either."""
        self.assertEqual(self.refusal(QWEN, noModels=True), NO_MODELS_LOADED)

    def test_instance(self) -> None:
        """A second instance has an id of its own, and a request for it goes to it."""
        second = self.shelf.load(CATALOGUE[0], self.now, Behaviour(), ttl=None, jit=False)
        self.assertEqual(second.id, "qwen/qwen3-8b:2")
        self.assertIs(self.obtain("qwen/qwen3-8b:2"), second)
        self.assertEqual(self.obtain(QWEN).id, QWEN)

    def test_parallel(self) -> None:
        """An instance runs as many generations at once as was said when it was loaded."""
        self.assertEqual(self.obtain(GEMMA, parallel=2).slots.limit, 2)


class EvictionTests(Shelves):
    def test_oneJustInTime(self) -> None:
        """At most one model is loaded just in time; what was loaded otherwise stays."""
        self.obtain(GEMMA)
        self.obtain(GPT_OSS)
        self.assertEqual(self.loaded(), [QWEN, GPT_OSS])

    def test_usersAreTold(self) -> None:
        """Whoever used the model that goes is told."""
        user = User()
        self.obtain(GEMMA).users.add(user)
        self.obtain(GPT_OSS)
        self.assertTrue(user.evicted)

    def test_off(self) -> None:
        """Eviction can be switched off."""
        self.obtain(GEMMA)
        self.obtain(GPT_OSS, autoEvict=False)
        self.assertEqual(self.loaded(), [QWEN, GEMMA, GPT_OSS])


class LoadTests(Shelves):
    def load(self, **more: Any) -> Instance:
        """Load the first model."""
        return self.shelf.load(CATALOGUE[0], self.now, Behaviour(**more.pop("switches", {})), **more)

    def test_identifier(self) -> None:
        """An instance may be called as somebody wishes, unless another is."""
        self.load(ttl=None, jit=False, identifier="mine")
        self.assertEqual(self.loaded(), [QWEN, "mine"])
        self.assertRaises(IdentifierTaken, self.load, ttl=None, jit=False, identifier="mine")

    def test_identifierFree(self) -> None:
        """A name is free again when its instance is over."""
        self.load(ttl=5, jit=False, identifier="mine")
        self.now += 5
        self.assertEqual(self.load(ttl=5, jit=False, identifier="mine").id, "mine")

    def test_config(self) -> None:
        """Its configuration decides over context and slots."""
        config = {"llm.load.contextLength": 100, "llm.load.numParallelSessions": 2}
        instance = self.load(ttl=None, jit=False, config=config)
        self.assertEqual((instance.contextLength, instance.parallel, instance.slots.limit), (100, 2, 2))

    def test_failure(self) -> None:
        """An instance that will fail is there while it loads, and gone then."""
        self.load(ttl=None, jit=False, identifier="mine", switches={"failLoad": "x", "loadTime": 5})
        self.assertEqual(self.loaded(), [QWEN, "mine"])
        self.now += 5
        self.assertEqual(self.loaded(), [QWEN])

    def test_unloadedTwice(self) -> None:
        """To unload what is gone already takes nothing else away."""
        first = self.load(ttl=None, jit=False, identifier="mine")
        self.shelf.unload(first)
        self.load(ttl=None, jit=False, identifier="mine")
        self.shelf.unload(first)
        self.assertEqual(self.loaded(), [QWEN, "mine"])


class TimeToLiveTests(Shelves):
    def test_default(self) -> None:
        """A model loaded just in time goes an hour after its last request, one loaded otherwise never."""
        instance = self.obtain(GEMMA)
        self.assertEqual(instance.remainingTTL(self.now), JIT_TTL)
        self.now += JIT_TTL - 1
        self.assertEqual(instance.remainingTTL(self.now), 1)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])
        self.now += 1
        self.assertEqual(self.loaded(), [QWEN])
        self.assertIsNone(self.obtain(QWEN).remainingTTL(self.now))

    def test_chosen(self) -> None:
        """The request that loads a model may say how long it stays."""
        self.assertEqual(self.obtain(GEMMA, ttl=60).remainingTTL(self.now), 60)

    def test_inUse(self) -> None:
        """A model that is in use stays, however long it takes."""
        instance = self.obtain(GEMMA, ttl=60)
        instance.users.add(User())
        self.now += 100
        self.assertEqual(self.loaded(), [QWEN, GEMMA])
        self.assertEqual(instance.remainingTTL(self.now), 60)


class ListedTests(Shelves):
    def listed(self, **switches: Any) -> list[Model]:
        """What a list shows."""
        return list(self.shelf.listed(self.now, Behaviour(**switches)))

    def test_justInTime(self) -> None:
        """All that is downloaded while loading is just in time, else what is loaded."""
        self.assertEqual(self.listed(), list(CATALOGUE))
        self.assertEqual(self.listed(jit=False), [CATALOGUE[0]])

    def test_noModels(self) -> None:
        """Nothing, where nothing is downloaded."""
        self.assertEqual(self.listed(noModels=True), [])
