# -*- test-case-name: tests.web.test_health -*-
"""
Whether the gateway lives, and whether LM Studio answers behind it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import readBody
from twisted.web.iweb import IResponse

from lmgateway.errors import GatewayError, UpstreamSilent
from lmgateway.interfaces import IUpstream
from lmgateway.web.responses import answerErrors, respondJson

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
        self._asking: Deferred[None] | None = None

    async def whyNotReady(self) -> str | None:
        """Give the reason why no upstream answers, or None where one does."""
        if self._asking is not None:
            waiter: Deferred[None] = Deferred()
            self._asking.addCallback(lambda _: waiter.callback(None) if not waiter.called else None)
            await waiter
        elif not self._askedAt or self._clock.seconds() - self._askedAt >= FRESH_SECONDS:
            asking: Deferred[None] = Deferred()
            self._asking = asking
            try:
                self._reason = await Deferred.fromCoroutine(self._ask())
            finally:
                self._askedAt = self._clock.seconds()
                self._asking = None
                asking.callback(None)
        return self._reason

    async def _ask(self) -> str | None:
        sending: Deferred[IResponse] = self.upstream.send(b"GET", b"/lmstudio-greeting", (), None)
        limit = self._clock.callLater(PROBE_SECONDS, sending.cancel)
        try:
            # Any answer will do: whoever can say 404 is there.
            response = await sending
            await readBody(response)
        except CancelledError:
            return UpstreamSilent(f"LM Studio did not answer within {PROBE_SECONDS:g} s.").message
        except GatewayError as error:
            return error.message
        finally:
            if limit.active():
                limit.cancel()
        return None


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
    def health(self, request: Any) -> None:
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
    async def ready(self, request: Any) -> None:
        """Say whether a request to LM Studio could be answered now."""
        reason = await self._probe.whyNotReady()
        if reason is None:
            respondJson(request, {"status": "ready"})
        else:
            respondJson(request, {"status": "not_ready", "error": reason}, 503)
