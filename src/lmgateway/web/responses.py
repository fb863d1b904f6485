# -*- test-case-name: tests.web.test_responses -*-
"""
Errors to responses, in one place: whatever goes wrong, wherever, is told the client here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException

from lmgateway.errors import Fault, GatewayError, InternalError, NotFound, Unavailable, UnsupportedMediaType
from lmgateway.policy.dialects import ANTHROPIC, DIALECTS, GATEWAY, OPENAI, Dialect
from lmgateway.wire.request import GatewayRequest

_log = Logger()
_OWN_PATHS = (b"/admin", b"/ca.crt", b"/dashboard", b"/debug", b"/health", b"/metrics")
_JSON = (
    (b"Content-Type", b"application/json"),
    # A browser that is shown an answer must not take it for a page (threat: error-page injection), nor keep it.
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-store"),
)


def dialectOf(request: GatewayRequest) -> Dialect:
    """In whose shapes a request is to be answered: its route's, or else that which its path suggests."""
    if request.route is not None:
        return DIALECTS[request.route.dialect]
    path = request.head.path.lower()
    if path.startswith(_OWN_PATHS):
        return GATEWAY
    return ANTHROPIC if path.startswith(b"/v1/messages") else OPENAI


def respondError(request: GatewayRequest, error: GatewayError) -> None:
    """
    Answer with an error, in the dialect of the path; or cut off an answer that has begun.

    A client that has left is told nothing. What is not the client's own fault is logged with its reason.
    """
    request.error = error
    if error.fault is not Fault.CLIENT:
        _log.warn("{requestId}: {message}", requestId=request.requestId, message=error.message)
    if request.ended:
        return
    if request.startedWriting:
        request.abort()
        return
    if error.closes:
        request.closeAfter()
    request.sendWhole(error.status, _JSON + error.headers, dialectOf(request).errorBody(error))


def answerBy(request: GatewayRequest, answer: Coroutine[Deferred[Any], Any, None]) -> None:
    """
    Have a request answered: to the end of the answer, or until its client leaves.

    :param answer: answers it; what it raises is told the client.
    """
    answering = Deferred.fromCoroutine(answer)
    if not answering.called:
        request.notifyDisconnect(answering)
    answering.addErrback(partial(respondFailure, request))


def respondFailure(request: GatewayRequest, reason: Failure) -> None:
    """
    Answer with what the making of an answer failed with, if anybody still waits.

    :param reason: the error to tell; that the request was cancelled while its client waited, which an administrator does; or a
        mistake of ours.
    """
    error = reason.value
    if isinstance(error, GatewayError):
        respondError(request, error)
    elif isinstance(error, CancelledError) and not request.ended:
        respondError(request, Unavailable("This request was cancelled by an administrator.", code="cancelled"))
    elif not (request.ended and isinstance(error, CancelledError | ConnectionLost)):
        defect(request, reason)


def respondJson(request: GatewayRequest, value: object, status: int = 200) -> None:
    """Answer with a JSON value."""
    if not request.ended:
        request.sendWhole(status, _JSON, msgspec.json.encode(value))


def requireJson(request: GatewayRequest) -> None:
    """
    Refuse a body that does not call itself JSON.

    A web page can send any body across origins without asking, but not with this content type (Fetch, CORS-safelisted
    request headers).

    :raise UnsupportedMediaType: it has another content type, or none.
    """
    mediaType = (request.head.first(b"content-type") or b"").partition(b";")[0].strip().lower()
    if mediaType != b"application/json":
        msg = "Send the body as JSON, with the header 'Content-Type: application/json'."
        raise UnsupportedMediaType(msg)


def answerErrors(app: Klein) -> None:
    """Have a Klein app's errors answered like all others, tests' apps included."""

    def failed(_: object, request: GatewayRequest, failure: Failure) -> bytes | None:
        if isinstance(failure.value, HTTPException):
            return _nothingHere(request)
        respondFailure(request, failure)
        return None

    app.handle_errors(Exception)(failed)  # type: ignore[arg-type]  # klein's type knows only its own request


def _nothingHere(request: GatewayRequest) -> bytes:
    """Answer what no route of an app matches. Klein does not notice that such an answer is finished, so Klein finishes it."""
    request.error = error = NotFound("There is nothing at this path.")
    request.setResponseCode(error.status)
    body = dialectOf(request).errorBody(error)
    for name, value in (*_JSON, (b"Content-Length", b"%d" % len(body))):
        request.setHeader(name, value)
    return body


def defect(request: GatewayRequest, failure: Failure) -> None:
    """Answer a mistake of ours with no more than that it is one; the log has the rest."""
    _log.failure("Defect while answering {requestId}", failure, requestId=request.requestId)
    respondError(request, InternalError("The gateway made a mistake; its log has the details."))
