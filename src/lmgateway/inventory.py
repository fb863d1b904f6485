# -*- test-case-name: tests.test_inventory -*-
"""
What LM Studio has, and what it is asked to do about it: frozen values, whichever way they were learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct

Management = Literal["sdk", "rest", "gateway"]
"""How models are managed: as LM Studio's SDKs do, by its REST API, or in name only (contract, section 4)."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class DownloadedModel(Struct, frozen=True):
    """
    A model on LM Studio's disk.

    :param modelKey: what LM Studio calls it, such as ``qwen/qwen3-8b``.
    :param type: ``llm`` or ``embedding``.
    :param path: where it is among LM Studio's models; the key where LM Studio does not say.
    :param size: bytes, or None.
    :param variants: other keys of the same model, such as ``qwen/qwen3-8b@q8_0``.
    :param maxContextLength: tokens, or None.
    :param details: whatever else is known, by the names that ``GET /admin/models`` has: ``displayName``, ``publisher``,
        ``architecture``, ``quantization``, ``format``, ``paramsString``, ``vision``, ``trainedForToolUse``.
    """

    modelKey: str
    type: str
    path: str
    size: int | None = None
    variants: tuple[str, ...] = ()
    maxContextLength: int | None = None
    details: Mapping[str, Any] = NOTHING


class LoadedModel(Struct, frozen=True):
    """
    An instance of a model in memory.

    :param identifier: what requests call it; the model's key for the first instance, unless it was given a name.
    :param modelKey: the model that it is an instance of.
    :param type: ``llm`` or ``embedding``.
    :param path: as in :class:`DownloadedModel`.
    :param ttlSeconds: idle seconds after which LM Studio unloads it; None where it does not, or does not say.
    :param loadConfig: what is known of what it was loaded with, by the contract's names.
    """

    identifier: str
    modelKey: str
    type: str
    path: str
    ttlSeconds: float | None = None
    loadConfig: Mapping[str, Any] = NOTHING


class Inventory(Struct, frozen=True):
    """
    Everything that LM Studio has.

    :param downloaded: in LM Studio's order.
    :param loaded: in LM Studio's order.
    """

    downloaded: tuple[DownloadedModel, ...] = ()
    loaded: tuple[LoadedModel, ...] = ()


class LoadOrder(Struct, frozen=True):
    """
    A model to be loaded.

    :param modelKey: which.
    :param instanceId: what the instance is to be called, or None for LM Studio to choose.
    :param loadConfig: how, by the contract's names (``contextLength``, ``gpu`` with ``ratio`` and ``layers``, …).
    :param ttlSeconds: idle seconds after which LM Studio is to unload it, or None.
    """

    modelKey: str
    instanceId: str | None = None
    loadConfig: Mapping[str, Any] = NOTHING
    ttlSeconds: int | None = None


class LoadOutcome(Struct, frozen=True):
    """
    What came of a :class:`LoadOrder`.

    :param instanceId: what requests call the instance.
    :param loadConfig: what it was really loaded with, read back, by the contract's names.
    :param notApplied: what was ordered and could not be, or was not, applied: ``gpu.ratio``, ``instanceId``, ``ttlSeconds``, ….
    """

    instanceId: str
    loadConfig: Mapping[str, Any] = NOTHING
    notApplied: tuple[str, ...] = ()
