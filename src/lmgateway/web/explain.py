# -*- test-case-name: tests.web.test_explain -*-
"""
``POST /admin/explain``: what would be sent upstream, and why. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from klein import Klein

from lmgateway.errors import BadRequest, NotFound
from lmgateway.interfaces import IActiveModel
from lmgateway.message import Principal
from lmgateway.policy.explaining import Explainer, decodeQuestion
from lmgateway.policy.routes import Route
from lmgateway.policy.target import checkTarget
from lmgateway.web.proxy import ProxyResource
from lmgateway.web.responses import answerErrors, requireJson, respondJson
from lmgateway.wire.request import GatewayRequest

LONGEST_TARGET = 8192
"""Bytes of a path that is explained."""


class ExplainApi:
    """
    Explains requests.

    :param explainer: knows what would become of them.
    :param active: tells the active model.
    :param proxy: would answer them.
    :param principals: gives everybody with a key of their own.
    """

    app = Klein()
    answerErrors(app)

    def __init__(
        self,
        explainer: Explainer,
        active: IActiveModel,
        proxy: ProxyResource,
        principals: Callable[[], Iterable[Principal]],
    ) -> None:
        self._explainer = explainer
        self._active = active
        self._proxy = proxy
        self._principals = principals

    @app.route("/admin/explain", methods=["POST"])
    async def explain(self, request: GatewayRequest) -> None:
        """Explain one request."""
        requireJson(request)
        question = decodeQuestion(await request.body.read())
        target = question.path.encode("utf-8")
        checkTarget(target, LONGEST_TARGET)
        route = self._proxy.rules.routes.resolve(b"POST", target.partition(b"?")[0])
        if route.kind != "proxy":
            raise BadRequest("The gateway answers this path itself: nothing goes upstream.", param="path")
        told = self._explainer.explain(
            route,
            question.body,
            self._active.current(),
            self._principalOf(request, question.key),
            asksForUsage=self._proxy.mayAsk(route),
        )
        respondJson(request, {**self._placed(route, target), **told})

    def _placed(self, route: Route, target: bytes) -> dict[str, Any]:
        upstream = route.upstreamTarget(target).decode("latin-1")
        return {
            "route": route.name,
            "dialect": route.dialect,
            "scope": route.scope.value if route.scope is not None else None,
            "upstream": f"{self._proxy.state.url}{upstream}",
        }

    def _principalOf(self, request: GatewayRequest, name: str | None) -> Principal:
        if name is None:
            return request.asker
        for candidate in self._principals():
            if candidate.name == name:
                return candidate
        raise NotFound(f'There is no key named "{name[:100]}".', param="key")
