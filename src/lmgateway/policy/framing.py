# -*- test-case-name: tests.policy.test_framing -*-
"""
What must be right with a request's head before anybody believes where its body ends.

The channel's parser, llhttp, is strict about syntax; this is what it leaves open: which of two Hosts counts, whether
``Content-Length: 007`` is seven, what ``Transfer-Encoding`` means on HTTP/1.0. Where two readers of one message could
come to two answers, a request can hide inside another (request smuggling, RFC 9112 section 11.2), so each such head is
refused with 400, never 501, and its connection closed.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from msgspec import Struct

from lmgateway.errors import BadRequest, ExpectationFailed, UnsupportedMediaType
from lmgateway.message import RequestHead
from lmgateway.policy.headers import connectionOptions, staysHere

_USUAL_METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]*")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CONTROLS = bytes(byte for byte in (*range(0x20), 0x7F) if byte != 0x09)
_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_READ_HERE = frozenset({b"content-encoding", b"content-type"})
_OWS = b" \t"
_SHOWN_LENGTH = 40


class Framing(Struct, frozen=True, gc=False):
    """
    Where a request's body ends, and what becomes of its connection.

    :param length: the length of the body in bytes as declared, or None where none is declared.
    :param chunked: whether the body comes in chunks. With neither, there is no body (RFC 9112 section 6.3).
    :param expectsContinue: whether the client waits for a ``100 Continue`` before it sends the body. Never without one.
    :param keepAlive: whether the client would send another request on the connection (RFC 9112 section 9.3).
    """

    length: int | None
    chunked: bool
    expectsContinue: bool
    keepAlive: bool


def checkFraming(head: RequestHead) -> Framing:
    """
    Refuse a head that two readers could frame differently.

    :return: how the request is framed.
    :raise BadRequest: method, version, a field name or value, ``Host``, ``Content-Length``, ``Transfer-Encoding`` or
        ``Content-Type`` is malformed, missing, contradictory or there more than once.
    :raise ExpectationFailed: ``Expect`` asks for something other than ``100-continue``. All of them close the connection.
    """
    isOld = head.version == b"HTTP/1.0"
    if not isOld and head.version != b"HTTP/1.1":
        raise _refusal("The request is in a version of HTTP that the gateway does not speak. Use HTTP/1.1.")
    _checkMethod(head.method)
    _checkBytes(head)
    fields = head.fields
    _checkHost(fields.get(b"host", ()), isOld=isOld)
    if len(fields.get(b"content-type", ())) > 1:
        raise _refusal("The request has several Content-Type fields. Send one.")
    chunked = _isChunked(fields.get(b"transfer-encoding", ()), isOld=isOld)
    length = _declaredLength(fields.get(b"content-length", ()), chunked=chunked)
    expectation = fields.get(b"expect")
    expectsContinue = (
        expectation is not None and _expectsContinue(expectation) and not isOld and (chunked or bool(length))
    )
    named = fields.get(b"connection")
    options = connectionOptions(named) if named else frozenset()
    keepAlive = b"close" not in options and (not isOld or b"keep-alive" in options)
    return Framing(length, chunked, expectsContinue, keepAlive)


def checkReadable(head: RequestHead) -> None:
    """
    Refuse a body that the gateway would have to decompress in order to read it.

    For bodies that are to be read only; any other passes in whatever coding it has.

    :raise UnsupportedMediaType: ``Content-Encoding`` names a coding other than ``identity``.
    """
    for value in head.fields.get(b"content-encoding", ()):
        if any(coding.strip(_OWS).lower() not in {b"", b"identity"} for coding in value.split(b",")):
            raise UnsupportedMediaType(
                "The body is compressed, and the gateway has to read it here. Send it without Content-Encoding."
            )


def _refusal(message: str) -> BadRequest:
    """A 400 after which the connection is closed."""
    return BadRequest(message, code="bad_http", closes=True)


def _checkMethod(method: bytes) -> None:
    """Accept any upper-case token but CONNECT, which asks for a tunnel and would end HTTP on the connection."""
    if method in _USUAL_METHODS:
        return
    if method == b"CONNECT":
        raise _refusal(
            "CONNECT asks for a tunnel, and the gateway is no forward proxy. Set it as the base URL instead."
        )
    if not _METHOD.fullmatch(method):
        raise _refusal("The request's method is no upper-case word. Methods are case-sensitive: GET, POST.")


def _checkBytes(head: RequestHead) -> None:
    """Check the bytes of all names and all values at once: most heads have nothing wrong, and this is on every request's way."""
    values = b"".join([value for _, value in head.headers])
    if len(values.translate(None, _CONTROLS)) != len(values):
        raise _refusal("A header field of the request holds a control character. Leave it out, or encode it.")
    names = b"".join(head.fields)
    if b"" in head.fields or names.translate(None, _TOKEN_BYTES):
        raise _refusal("The name of a header field of the request holds a character that no name may have.")
    if b"_" in names:
        _checkUnderscores(head)


def _checkUnderscores(head: RequestHead) -> None:
    """
    Refuse a name whose ``_`` may be taken for a ``-``, if that would make it another field that counts.

    CGI, WSGI and PHP servers read both as one; nginx therefore drops every such field in silence. But the names are valid
    (RFC 9110 section 5.1) and clients depend on them (OpenAI's Codex sends ``session_id``), so they pass, except
    where the other spelling is one that the gateway reads, sets or keeps to itself, or stands in the same head.
    """
    for name in head.fields:
        if b"_" in name:
            dashed = name.replace(b"_", b"-")
            if dashed in head.fields or dashed in _READ_HERE or staysHere(dashed):
                shown = name[:_SHOWN_LENGTH].decode("ascii")
                raise _refusal(
                    f'The header field "{shown}" can be taken for the one with "-" in place of "_". Send only that one.'
                )


def _checkHost(values: tuple[bytes, ...], *, isOld: bool) -> None:
    """
    Check ``Host``: exactly one, at most one on HTTP/1.0, and nothing in it but a name or address and a port.

    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header
    field and to any request message that contains more than one Host header field line or a Host header field with an
    invalid field value" (RFC 9112 section 3.2).
    """
    if len(values) != 1:
        if values:
            raise _refusal("The request has several Host fields. Send one.")
        if not isOld:
            raise _refusal("The request has no Host field. HTTP/1.1 needs one.")
        return
    match = _HOST.fullmatch(values[0].strip(_OWS))
    if match is None:
        raise _refusal("The request's Host field is no host name or address with, at most, a port.")
    literal, port = match.groups()
    if port and int(port) > 0xFFFF:
        raise _refusal("The port in the request's Host field is over 65535.")
    if literal is not None:
        try:
            IPv6Address(literal.decode("ascii"))
        except AddressValueError:
            raise _refusal("The address in the brackets of the request's Host field is no IPv6 address.") from None


def _isChunked(values: tuple[bytes, ...], *, isOld: bool) -> bool:
    """
    Whether ``Transfer-Encoding`` says chunked, the one thing that it may say.

    "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST treat the
    message as if the framing is faulty" (RFC 9112 section 6.1).
    """
    if not values:
        return False
    if isOld:
        raise _refusal("The request has Transfer-Encoding on HTTP/1.0, where it means nothing. Use HTTP/1.1.")
    if len(values) > 1 or values[0].strip(_OWS).lower() != b"chunked":
        raise _refusal('The request has a Transfer-Encoding other than one "chunked". Send the body plain or chunked.')
    return True


def _declaredLength(values: tuple[bytes, ...], *, chunked: bool) -> int | None:
    """
    The number in ``Content-Length``, in its one spelling.

    "If a message is received without Transfer-Encoding and with an invalid Content-Length header field, then the message
    framing is invalid and the recipient MUST treat it as an unrecoverable error" (RFC 9112 section 6.3).
    """
    if not values:
        return None
    if chunked:
        raise _refusal("The request has both Content-Length and Transfer-Encoding. Send one of them.")
    if len(values) > 1:
        raise _refusal("The request has several Content-Length fields. Send one.")
    value = values[0].strip(_OWS)
    if not _LENGTH.fullmatch(value):
        raise _refusal("The request's Content-Length is no plain decimal number without sign, list or leading zeros.")
    return int(value)


def _expectsContinue(values: tuple[bytes, ...]) -> bool:
    """
    Whether ``Expect`` asks for ``100 Continue``.

    "A server that receives an Expect field value containing a member other than 100-continue MAY respond with a 417
    (Expectation Failed) status code" (RFC 9110 section 10.1.1). On HTTP/1.0 the caller ignores a ``100-continue``, as
    that section says it MUST.
    """
    members = [member.strip(_OWS).lower() for value in values for member in value.split(b",") if member.strip(_OWS)]
    if any(member != b"100-continue" for member in members):
        raise ExpectationFailed(
            'The request expects something other than "100-continue". Leave out Expect.', closes=True
        )
    return bool(members)
