# -*- test-case-name: tests.policy.test_browsers -*-
"""
What web pages may do. A browser sends requests for any page, to wherever the page says: what it must not be made to do is to
use what its machine may, without a key.

Against this stand three things: ``Host`` must be a name of the gateway's (a page can have its own name lead here, but not
change what the browser then calls us: DNS rebinding), ``Origin`` and ``Sec-Fetch-Site`` must not be another site's, and no
page may read an answer unless its origin is configured (Fetch standard, CORS protocol).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from lmgateway.errors import Forbidden, Misdirected
from lmgateway.message import HeaderPairs, RequestHead

MAX_AGE = 600
"""Seconds for which a browser need not ask again."""

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = (
    b"X-Request-Id, Retry-After, X-LMGateway-Model, X-LMGateway-Stale, X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, "
    b"X-RateLimit-Reset-Requests, X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens"
)
"""What a page may read of an answer's head beside what any page may."""

VARIES = (
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
)
"""What the answer to a preflight depends on."""

_ALLOW_ORIGIN = b"Access-Control-Allow-Origin"
_FIELD_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_LONGEST_NAMES = 2000
_NEAR = frozenset({b"same-origin", b"none"})
"""What ``Sec-Fetch-Site`` says where no other site is behind a request (Fetch Metadata, section 2.2)."""


class BrowserPolicy:
    """
    Tells what requests of browsers may do.

    :param hosts: names of the gateway's, beside ``localhost`` and every IP address.
    :param origins: the origins whose pages may read answers, as browsers write them.
    :param allowsPrivateNetwork: whether pages from the internet among them may come here, on the local network.
    """

    def __init__(
        self, hosts: Iterable[str] = (), origins: Iterable[str] = (), *, allowsPrivateNetwork: bool = False
    ) -> None:
        self._hosts = frozenset({"localhost", *(host.lower().rstrip(".") for host in hosts)})
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._allowsPrivateNetwork = allowsPrivateNetwork

    def admitKeyless(self, head: RequestHead) -> None:
        """
        Let a request pass that no key vouches for.

        :raise Misdirected: it is meant for a name that is not the gateway's.
        :raise Forbidden: a page of another site sends it.
        """
        self.admitHost(head)
        origin = _said(head, b"origin")
        if origin is not None and not self._isAllowed(origin, head):
            raise _foreign()
        site = _said(head, b"sec-fetch-site")
        if origin is None and site is not None and site.lower() not in _NEAR:
            raise _foreign()

    def admitHost(self, head: RequestHead) -> None:
        """
        Let a request pass that is meant for the gateway.

        :raise Misdirected: it is meant for a name that is not the gateway's.
        """
        host = head.first(b"host")
        if host is not None and not self._isOurs(host):
            raise Misdirected(
                f"This gateway is not called {host.decode('latin-1')[:100]}. Without a key it answers to its addresses, and to the "
                "names in access.hosts."
            )

    def admitOwn(self, head: RequestHead) -> None:
        """
        Let a request pass that a cookie vouches for: one of the gateway's own page, or of no page at all.

        :raise Misdirected: it is meant for a name that is not the gateway's.
        :raise Forbidden: a page of another origin sends it, even a configured one.
        """
        self.admitHost(head)
        origin, site = _said(head, b"origin"), _said(head, b"sec-fetch-site")
        if (origin is not None and not _isOwn(origin, head)) or (site is not None and site.lower() not in _NEAR):
            raise _foreign()

    def preflight(self, head: RequestHead) -> HeaderPairs | None:
        """
        The header fields that answer the question whether a page may send a request (Fetch standard, CORS-preflight).

        :return: None where it is no such question, or the page may not: then the request is like any other.
        """
        method = head.first(b"access-control-request-method")
        if head.method != b"OPTIONS" or method is None:
            return None
        allowed = self.readable(head)
        if not allowed or allowed[0][0] != _ALLOW_ORIGIN:
            return None
        names = head.first(b"access-control-request-headers")
        pairs = [*allowed[:1], (b"Vary", VARIES), (b"Access-Control-Allow-Methods", METHODS)]
        if names is not None and len(names) <= _LONGEST_NAMES and _FIELD_NAMES.fullmatch(names):
            pairs.append((b"Access-Control-Allow-Headers", names))
        if self._allowsPrivateNetwork and head.first(b"access-control-request-private-network") == b"true":
            pairs.append((b"Access-Control-Allow-Private-Network", b"true"))
        return (*pairs, (b"Access-Control-Max-Age", b"%d" % MAX_AGE))

    def readable(self, head: RequestHead) -> HeaderPairs:
        """The header fields by which a browser lets a page read an answer; none where the page may not."""
        if not self._origins:
            return ()
        origin = _said(head, b"origin")
        if origin is None or origin not in self._origins:
            # A cache must not give one page's answer to another.
            return ((b"Vary", b"Origin"),) if origin is not None else ()
        return (
            (_ALLOW_ORIGIN, origin),
            (b"Vary", b"Origin"),
            (b"Access-Control-Expose-Headers", EXPOSED),
        )

    def _isOurs(self, host: bytes) -> bool:
        """Whether a ``Host`` is a name of the gateway's. An address is: nobody can have another lead here."""
        name = _nameOf(host.decode("latin-1"))
        if name in self._hosts:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def _isAllowed(self, origin: bytes, head: RequestHead) -> bool:
        """Whether a page of an origin may send without a key: our own pages, and those that are configured."""
        return origin in self._origins or _isOwn(origin, head)


def _said(head: RequestHead, name: bytes) -> bytes | None:
    """
    What a field says that a browser sends once: with everything that was said, so that of several no good one can hide the others.

    "The combined field value consists of the list of corresponding field line values within that section, concatenated in order,
    with each field line value separated by a comma" (RFC 9110 section 5.2).
    """
    values = head.fields.get(name)
    return b", ".join(values) if values else None


def _isOwn(origin: bytes, head: RequestHead) -> bool:
    """Whether an origin is that under which the gateway is being asked."""
    own = head.first(b"host")
    return own is not None and origin.lower() == (b"https://" if head.secure else b"http://") + own.lower()


def _nameOf(host: str) -> str:
    """The name or address in a ``Host``, without its port."""
    if host.startswith("["):
        address, bracket, _ = host[1:].partition("]")
        return address.lower() if bracket else ""
    return host.partition(":")[0].lower().rstrip(".")


def _foreign() -> Forbidden:
    return Forbidden(
        "A web page of another site sent this request, and no key came with it. Send a key, and name the page's origin in "
        "cors.origins.",
        code="foreign_origin",
    )
