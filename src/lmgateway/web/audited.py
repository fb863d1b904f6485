# -*- test-case-name: tests.web.test_audited -*-
"""
Administrative acts on their way through the gateway: each is told in the audit before its answer is sent, in this one place.

What an API adds is what the act was about (:attr:`~lmgateway.wire.request.GatewayRequest.audited`). One that adds nothing has a line
all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from klein import Klein
from twisted.python.failure import Failure

from lmgateway.audit import AuditEntry, AuditFailed, AuditLog
from lmgateway.errors import MisplacedKey
from lmgateway.policy.acts import REFUSALS, ActDetails, actionOf, isAct, parseAuditQuery
from lmgateway.policy.limits import Throttle
from lmgateway.policy.routes import Route
from lmgateway.telemetry.accesslog import printable
from lmgateway.web.responses import answerBy, answerErrors, defect, respondError, respondJson
from lmgateway.wire.body import IncomingBody
from lmgateway.wire.request import GatewayRequest

REFUSALS_PER_MINUTE = 12
"""Lines of refusals. Whoever can connect can be refused, and must not push the acts out of the files that are kept."""

MOST_PASSED_ON = 1 << 20
"""Bytes of an act for LM Studio, which is read before it is passed on."""


class AuditedActs:
    """
    Stands between administrative acts and their answers.

    :param audit: what is written.
    :param now: tells the Unix time.
    """

    def __init__(self, audit: AuditLog, now: Callable[[], float]) -> None:
        self._audit = audit
        self._now = now
        self._strangers = Throttle(REFUSALS_PER_MINUTE, 60.0)
        self._known = Throttle(REFUSALS_PER_MINUTE, 60.0)

    def concern(self, request: GatewayRequest) -> None:
        """Have the answer to a request wait for its line; it is one that only an administrator may make."""
        request.hold = self._hold

    def begin(self, request: GatewayRequest, route: Route, go: Callable[[], object]) -> None:
        """
        Have an admitted request answered.

        Nothing is done while lines are owed. What is passed on to LM Studio has its line before: what becomes of it is LM Studio's to say.

        :param go: answers it.
        """
        if not isAct(request.head.method, route) or (route.kind == "api" and not self._audit.isFailing):
            go()
            return
        answerBy(request, self._goPrepared(request, route, go))

    def left(self, request: GatewayRequest) -> None:
        """Be told of the end of an admitted request: where its client did not wait for the answer, write its line now."""
        if request.hold is None or request.route is None:
            return
        request.hold = None
        if isAct(request.head.method, request.route):
            status = request.code if request.startedWriting else None
            entry = self._entryOf(request, request.route, status, 0)
            # The log and the next act tell that it could not be written; nobody else waits for that.
            self._audit.record(entry).addErrback(lambda reason: reason.trap(AuditFailed))

    async def _goPrepared(self, request: GatewayRequest, route: Route, go: Callable[[], object]) -> None:
        await self._prepare(request, route)
        if not request.ended:
            go()

    async def _prepare(self, request: GatewayRequest, route: Route) -> None:
        try:
            await self._audit.recover()
            if route.kind == "proxy":
                await self._announce(request, route)
        except AuditFailed as error:
            request.hold = None
            raise AuditFailed(f"{error.message} It was not done.") from None

    async def _announce(self, request: GatewayRequest, route: Route) -> None:
        """Write the line of what is passed on to LM Studio, before it is."""
        body = request.body
        body.limit = min(body.limit, MOST_PASSED_ON)
        body.check()
        whole = await body.read()
        request.body = again = IncomingBody(body.source, len(whole), body.limit)
        if whole:
            again.dataReceived(whole)
            again.messageComplete()
        request.audited = _orderIn(whole)
        request.hold = None
        await self._audit.record(self._entryOf(request, route, None, 0, "passed_on"))

    def _hold(self, request: GatewayRequest, status: int, send: Callable[[], None]) -> None:
        """Write the line of a request, then have its answer sent."""
        entry = self._entryFor(request, status)
        if entry is None:
            send()
            return

        def ebRecord(reason: Failure) -> None:
            request.release()
            reason.trap(AuditFailed)
            what = "It was done all the same." if entry.outcome == "done" else "It was not done."
            respondError(request, AuditFailed(f"{reason.getErrorMessage()} {what}"))

        recording = self._audit.record(entry)
        recording.addCallbacks(lambda _: send(), ebRecord)
        recording.addErrback(lambda reason: defect(request, reason))

    def _entryFor(self, request: GatewayRequest, status: int) -> AuditEntry | None:
        """The line of an answer; None where it needs none."""
        route = request.route
        if route is None:
            return None
        if status not in REFUSALS:
            return self._entryOf(request, route, status, 0) if isAct(request.head.method, route) else None
        throttle = self._strangers if request.principal is None else self._known
        omitted = throttle.admit(self._now())
        return None if omitted is None else self._entryOf(request, route, status, omitted)

    def _entryOf(
        self, request: GatewayRequest, route: Route, status: int | None, omitted: int, outcome: str | None = None
    ) -> AuditEntry:
        head, error = request.head, request.error
        # Who showed a good key from the wrong address is nobody who asks, and yet the line must say whose key that was.
        principal = error.principal if isinstance(error, MisplacedKey) else request.principal
        details = request.audited or ActDetails()
        return AuditEntry(
            time=self._now(),
            action=actionOf(head.method, route),
            outcome=outcome or outcomeOf(status),
            client=head.peer,
            key=None if principal is None else principal.name,
            keyId=None if principal is None else principal.keyId,
            requestId=request.requestId,
            target=details.target or printable(head.path.decode("latin-1")),
            before=details.before,
            after=details.after,
            status=status,
            error=None if error is None else error.code,
            omitted=omitted,
        )


class AuditApi:
    """
    ``GET /admin/audit``.

    :param audit: what is read.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    @app.route("/admin/audit", methods=["GET"])
    async def audit(self, request: GatewayRequest) -> None:
        """Give the newest lines that were asked for."""
        query = parseAuditQuery(request.head.target.partition(b"?")[2])
        respondJson(request, await self._audit.read(query))


def outcomeOf(status: int | None) -> str:
    """What an answer's status says of the act."""
    if status is None:
        return "unanswered"
    if status in REFUSALS:
        return "refused"
    return "done" if 200 <= status < 300 else "failed"


def _orderIn(body: bytes) -> ActDetails | None:
    """What an act for LM Studio is about, where its body says so."""
    try:
        order = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(order, dict):
        return None
    name = next((order[each] for each in ("instance_id", "model") if isinstance(order.get(each), str)), None)
    return ActDetails(target=name, after=order)
