# -*- test-case-name: tests.studio.simulator.test_modelinfo -*-
"""What LM Studio tells its SDKs of models and instances (``lms-shared-types`` of lmstudio-js). Pure."""

from __future__ import annotations

from typing import Any

from lmgateway.studio.simulator.models import Model
from lmgateway.studio.simulator.shelf import Instance

_FORMATS = {"gguf": "gguf", "mlx": "safetensors"}


def domainOf(model: Model) -> str:
    """The namespace that a model belongs to."""
    return "llm" if model.generates else "embedding"


def modelInfo(model: Model) -> dict[str, Any]:
    """All about a model that is downloaded."""
    info: dict[str, Any] = {
        "type": domainOf(model),
        "modelKey": model.key,
        "format": _FORMATS[model.format],
        "displayName": model.displayName,
        "publisher": model.publisher,
        "path": model.key,
        "sizeBytes": model.sizeBytes,
        "indexedModelIdentifier": model.key,
        "deviceIdentifier": None,
    }
    if model.params is not None:
        info["paramsString"] = model.params
    info |= {"architecture": model.architecture, "quantization": {"name": model.quantization, "bits": model.bits}}
    if model.generates:
        info |= {"vision": model.kind == "vlm", "trainedForToolUse": model.toolUse}
    return {**info, "maxContextLength": model.maxContextLength}


def instanceInfo(instance: Instance) -> dict[str, Any]:
    """All about an instance that is loaded; times are milliseconds."""
    return {
        **modelInfo(instance.model),
        "identifier": instance.id,
        "instanceReference": instance.reference,
        "ttlMs": None if instance.ttl is None else round(instance.ttl * 1000),
        "lastUsedTime": round(instance.lastUsed * 1000),
        "contextLength": instance.contextLength,
    }
