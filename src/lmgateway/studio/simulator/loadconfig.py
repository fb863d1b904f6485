# -*- test-case-name: tests.studio.simulator.test_loadconfig -*-
"""
What a model is loaded with: LM Studio's own key-value fields, which its SDKs speak, and the names that REST has for a few of
them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lmgateway.studio.simulator.models import Model

Fields = Mapping[str, Any]
"""A configuration: values by their keys."""

CONTEXT_LENGTH = 8192
"""Tokens of context that a model is loaded with where it allows so many and nobody says otherwise."""

_OFFLOAD = "acceleration.offloadRatio"
_WORDS = {"max": 1, "off": 0}
"""What stands for a ratio; LM Studio keeps the number."""

_UNCHECKED = {"checked": False, "value": 0}
_SEED = {"checked": False, "value": -1}
_F16 = {"checked": False, "value": "f16"}
_GPU_SPLIT = {"strategy": "evenly", "disabledGpus": [], "priority": [], "customRatio": []}

_LLAMA: Fields = {
    _OFFLOAD: 1,
    "evalBatchSize": 512,
    "ropeFrequencyBase": _UNCHECKED,
    "ropeFrequencyScale": _UNCHECKED,
    "keepModelInMemory": True,
    "tryMmap": True,
}
_LLAMA_LLM: Fields = {
    **_LLAMA,
    "cpuThreadPoolSize": 4,
    "flashAttention": True,
    "useFp16ForKVCache": True,
    "kCacheQuantizationType": _F16,
    "vCacheQuantizationType": _F16,
}

REST: Mapping[str, str] = {
    "context_length": "contextLength",
    "eval_batch_size": "llama.evalBatchSize",
    "parallel": "numParallelSessions",
    "flash_attention": "llama.flashAttention",
    "num_experts": "numExperts",
    "offload_kv_cache_to_gpu": "offloadKVCacheToGpu",
}
"""What REST calls the fields of a language model, in the order of its answers. Of embedding models it tells the first only."""

SETTABLE = frozenset(REST) - {"parallel"}
"""Those that ``POST /api/v1/models/load`` takes (bug tracker 2061: ``parallel`` cannot be set there)."""


def defaults(model: Model, parallel: int) -> dict[str, Any]:
    """
    Every field of a model, with what it is when nobody says otherwise.

    :param parallel: how many generations it runs at once.
    """
    llama = _LLAMA_LLM if model.generates else _LLAMA
    fields: dict[str, Any] = {"contextLength": min(model.maxContextLength, CONTEXT_LENGTH), "seed": _SEED}
    if model.generates:
        fields["numParallelSessions"] = parallel
    if model.format == "gguf":
        fields |= {f"llama.{name}": value for name, value in llama.items()}
        if model.generates:
            fields["offloadKVCacheToGpu"] = True
    if model.experts:
        fields["numExperts"] = model.experts
    prefix = prefixOf(model)
    named = {prefix + name: value for name, value in fields.items()}
    return {**named, "load.gpuSplitConfig": _GPU_SPLIT, "load.gpuStrictVramCap": False}


def applied(model: Model, parallel: int, wanted: Fields) -> dict[str, Any]:
    """
    The configuration that a load ends up with. As in LM Studio, a field that the model does not have is dropped in
    silence, and so is a value that makes no sense; ``max`` becomes 1; no context is longer than the model's.

    :param wanted: what the client asks for.
    """
    fields = defaults(model, parallel)
    for key, value in wanted.items():
        if key.endswith(_OFFLOAD) and isinstance(value, str):
            value = _WORDS.get(value)  # noqa: PLW2901 - the one value that has words
        if key in fields and _fits(key, value, fields[key]):
            fields[key] = value
    context = prefixOf(model) + "contextLength"
    fields[context] = min(model.maxContextLength, fields[context])
    return fields


def fromREST(model: Model, body: Fields) -> dict[str, Any]:
    """The fields that the body of a load by REST sets."""
    prefix = prefixOf(model)
    return {prefix + REST[name]: body[name] for name in REST if body.get(name) is not None}


def toREST(model: Model, fields: Fields) -> dict[str, Any]:
    """The configuration as REST tells it: only what there is, and of an embedding model only the context."""
    prefix = prefixOf(model)
    names = REST if model.generates else ("context_length",)
    return {name: fields[prefix + REST[name]] for name in names if prefix + REST[name] in fields}


def fromStack(stack: object) -> dict[str, Any]:
    """
    The fields of a stack of layers, as the SDKs send them; of a key that appears twice the last wins.

    :param stack: ``{"layers": [{"config": {"fields": [{"key", "value"}]}}]}``, or anything else, which is nothing.
    """
    return {
        field["key"]: field.get("value")
        for layer in _items(stack, "layers")
        for field in _items(layer.get("config"), "fields")
        if isinstance(field.get("key"), str)
    }


def toFields(fields: Fields) -> dict[str, Any]:
    """A configuration as the SDKs read it."""
    return {"fields": [{"key": key, "value": value} for key, value in fields.items()]}


def prefixOf(model: Model) -> str:
    """What the keys of a model begin with."""
    return "llm.load." if model.generates else "embedding.load."


def _items(holder: object, name: str) -> Iterable[Mapping[str, Any]]:
    """The objects in an array of an object, wherever there is one."""
    array = holder.get(name) if isinstance(holder, dict) else None
    return [item for item in array if isinstance(item, dict)] if isinstance(array, list) else []


def _fits(key: str, value: object, default: object) -> bool:
    """Whether a value makes sense: a ratio from 0 to 1, a count of at least 1, anything else of the default's type."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if key.endswith(_OFFLOAD):
        return isinstance(value, int | float) and 0 <= value <= 1
    if isinstance(default, int):
        return isinstance(value, int) and value >= 1
    return isinstance(default, dict) and isinstance(value, dict)
