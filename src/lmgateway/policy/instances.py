# -*- test-case-name: tests.policy.test_instances -*-
"""
Which of the loaded instances a name means, and which requests an instance is answering. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from lmgateway.errors import Conflict, NotFound
from lmgateway.exchange import Exchange
from lmgateway.inventory import Inventory, LoadedModel
from lmgateway.message import ActiveModel

MOST_NAMED = 10
"""Instances that a message names."""


def isSameModel(name: str, modelKey: str) -> bool:
    """
    Tell whether a name means a model.

    :param name: a key, alone or with a variant (``qwen/qwen3-8b@q8_0``).
    :param modelKey: the model's, alone or with one.
    """
    if name == modelKey:
        return True
    # Two variants are two models, but a key without one means whichever there is.
    key, _, variant = name.partition("@")
    otherKey, _, otherVariant = modelKey.partition("@")
    return key == otherKey and not (variant and otherVariant)


def instanceOf(inventory: Inventory, modelKey: str, instanceId: str | None) -> LoadedModel:
    """
    Find the instance that is meant.

    :param modelKey: a model's key, or an instance's own name.
    :param instanceId: the instance; or None for the one that is called as the model is, or else the only one of the model.
    :raise NotFound: there is none.
    :raise Conflict: it could be several.
    """
    candidates = [
        each for each in inventory.loaded if modelKey == each.identifier or isSameModel(modelKey, each.modelKey)
    ]
    if instanceId is not None:
        candidates = [each for each in candidates if each.identifier == instanceId]
    named = [each for each in candidates if each.identifier == modelKey]
    if named:
        return named[0]
    if not candidates:
        what = (
            f'An instance "{instanceId}" of the model "{modelKey}"'
            if instanceId is not None
            else f'The model "{modelKey}"'
        )
        raise NotFound(f"{what} is not loaded. GET /admin/models lists what is.")
    if len(candidates) > 1:
        names = ", ".join(f'"{each.identifier}"' for each in candidates[:MOST_NAMED])
        raise Conflict(f'Several instances of the model "{modelKey}" are loaded: {names}. Name one as instanceId.')
    return candidates[0]


def isResident(inventory: Inventory, active: ActiveModel) -> bool:
    """Whether an instance is loaded that requests for the active model go to."""
    name = active.modelName
    return any(
        each.identifier == name
        or (active.instanceId in {None, active.modelKey} and isSameModel(active.modelKey, each.modelKey))
        for each in inventory.loaded
    )


def without(inventory: Inventory, identifier: str) -> Inventory:
    """Give what remains once an instance is unloaded."""
    loaded = tuple(each for each in inventory.loaded if each.identifier != identifier)
    return Inventory(inventory.downloaded, loaded)


def answering(inventory: Inventory, instance: LoadedModel, exchanges: Iterable[Exchange]) -> list[Exchange]:
    """
    Give the requests that an instance may be answering. LM Studio does not tell: what counts is what they asked for.

    One that names the model may be answered by any of its instances, unless one has that very name; one that names nothing
    by any instance at all.

    :param inventory: what is loaded.
    :param exchanges: the requests in flight.
    """
    names = {each.identifier for each in inventory.loaded}

    def concerns(model: str | None) -> bool:
        if model is None or model == instance.identifier:
            return True
        return model not in names and isSameModel(model, instance.modelKey)

    return [exchange for exchange in exchanges if concerns(exchange.model)]
