# -*- test-case-name: tests.web.test_proxy -*-
"""
The proxied path: read the head, decide, move bytes.

A JSON body that the gateway completes is read whole; every other body streams through. The answer streams back as it
comes. When the client leaves (while its body is read, while LM Studio is silent, in the midst of the answer), the
connection upstream is closed at once.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from lmgateway.errors import GatewayError, InternalError, UnsupportedMediaType, UpstreamSilent
from lmgateway.interfaces import IActiveModel, IRequestRewriter, IUpstream
from lmgateway.message import HeaderPairs, Rewritten, Scope
from lmgateway.policy.dialects import DIALECTS, InjectionPlan
from lmgateway.policy.framing import checkReadable
from lmgateway.policy.routes import Route
from lmgateway.web.responses import defect, respondError
from lmgateway.web.rules import Rules
from lmgateway.wire.body import BytesBodyProducer, StreamedBody
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.relay import ResponseRelay
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.silence import SilenceTimer


class ProxyResource(Resource):
    """
    Answers with what LM Studio answers.

    :param rules: header policy and time limits; assign to change them for what comes after.
    :param upstream: where requests go.
    :param rewriter: completes JSON bodies.
    :param active: tells the active model.
    :param clock: whose seconds count for silence.
    """

    isLeaf = True

    def __init__(
        self,
        rules: Rules,
        upstream: IUpstream,
        rewriter: IRequestRewriter,
        active: IActiveModel,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.upstream = upstream
        self._rewriter = rewriter
        self._active = active
        self._plan = InjectionPlan.build(None)
        self._clock = clock

    def render(self, request: GatewayRequest) -> int:
        """Begin the exchange; it ends with its answer, or with the client."""
        exchange = Deferred.fromCoroutine(self._exchange(request))
        if not exchange.called:
            request.notifyDisconnect(exchange)
        exchange.addErrback(self._ebExchange, request)
        return NOT_DONE_YET

    def _ebExchange(self, reason: Failure, request: GatewayRequest) -> None:
        error = reason.value
        if isinstance(error, GatewayError):
            respondError(request, error)
        elif not (request.ended and isinstance(error, ConnectionLost)):
            defect(request, reason)

    async def _exchange(self, request: GatewayRequest) -> None:
        route = request.route
        if route is None:
            raise InternalError("A request without a route reached the proxy.")
        rules = self.rules
        asksForStream, body = await self._readBody(request, route)
        headers = rules.headers.upstreamHeaders(request.head)
        silence = SilenceTimer(self._clock, rules.streamTimeout if asksForStream else rules.timeout)
        response = await self._send(request, route.upstreamTarget(request.head.target), headers, body, silence)
        relay = self._relay(request, route, response, silence)
        error = await relay.done
        if error is not None:
            raise error

    async def _readBody(
        self, request: GatewayRequest, route: Route
    ) -> tuple[bool, BytesBodyProducer | StreamedBody | None]:
        """Give whether a stream is asked for, and what goes upstream."""
        head = request.head
        if request.body.length == 0:
            # "A user agent SHOULD NOT send a Content-Length header field when the request message does not contain
            # content and the method semantics do not anticipate such data" (RFC 9110 section 8.6).
            if _isJsonPost(request) and route.inject != "none":
                self._rewrite(request, route, b"")
            return False, None
        if head.method != b"POST" or route.inject == "none":
            return False, request.body.producer()
        if not _isJsonPost(request):
            if route.adminMembers and not _isAdmin(request):
                msg = "Send the body as JSON, with the header 'Content-Type: application/json'."
                raise UnsupportedMediaType(msg)
            return False, request.body.producer()
        checkReadable(head)
        whole = request.body.whole()
        rewritten = self._rewrite(request, route, await request.body.read() if whole is None else whole)
        return rewritten.stream, BytesBodyProducer(rewritten.body)

    def _rewrite(self, request: GatewayRequest, route: Route, body: bytes) -> Rewritten:
        active = self._active.current()
        if active is not self._plan.active:
            self._plan = InjectionPlan.build(active)
        injections = self._plan.injections(route.dialect, route.inject)
        rewritten = self._rewriter.rewrite(body, injections, route.adminMembers)
        request.model = rewritten.model
        if rewritten.members and request.principal is not None:
            self.rules.authorizer.permit(request.principal, Scope.ADMIN)
        return rewritten

    async def _send(
        self,
        request: GatewayRequest,
        target: bytes,
        headers: HeaderPairs,
        body: BytesBodyProducer | StreamedBody | None,
        silence: SilenceTimer,
    ) -> IResponse:
        sending = self.upstream.send(request.head.method, target, headers, body)
        silence.start(sending.cancel)
        if isinstance(body, StreamedBody):
            body.progressed = silence.touch
        try:
            return await sending
        except CancelledError:
            if not silence.expired:
                raise
            msg = "LM Studio was silent for longer than this gateway waits (PROXY_TIMEOUT, PROXY_STREAM_TIMEOUT)."
            raise UpstreamSilent(msg) from None
        finally:
            silence.stop()

    def _relay(
        self, request: GatewayRequest, route: Route, response: IResponse, silence: SilenceTimer
    ) -> ResponseRelay:
        pairs = response.headers.pairs if isinstance(response.headers, VerbatimHeaders) else ()
        isStream = isEventStream(pairs)
        rules = self.rules
        silence.allow(rules.streamTimeout if isStream else rules.timeout)
        relay = ResponseRelay(
            request,
            response,
            rules.headers.downstreamHeaders(pairs),
            DIALECTS[route.dialect].errorEvent,
            silence,
            isStream=isStream,
        )
        response.deliverBody(relay)
        relay.begun()
        return relay


def isEventStream(headers: HeaderPairs) -> bool:
    """Whether an answer is an event stream (WHATWG HTML, 9.2: ``text/event-stream``)."""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value[:17].lower() == b"text/event-stream"
    return False


def _isJsonPost(request: GatewayRequest) -> bool:
    mediaType = (request.head.first(b"content-type") or b"").partition(b";")[0].strip().lower()
    return request.head.method == b"POST" and (mediaType == b"application/json" or mediaType.endswith(b"+json"))


def _isAdmin(request: GatewayRequest) -> bool:
    return request.principal is not None and request.principal.holds(Scope.ADMIN)
