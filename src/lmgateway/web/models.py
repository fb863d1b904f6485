# -*- test-case-name: tests.web.test_models -*-
"""
The admin API of LM Studio's models (contract, section 4): listed, loaded, unloaded, activated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from lmgateway.errors import Conflict, NotFound
from lmgateway.inventory import DownloadedModel, LoadedModel, LoadOrder
from lmgateway.message import ActiveModel
from lmgateway.policy.acts import ActDetails
from lmgateway.policy.inference import decodeActivation
from lmgateway.policy.loading import (
    LoadRequest,
    UnloadRequest,
    completeOrder,
    decodeCancel,
    decodeLoad,
    decodeUnload,
    settingsIn,
)
from lmgateway.studio.loads import Loaded
from lmgateway.studio.service import ModelService
from lmgateway.studio.unloads import Unloaded
from lmgateway.telemetry.journal import isoTime
from lmgateway.web.responses import answerErrors, requireJson, respondJson
from lmgateway.wire.request import GatewayRequest

PATIENCE_SECONDS = 5.0
"""How long LM Studio may take to say what it has; then it is told what it had."""

_LOAD_STEPS: Mapping[str, str] = {
    "step1": "Load the model manually in LM Studio UI",
    "step2": "Or leave it to LM Studio, which loads it at the first request if just-in-time loading is on",
    "step3": "Send requests without a model to the gateway: they go to this one",
}
_UNLOAD_STEPS: Mapping[str, str] = {
    "step1": "Unload the model manually in LM Studio UI",
    "step2": "Activate another one with POST /admin/models/activate, or have requests name theirs",
}


class ModelsApi:
    """
    What an administrator may see of LM Studio's models, and have done about them.

    :param models: knows and does it.
    :param clock: for how long LM Studio is waited for.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, models: ModelService, clock: IReactorTime) -> None:
        self._models = models
        self._clock = clock

    @app.route("/admin/models", methods=["GET"])
    async def models(self, request: GatewayRequest) -> None:
        """List what LM Studio has now; or had when it was last seen, where it is down, and say so."""
        models = self._models
        isFresh = await self._look()
        inventory, knownAt = models.inventory, models.knownAt
        if inventory is None or knownAt is None:
            raise models.whyUnknown()
        respondJson(
            request,
            {
                "loaded": [loadedOf(each) for each in inventory.loaded],
                "downloaded": [downloadedOf(each) for each in inventory.downloaded],
                "active": activeOf(models),
                "management": models.management,
                "reason": models.reason,
                "knownAt": isoTime(knownAt),
                "stale": not isFresh,
            },
        )

    @app.route("/admin/models/active", methods=["GET"])
    def active(self, request: GatewayRequest) -> None:
        """Tell the active model, from memory."""
        respondJson(request, {"active": activeOf(self._models), "management": self._models.management})

    @app.route("/admin/models/load", methods=["POST"])
    async def load(self, request: GatewayRequest) -> None:
        """Load a model; the answer comes once it is loaded. A client that leaves undoes nothing."""
        requireJson(request)
        wanted = decodeLoad(await request.body.read())
        before, target = activeOf(self._models), wanted.order.modelKey
        request.audited = ActDetails(target, before)
        loaded = await self._models.load(wanted)
        answer = await self._noted(wanted) if loaded is None else loadAnswer(loaded)
        request.audited = ActDetails(target, before, auditable(answer))
        respondJson(request, answer)

    @app.route("/admin/models/load/cancel", methods=["POST"])
    async def cancel(self, request: GatewayRequest) -> None:
        """Cancel a load, whoever waits for it."""
        requireJson(request)
        wanted = decodeCancel(await request.body.read())
        request.audited = ActDetails(wanted.instanceId or wanted.modelKey)
        cancelled = self._models.cancelLoad(wanted)
        message = f"The load of {wanted.modelKey} is cancelled."
        if self._models.management == "rest":
            message += (
                " LM Studio cannot be told so by REST: it may load the model to the end, which an event will tell."
            )
        respondJson(
            request,
            {
                "status": "cancelled",
                "modelKey": wanted.modelKey,
                "instanceId": wanted.instanceId,
                "cancelled": cancelled,
                "message": message,
            },
        )

    @app.route("/admin/models/unload", methods=["POST"])
    async def unload(self, request: GatewayRequest) -> None:
        """Unload an instance."""
        requireJson(request)
        wanted = decodeUnload(await request.body.read())
        before, target = activeOf(self._models), wanted.instanceId or wanted.modelKey
        request.audited = ActDetails(target, before)
        try:
            unloaded = await self._models.unload(wanted)
            answer = await self._cleared(wanted) if unloaded is None else unloadAnswer(unloaded)
        except NotFound as error:
            request.error = error
            told = {"modelKey": wanted.modelKey, "instanceId": wanted.instanceId}
            respondJson(request, {"status": "not_found", **told, "error": error.message, "message": error.message}, 404)
        else:
            request.audited = ActDetails(target, before, auditable(answer))
            respondJson(request, answer)

    @app.route("/admin/models/activate", methods=["POST"])
    async def activate(self, request: GatewayRequest) -> None:
        """Make a model the one that requests without one are given."""
        requireJson(request)
        model = decodeActivation(await request.body.read())
        before = activeOf(self._models)
        request.audited = ActDetails(model.modelName, before)
        await self._models.activate(model)
        request.audited = ActDetails(model.modelName, before, activeOf(self._models))
        message = f"Requests that name no model now go to {model.modelName}."
        if self._models.isResident(model) is False:
            message += " It is not loaded now; LM Studio loads it at the first request if just-in-time loading is on."
        respondJson(request, {"status": "activated", **_namesOf(model), "message": message})

    @app.route("/admin/models/deactivate", methods=["POST"])
    async def deactivate(self, request: GatewayRequest) -> None:
        """Have no active model."""
        known = activeOf(self._models)
        before = await self._models.deactivate()
        request.audited = ActDetails(before.modelName if before else None, known)
        respondJson(
            request,
            {
                "status": "cleared",
                "modelKey": before.modelKey if before else None,
                "instanceId": before.instanceId if before else None,
                "message": "No model is active: requests must name one.",
            },
        )

    async def _look(self) -> bool:
        """Have LM Studio looked at, as long as that takes no longer than somebody waits; tell whether it answered."""
        looking = self._models.refresh()
        expired: list[bool] = []

        def expire() -> None:
            expired.append(True)
            looking.cancel()

        late = self._clock.callLater(PATIENCE_SECONDS, expire)
        try:
            return await looking
        except CancelledError:
            if not expired:
                raise
            return False
        finally:
            if late.active():
                late.cancel()

    async def _noted(self, wanted: LoadRequest) -> dict[str, Any]:
        """
        Note a model where LM Studio offers no management.

        :raise Conflict: it is not even to be noted.
        """
        order = completeOrder(wanted.order, self._models.defaultsFor(wanted.order.modelKey))
        if not wanted.activate:
            raise Conflict(
                "This LM Studio offers no model management, so the gateway can load nothing, and was not to activate the model"
                " either. Load it in LM Studio's window, or with lms load."
            )
        model = ActiveModel(order.modelKey, order.instanceId, wanted.defaultInference, order.loadConfig)
        await self._models.activate(model)
        return {
            "status": "activated",
            **_namesOf(model),
            "activated": True,
            "loadConfig": dict(order.loadConfig),
            "notApplied": notApplied(order),
            "message": "Model activated in gateway. This LM Studio offers no model management: load the model yourself.",
            "workflow": _LOAD_STEPS,
        }

    async def _cleared(self, wanted: UnloadRequest) -> dict[str, Any]:
        """
        Forget the active model where LM Studio offers no management.

        :raise NotFound: it is another one.
        """
        active = self._models.active
        isMeant = active is not None and (
            wanted.modelKey in {active.modelKey, active.modelName} and wanted.instanceId in {None, active.instanceId}
        )
        if active is None or not isMeant:
            raise NotFound(
                f'The model "{wanted.modelKey}" is not active in the gateway, and this LM Studio offers no model management: unload it'
                " in LM Studio's window, or with lms unload."
            )
        await self._models.deactivate()
        return {
            "status": "cleared",
            "modelKey": active.modelKey,
            "instanceId": active.instanceId,
            "deactivated": True,
            "message": "Model deactivated in gateway. This LM Studio offers no model management: unload the model yourself.",
            "workflow": _UNLOAD_STEPS,
        }


def auditable(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit tells of what was done: all but what is for people."""
    return {name: value for name, value in answer.items() if name not in {"message", "workflow"}}


def loadedOf(model: LoadedModel) -> dict[str, Any]:
    """Give an instance as the contract has it."""
    return {
        "path": model.path,
        "identifier": model.identifier,
        "modelKey": model.modelKey,
        "type": model.type,
        "ttlSeconds": model.ttlSeconds,
        "loadConfig": dict(model.loadConfig),
    }


def downloadedOf(model: DownloadedModel) -> dict[str, Any]:
    """Give a model on the disk as the contract has it."""
    return {
        **model.details,
        "path": model.path,
        "size": model.size,
        "type": model.type,
        "modelKey": model.modelKey,
        "variants": model.variants,
        "maxContextLength": model.maxContextLength,
    }


def activeOf(models: ModelService) -> dict[str, Any] | None:
    """Give the active model, and whether it is loaded, or null where nobody knows."""
    model = models.active
    if model is None:
        return None
    told = {**_namesOf(model), "resident": models.isResident(model)}
    return {**told, "loadConfig": dict(model.loadConfig)} if model.loadConfig else told


def notApplied(order: LoadOrder) -> list[str]:
    """Name what LM Studio cannot be told where it offers no management."""
    return [*settingsIn(order.loadConfig), *(["ttlSeconds"] if order.ttlSeconds is not None else [])]


def loadAnswer(loaded: Loaded) -> dict[str, Any]:
    """Say what came of a load."""
    name = loaded.outcome.instanceId
    message = f"{loaded.order.modelKey} is loaded as {name}."
    if loaded.activated:
        message += " Requests that name no model now go to it."
    elif loaded.trouble is not None:
        message += f" It could not be made the active model. {loaded.trouble}"
    answer = {
        "status": "loaded",
        "modelKey": loaded.order.modelKey,
        "instanceId": name,
        "activated": loaded.activated,
        "totalTimeMs": loaded.totalTimeMs,
        "loadConfig": dict(loaded.outcome.loadConfig),
        "message": message,
    }
    missing = loaded.outcome.notApplied
    return {**answer, "notApplied": missing} if missing else answer


def unloadAnswer(unloaded: Unloaded) -> dict[str, Any]:
    """Say what came of an unload."""
    instance = unloaded.instance
    message = f"{instance.identifier} is unloaded."
    if unloaded.deactivated:
        message += " It was the active model: requests must name one now."
    elif unloaded.trouble is not None:
        message += f" It is still the active model. {unloaded.trouble}"
    return {
        "status": "unloaded",
        "modelKey": instance.modelKey,
        "instanceId": instance.identifier,
        "totalTimeMs": unloaded.totalTimeMs,
        "deactivated": unloaded.deactivated,
        "message": message,
    }


def _namesOf(model: ActiveModel) -> dict[str, Any]:
    return {
        "modelKey": model.modelKey,
        "instanceId": model.instanceId,
        "defaultInference": dict(model.defaultInference),
    }
