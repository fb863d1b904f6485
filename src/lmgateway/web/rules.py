# -*- test-case-name: tests.web.test_rules -*-
"""
What the settings decide about each request, made once and swapped whole: a reload changes all of it or nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from msgspec import Struct

from lmgateway.interfaces import IAddressPolicy, IAuthenticator, IAuthorizer, IHeaderPolicy
from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.addresses import AddressPolicy
from lmgateway.policy.authentication import ApiKeyAuthenticator, OpenAuthenticator, ScopeAuthorizer, digestOf
from lmgateway.policy.browsers import BrowserPolicy
from lmgateway.policy.client_certificates import CertificateAuthenticator
from lmgateway.policy.headers import HeaderPolicy
from lmgateway.policy.keyless import KeylessAuthenticator
from lmgateway.policy.routes import RouteTable
from lmgateway.policy.sessions import SessionAuthenticator, Sessions
from lmgateway.settings import Settings

EVERY_SCOPE = frozenset(Scope)

CONFIGURED_KEY = Principal("GATEWAY_API_KEY", EVERY_SCOPE)
"""Whoever has the one key of the settings."""

LOCAL = Principal("local", EVERY_SCOPE, isKeyless=True)
"""Everybody, on a gateway that only this machine can reach and that has no key."""


KEYLESS_NAME = "keyless"
"""Under which name the requests of keyless clients are counted, all of them together."""

DOCKER_HOST = "host.docker.internal"
"""What containers call the machine that they run on. The top-level domain is reserved (``.internal``): no page can have it."""


class Rules(Struct, frozen=True):
    """
    :param routes: what there is.
    :param addresses: who may connect.
    :param authenticator: who is asking.
    :param authorizer: what they may do.
    :param browsers: what web pages may do.
    :param headers: what crosses the gateway.
    :param timeout: seconds of upstream silence allowed in an answer that is no stream; 0 is any.
    :param streamTimeout: the same for streams.
    """

    routes: RouteTable
    addresses: IAddressPolicy
    authenticator: IAuthenticator
    authorizer: IAuthorizer
    browsers: BrowserPolicy
    headers: IHeaderPolicy
    timeout: float
    streamTimeout: float


def needsKey(settings: Settings) -> bool:
    """Whether nobody may be served without a key, whether or not there is one yet."""
    return settings.listen.beyondLoopback or settings.access.requireKey == "always"


def makeRules(
    settings: Settings, storedKeys: Mapping[bytes, Principal], now: Callable[[], float], sessions: Sessions
) -> Rules:
    """
    Make the rules of these settings.

    :param storedKeys: the principals of the key store, by the digests of their keys.
    :param now: tells the Unix time, by which keys expire.
    :param sessions: who is signed in to the dashboard.
    """
    keys = dict(storedKeys)
    if settings.access.apiKey is not None:
        keys[digestOf(settings.access.apiKey)] = CONFIGURED_KEY
    isOpen = not keys and not needsKey(settings)
    authenticator: IAuthenticator = OpenAuthenticator(LOCAL) if isOpen else ApiKeyAuthenticator(keys, now)
    if settings.access.keyless and not isOpen:
        authenticator = KeylessAuthenticator(
            AddressPolicy(settings.access.keyless), keylessPrincipal(settings), authenticator
        )
    if settings.tls.clientCertificates != "off" and not isOpen:
        authenticator = CertificateAuthenticator(storedKeys.values(), now, authenticator)
    browsers = BrowserPolicy(
        (*ownNames(), *settings.access.hosts),
        settings.cors.origins,
        allowsPrivateNetwork=settings.cors.privateNetwork,
    )
    if not isOpen:
        authenticator = SessionAuthenticator(sessions, keys, browsers, now, authenticator)
    return Rules(
        routes=RouteTable(requireAuthForHealth=settings.access.requireAuthForHealth),
        addresses=AddressPolicy(settings.access.allow),
        authenticator=authenticator,
        authorizer=ScopeAuthorizer(),
        browsers=browsers,
        headers=HeaderPolicy(settings.upstream.apiToken),
        timeout=settings.upstream.timeout,
        streamTimeout=settings.upstream.streamTimeout,
    )


def ownNames() -> tuple[str, ...]:
    """The names that this machine has by itself."""
    name = socket.gethostname()
    short = name.partition(".")[0]
    return name, short, f"{short}.local", DOCKER_HOST


def keylessPrincipal(settings: Settings) -> Principal:
    """Who asks from an address that needs no key."""
    access = settings.access
    grant = Grant(requestsPerMinute=access.keylessRequestsPerMinute or None, parallel=access.keylessParallel or None)
    return Principal(KEYLESS_NAME, frozenset({Scope.INFERENCE}), None, grant, isKeyless=True)
