# -*- test-case-name: tests.studio.simulator.test_models -*-
"""
The models that are downloaded, and the instances of them that are loaded: just in time, with a time to live, one evicting
the other, as LM Studio does it. Times are seconds of whatever clock the caller has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from msgspec import Struct
from twisted.internet.defer import DeferredSemaphore

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.errors import SEVERAL_MODELS_LOADED, ModelError, NoModelsLoaded, invalidModel

Kind = Literal["llm", "vlm", "embeddings"]

LANGUAGE: frozenset[Kind] = frozenset({"llm", "vlm"})
"""The kinds of model that generate text."""

EMBEDDING: frozenset[Kind] = frozenset({"embeddings"})

JIT_TTL = 3600
"""Seconds that a model loaded just in time stays after its last request, unless the request says otherwise."""

CONTEXT_LENGTH = 8192
"""Tokens of context that an instance gets where the model allows so many."""


class Model(Struct, frozen=True, kw_only=True):
    """
    A downloaded model.

    :param key: the name that requests use.
    :param kind: as ``/api/v0`` names it.
    :param reasoningField: where its thoughts go in a chat completion, or None if it has none. gpt-oss has one of its own.
    :param reasoningOptions: what ``reasoning`` of ``/api/v1/chat`` may be.
    :param reasoningDefault: what it is when nothing is said.
    :param dimensions: how many numbers its embeddings have.
    """

    key: str
    kind: Kind
    publisher: str
    displayName: str
    architecture: str
    quantization: str
    bits: int
    sizeBytes: int
    maxContextLength: int
    params: str | None = None
    format: Literal["gguf", "mlx"] = "gguf"
    toolUse: bool = False
    reasoningField: Literal["reasoning_content", "reasoning"] | None = None
    reasoningOptions: tuple[str, ...] = ()
    reasoningDefault: str = ""
    dimensions: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names it answers to: the variant, the key, the key without its publisher."""
        return (f"{self.key}@{self.quantization.lower()}", self.key, self.key.rpartition("/")[2])


CATALOGUE: tuple[Model, ...] = (
    Model(
        key="qwen/qwen3-8b",
        kind="llm",
        publisher="qwen",
        displayName="Qwen3 8B",
        architecture="qwen3",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=5027783808,
        params="8B",
        maxContextLength=40960,
        toolUse=True,
        reasoningField="reasoning_content",
        reasoningOptions=("off", "on"),
        reasoningDefault="on",
    ),
    Model(
        key="google/gemma-3-4b",
        kind="vlm",
        publisher="google",
        displayName="Gemma 3 4B",
        architecture="gemma3",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=3341142368,
        params="4B",
        maxContextLength=131072,
    ),
    Model(
        key="openai/gpt-oss-20b",
        kind="llm",
        publisher="openai",
        displayName="gpt-oss 20B",
        architecture="gpt-oss",
        quantization="MXFP4",
        bits=4,
        sizeBytes=12109566560,
        params="20B",
        maxContextLength=131072,
        toolUse=True,
        reasoningField="reasoning",
        reasoningOptions=("low", "medium", "high"),
        reasoningDefault="low",
    ),
    Model(
        key="text-embedding-nomic-embed-text-v1.5",
        kind="embeddings",
        publisher="nomic-ai",
        displayName="Nomic Embed Text v1.5",
        architecture="nomic-bert",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=84106624,
        maxContextLength=2048,
        dimensions=768,
    ),
)
"""What is downloaded unless somebody says otherwise: a model that thinks, one that sees, gpt-oss and one for embeddings."""


class IsEvicted(Protocol):
    """Somebody who uses an instance and must know when it is gone."""

    def evict(self) -> None:
        """The instance was unloaded."""


class Instance:
    """
    A loaded model.

    :ivar id: what requests may call this very instance.
    :ivar ttl: seconds that it stays after its last request, or None for ever.
    :ivar jit: whether a request loaded it.
    :ivar readyAt: when its loading ends.
    :ivar lastUsed: when its last request ended.
    :ivar slots: as many as it runs generations at once.
    :ivar users: the requests that it has, waiting ones included.
    """

    def __init__(self, id: str, model: Model, *, readyAt: float, parallel: int, ttl: int | None, jit: bool) -> None:  # noqa: A002
        self.id = id
        self.model = model
        self.contextLength = min(model.maxContextLength, CONTEXT_LENGTH)
        self.parallel = parallel
        self.ttl = ttl
        self.jit = jit
        self.readyAt = readyAt
        self.lastUsed = readyAt
        self.slots = DeferredSemaphore(parallel)
        self.users: set[IsEvicted] = set()

    def remainingTTL(self, now: float) -> int | None:
        """Whole seconds until it is unloaded for want of requests, or None if it never is."""
        if self.ttl is None:
            return None
        return max(0, round(self.ttl if self.users else self.lastUsed + self.ttl - now))


class Shelf:
    """
    Every model that is downloaded, and what of it is loaded.

    :param downloaded: the models, in the order in which they are listed.
    :param loaded: keys of those that are loaded from the beginning and stay so.
    :param parallel: how many generations these run at once.
    """

    def __init__(
        self, downloaded: tuple[Model, ...] = CATALOGUE, loaded: tuple[str, ...] = (), parallel: int = 4
    ) -> None:
        self.downloaded = downloaded
        self._instances: dict[str, Instance] = {}
        keys = {model.key: model for model in downloaded}
        for key in loaded:
            self.load(keys[key], 0, Behaviour(parallel=parallel), ttl=None, jit=False)

    def instances(self, now: float) -> tuple[Instance, ...]:
        """What is loaded, or loading, once those whose time has run out are gone."""
        for instance in tuple(self._instances.values()):
            if instance.ttl is not None and not instance.users and now >= instance.lastUsed + instance.ttl:
                del self._instances[instance.id]
        return tuple(self._instances.values())

    def listed(self, now: float, behaviour: Behaviour) -> Iterator[Model]:
        """The models that lists show: every one while loading is just in time, else those that are loaded."""
        loaded = {instance.model.key for instance in self.instances(now)}
        if not behaviour.noModels:
            yield from (model for model in self.downloaded if behaviour.jit or model.key in loaded)

    def of(self, model: Model, now: float) -> tuple[Instance, ...]:
        """The instances of a model."""
        return tuple(instance for instance in self.instances(now) if instance.model.key == model.key)

    def obtain(
        self, name: str | None, kinds: frozenset[Kind], now: float, behaviour: Behaviour, ttl: int | None
    ) -> Instance:
        """
        The instance that serves a request, loaded if it must be.

        :param name: what the request calls the model, if it does.
        :param kinds: which kinds of model will do.
        :param ttl: how many seconds it stays if this request loads it; None for the default.
        :raise ModelError: there is none.
        """
        loaded = [] if behaviour.noModels else [i for i in self.instances(now) if i.model.kind in kinds]
        if not name:
            return _only(loaded)
        fitting = [instance for instance in loaded if instance.id == name or name in instance.model.names]
        if fitting:
            return min(fitting, key=lambda instance: instance.id != name)
        models = [model for model in self.listed(now, behaviour) if model.kind in kinds]
        for model in models:
            if name in model.names:
                return self.load(model, now, behaviour, ttl=JIT_TTL if ttl is None else ttl, jit=True)
        if behaviour.unknownModel == "served" and loaded:
            return loaded[0]
        raise invalidModel(name, [example for model in models for example in dict.fromkeys(model.names)])

    def load(self, model: Model, now: float, behaviour: Behaviour, *, ttl: int | None, jit: bool) -> Instance:
        """
        Load one more instance of a model. What was loaded just in time before goes, even if it is in use: its users are
        told (bug tracker 1796).
        """
        if jit and behaviour.autoEvict:
            for other in tuple(self._instances.values()):
                if other.jit:
                    self.unload(other)
        readyAt = now + behaviour.loadTime
        name = self._freeName(model.key)
        instance = Instance(name, model, readyAt=readyAt, parallel=behaviour.parallel, ttl=ttl, jit=jit)
        self._instances[name] = instance
        return instance

    def unload(self, instance: Instance) -> None:
        """Forget an instance, and tell those who use it."""
        del self._instances[instance.id]
        for user in tuple(instance.users):
            user.evict()

    def _freeName(self, key: str) -> str:
        """The key for the first instance, ``key:2`` for the second."""
        number = 1
        while (name := key if number == 1 else f"{key}:{number}") in self._instances:
            number += 1
        return name


def _only(loaded: list[Instance]) -> Instance:
    """The one that a request means that names none."""
    if not loaded:
        raise NoModelsLoaded
    if len(loaded) > 1:
        raise ModelError(SEVERAL_MODELS_LOADED)
    return loaded[0]
