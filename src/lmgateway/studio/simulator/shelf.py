# -*- test-case-name: tests.studio.simulator.test_shelf -*-
"""
The models that are downloaded, and the instances of them that are loaded: just in time, with a time to live, one evicting
the other, as LM Studio does it. Times are seconds of whatever clock the caller has.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from twisted.internet.defer import DeferredSemaphore

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.errors import SEVERAL_MODELS_LOADED, ModelError, NoModelsLoaded, invalidModel
from lmgateway.studio.simulator.loadconfig import applied, prefixOf
from lmgateway.studio.simulator.models import CATALOGUE, Kind, Model

JIT_TTL = 3600
"""Seconds that a model loaded just in time stays after its last request, unless the request says otherwise."""


class IsEvicted(Protocol):
    """Somebody who uses an instance and must know when it is gone."""

    def evict(self) -> None:
        """The instance was unloaded."""


class IdentifierTaken(Exception):
    """An instance of that identifier is loaded already."""


class Instance:
    """
    A loaded model.

    :param config: what it was asked to be loaded with. See :func:`~lmgateway.studio.simulator.loadconfig.applied`.
    :ivar id: what requests may call this very instance.
    :ivar reference: what the SDKs call it, even after another has taken its id.
    :ivar config: what it is loaded with.
    :ivar ttl: seconds that it stays after its last request, or None for ever.
    :ivar jit: whether a request loaded it.
    :ivar readyAt: when its loading ends.
    :ivar failure: why it ends in vain, or None if it does not.
    :ivar lastUsed: when its last request ended.
    :ivar slots: as many as it runs generations at once.
    :ivar users: the requests that it has, waiting ones included.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - LM Studio's word
        model: Model,
        *,
        readyAt: float,
        parallel: int,
        ttl: float | None,
        jit: bool,
        failure: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.model = model
        self.reference = secrets.token_hex(12)
        self.config = applied(model, parallel, config or {})
        self.parallel: int = self.config.get("llm.load.numParallelSessions", parallel)
        self.ttl = ttl
        self.jit = jit
        self.readyAt = readyAt
        self.failure = failure
        self.lastUsed = readyAt
        self.slots = DeferredSemaphore(self.parallel)
        self.users: set[IsEvicted] = set()

    @property
    def contextLength(self) -> int:
        """How many tokens of context it has."""
        length: int = self.config[prefixOf(self.model) + "contextLength"]
        return length

    def remainingTTL(self, now: float) -> int | None:
        """Whole seconds until it is unloaded for want of requests, or None if it never is."""
        if self.ttl is None:
            return None
        return max(0, round(self.ttl if self.users else self.lastUsed + self.ttl - now))

    def isOver(self, now: float) -> bool:
        """Whether nobody has used it for too long, or its loading has failed."""
        if self.failure is not None and now >= self.readyAt:
            return True
        return self.ttl is not None and not self.users and now >= self.lastUsed + self.ttl


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
            if instance.isOver(now):
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

    def evictedBy(self, now: float, behaviour: Behaviour) -> list[Instance]:
        """What goes when another model is loaded just in time now."""
        return [instance for instance in self.instances(now) if instance.jit] if behaviour.autoEvict else []

    def load(
        self,
        model: Model,
        now: float,
        behaviour: Behaviour,
        *,
        ttl: float | None,
        jit: bool,
        identifier: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Instance:
        """
        Load one more instance of a model. What was loaded just in time before goes, even if it is in use: its users are
        told (bug tracker 1796).

        :param identifier: what it will be called, or None for the key, or the key and a number.
        :param config: its fields, where they are not as usual.
        :raise IdentifierTaken: another is called so.
        """
        for other in self.evictedBy(now, behaviour) if jit else ():
            self.unload(other)
        self.instances(now)
        if identifier is not None and identifier in self._instances:
            raise IdentifierTaken(identifier)
        name = self._freeName(model.key) if identifier is None else identifier
        instance = Instance(
            name,
            model,
            readyAt=now + behaviour.loadTime,
            parallel=behaviour.parallel,
            ttl=ttl,
            jit=jit,
            failure=behaviour.failLoad,
            config=config,
        )
        self._instances[name] = instance
        return instance

    def unload(self, instance: Instance) -> None:
        """Forget an instance, and tell those who use it."""
        if self._instances.get(instance.id) is instance:
            del self._instances[instance.id]
        for user in tuple(instance.users):
            user.evict()

    def add(self, model: Model) -> None:
        """A model was downloaded."""
        self.downloaded = (*self.downloaded, model)

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
