# -*- test-case-name: tests.web.test_access -*-
"""What the access log says of a request that has ended."""

from __future__ import annotations

from lmgateway.errors import Fault
from lmgateway.telemetry.accesslog import AccessRecord, Outcome
from lmgateway.wire.request import GatewayRequest


def recordOf(request: GatewayRequest, now: float) -> AccessRecord:
    """
    Sum a request up.

    :param request: one whose answer is finished, cut off or abandoned.
    :param now: Unix time of its end.
    """
    head = request.head
    started = bool(request.startedWriting)
    return AccessRecord(
        time=request.startedAt,
        requestId=request.requestId,
        keyName=request.principal.name if request.principal is not None else None,
        address=head.peer,
        method=head.method.decode("latin-1"),
        route=request.route.name if request.route is not None else "-",
        status=request.code if started else None,
        bytesIn=request.body.received,
        bytesOut=request.sentLength,
        seconds=now - request.startedAt,
        secondsToFirstByte=request.firstByteAt - request.startedAt if started else None,
        model=request.model,
        outcome=_outcomeOf(request),
    )


def _outcomeOf(request: GatewayRequest) -> Outcome:
    if request.cut:
        return "cut"
    if not request.finished:
        return "cancelled"
    if request.error is not None and request.error.fault is Fault.CLIENT:
        return "refused"
    return "complete"
