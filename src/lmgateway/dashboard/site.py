# -*- test-case-name: tests.dashboard.test_site -*-
"""
``/dashboard``: the page, its files, and signing in to it. Whatever the page shows or does goes by the gateway's other APIs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from klein import Klein

from lmgateway import __version__
from lmgateway.dashboard.assets import Asset, PageAssets
from lmgateway.errors import BadRequest, NotFound, Unauthenticated
from lmgateway.message import HeaderPairs, Principal, RequestHead
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.checks import decodeObject
from lmgateway.policy.sessions import LONGEST_SECONDS, Sessions, cookie, tokenIn
from lmgateway.web.limits import KeyRefusals
from lmgateway.web.responses import answerErrors, requireJson
from lmgateway.web.rules import Rules

LONGEST_BODY = 8192
"""Bytes of a request to sign in."""

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY: HeaderPairs = (
    (b"Content-Security-Policy", _POLICY),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)
"""What the page may do, which is nothing beyond this gateway, and nobody may do with the page."""

_FOREVER = (b"Cache-Control", b"public, max-age=31536000, immutable")
_FRESH = (b"Cache-Control", b"no-cache")
_JSON = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))


class DashboardApi:
    """
    Serves the page and signs people in.

    :param assets: the page's files.
    :param sessions: who is signed in.
    :param refusals: answers those whose key is wrong.
    :param hasCa: whether the gateway has a certificate authority of its own.
    :ivar rules: who may ask what; assign to change them.
    :ivar isEnabled: whether there is a dashboard at all; likewise.
    :ivar addresses: gives the URLs by which the gateway can be reached; likewise.
    """

    app = Klein()
    answerErrors(app)

    def __init__(
        self, assets: PageAssets, sessions: Sessions, refusals: KeyRefusals, hasCa: Callable[[], bool], rules: Rules
    ) -> None:
        self.rules = rules
        self.isEnabled = True
        self.addresses: Callable[[], tuple[str, ...]] = tuple
        self._assets = assets
        self._sessions = sessions
        self._refusals = refusals
        self._hasCa = hasCa

    @app.route("/dashboard", methods=["GET"], strict_slashes=False)
    def page(self, request: Any) -> None:
        """Give the page."""
        self._require(request)
        self._send(request, self._assets.index, _FRESH)

    @app.route("/dashboard/assets/<path:name>", methods=["GET"])
    def asset(self, request: Any, name: str) -> None:
        """Give one of its files."""
        self._require(request)
        asset = self._assets.find(request.head.path)
        if asset is None:
            raise NotFound("There is no such file of the dashboard. Load its page again.")
        self._send(request, asset, _FOREVER)

    @app.route("/dashboard/session", methods=["GET"])
    def who(self, request: Any) -> None:
        """Tell who is signed in."""
        self._require(request)
        principal = self.rules.authenticator.authenticate(request.head)
        if principal.isKeyless:
            self.rules.browsers.admitOwn(request.head)
        self._tell(request, principal)

    @app.route("/dashboard/session", methods=["POST"])
    async def signIn(self, request: Any) -> None:
        """Begin a session for whoever has a key."""
        self._require(request)
        requireJson(request)
        self.rules.browsers.admitOwn(request.head)
        request.body.limit = LONGEST_BODY
        request.body.check()
        key = decodeObject(await request.body.read()).get("key")
        if not isinstance(key, str) or not key.strip():
            raise BadRequest("Send the key, as a string.", param="key")
        key = key.strip()
        try:
            principal = self.rules.authenticator.authenticate(_headWith(request.head, key))
        except Unauthenticated as error:
            self._refusals.refuse(request, error)
            return
        if principal.isKeyless:
            self._tell(request, principal)
            return
        token = self._sessions.begin(digestOf(key))
        self._tell(request, principal, cookie(token, isSecure=request.head.secure, seconds=LONGEST_SECONDS))

    @app.route("/dashboard/session", methods=["DELETE"])
    def signOut(self, request: Any) -> None:
        """End the session."""
        self._require(request)
        self.rules.browsers.admitOwn(request.head)
        token = tokenIn(request.head)
        if token is not None:
            self._sessions.end(token)
        gone = cookie("", isSecure=request.head.secure, seconds=0)
        request.sendWhole(204, ((b"Set-Cookie", gone), (b"Cache-Control", b"no-store")), b"")

    def _require(self, request: Any) -> None:
        """
        :raise NotFound: there is no dashboard.
        :raise Misdirected: the request is meant for a name that is not the gateway's.
        """
        if not self.isEnabled:
            raise NotFound("This gateway has no dashboard: the setting dashboard.enabled is off.")
        self.rules.browsers.admitHost(request.head)

    def _send(self, request: Any, asset: Asset, caching: tuple[bytes, bytes]) -> None:
        isCompressed = b"gzip" in (request.head.first(b"accept-encoding") or b"")
        encoding: HeaderPairs = ((b"Content-Encoding", b"gzip"),) if isCompressed else ()
        # Weak: compressed or not, it is the same.
        tag = b'W/"%b"' % self._assets.version.encode()
        fields = (caching, (b"ETag", tag), (b"Vary", b"Accept-Encoding"), *SECURITY)
        if _knows(request.head, tag):
            request.sendHead(304, b"Not Modified", fields, None)
            request.finish()
            return
        headers = ((b"Content-Type", asset.contentType), *encoding, *fields)
        request.sendWhole(200, headers, asset.compressed if isCompressed else asset.body)

    def _tell(self, request: Any, principal: Principal, setCookie: bytes | None = None) -> None:
        told = {
            "name": principal.name,
            "scopes": sorted(scope.value for scope in principal.scopes),
            "keyless": principal.isKeyless,
            "version": __version__,
            "addresses": self.addresses(),
            "hasCa": self._hasCa(),
        }
        fields = _JSON if setCookie is None else (*_JSON, (b"Set-Cookie", setCookie))
        request.sendWhole(200, fields, msgspec.json.encode(told))


def _knows(head: RequestHead, tag: bytes) -> bool:
    """Whether a browser has it already: ``If-None-Match`` is compared weakly (RFC 9110 section 13.1.2)."""
    known = {each.strip().removeprefix(b"W/") for each in b",".join(head.fields.get(b"if-none-match", ())).split(b",")}
    return b"*" in known or tag.removeprefix(b"W/") in known


def _headWith(head: RequestHead, key: str) -> RequestHead:
    """The head of a request that has a key, and no other credential."""
    pairs = tuple(pair for pair in head.headers if pair[0].lower() not in {b"authorization", b"x-api-key", b"cookie"})
    field = (b"X-API-Key", key.encode("utf-8", "replace"))
    return RequestHead.build(
        head.method, head.target, (*pairs, field), peer=head.peer, secure=head.secure, version=head.version
    )
