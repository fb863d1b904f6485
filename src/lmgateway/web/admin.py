# -*- test-case-name: tests.web.test_admin -*-
"""
The admin API (contract, section 4).
"""

from __future__ import annotations

from typing import Any

from klein import Klein

from lmgateway.interfaces import IActiveModel
from lmgateway.policy.inference import decodeActivation
from lmgateway.web.responses import answerErrors, requireJson, respondJson


class AdminApi:
    """
    What an administrator may have done.

    :param active: holds the active model.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, active: IActiveModel) -> None:
        self._active = active

    @app.route("/admin/models/activate", methods=["POST"])
    async def activate(self, request: Any) -> None:
        """Make a model the one that requests without one are given."""
        requireJson(request)
        model = decodeActivation(await request.body.read())
        await self._active.activate(model)
        respondJson(
            request,
            {
                "status": "activated",
                "modelKey": model.modelKey,
                "instanceId": model.instanceId,
                "defaultInference": dict(model.defaultInference),
                "message": f"Requests that name no model now go to {model.modelName}.",
            },
        )

    @app.route("/admin/models/deactivate", methods=["POST"])
    async def deactivate(self, request: Any) -> None:
        """Have no active model."""
        before = self._active.current()
        await self._active.deactivate()
        respondJson(
            request,
            {
                "status": "cleared",
                "modelKey": before.modelKey if before else None,
                "instanceId": before.instanceId if before else None,
                "message": "No model is active: requests must name one.",
            },
        )
