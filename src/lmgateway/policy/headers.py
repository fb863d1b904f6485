# -*- test-case-name: tests.policy.test_headers -*-
"""
Which header fields cross the gateway, in either direction.

What is end-to-end passes as it came: spelling, order, repetition, ``Accept-Encoding`` and ``Content-Encoding`` included.
What belongs to one connection, to the gateway itself, or to the client alone is taken out here and nowhere else.
"""

from __future__ import annotations

import re
from functools import lru_cache

from zope.interface import implementer

from lmgateway.interfaces import IHeaderPolicy
from lmgateway.message import HeaderPairs, RequestHead

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that speak of one connection only (RFC 9110 section 7.6.1), and what older clients and proxies add to them."""

FRAMING = frozenset({b"content-length", b"expect", b"host"})
"""Fields that whoever sends a request sets by itself."""

CREDENTIALS = frozenset({b"api-key", b"authorization", b"cookie", b"x-api-key"})
"""What a client proves itself with, to the gateway or its dashboard. None of it is LM Studio's business."""

FORWARDING = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-real-ip",
    }
)
"""Where a request claims to come from: anybody can write it, so nobody behind the gateway may believe it from a client."""

CLAIMED_PREFIXES = (b"x-forwarded", b"x-lmg-", b"x-lmgateway-")
"""The same by prefix, and the names that the gateway itself speaks under."""

_UPSTREAM_DROPPED = HOP_BY_HOP | FRAMING | CREDENTIALS | FORWARDING
_DOWNSTREAM_DROPPED = HOP_BY_HOP | {b"alt-svc", b"content-length", b"x-request-id"}
_DOWNSTREAM_PREFIXES = (b"access-control-", b"x-lmg-", b"x-lmgateway-")

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DROP, _KEEP, _CONNECTION = range(3)
_REMEMBERED = 1024
_REMEMBERED_LENGTH = 64


def staysHere(lower: bytes) -> bool:
    """
    Whether a request field is one that the gateway reads, sets or keeps for itself, and so never passes on.

    :param lower: the field's name in lower case.
    """
    return lower in _UPSTREAM_DROPPED or lower.startswith(CLAIMED_PREFIXES)


@lru_cache(maxsize=64)
def connectionOptions(values: tuple[bytes, ...]) -> frozenset[bytes]:
    """
    The options of a ``Connection`` field, in lower case (RFC 9110 section 7.6.1).

    :param values: every value of the field, in order.
    """
    return frozenset(
        option.strip(b" \t").lower() for value in values for option in value.split(b",") if option.strip(b" \t")
    )


class _Verdicts(dict[bytes, int]):
    """
    What becomes of a field, by its name as spelled.

    Clients and LM Studio spell the same few names over and over, so each is judged once. At most 1,024 names of at most
    64 bytes are remembered; others are judged each time.
    """

    def __init__(self, dropped: frozenset[bytes], prefixes: tuple[bytes, ...]) -> None:
        super().__init__()
        self._dropped = dropped
        self._prefixes = prefixes

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        if lower == b"connection":
            verdict = _CONNECTION
        elif lower in self._dropped or lower.startswith(self._prefixes) or not _TOKEN.fullmatch(name):
            verdict = _DROP
        else:
            verdict = _KEEP
        if len(self) < _REMEMBERED and len(name) <= _REMEMBERED_LENGTH:
            self[name] = verdict
        return verdict


def _pass(headers: HeaderPairs, verdicts: _Verdicts) -> list[tuple[bytes, bytes]]:
    """Those of ``headers`` that pass, as they came: neither dropped by name nor named in ``Connection``, nor malformed."""
    kept: list[tuple[bytes, bytes]] = []
    named: tuple[bytes, ...] = ()
    for pair in headers:
        verdict = verdicts[pair[0]]
        if verdict == _KEEP:
            kept.append(pair)
        elif verdict == _CONNECTION:
            named = (*named, pair[1])
    if named:
        # "Intermediaries MUST parse a received Connection header field before a message is forwarded and, for each
        # connection-option in this field, remove any header or trailer field(s) from the message with the same name as
        # the connection-option" (RFC 9110 section 7.6.1).
        options = connectionOptions(named) - HOP_BY_HOP
        if options:
            kept = [pair for pair in kept if pair[0].lower() not in options]
    values = b"".join([value for _, value in kept])
    if b"\r" in values or b"\n" in values or b"\0" in values:
        kept = [pair for pair in kept if not any(byte in pair[1] for byte in (b"\r", b"\n", b"\0"))]
    return kept


@implementer(IHeaderPolicy)
class HeaderPolicy:
    """
    The header fields of a gateway in front of one LM Studio.

    Up go neither the client's credentials nor what it claims about where it comes from. Down come no fields that would
    act on the gateway's clients in LM Studio's name: ``Alt-Svc`` would lead them around the gateway, and the
    ``Access-Control-Allow-Origin: *`` of an LM Studio with CORS switched on would let any web page read the gateway's
    answers; who may read those is the gateway's decision. Its ``X-Request-Id`` gives way to the gateway's.

    :param token: LM Studio's API token, which takes the place of the client's credential; None where it wants none.
    """

    def __init__(self, token: str | None = None) -> None:
        self._added: HeaderPairs = () if token is None else ((b"Authorization", b"Bearer " + token.encode("ascii")),)
        self._upstream = _Verdicts(_UPSTREAM_DROPPED, CLAIMED_PREFIXES)
        self._downstream = _Verdicts(_DOWNSTREAM_DROPPED, _DOWNSTREAM_PREFIXES)

    def upstreamHeaders(self, head: RequestHead) -> HeaderPairs:
        """
        The client's end-to-end fields, then LM Studio's own token where there is one.

        A field that the client names in ``Connection`` does not pass, ``Content-Type`` included; the token, which is not the
        client's, cannot be named away. Never raises: a name that is no token, or a value that would break the line, is left out.
        """
        return (*_pass(head.headers, self._upstream), *self._added)

    def downstreamHeaders(self, headers: HeaderPairs) -> HeaderPairs:
        """
        The upstream's end-to-end fields. ``Content-Length`` is not among them: the channel frames the answer itself.

        Never raises: a name that is no token, or a value that would break the line, is left out.
        """
        return tuple(_pass(headers, self._downstream))
