# -*- test-case-name: tests.test_errors -*-
"""
Everything that can go wrong with a request, as exceptions that know their HTTP status and whose fault it was.

A message is a sentence for the person at the client: what happened and what to do about it. It never holds a key, a
traceback, or a path of this machine. :mod:`lmgateway.web.tree` turns each of these into a response, in one function;
:mod:`lmgateway.policy.dialects` spells the body.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from lmgateway.message import Principal


class Fault(Enum):
    """Whose fault an error is: decides the log level, and that a client's mistake never counts against the upstream."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class GatewayError(Exception):
    """
    A request that cannot be answered as asked.

    :param message: one sentence or two for the client: what happened, what to do.
    :param param: the offending field, OpenAI's ``error.param``.
    :param code: a short stable word for programs, OpenAI's ``error.code``; the class's own unless given.
    :param details: what :samp:`/admin` shows as ``details``: a list of ``{"path", "message"}``.
    :param closes: whether the connection must be closed after the answer, because its framing can no longer be trusted.
    """

    status: ClassVar[int] = 500
    fault: ClassVar[Fault] = Fault.GATEWAY
    kind: ClassVar[str] = "server_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: list[dict[str, object]] | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        self.closes = closes
        if code is not None:
            self.code = code

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Header fields that the status itself asks for."""
        return ()


class ClientError(GatewayError):
    """The client asked for something that it must not or cannot have."""

    status = 400
    fault = Fault.CLIENT
    kind = "invalid_request_error"
    code = "bad_request"


class BadRequest(ClientError):
    """Bad JSON, a bad field, bad HTTP (RFC 9110 section 15.5.1)."""


class Unauthenticated(ClientError):
    """No key, a wrong key, an expired key (RFC 9110 section 15.5.2)."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The challenge that a 401 MUST carry (RFC 9110 section 11.6.1)."""
        return ((b"WWW-Authenticate", b'Bearer realm="lmgateway"'),)


class Forbidden(ClientError):
    """The address is not allowed, or the key lacks the scope."""

    status = 403
    kind = "permission_error"
    code = "forbidden"


class MisplacedKey(Forbidden):
    """
    A good key, shown from an address that it is not held to: it may have been stolen.

    :param principal: whose key it is.
    """

    code = "address_not_allowed_for_key"

    def __init__(self, message: str, principal: Principal) -> None:
        super().__init__(message)
        self.principal = principal


class NotFound(ClientError):
    """No such path, or no such thing at it."""

    status = 404
    kind = "not_found_error"
    code = "not_found"


class MethodNotAllowed(ClientError):
    """
    The path is known, the method is not one of its own.

    :param allow: the methods that the path has, upper case.
    """

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[bytes, ...]) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The origin server MUST generate an Allow header field in a 405 (RFC 9110 section 15.5.6)."""
        return ((b"Allow", b", ".join(self.allow)),)


class RequestTimeout(ClientError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"


class Conflict(ClientError):
    """What was asked for cannot be done in the present state."""

    status = 409
    code = "conflict"


class PayloadTooLarge(ClientError):
    """The body is over the limit, told before it is read where its length is declared."""

    status = 413
    code = "body_too_large"


class TargetTooLong(ClientError):
    """The request target is over the limit."""

    status = 414
    code = "target_too_long"


class UnsupportedMediaType(ClientError):
    """A body in an encoding or type that the gateway would have to read and does not."""

    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(ClientError):
    """An ``Expect`` other than ``100-continue`` (RFC 9110 section 10.1.1)."""

    status = 417
    code = "expectation_failed"


class Misdirected(ClientError):
    """The request is meant for somebody else (RFC 9110 section 15.5.20)."""

    status = 421
    code = "misdirected_request"


class HeadTooLarge(ClientError):
    """Too many header fields, or too many bytes of them (RFC 6585 section 5)."""

    status = 431
    code = "head_too_large"


class TooManyRequests(ClientError):
    """
    Over a limit of the key, or no room to wait.

    :param retryAfter: whole seconds after which a retry can succeed.
    """

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retryAfter: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retryAfter = retryAfter

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """When to come back (RFC 9110 section 10.2.3)."""
        return ((b"Retry-After", b"%d" % self.retryAfter),)


class InternalError(GatewayError):
    """A defect of the gateway. The message says no more than that; the log has the rest."""


class Unavailable(GatewayError):
    """The gateway itself cannot do this now: it is stopping, or its disk is full."""

    status = 503
    code = "unavailable"


class UpstreamError(GatewayError):
    """LM Studio did not answer as it should."""

    status = 502
    fault = Fault.UPSTREAM
    kind = "api_error"
    code = "upstream_error"


class UpstreamBroken(UpstreamError):
    """The upstream broke off, or spoke no HTTP."""

    code = "upstream_broken"


class UpstreamFailed(UpstreamError):
    """LM Studio answered, and could not do what it was asked: a model that does not load."""

    code = "upstream_failed"


class UpstreamUnavailable(UpstreamError):
    """No upstream could be reached."""

    status = 503
    code = "upstream_unavailable"


class UpstreamSilent(UpstreamError):
    """The upstream was silent for longer than configured."""

    status = 504
    code = "upstream_timeout"
