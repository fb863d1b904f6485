# -*- test-case-name: tests.studio.simulator.test_listings -*-
"""The lists of models of the three APIs. Pure."""

from __future__ import annotations

from typing import Any

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.loadconfig import toREST
from lmgateway.studio.simulator.models import Model
from lmgateway.studio.simulator.shelf import Instance, Shelf


def openAIModels(shelf: Shelf, now: float, behaviour: Behaviour) -> dict[str, Any]:
    """``GET /v1/models``: ``data`` first, and no ``created``."""
    models = shelf.listed(now, behaviour)
    data = [{"id": model.key, "object": "model", "owned_by": "organization_owner"} for model in models]
    return {"data": data, "object": "list"}


def v0Models(shelf: Shelf, now: float, behaviour: Behaviour) -> dict[str, Any]:
    """``GET /api/v0/models``."""
    return {"data": [_v0Model(model, shelf, now) for model in shelf.listed(now, behaviour)], "object": "list"}


def v0ModelNamed(name: str, shelf: Shelf, now: float, behaviour: Behaviour) -> dict[str, Any] | None:
    """``GET /api/v0/models/NAME``, or None if there is none of that name."""
    for model in shelf.listed(now, behaviour):
        if name in model.names:
            return _v0Model(model, shelf, now)
    return None


def v1Models(shelf: Shelf, now: float, behaviour: Behaviour) -> dict[str, Any]:
    """``GET /api/v1/models``: always every model that is downloaded."""
    models = () if behaviour.noModels else shelf.downloaded
    return {"models": [_v1Model(model, shelf, now) for model in models]}


def _v0Model(model: Model, shelf: Shelf, now: float) -> dict[str, Any]:
    instances = shelf.of(model, now)
    state = "not-loaded" if not instances else "loaded" if instances[0].readyAt <= now else "loading"
    item = {
        "id": model.key,
        "object": "model",
        "type": model.kind,
        "publisher": model.publisher,
        "arch": model.architecture,
        "compatibility_type": model.format,
        "quantization": model.quantization,
        "state": state,
        "max_context_length": model.maxContextLength,
    }
    if state == "loaded":
        item["loaded_context_length"] = instances[0].contextLength
    if model.kind != "embeddings":
        item["capabilities"] = ["tool_use"] if model.toolUse else []
    return item


def _v1Model(model: Model, shelf: Shelf, now: float) -> dict[str, Any]:
    """Embedding models have no architecture, no capabilities and no description."""
    generates = model.kind != "embeddings"
    ready = (instance for instance in shelf.of(model, now) if instance.readyAt <= now)
    item: dict[str, Any] = {
        "type": "llm" if generates else "embedding",
        "publisher": model.publisher,
        "key": model.key,
        "display_name": model.displayName,
    }
    if generates:
        item["architecture"] = model.architecture
    item |= {
        "quantization": {"name": model.quantization, "bits_per_weight": model.bits},
        "size_bytes": model.sizeBytes,
        "params_string": model.params,
        "loaded_instances": [_v1Instance(instance, now) for instance in ready],
        "max_context_length": model.maxContextLength,
        "format": model.format,
    }
    if generates:
        item |= {"capabilities": _capabilities(model), "description": None}
    return item


def _v1Instance(instance: Instance, now: float) -> dict[str, Any]:
    """An instance that was loaded just in time also tells how long it stays."""
    item: dict[str, Any] = {"id": instance.id, "config": toREST(instance.model, instance.config)}
    remaining = instance.remainingTTL(now)
    return item if remaining is None else {**item, "remaining_ttl_seconds": remaining}


def _capabilities(model: Model) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"vision": model.kind == "vlm", "trained_for_tool_use": model.toolUse}
    if model.reasoningOptions:
        options = {"allowed_options": list(model.reasoningOptions), "default": model.reasoningDefault}
        capabilities["reasoning"] = options
    return capabilities
