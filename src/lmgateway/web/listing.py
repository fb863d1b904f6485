# -*- test-case-name: tests.web.test_listing -*-
"""
``GET /v1/models``: the one answer of LM Studio's that is kept, since clients ask it before anything else, and some are of no
use until they have it (Open WebUI asks at each page, and waits).
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IResponse
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from lmgateway.errors import GatewayError, InternalError, UpstreamSilent, UpstreamUnavailable
from lmgateway.interfaces import IUpstream
from lmgateway.message import HeaderPairs
from lmgateway.policy.completion import Completions
from lmgateway.policy.dialects import DIALECTS
from lmgateway.policy.model_list import ModelList
from lmgateway.policy.routes import Route
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.web.responses import answerBy
from lmgateway.web.rules import Rules
from lmgateway.wire.answer import HeldResponse, holdWhole
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.relay import ResponseRelay
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.silence import SilenceTimer

LISTED = frozenset({"/v1/models", "/models"})
"""The routes that are answered here."""

PATIENCE_SECONDS = 2.0
"""How long LM Studio may take where a list of before is at hand, which is then given instead."""

LONGEST_WAIT = 30.0
"""How long it may take where none is."""

MOST_LISTED = 16 << 20
"""Bytes of a list: ten thousand models have about one million."""

CONDITIONAL = frozenset(
    {
        b"accept-encoding",
        b"if-none-match",
        b"if-modified-since",
        b"if-match",
        b"if-unmodified-since",
        b"if-range",
        b"range",
    }
)
"""Fields that could make LM Studio's answer something else than the list, readable (RFC 9110 sections 12.5.3, 13, 14)."""

STALE_FIELD = b"X-LMGateway-Stale"
"""Tells how many seconds ago LM Studio gave the list."""

_JSON = (b"Content-Type", b"application/json; charset=utf-8")


class ModelListing(Resource):
    """
    Answers with LM Studio's list, and while it is down with its last one.

    :param rules: header policy; assign to change it.
    :param upstream: where to ask; likewise.
    :param state: whether LM Studio answers; likewise. Another state is another LM Studio's.
    :param completions: knows the aliases.
    :param proxy: answers other methods.
    :param clock: tells the time.
    """

    isLeaf = True

    def __init__(
        self,
        rules: Rules,
        upstream: IUpstream,
        state: UpstreamState,
        completions: Completions,
        proxy: IResource,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.upstream = upstream
        self.state = state
        self._completions = completions
        self._proxy = proxy
        self._clock = clock
        self._last: tuple[float, ModelList] | None = None
        self._askAgainAt = 0.0

    def forget(self) -> None:
        """Forget the last list: it is another LM Studio's."""
        self._last = None

    def render(self, request: GatewayRequest) -> int:
        """Begin to answer."""
        if request.head.method != b"GET":
            self._proxy.render(request)
            return NOT_DONE_YET
        answerBy(request, self._answer(request))
        return NOT_DONE_YET

    async def _answer(self, request: GatewayRequest) -> None:
        route = request.route
        if route is None:
            raise InternalError("A request without a route reached the list of models.")
        head = request.head
        target = route.upstreamTarget(head.target)
        headers = tuple(pair for pair in self.rules.headers.upstreamHeaders(head) if pair[0].lower() not in CONDITIONAL)
        last, state = self._last, self.state
        if last is not None and state.isUp is False:
            self._respond(request, last[1], last[0])
            self._askBehind(state, target, headers)
            return
        try:
            held = await self._ask(state, target, headers)
        except GatewayError:
            if last is None:
                raise
            self._respond(request, last[1], last[0])
            return
        listed = self._keep(state, held)
        if listed is None:
            await self._relay(request, route, held)
        else:
            self._respond(request, listed)

    async def _relay(self, request: GatewayRequest, route: Route, held: HeldResponse) -> None:
        """
        Pass on what LM Studio has to say instead of a list, in its own words.

        :raise GatewayError: it broke off.
        """
        pairs = held.headers.pairs if isinstance(held.headers, VerbatimHeaders) else ()
        headers = self.rules.headers.downstreamHeaders(pairs)
        event = DIALECTS[route.dialect].errorEvent
        relay = ResponseRelay(request, held, headers, event, SilenceTimer(self._clock, 0), isStream=False, watch=None)
        held.deliverBody(relay)
        relay.begun()
        error = await relay.done
        if error is not None:
            raise error

    def _keep(self, state: UpstreamState, held: HeldResponse) -> ModelList | None:
        """
        Read an answer, and remember it if it is a list.

        :param state: of the LM Studio that answered. If it is another's turn by now, nothing is remembered of this one.
        """
        listed = ModelList.read(held.body) if held.code == 200 else None
        if listed is not None and state is self.state:
            self._last = self._clock.seconds(), listed
        return listed

    def _askBehind(self, state: UpstreamState, target: bytes, headers: HeaderPairs) -> None:
        """See whether LM Studio is back, for those who come next."""
        now = self._clock.seconds()
        if now >= self._askAgainAt:
            self._askAgainAt = now + PATIENCE_SECONDS
            asking = Deferred.fromCoroutine(self._ask(state, target, headers))
            asking.addCallbacks(partial(self._keep, state), lambda reason: reason.trap(GatewayError) and None)

    async def _ask(self, state: UpstreamState, target: bytes, headers: HeaderPairs) -> HeldResponse:
        """
        Ask LM Studio.

        :param state: is told whether it answers.
        :raise GatewayError: it is not there, or took too long.
        """
        asking = Deferred.fromCoroutine(self._hold(self.upstream.send(b"GET", target, headers, None)))
        patience = LONGEST_WAIT if self._last is None else PATIENCE_SECONDS
        expired: list[bool] = []

        def expire() -> None:
            expired.append(True)
            asking.cancel()

        late = self._clock.callLater(patience, expire)
        try:
            held = await asking
        except CancelledError:
            if not expired:
                raise
            raise UpstreamSilent(f"LM Studio did not list its models within {patience:g} s.") from None
        except UpstreamUnavailable as error:
            state.failed(error.message)
            raise
        finally:
            if late.active():
                late.cancel()
        state.answered()
        return held

    async def _hold(self, sending: Deferred[IResponse]) -> HeldResponse:
        return await holdWhole(await sending, MOST_LISTED)

    def _respond(self, request: GatewayRequest, listed: ModelList, since: float | None = None) -> None:
        """
        Answer with a list.

        :param since: when LM Studio gave it, where that was not just now.
        """
        principal = request.principal
        globs = principal.grant.models if principal is not None else ()
        headers = [_JSON]
        if since is not None:
            headers.append((STALE_FIELD, b"%d" % max(0, self._clock.seconds() - since)))
        if not request.ended:
            request.sendWhole(200, tuple(headers), listed.render(self._completions.aliases, globs))
