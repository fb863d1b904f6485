# -*- test-case-name: tests.studio.simulator.test_management -*-
"""Managing models by REST: ``/api/v1/models/load``, ``/unload``, ``/download`` and the status of a download."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.downloads import Downloads
from lmgateway.studio.simulator.encoding import Reply
from lmgateway.studio.simulator.errors import FieldError, StudioError, loadFailure
from lmgateway.studio.simulator.loadconfig import SETTABLE, fromREST, toREST
from lmgateway.studio.simulator.loading import LoadError, Loading
from lmgateway.studio.simulator.models import Model
from lmgateway.studio.simulator.shelf import Shelf
from lmgateway.studio.simulator.speech import thousandths

LOAD = "/api/v1/models/load"
UNLOAD = "/api/v1/models/unload"
DOWNLOAD = "/api/v1/models/download"
STATUS = "/api/v1/models/download/status/"

_FLAGS = ("flash_attention", "offload_kv_cache_to_gpu")


class Management:
    """
    What may be done to the models.

    :param clock: what loads and downloads go by.
    """

    def __init__(self, clock: IReactorTime, shelf: Shelf, downloads: Downloads) -> None:
        self._clock = clock
        self._shelf = shelf
        self._downloads = downloads

    async def load(self, body: dict[str, Any], behaviour: Behaviour) -> Reply:
        """
        Load one more instance of a model; the answer comes when it is there.

        :raise StudioError: the body is wrong, the model unknown, or its load failed.
        """
        _checkKeys(body, "model", {"model", "echo_load_config", *SETTABLE})
        model = self._downloaded(fields.string(body, "model") or "", behaviour)
        echo = fields.flag(body, "echo_load_config")
        _checkConfig(body)
        began = self._clock.seconds()
        wanted = fromREST(model, body)
        instance = self._shelf.load(model, began, behaviour, ttl=None, jit=False, config=wanted)
        try:
            await Loading(self._clock, self._shelf, instance).run(_overlook)
        except LoadError as error:
            raise StudioError(loadFailure(model.key, error.cause), status=500, kind="internal_error") from None
        answer: dict[str, Any] = {
            "type": "llm" if model.generates else "embedding",
            "instance_id": instance.id,
            "load_time_seconds": thousandths(self._clock.seconds() - began),
            "status": "loaded",
        }
        if echo:
            answer["load_config"] = toREST(model, instance.config)
        return Reply(200, answer, 2)

    def unload(self, body: dict[str, Any]) -> Reply:
        """
        Unload an instance; whoever it answers is told.

        :raise StudioError: there is none of that id.
        """
        _checkKeys(body, "instance_id", {"instance_id"})
        name = fields.string(body, "instance_id")
        for instance in self._shelf.instances(self._clock.seconds()):
            if instance.id == name:
                self._shelf.unload(instance)
                return Reply(200, {"instance_id": name}, 2)
        message = f"Model with instance identifier '{name}' is not loaded."
        raise StudioError(message, status=404, kind="model_not_found")

    def download(self, body: dict[str, Any], behaviour: Behaviour) -> Reply:
        """
        Begin to download a model.

        :raise StudioError: the body is wrong.
        """
        _checkKeys(body, "model", {"model", "quantization"})
        artifact = fields.string(body, "model") or ""
        quantization = fields.string(body, "quantization")
        now = self._clock.seconds()
        return Reply(200, self._downloads.begin(artifact, quantization, now, behaviour.downloadTime), 2)

    def status(self, job: str) -> Reply:
        """
        How far a download is.

        :raise StudioError: there is none of that id.
        """
        return Reply(200, self._downloads.status(job, self._clock.seconds()), 2)

    def _downloaded(self, key: str, behaviour: Behaviour) -> Model:
        """
        A model by its key; a variant of it, or the key without the publisher, will not do here.

        :raise StudioError: there is none.
        """
        for model in () if behaviour.noModels else self._shelf.downloaded:
            if model.key == key:
                return model
        raise StudioError(f"Model {key} not found in downloaded models", status=404, kind="model_not_found")


def forbidden() -> Reply:
    """What a token without the permission is told."""
    message = "Permission denied. The LM Studio API token provided lacks the permission to manage models."
    return Reply(403, {"error": {"type": "invalid_request", "code": "permission_denied", "message": message}}, 2)


def refusal(error: StudioError) -> Reply:
    """How a fault is told here: recorded with the type first."""
    members = {"type": error.kind, "message": error.message, "code": error.code, "param": error.param}
    return Reply(error.status, {"error": {name: value for name, value in members.items() if value is not None}}, 2)


def _overlook(progress: float) -> None:
    """REST tells of no progress."""


def _checkKeys(body: dict[str, Any], required: str, known: set[str]) -> None:
    """
    See that there is what there must be, and nothing else.

    :raise FieldError: in the words of a recorded 400.
    """
    unknown = ", ".join(f"'{name}'" for name in body if name not in known)
    if unknown:
        raise FieldError(f"Unrecognized key(s) in object: {unknown}", code="unrecognized_keys")
    if body.get(required) is None:
        raise FieldError(f'"{required}" is required', param=required, code="missing_required_parameter")


def _checkConfig(body: dict[str, Any]) -> None:
    """
    See that the fields of the configuration are of the right type.

    :raise FieldError: one is not.
    """
    for name in sorted(SETTABLE):
        if name in _FLAGS:
            fields.flag(body, name)
        else:
            count = fields.integer(body, name)
            if count is not None and count < 1:
                raise FieldError(f"'{name}' must be at least 1", param=name, code="too_small")
