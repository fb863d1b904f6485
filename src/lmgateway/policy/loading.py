# -*- test-case-name: tests.policy.test_loading -*-
"""
What an admin may say of loading and unloading a model (contract, section 4). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from lmgateway.inventory import LoadOrder
from lmgateway.policy.checks import Check, Fault, Path, boolean, decodeFields, integer, members, name, number, optional
from lmgateway.policy.inference import DEFAULT_INFERENCE

MOST = 2**53 - 1
"""The highest integer that every program reads as it was written (RFC 8259 section 6)."""


class LoadRequest(Struct, frozen=True):
    """
    What ``POST /admin/models/load`` asks for.

    :param order: what is to be loaded.
    :param activate: whether requests that name no model go to it then.
    :param defaultInference: the default parameters that are active with it.
    """

    order: LoadOrder
    activate: bool
    defaultInference: Mapping[str, Any]


class UnloadRequest(Struct, frozen=True):
    """
    What ``POST /admin/models/unload`` asks for.

    :param modelKey: which model.
    :param instanceId: which instance of it, or None for the one that there is.
    :param force: whether an instance is unloaded even while it answers.
    """

    modelKey: str
    instanceId: str | None
    force: bool


class CancelRequest(Struct, frozen=True):
    """
    What ``POST /admin/models/load/cancel`` asks for.

    :param modelKey: which model is no longer to be loaded.
    :param instanceId: the instance that it was to become, or None for any.
    """

    modelKey: str
    instanceId: str | None


def count(least: int) -> Check:
    """
    :param least: the lowest value allowed.
    :return: a check for an integer that LM Studio reads as it was written.
    """
    isInteger = integer(least)

    def check(value: object, path: Path) -> Iterable[Fault]:
        faults = list(isInteger(value, path))
        if not faults and isinstance(value, int) and value > MOST:
            faults.append((path, f"Must be at most {MOST}."))
        return faults

    return check


def _object(checks: Mapping[str, Check]) -> Check:
    """An object whose members may all be missing, or ``null``."""
    return members({key: optional(check) for key, check in checks.items()})


LOAD_CONFIG: Mapping[str, Check] = MappingProxyType(
    {
        "contextLength": count(1),
        "gpu": _object({"ratio": number(0, 1), "layers": count(0)}),
        "cpuThreads": count(1),
        "ropeFrequencyBase": number(0, above=True),
        "ropeFrequencyScale": number(0, above=True),
        "evalBatchSize": count(1),
        "flashAttention": boolean,
        "numExperts": count(1),
        "offloadKvCacheToGpu": boolean,
        "parallel": count(1),
    }
)
"""The members of ``loadConfig``."""

_LOAD_CONFIG = _object(LOAD_CONFIG)
_NAMES: Mapping[str, Check] = MappingProxyType({"modelKey": name, "instanceId": optional(name)})
_LOAD = members(
    {
        **_NAMES,
        "loadConfig": optional(_LOAD_CONFIG),
        "ttlSeconds": optional(count(1)),
        "defaultInference": optional(members(DEFAULT_INFERENCE)),
        "activate": optional(boolean),
    },
    ["modelKey"],
)
_UNLOAD = members({**_NAMES, "force": optional(boolean)}, ["modelKey"])
_CANCEL = members(_NAMES, ["modelKey"])


def checkLoadConfig(value: object, path: Path) -> Iterable[Fault]:
    """Check a ``loadConfig``, decoded: of a request, or of ``[models."KEY"]`` in the settings."""
    return _LOAD_CONFIG(value, path)


def decodeLoad(body: bytes) -> LoadRequest:
    """
    Read the body of ``POST /admin/models/load``. ``null`` for what is optional is as good as leaving it out.

    :raise BadRequest: it is no JSON object.
    :raise ValidationFailed: a member is missing, unknown or not as it must be.
    """
    fields = decodeFields(body, _LOAD)
    activate = fields.get("activate")
    return LoadRequest(
        LoadOrder(
            fields["modelKey"],
            fields.get("instanceId"),
            _said(fields.get("loadConfig")),
            fields.get("ttlSeconds"),
        ),
        activate=True if activate is None else activate,
        defaultInference=fields.get("defaultInference") or {},
    )


def decodeUnload(body: bytes) -> UnloadRequest:
    """Read the body of ``POST /admin/models/unload``; otherwise like :func:`decodeLoad`."""
    fields = decodeFields(body, _UNLOAD)
    return UnloadRequest(fields["modelKey"], fields.get("instanceId"), force=bool(fields.get("force")))


def decodeCancel(body: bytes) -> CancelRequest:
    """Read the body of ``POST /admin/models/load/cancel``; otherwise like :func:`decodeLoad`."""
    fields = decodeFields(body, _CANCEL)
    return CancelRequest(fields["modelKey"], fields.get("instanceId"))


def completeOrder(order: LoadOrder, defaults: Mapping[str, Any]) -> LoadOrder:
    """
    Complete what is ordered by what is set for the model. Member by member what is ordered wins; ``gpu`` is one member, as
    ``ratio`` and ``layers`` are two ways to say the same.

    :param defaults: a ``loadConfig``.
    """
    return LoadOrder(order.modelKey, order.instanceId, {**_said(defaults), **order.loadConfig}, order.ttlSeconds)


def settingsIn(loadConfig: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Name everything that a ``loadConfig`` sets: ``contextLength``, ``gpu.ratio``."""
    for key, value in loadConfig.items():
        if isinstance(value, Mapping):
            yield from settingsIn(value, f"{above}{key}.")
        else:
            yield above + key


def _said(config: Any) -> dict[str, Any]:
    """A ``loadConfig`` that was found to be sound, without what says nothing."""
    said: dict[str, Any] = {}
    for key, value in (config or {}).items():
        kept = _said(value) if isinstance(value, Mapping) else value
        if kept is not None and kept != {}:
            said[key] = kept
    return said
