# -*- test-case-name: tests.web.test_admin -*-
"""
The admin API (contract, section 4).
"""

from __future__ import annotations

from typing import Any

from klein import Klein

from lmgateway.interfaces import IActiveModel, IEventJournal
from lmgateway.policy.inference import decodeActivation
from lmgateway.web.responses import answerErrors, requireJson, respondJson


class AdminApi:
    """
    What an administrator may have done.

    :param active: holds the active model.
    :param journal: is told of what changed.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, active: IActiveModel, journal: IEventJournal) -> None:
        self._active = active
        self._journal = journal

    @app.route("/admin/models/activate", methods=["POST"])
    async def activate(self, request: Any) -> None:
        """Make a model the one that requests without one are given."""
        requireJson(request)
        model = decodeActivation(await request.body.read())
        await self._active.activate(model)
        told = {
            "modelKey": model.modelKey,
            "instanceId": model.instanceId,
            "defaultInference": dict(model.defaultInference),
        }
        self._journal.record("model_activate", told)
        respondJson(
            request,
            {
                "status": "activated",
                **told,
                "message": f"Requests that name no model now go to {model.modelName}.",
            },
        )

    @app.route("/admin/models/deactivate", methods=["POST"])
    async def deactivate(self, request: Any) -> None:
        """Have no active model."""
        before = self._active.current()
        await self._active.deactivate()
        told: dict[str, object] = {
            "modelKey": before.modelKey if before else None,
            "instanceId": before.instanceId if before else None,
        }
        self._journal.record("model_deactivate", {**told, "defaultInference": {}})
        respondJson(
            request,
            {
                "status": "cleared",
                **told,
                "message": "No model is active: requests must name one.",
            },
        )
