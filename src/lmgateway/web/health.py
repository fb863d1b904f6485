# -*- test-case-name: tests.web.test_health -*-
"""
Whether the gateway lives, and whether LM Studio answers behind it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from lmgateway.errors import GatewayError, UpstreamSilent
from lmgateway.interfaces import IUpstream
from lmgateway.web.responses import answerErrors, respondJson
from lmgateway.wire.answer import HeldResponse, holdWhole
from lmgateway.wire.request import GatewayRequest

PROBE_SECONDS = 5.0
"""How long LM Studio has to answer a probe."""

FRESH_SECONDS = 1.0
"""For how long an answer is good: the path is open, and must not let anybody drive requests into LM Studio."""


class UpstreamProbe:
    """
    Asks LM Studio whether it is there, once for all who want to know.

    :param upstream: where to ask.
    :param clock: for the age of answers.
    """

    def __init__(self, upstream: IUpstream, clock: IReactorTime) -> None:
        self.upstream = upstream
        self._clock = clock
        self._askedAt = 0.0
        self._reason: str | None = None
        self._isAsking = False
        self._waiting: list[Deferred[str | None]] = []

    def whyNotReady(self) -> Deferred[str | None]:
        """
        Tell why no upstream answers, or None where one does.

        Whoever asks while LM Studio is being asked waits for that answer. One who leaves takes it from nobody else.
        """
        if self._askedAt and self._clock.seconds() - self._askedAt < FRESH_SECONDS:
            return succeed(self._reason)
        waiter: Deferred[str | None] = Deferred(self._leave)
        self._waiting.append(waiter)
        if len(self._waiting) == 1 and not self._isAsking:
            self._isAsking = True
            Deferred.fromCoroutine(self._ask()).addBoth(self._tell)
        return waiter

    def _leave(self, waiter: Deferred[str | None]) -> None:
        self._waiting.remove(waiter)

    def _tell(self, result: str | Failure | None) -> None:
        self._isAsking = False
        waiting, self._waiting = self._waiting, []
        if not isinstance(result, Failure):
            self._askedAt = self._clock.seconds()
            self._reason = result
        for waiter in waiting:
            waiter.callback(result)

    async def _ask(self) -> str | None:
        sending: Deferred[IResponse] = self.upstream.send(b"GET", b"/lmstudio-greeting", (), None)
        limit = self._clock.callLater(PROBE_SECONDS, sending.cancel)
        try:
            # Any answer will do: whoever can say 404 is there. What it says besides is read so that its connection can be
            # used again, and not waited for.
            self._readOff(holdWhole(await sending))
        except CancelledError:
            return UpstreamSilent(f"LM Studio did not answer within {PROBE_SECONDS:g} s.").message
        except GatewayError as error:
            return error.message
        finally:
            if limit.active():
                limit.cancel()
        return None

    def _readOff(self, held: Deferred[HeldResponse]) -> None:
        late = self._clock.callLater(PROBE_SECONDS, held.cancel)

        def ended(_: HeldResponse | Failure) -> None:
            if late.active():
                late.cancel()

        held.addBoth(ended)


class HealthApi:
    """
    ``/health`` and ``/health/ready``.

    :param probe: asks LM Studio.
    :param clock: for the uptime.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, probe: UpstreamProbe, clock: IReactorTime) -> None:
        self._probe = probe
        self._clock = clock
        self._startedAt = clock.seconds()

    @app.route("/health", methods=["GET"])
    def health(self, request: GatewayRequest) -> None:
        """Say that the process lives, and for how long it has."""
        now = self._clock.seconds()
        respondJson(
            request,
            {
                "status": "ok",
                "timestamp": datetime.fromtimestamp(now, UTC),
                "uptime": round(now - self._startedAt, 3),
            },
        )

    @app.route("/health/ready", methods=["GET"])
    async def ready(self, request: GatewayRequest) -> None:
        """Say whether a request to LM Studio could be answered now."""
        reason = await self._probe.whyNotReady()
        if reason is None:
            respondJson(request, {"status": "ready"})
        else:
            respondJson(request, {"status": "not_ready", "error": reason}, 503)
