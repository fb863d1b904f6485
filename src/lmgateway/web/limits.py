# -*- test-case-name: tests.web.test_limits -*-
"""
How requests without a good key are told so: at once, slowly, or not at all.

Their number is bounded everywhere: those whose answers are held back, and the events that they leave in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from lmgateway.errors import MisplacedKey, Unauthenticated
from lmgateway.interfaces import IEventJournal
from lmgateway.policy.limits import LONGEST_DELAY, KeyFailures, Throttle, refusalOfKeys
from lmgateway.telemetry.accesslog import LONGEST_FIELD, printable
from lmgateway.web.responses import defect, respondError
from lmgateway.wire.request import GatewayRequest

MOST_HELD = 64
"""Answers that are held back at the same time; beyond, a wrong key is refused at once."""

EVENTS_PER_SECOND = 5
"""Events of refused keys. A flood of them must not push everything else out of the journal."""

MISSING = "missing_api_key"
"""The code of an answer to whom sent no key at all, and so did not guess."""


class KeyRefusals:
    """
    Answers requests without a good key.

    :param journal: is told of them, a few times a second; the next event tells how many it was not told of.
    :param clock: holds answers back.
    """

    def __init__(self, journal: IEventJournal, clock: IReactorTime) -> None:
        self._journal = journal
        self._clock = clock
        self._failures = KeyFailures()
        self._events = Throttle(EVENTS_PER_SECOND, 1.0)
        self._held = 0

    def refuse(self, request: GatewayRequest, error: Unauthenticated) -> None:
        """
        Answer one.

        :param error: what is wrong with its key.
        """
        now = self._clock.seconds()
        self._record(request, now, {"reason": error.code})
        verdict = 0.0 if error.code == MISSING else self._failures.failed(request.head.peer, now)
        if not isinstance(verdict, float):
            respondError(request, verdict)
        elif not verdict:
            respondError(request, error)
        elif self._held < MOST_HELD:
            self._hold(request, error, verdict)
        else:
            respondError(request, refusalOfKeys(int(LONGEST_DELAY)))

    def refuseMisplaced(self, request: GatewayRequest, error: MisplacedKey) -> None:
        """Answer one whose key is good, though not from there. That is no guess, so it is neither slowed nor counted as one."""
        self._record(request, self._clock.seconds(), {"reason": error.code, "key": error.principal.name})
        respondError(request, error)

    def _hold(self, request: GatewayRequest, error: Unauthenticated, seconds: float) -> None:
        self._held += 1

        def answer(_: object) -> None:
            self._held -= 1
            respondError(request, error)

        def left(reason: Failure) -> None:
            self._held -= 1
            reason.trap(CancelledError)

        waiting: Deferred[None] = deferLater(self._clock, seconds)
        request.notifyDisconnect(waiting)
        waiting.addCallbacks(answer, left)
        waiting.addErrback(lambda reason: defect(request, reason))

    def _record(self, request: GatewayRequest, now: float, why: Mapping[str, object]) -> None:
        omitted = self._events.admit(now)
        if omitted is None:
            return
        head = request.head
        path = printable(head.path[: LONGEST_FIELD + 1].decode("latin-1"))
        data: dict[str, object] = {"client": head.peer, "path": path, **why}
        self._journal.record("auth_failure", {**data, "omitted": omitted} if omitted else data)
