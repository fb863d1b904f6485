# -*- test-case-name: tests.policy.test_completion -*-
"""
What a request is completed with: which model it goes to, by its own word, an alias or the active model, and whose default
parameters count (contract, section 3).

Of a parameter the first that has it decides: the client, the key, the alias, the active model, the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from lmgateway.errors import Forbidden, NotFound
from lmgateway.message import ActiveModel, Completing, Completion, Grant, Principal
from lmgateway.policy.dialects import DIALECTS, Defaults
from lmgateway.policy.model_names import KnownModels, meaning, shown
from lmgateway.policy.routes import Dialect, Inject

REMEMBERED = 1000
"""Completions that are remembered: one for each dialect, model and key in use."""

LONGEST_REMEMBERED = 200
"""Characters of a model's name up to which its completion is remembered. Clients write it."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Alias(Struct, frozen=True):
    """
    Another name for a model.

    :param model: what goes upstream instead.
    :param defaultInference: default parameters of those who use this name.
    """

    model: str
    defaultInference: Mapping[str, Any] = _NOTHING


class ModelDefaults(Struct, frozen=True):
    """
    What is set for a model.

    :param defaultInference: its default parameters, where nobody else has one.
    :param loadConfig: what it is loaded with, where a load does not say.
    """

    defaultInference: Mapping[str, Any] = _NOTHING
    loadConfig: Mapping[str, Any] = _NOTHING


class UnknownModel(NotFound):
    """LM Studio has no such model; it would answer with another one, and say nothing."""

    kind = "invalid_request_error"
    code = "model_not_found"


class Completions:
    """
    Tells what requests are completed with.

    :param aliases: by name.
    :param models: by key.
    :param isStrict: whether unknown models are refused.
    :ivar known: what LM Studio has; None while that is not known, and then every name passes. Assign to change it.
    """

    def __init__(
        self,
        aliases: Mapping[str, Alias] = MappingProxyType({}),
        models: Mapping[str, ModelDefaults] = MappingProxyType({}),
        *,
        isStrict: bool = True,
    ) -> None:
        self.aliases = aliases
        self._models = models
        self._isStrict = isStrict
        self._known: KnownModels | None = None
        self._remembered: dict[tuple[Any, ...], tuple[ActiveModel | None, Grant, Completion]] = {}

    @property
    def known(self) -> KnownModels | None:
        """What LM Studio has, where that is known."""
        return self._known

    @known.setter
    def known(self, known: KnownModels | None) -> None:
        self._known = known
        self._remembered.clear()

    def configure(self, aliases: Mapping[str, Alias], models: Mapping[str, ModelDefaults], *, isStrict: bool) -> None:
        """Go by other settings from now on."""
        self.aliases = aliases
        self._models = models
        self._isStrict = isStrict
        self._remembered.clear()

    def loadConfigOf(self, modelKey: str) -> Mapping[str, Any]:
        """Tell what a model is loaded with where a load does not say."""
        return self._defaultsOf(modelKey).loadConfig

    def defaultsFor(self, active: ActiveModel | None, principal: Principal, model: str | None) -> tuple[Defaults, ...]:
        """
        Tell whose default parameters count for a request, the first first.

        :param model: the model that it names, or None.
        """
        asked = model if model is not None else self._nameOf(active)
        alias = self.aliases.get(asked) if asked is not None else None
        return tuple(self._layers(active, principal, asked, alias.model if alias is not None else asked))

    def completing(
        self, dialect: Dialect, inject: Inject, active: ActiveModel | None, principal: Principal
    ) -> Completing:
        """
        Tell, for a request, what completes it once its model is known. What it raises: :class:`UnknownModel`, and
        :class:`~lmgateway.errors.Forbidden` where the key is not meant for the model.

        :param dialect: the route's.
        :param inject: the route's.
        :param active: the active model.
        :param principal: who asks.
        """
        return partial(self._complete, dialect, inject, active, principal)

    def _complete(
        self, dialect: Dialect, inject: Inject, active: ActiveModel | None, principal: Principal, model: str | None
    ) -> Completion:
        grant = principal.grant
        place = (dialect, inject, model, principal.name)
        found = self._remembered.get(place)
        if found is not None and found[0] is active and found[1] is grant:
            return found[2]
        completion = self._make(dialect, inject, active, principal, model)
        if model is None or len(model) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[place] = (active, grant, completion)
        return completion

    def _make(
        self, dialect: Dialect, inject: Inject, active: ActiveModel | None, principal: Principal, model: str | None
    ) -> Completion:
        asked = model if model is not None else self._nameOf(active)
        alias = self.aliases.get(asked) if asked is not None else None
        target = alias.model if alias is not None else asked
        if target is not None:
            self._permit(principal.grant, asked or target, target)
        if inject == "none":
            return Completion()
        layers = self._layers(active, principal, asked, target) if inject == "all" else ()
        return Completion(
            DIALECTS[dialect].injections(target if model is None else None, layers, "active model"),
            msgspec.json.encode(target) if alias is not None and model is not None else None,
        )

    def _nameOf(self, active: ActiveModel | None) -> str | None:
        """What a request without a model is given. Of an instance that is gone the key, so that LM Studio loads it again."""
        if active is None:
            return None
        known = self._known
        if known is not None and known.keyOf(active.modelName) is None:
            return active.modelKey
        return active.modelName

    def _layers(
        self, active: ActiveModel | None, principal: Principal, asked: str | None, target: str | None
    ) -> Iterator[Defaults]:
        """Whose default parameters count, the first first."""
        yield Defaults(f"key {principal.name}", principal.grant.defaultInference)
        if asked is not None and asked in self.aliases:
            yield Defaults(f"alias {asked}", self.aliases[asked].defaultInference)
        if active is not None:
            yield Defaults("active model", active.defaultInference)
        if target is not None:
            yield Defaults(f"model {target}", self._defaultsOf(target).defaultInference)

    def _defaultsOf(self, name: str) -> ModelDefaults:
        """What is set for the model that a name means."""
        key = self._known.keyOf(name) if self._known is not None else None
        for candidate in (name, key, name.partition("@")[0]):
            if candidate is not None and candidate in self._models:
                return self._models[candidate]
        return ModelDefaults()

    def _permit(self, grant: Grant, asked: str, target: str) -> None:
        """
        Refuse what LM Studio does not have, and what the key is not meant for.

        :param asked: the name that the client wrote, or else the active model's.
        :param target: what would go upstream.
        :raise UnknownModel: LM Studio does not have it.
        :raise Forbidden: the key is not meant for it.
        """
        known = self._known
        key = known.keyOf(target) if known is not None else None
        if grant.models and not any(
            fnmatchcase(name, glob) for name in (asked, target, key) if name is not None for glob in grant.models
        ):
            raise Forbidden(
                f"This key is not meant for the model {shown(asked)}. It may ask: {', '.join(grant.models)}.",
                param="model",
                code="model_not_allowed",
            )
        if self._isStrict and known is not None and key is None:
            near = [*known.near(target), *(name for name in self.aliases if name.lower() == asked.lower())]
            what = f"There is no model {shown(asked)} here."
            if asked != target:
                what = f"The alias {shown(asked)} stands for {shown(target)}, which LM Studio does not have."
            raise UnknownModel(f"{what}{meaning(near)} GET /v1/models lists all.", param="model")
