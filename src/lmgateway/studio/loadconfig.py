# -*- test-case-name: tests.studio.test_loadconfig -*-
"""
What a model is loaded with, in three vocabularies: the contract's (section 4), the keys of LM Studio's SDKs (``lms-kv-config``
of lmstudio-js) and the names of its REST API (https://lmstudio.ai/docs/developer/rest/load). One table has them all. Pure.

The contract's names are nested in JSON, ``{"gpu": {"ratio": 0.5}}``, and told as ``gpu.ratio``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from lmgateway.studio.bodies import dicts

Config = Mapping[str, Any]
"""A configuration by the contract's names, nested."""


class _Name(Struct, frozen=True):
    """
    One field in each vocabulary.

    :param contract: the contract's name, with a dot where it is nested.
    :param sdk: the SDKs' key without its prefix, or None where there is none.
    :param embedding: whether embedding models have it, too.
    :param checked: whether the SDKs wrap the value: ``{"checked": true, "value": 10000}``.
    :param rest: REST's name, or None.
    :param settable: whether REST takes it when loading.
    """

    contract: str
    sdk: str | None = None
    embedding: bool = False
    checked: bool = False
    rest: str | None = None
    settable: bool = True


_OFFLOAD = "llama.acceleration.offloadRatio"

_TABLE: tuple[_Name, ...] = (
    _Name("contextLength", "contextLength", embedding=True, rest="context_length"),
    _Name("gpu.ratio", _OFFLOAD, embedding=True),
    # LM Studio offloads a part of the layers, and nowhere takes their number.
    _Name("gpu.layers"),
    _Name("cpuThreads", "llama.cpuThreadPoolSize"),
    _Name("ropeFrequencyBase", "llama.ropeFrequencyBase", embedding=True, checked=True),
    _Name("ropeFrequencyScale", "llama.ropeFrequencyScale", embedding=True, checked=True),
    _Name("evalBatchSize", "llama.evalBatchSize", embedding=True, rest="eval_batch_size"),
    _Name("flashAttention", "llama.flashAttention", rest="flash_attention"),
    _Name("numExperts", "numExperts", rest="num_experts"),
    _Name("offloadKvCacheToGpu", "offloadKVCacheToGpu", rest="offload_kv_cache_to_gpu"),
    # LM Studio's bug tracker 2061: it is told by REST, and cannot be set there.
    _Name("parallel", "numParallelSessions", rest="parallel", settable=False),
)

_CONTRACT = {name.contract: name for name in _TABLE}
_SDK = {name.sdk: name for name in _TABLE if name.sdk is not None}
_REST = {name.rest: name for name in _TABLE if name.rest is not None}

_PREFIXES = {"llm": "llm.load.", "embedding": "embedding.load."}

_WORDS = {"max": 1, "off": 0}
"""What LM Studio may say instead of a ratio."""


def flatten(loadConfig: Config) -> dict[str, Any]:
    """
    Give the fields by their dotted names.

    :param loadConfig: what is None in it is not there.
    """
    flat: dict[str, Any] = {}
    for name, value in loadConfig.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": each for inner, each in value.items()})
        else:
            flat[name] = value
    return {name: value for name, value in flat.items() if value is not None}


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields as they are nested in JSON: the opposite of :func:`flatten`."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        outer, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    return nested


def toSdk(loadConfig: Config, type: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:  # noqa: A002 - LM Studio's word
    """
    Say it as the SDKs do.

    :param type: ``llm`` or ``embedding``, whose keys and fields differ.
    :return: fields ``{"key", "value"}``, and the dotted names that cannot be said so.
    """
    fields, missing = [], []
    for dotted, value in flatten(loadConfig).items():
        name = _CONTRACT.get(dotted)
        if name is None or name.sdk is None or (type == "embedding" and not name.embedding):
            missing.append(dotted)
        else:
            said = {"checked": True, "value": value} if name.checked else value
            fields.append({"key": _PREFIXES.get(type, _PREFIXES["llm"]) + name.sdk, "value": said})
    return fields, tuple(missing)


def fromSdk(fields: object) -> dict[str, Any]:
    """
    Read the configuration that LM Studio tells its SDKs. Total on arbitrary JSON.

    :param fields: an array of ``{"key", "value"}``.
    :return: by the contract's names, nested; without what the contract has no name for, and what is not set.
    """
    flat: dict[str, Any] = {}
    for field in dicts(fields):
        name = _SDK.get(_withoutPrefix(field.get("key")))
        value = None if name is None else _plain(name, field.get("value"))
        if name is not None and _isScalar(value):
            flat[name.contract] = value
    return nest(flat)


def toRest(loadConfig: Config) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    Say it as ``POST /api/v1/models/load`` takes it.

    :return: members of its body, and the dotted names that cannot be said so.
    """
    members, missing = {}, []
    for dotted, value in flatten(loadConfig).items():
        name = _CONTRACT.get(dotted)
        if name is None or name.rest is None or not name.settable:
            missing.append(dotted)
        else:
            members[name.rest] = value
    return members, tuple(missing)


def fromRest(config: object) -> dict[str, Any]:
    """
    Read the configuration that REST tells. Total on arbitrary JSON.

    :param config: the ``config`` of an instance, or the ``load_config`` of a load.
    :return: by the contract's names, nested; without what the contract has no name for.
    """
    if not isinstance(config, Mapping):
        return {}
    known = {_REST[member].contract: value for member, value in config.items() if member in _REST}
    return nest({dotted: value for dotted, value in known.items() if _isScalar(value)})


def notApplied(ordered: Config, applied: Config) -> tuple[str, ...]:
    """
    Give the dotted names of what was ordered and is not there, or is there with another value.

    :param ordered: what the load was asked for.
    :param applied: what was read back after it.
    """
    there = flatten(applied)
    return tuple(name for name, value in flatten(ordered).items() if name not in there or not _same(value, there[name]))


def _withoutPrefix(key: object) -> str:
    """Take the kind of model off a key; nothing is left of what is no such key."""
    for prefix in _PREFIXES.values():
        if isinstance(key, str) and key.startswith(prefix):
            return key[len(prefix) :]
    return ""


def _plain(name: _Name, value: object) -> object:
    """Take the value out of what the SDKs wrap it in; None where it is not set."""
    if name.checked:
        return value.get("value") if isinstance(value, dict) and value.get("checked") is True else None
    if name.sdk == _OFFLOAD and isinstance(value, str):
        return _WORDS.get(value)
    return value


def _isScalar(value: object) -> bool:
    """Tell whether it can be the value of one of these fields."""
    return isinstance(value, bool | int | float)


def _same(ordered: object, applied: object) -> bool:
    """Compare values: LM Studio keeps some numbers with half the digits."""
    if isinstance(ordered, bool) or isinstance(applied, bool):
        return ordered is applied
    if isinstance(ordered, int) and isinstance(applied, int):
        return ordered == applied
    if isinstance(ordered, int | float) and isinstance(applied, int | float):
        return _close(ordered, applied)
    return ordered == applied


def _close(one: float, other: float) -> bool:
    try:
        return math.isclose(one, other, rel_tol=1e-6)
    except OverflowError:
        return False
