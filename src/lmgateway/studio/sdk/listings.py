# -*- test-case-name: tests.studio.sdk.test_listings -*-
"""
What LM Studio tells its SDKs of models and instances, read without ever failing (``lms-shared-types`` of lmstudio-js:
``ModelInfoBase``, ``ModelInstanceInfoBase``). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmgateway.inventory import DownloadedModel, LoadedModel
from lmgateway.studio.bodies import dicts, isName

KINDS = ("llm", "embedding")
"""The kinds of model that have a namespace each, of their name."""

_DETAILS = (
    "displayName",
    "publisher",
    "architecture",
    "quantization",
    "format",
    "paramsString",
    "vision",
    "trainedForToolUse",
)


def readDownloaded(answer: object) -> tuple[DownloadedModel, ...]:
    """Read the answer to ``listDownloadedModels``; what is no model in it is left out."""
    return tuple(_downloaded(info) for info in dicts(answer) if isName(info.get("modelKey")))


def instancesIn(answer: object) -> list[dict[str, Any]]:
    """Give what the answer to ``listLoaded`` tells of each instance; what is none is left out."""
    return [info for info in dicts(answer) if isName(info.get("identifier"))]


def readInstance(info: Mapping[str, Any], kind: str, loadConfig: Mapping[str, Any]) -> LoadedModel:
    """
    Read what is told of an instance.

    :param info: has a name as its ``identifier``.
    :param kind: of the namespace that told it.
    :param loadConfig: what is known of its configuration otherwise.
    """
    identifier = info["identifier"]
    modelKey = _name(info.get("modelKey"), identifier)
    ttlMs = _number(info.get("ttlMs"))
    context = contextLengthIn(info)
    known = {} if context is None else {"contextLength": context}
    return LoadedModel(
        identifier=identifier,
        modelKey=modelKey,
        type=kind,
        path=_name(info.get("path"), modelKey),
        ttlSeconds=None if ttlMs is None else ttlMs / 1000,
        loadConfig={**known, **loadConfig},
    )


def contextLengthIn(info: Mapping[str, Any]) -> int | None:
    """Give the tokens of context that an instance has, where that is told."""
    return _count(info.get("contextLength"))


def referenceIn(info: Mapping[str, Any]) -> str | None:
    """Give what LM Studio calls this very instance, even after another has taken its identifier."""
    reference = info.get("instanceReference")
    return reference if isName(reference) else None


def specifierOf(info: Mapping[str, Any]) -> dict[str, Any]:
    """Say which instance is meant, as the SDKs do."""
    reference = referenceIn(info)
    if reference is not None:
        return {"type": "instanceReference", "instanceReference": reference}
    return {"type": "query", "query": {"identifier": info["identifier"]}}


def kindOf(modelKey: str, downloaded: tuple[DownloadedModel, ...]) -> str:
    """
    Tell which namespace a model belongs to.

    :param modelKey: a key, with or without a variant, or a path. LM Studio finds models by other parts of their names, too;
        such a one is taken for a language model.
    """
    bare = modelKey.partition("@")[0]
    for names in ((modelKey,), (bare,)):
        for model in downloaded:
            if model.type in KINDS and any(name in {model.modelKey, model.path, *model.variants} for name in names):
                return model.type
    return "llm"


def fractionIn(message: Mapping[str, Any]) -> float | None:
    """Give how far a load is, from 0 to 1, where that is what is told."""
    progress = _number(message.get("progress"))
    return progress if progress is not None and 0 <= progress <= 1 else None


def _downloaded(info: Mapping[str, Any]) -> DownloadedModel:
    modelKey = info["modelKey"]
    variants = info.get("variants")
    return DownloadedModel(
        modelKey=modelKey,
        type=_name(info.get("type"), "llm"),
        path=_name(info.get("path"), modelKey),
        size=_count(info.get("sizeBytes")),
        variants=tuple(filter(isName, variants)) if isinstance(variants, list) else (),
        maxContextLength=_count(info.get("maxContextLength")),
        details={name: info[name] for name in _DETAILS if info.get(name) is not None},
    )


def _name(value: object, otherwise: str) -> str:
    return value if isName(value) else otherwise


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) or number < 0 else int(number)


def _number(value: object) -> float | None:
    """Give a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None
