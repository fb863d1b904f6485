# -*- test-case-name: tests.web.test_proxy -*-
"""
The proxied path: read the head, decide, move bytes.

A JSON body that the gateway completes is read whole; every other body streams through. The answer streams back as it
comes. When the client leaves (while its body is read, while LM Studio is silent, in the midst of the answer), the
connection upstream is closed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from lmgateway.errors import (
    Forbidden,
    GatewayError,
    InternalError,
    UnsupportedMediaType,
    UpstreamSilent,
    UpstreamUnavailable,
)
from lmgateway.interfaces import IActiveModel, IRequestRewriter, IUpstream
from lmgateway.message import HeaderPairs, Rewritten, Scope
from lmgateway.policy.completion import Completions, UnknownModel
from lmgateway.policy.dialects import DIALECTS
from lmgateway.policy.framing import checkReadable
from lmgateway.policy.routes import Route
from lmgateway.policy.stream_options import ASKABLE_DIALECTS, WATCHED, UsageAsking, askForUsage, refusesUsage
from lmgateway.policy.tools import TOOLS, namesServers
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.web.responses import answerBy
from lmgateway.web.rules import Rules
from lmgateway.web.watch import LONGEST_MODEL, ExchangeWatch, Watching
from lmgateway.wire.answer import holdWhole
from lmgateway.wire.body import BytesBodyProducer, StreamedBody
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.relay import ResponseRelay
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.silence import SilenceTimer

T = TypeVar("T")

MODEL_FIELD = b"X-LMGateway-Model"
"""The answer's header field that names the model that LM Studio was asked for."""

VISIBLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")

NOT_ALLOWED = "model_not_allowed"
"""The code of what a key that is meant for some models may not do."""

REFUSALS = frozenset({400, 422})
"""Answers that may refuse a request for being asked for its usage."""


class Prepared(Struct, frozen=True):
    """
    What goes upstream as a body.

    :param producer: produces it; None where there is none.
    :param plain: the same without our asking for the usage, where we ask.
    :param rewritten: what was read of it, where it was read.
    :param watch: watches the exchange, where it is an inference.
    """

    producer: BytesBodyProducer | StreamedBody | None
    rewritten: Rewritten | None = None
    watch: ExchangeWatch | None = None
    plain: bytes | None = None


class ProxyResource(Resource):
    """
    Answers with what LM Studio answers.

    :param rules: header policy and time limits; assign to change them for what comes after.
    :param upstream: where requests go; likewise.
    :param rewriter: completes JSON bodies.
    :param active: tells the active model.
    :param watching: watches inference requests.
    :param state: is told whether LM Studio answers; assign with the upstream.
    :param asking: tells whether streams are asked for their usage; assign to change it.
    :param completions: tells what requests are completed with.
    :param look: has it looked at what LM Studio has now; fires with whether that was done.
    :param clock: whose seconds count for silence.
    """

    isLeaf = True

    def __init__(
        self,
        rules: Rules,
        upstream: IUpstream,
        rewriter: IRequestRewriter,
        active: IActiveModel,
        watching: Watching,
        state: UpstreamState,
        asking: UsageAsking,
        completions: Completions,
        look: Callable[[], Deferred[bool]],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.upstream = upstream
        self.state = state
        self.asking = asking
        self._rewriter = rewriter
        self._active = active
        self._watching = watching
        self.completions = completions
        self._look = look
        self._clock = clock

    def render(self, request: GatewayRequest) -> int:
        """Begin to answer; it ends with the answer, or with the client."""
        answerBy(request, self._answer(request))
        return NOT_DONE_YET

    async def _answer(self, request: GatewayRequest) -> None:
        route = request.route
        if route is None:
            raise InternalError("A request without a route reached the proxy.")
        prepared = await self._prepare(request, route)
        watch = prepared.watch
        if watch is None:
            await self._exchange(request, route, prepared)
            return
        try:
            await self._exchange(request, route, prepared)
        except GatewayError as error:
            watch.ended(request, "cut" if request.startedWriting else "failed", error)
            raise
        except BaseException:
            watch.ended(request, "cancelled")
            raise
        watch.ended(request, "complete")

    async def _prepare(self, request: GatewayRequest, route: Route) -> Prepared:
        """Read and complete the body where the gateway must, else let it stream."""
        head = request.head
        isJson = _isJsonPost(request)
        if not isJson or route.inject == "none":
            _requireAnyModel(request)
        if head.method != b"POST" or route.inject == "none" or (request.body.length == 0 and not isJson):
            return Prepared(None if request.body.length == 0 else request.body.producer())
        if not isJson:
            if route.adminMembers and not _isAdmin(request):
                msg = "Send the body as JSON, with the header 'Content-Type: application/json'."
                raise UnsupportedMediaType(msg)
            return Prepared(request.body.producer())
        checkReadable(head)
        whole = request.body.whole()
        body = await request.body.read() if whole is None else whole
        rewritten = await self._rewrite(request, route, body)
        watch = self._watching.begin(request, route, body, rewritten)
        asking = askForUsage(rewritten) if self.mayAsk(route) else None
        if asking is None:
            return Prepared(BytesBodyProducer(rewritten.body), rewritten, watch)
        return Prepared(BytesBodyProducer(asking), rewritten, watch, rewritten.body)

    def mayAsk(self, route: Route) -> bool:
        """Whether a stream on this route is asked for its usage where the client did not."""
        return route.inject == "all" and route.dialect in ASKABLE_DIALECTS and self.asking.asks(self.state.url)

    async def _rewrite(self, request: GatewayRequest, route: Route, body: bytes) -> Rewritten:
        principal = request.asker

        def rewrite() -> Rewritten:
            completing = self.completions.completing(route.dialect, route.inject, self._active.current(), principal)
            return self._rewriter.rewrite(body, completing, route.adminMembers | WATCHED | TOOLS)

        try:
            rewritten = rewrite()
        except UnknownModel:
            # It may have been downloaded or loaded since somebody last looked.
            if not await self._look():
                raise
            rewritten = rewrite()
        request.model = rewritten.model
        members = rewritten.members
        if members & route.adminMembers or (route.adminMembers and members & TOOLS and namesServers(body)):
            self.rules.authorizer.permit(principal, Scope.ADMIN)
        if principal.grant.models and rewritten.model is None:
            raise Forbidden(
                "Name a model: this key is not meant for every one.", param="model", code="model_not_allowed"
            )
        return rewritten

    async def _exchange(self, request: GatewayRequest, route: Route, prepared: Prepared) -> None:
        """
        Send the request, and relay its answer.

        :raise GatewayError: there was none, or it broke off.
        """
        rules = self.rules
        watch = prepared.watch
        asksForStream = prepared.rewritten is not None and prepared.rewritten.stream
        silence = SilenceTimer(self._clock, rules.streamTimeout if asksForStream else rules.timeout)
        response, asked = await self._ask(request, route, prepared, silence)
        pairs = response.headers.pairs if isinstance(response.headers, VerbatimHeaders) else ()
        isStream = isEventStream(pairs)
        silence.allow(rules.streamTimeout if isStream else rules.timeout)
        if watch is not None:
            # A body of a declared length cannot lose a part of it.
            removes = asked and response.length is UNKNOWN_LENGTH
            watch.answered(response.code, pairs, isStream=isStream, removesUsage=removes)
        relay = ResponseRelay(
            request,
            response,
            _answerHeaders(rules.headers.downstreamHeaders(pairs), prepared.rewritten),
            DIALECTS[route.dialect].errorEvent,
            silence,
            isStream=isStream,
            watch=watch,
        )
        response.deliverBody(relay)
        relay.begun()
        error = await relay.done
        if error is not None:
            raise error

    async def _ask(
        self, request: GatewayRequest, route: Route, prepared: Prepared, silence: SilenceTimer
    ) -> tuple[IResponse, bool]:
        """
        Send the request; and once more without our asking for its usage, where that is what is refused.

        :return: the answer, and whether it was asked for its usage by us.
        """
        plain, url = prepared.plain, self.state.url
        response = await self._send(request, route, prepared.producer, silence)
        if plain is None or response.code not in REFUSALS:
            return response, plain is not None
        held = await self._within(silence, holdWhole(response))
        if not refusesUsage(held.code, held.body):
            return held, True
        self.asking.refused(url)
        return await self._send(request, route, BytesBodyProducer(plain), silence), False

    async def _send(
        self,
        request: GatewayRequest,
        route: Route,
        body: BytesBodyProducer | StreamedBody | None,
        silence: SilenceTimer,
    ) -> IResponse:
        head = request.head
        state = self.state
        headers = self.rules.headers.upstreamHeaders(head)
        sending = self.upstream.send(head.method, route.upstreamTarget(head.target), headers, body)
        if isinstance(body, StreamedBody):
            body.progressed = silence.touch
        try:
            response = await self._within(silence, sending)
        except UpstreamUnavailable as error:
            state.failed(error.message)
            raise
        state.answered()
        return response

    async def _within(self, silence: SilenceTimer, waiting: Deferred[T]) -> T:
        """
        Wait for something from upstream, as long as its silence is allowed.

        :raise UpstreamSilent: nothing came for too long.
        """
        silence.start(waiting.cancel)
        try:
            return await waiting
        except CancelledError:
            if not silence.expired:
                raise
            msg = "LM Studio was silent for longer than this gateway waits (PROXY_TIMEOUT, PROXY_STREAM_TIMEOUT)."
            raise UpstreamSilent(msg) from None
        finally:
            silence.stop()


def _answerHeaders(headers: HeaderPairs, rewritten: Rewritten | None) -> HeaderPairs:
    """The upstream's header fields, and which model it was asked for. A name is data: what no field may hold is escaped."""
    if rewritten is None or rewritten.model is None:
        return headers
    return (*headers, (MODEL_FIELD, _fieldOf(rewritten.model[:LONGEST_MODEL])))


@lru_cache(maxsize=256)
def _fieldOf(model: str) -> bytes:
    """A name as a header field holds it: visible ASCII as it is, the rest as in a URL."""
    return quote(model, safe=VISIBLE, errors="surrogatepass").encode("ascii")


def isEventStream(headers: HeaderPairs) -> bool:
    """Whether an answer is an event stream (WHATWG HTML, 9.2: ``text/event-stream``)."""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value[:17].lower() == b"text/event-stream"
    return False


def _requireAnyModel(request: GatewayRequest) -> None:
    """
    Keep a key that is meant for some models from what the gateway does not read: it could ask any model there.

    :raise Forbidden: it is one, and this is no mere reading.
    """
    principal = request.principal
    if principal is not None and principal.grant.models and request.head.method not in (b"GET", b"HEAD"):
        raise Forbidden(
            "This key is meant for some models, and of such a request the gateway does not know which model it is for.",
            code=NOT_ALLOWED,
        )


def _isJsonPost(request: GatewayRequest) -> bool:
    mediaType = (request.head.first(b"content-type") or b"").partition(b";")[0].strip().lower()
    return request.head.method == b"POST" and (mediaType == b"application/json" or mediaType.endswith(b"+json"))


def _isAdmin(request: GatewayRequest) -> bool:
    return request.principal is not None and request.principal.holds(Scope.ADMIN)
