# -*- test-case-name: tests.web.test_rules -*-
"""
What the settings decide about each request, made once and swapped whole: a reload changes all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from lmgateway.interfaces import IAddressPolicy, IAuthenticator, IAuthorizer, IHeaderPolicy
from lmgateway.message import Principal, Scope
from lmgateway.policy.addresses import AddressPolicy
from lmgateway.policy.authentication import ApiKeyAuthenticator, OpenAuthenticator, ScopeAuthorizer, digestOf
from lmgateway.policy.headers import HeaderPolicy
from lmgateway.policy.routes import RouteTable
from lmgateway.settings import Settings

EVERY_SCOPE = frozenset(Scope)

CONFIGURED_KEY = Principal("GATEWAY_API_KEY", EVERY_SCOPE)
"""Whoever has the one key of the settings."""

LOCAL = Principal("local", EVERY_SCOPE)
"""Everybody, on a gateway that only this machine can reach and that has no key."""


class Rules(Struct, frozen=True):
    """
    :param routes: what there is.
    :param addresses: who may connect.
    :param authenticator: who is asking.
    :param authorizer: what they may do.
    :param headers: what crosses the gateway.
    :param timeout: seconds of upstream silence allowed in an answer that is no stream; 0 is any.
    :param streamTimeout: the same for streams.
    """

    routes: RouteTable
    addresses: IAddressPolicy
    authenticator: IAuthenticator
    authorizer: IAuthorizer
    headers: IHeaderPolicy
    timeout: float
    streamTimeout: float


def needsKey(settings: Settings) -> bool:
    """Whether nobody may be served without a key, whether or not there is one yet."""
    return settings.listen.beyondLoopback or settings.access.requireKey == "always"


def makeRules(settings: Settings, storedKeys: Mapping[bytes, Principal]) -> Rules:
    """
    Make the rules of these settings.

    :param storedKeys: the principals of the key store, by the digests of their keys.
    """
    keys = dict(storedKeys)
    if settings.access.apiKey is not None:
        keys[digestOf(settings.access.apiKey)] = CONFIGURED_KEY
    isOpen = not keys and not needsKey(settings)
    return Rules(
        routes=RouteTable(requireAuthForHealth=settings.access.requireAuthForHealth),
        addresses=AddressPolicy(settings.access.allow),
        authenticator=OpenAuthenticator(LOCAL) if isOpen else ApiKeyAuthenticator(keys),
        authorizer=ScopeAuthorizer(),
        headers=HeaderPolicy(settings.upstream.apiToken),
        timeout=settings.upstream.timeout,
        streamTimeout=settings.upstream.streamTimeout,
    )
