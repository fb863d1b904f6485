# -*- test-case-name: tests.web.test_tree -*-
"""
The resource tree, and the one gate before it.

Every request passes :meth:`GatewayRoot.admit` first, in this order: address, request line and headers (the parser has
judged them), key, route, scope, limits, size. Only then is anything of it rendered, and a body read. What is not in
:data:`lmgateway.policy.routes.ROUTES` does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from lmgateway.errors import Forbidden, GatewayError, MisplacedKey, Unauthenticated
from lmgateway.message import Principal, Scope
from lmgateway.policy.limits import FREE, RequestLimits
from lmgateway.policy.routes import Route
from lmgateway.web.audited import AuditedActs
from lmgateway.web.limits import KeyRefusals
from lmgateway.web.responses import respondError
from lmgateway.web.rules import Rules
from lmgateway.wire.request import GatewayRequest

API_BODY_LIMIT = 1024 * 1024
"""Bytes of a body to the gateway's own API: its requests are small, and whoever sends more is mistaken."""


class GatewayRoot(Resource):
    """
    The root of everything.

    :param rules: who may ask what; assign to change them for what comes after.
    :param proxy: answers what goes to LM Studio.
    :param proxied: answers the routes of these names instead.
    :param apis: answer the rest, by the first two segments of the path (``/admin/keys``), or else by the first.
    :param refusals: answers requests without a good key.
    :param limits: what the others are held to.
    :param acts: has administrative acts told in the audit.
    :ivar running: the requests that were admitted and are not yet answered.
    """

    isLeaf = True

    def __init__(
        self,
        rules: Rules,
        proxy: IResource,
        proxied: Mapping[str, IResource],
        apis: Mapping[bytes, IResource],
        refusals: KeyRefusals,
        limits: RequestLimits,
        acts: AuditedActs,
    ) -> None:
        super().__init__()
        self.rules = rules
        self._acts = acts
        self._proxy = proxy
        self._proxied = proxied
        self._apis = dict(apis)
        self._refusals = refusals
        self._limits = limits
        self.running: set[GatewayRequest] = set()
        self._holding: dict[GatewayRequest, Principal] = {}

    def render(self, request: GatewayRequest) -> int:
        """Admit the request, and have it answered."""
        try:
            if self._answersPreflight(request):
                return NOT_DONE_YET
            route = self.admit(request)
        except Unauthenticated as error:
            self._refusals.refuse(request, error)
            return NOT_DONE_YET
        except MisplacedKey as error:
            self._refusals.refuseMisplaced(request, error)
            return NOT_DONE_YET
        except GatewayError as error:
            respondError(request, error)
            return NOT_DONE_YET
        self.running.add(request)
        resource = self._proxied.get(route.name, self._proxy) if route.kind == "proxy" else self._apiFor(request.path)
        if request.hold is None:
            resource.render(request)
        else:
            self._acts.begin(request, route, lambda: resource.render(request))
        return NOT_DONE_YET

    def admit(self, request: GatewayRequest) -> Route:
        """
        Decide whether a request may be answered at all.

        :return: its route.
        :raise GatewayError: it may not.
        """
        rules = self.rules
        head = request.head
        self._admitAddress(head.peer)
        request.added = rules.browsers.readable(head)
        missing: GatewayError | None = None
        try:
            request.route = route = rules.routes.resolve(head.method, head.path)
        except GatewayError as error:
            missing = error
        else:
            if route.isOpen:
                return route
            scope = route.scopeFor(head.method)
            if scope is Scope.ADMIN:
                self._acts.concern(request)
        request.principal = rules.authenticator.authenticate(head)
        if request.principal.isKeyless:
            rules.browsers.admitKeyless(head)
        request.site.recognised(request.channel)
        if missing is not None:
            raise missing
        if scope is not None:
            if request.principal.isKeyless and request.principal.keyId is None and not request.principal.holds(scope):
                raise Unauthenticated("Without a key one can only infer here. Send one.", code="missing_api_key")
            rules.authorizer.permit(request.principal, scope)
        self._limit(request, request.principal, route)
        if route.kind == "api":
            request.body.limit = API_BODY_LIMIT
        request.body.check()
        return route

    def _limit(self, request: GatewayRequest, principal: Principal, route: Route) -> None:
        """
        Hold a request to what its key and its address may use up, and have its answer tell what is left.

        :raise TooManyRequests: it is used up.
        """
        head, limits = request.head, self._limits
        isInference = route.kind == "proxy" and route.scope is Scope.INFERENCE and head.method == b"POST"
        verdict = limits.judge(principal, head.peer, request.site.now(), isInference=isInference)
        if verdict is FREE:
            return
        request.added += verdict.headers
        if verdict.refusal is not None:
            raise verdict.refusal
        if verdict.holds:
            self._holding[request] = principal

    def ended(self, request: GatewayRequest) -> None:
        """Be told of the end of a request, before the next one of its connection is looked at."""
        if request in self.running:
            self.running.remove(request)
            self._acts.left(request)
        holder = self._holding.pop(request, None)
        if holder is not None:
            self._limits.release(holder)

    def _answersPreflight(self, request: GatewayRequest) -> bool:
        """
        Tell a browser that a page may ask what it is about to ask. Browsers send no key along with that question.

        :raise Forbidden: not even the browser may ask.
        """
        fields = self.rules.browsers.preflight(request.head)
        if fields is None:
            return False
        self._admitAddress(request.head.peer)
        request.sendWhole(204, fields, b"")
        return True

    def serve(self, path: bytes, api: IResource) -> None:
        """
        Have one more API.

        :param path: the first two segments of its paths.
        """
        self._apis[path] = api

    def _apiFor(self, path: bytes) -> IResource:
        segments = path.split(b"/", 3)
        return self._apis.get(b"/".join(segments[:3])) or self._apis[b"/".join(segments[:2])]

    def cutOff(self, keyId: str) -> None:
        """
        End whatever runs with a key that is good no more: what is being proxied, as if its client had left, and whatever
        is still sending its body.
        """
        for request in list(self.running):
            if request.principal is not None and request.principal.keyId == keyId:
                request.body.fail(Failure(Unauthenticated("The API key was revoked.")))
                request.cancel()

    def refuse(self, request: GatewayRequest, error: GatewayError) -> None:
        """Answer a request whose head is unsound. An address that is not allowed learns no more than that."""
        try:
            self._admitAddress(request.head.peer)
        except Forbidden as forbidden:
            error = forbidden
        respondError(request, error)

    def permits(self, address: str) -> bool:
        """Whether requests from an address are looked at."""
        return self.rules.addresses.permits(address)

    def _admitAddress(self, address: str) -> None:
        if not self.permits(address):
            msg = f"Requests from {address} are not allowed here. The gateway's IP_ALLOWLIST says who may ask."
            raise Forbidden(msg, code="address_not_allowed", closes=True)
