# -*- test-case-name: tests.policy.test_authentication -*-
"""
Who is asking, and may they: keys, digests, scopes.

A key is 256 random bits, so its SHA-256 digest is as good as a slow hash at rest, and finding it by the digest tells
nobody anything through its timing. The gateway keeps digests only. The checksum at a key's end is no secret: anybody can
compute it, and with it tell a key that was mistyped from one that is not the gateway's, without asking the gateway.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from enum import Enum
from typing import ClassVar

from zope.interface import implementer

from lmgateway.errors import Forbidden, MisplacedKey, Unauthenticated
from lmgateway.interfaces import IAuthenticator, IAuthorizer
from lmgateway.message import Principal, RequestHead, Scope
from lmgateway.policy.addresses import AddressPolicy

KEY_PREFIX = "lmg_"
"""What a generated key begins with, so that people and secret scanners recognise one."""

REALM = "lmgateway"
"""The one protection space of the gateway."""

_KEY_BYTES = 32
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6
_FORM = re.compile(rb"[A-Za-z0-9_-]+")
_HOW = 'Send it as "Authorization: Bearer KEY" or as "X-API-Key: KEY".'


class KeyForm(Enum):
    """What can be told of a key by looking at it."""

    WHOLE = "whole"
    """It has the form of a key of this gateway, and its checksum is right."""

    UNCHECKED = "unchecked"
    """It has the form that keys had before they had a checksum. Such keys stay good."""

    MISTYPED = "mistyped"
    """It begins as a key of this gateway does, and something in it, or missing from it, is wrong."""

    FOREIGN = "foreign"
    """It is no key that a gateway makes. ``GATEWAY_API_KEY`` may be any text."""


def generateKey() -> str:
    """Make a new key: ``lmg_``, 43 characters of base64url, which are 256 random bits, and 6 of a checksum over all that."""
    bare = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return bare + _checksumOf(bare.encode()).decode()


def checkKeyForm(key: str | bytes) -> KeyForm:
    """
    Tell what a key looks like, without knowing whether anybody has it.

    :param key: the key, without space around it.
    """
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    prefix = KEY_PREFIX.encode()
    if not data.startswith(prefix):
        return KeyForm.FOREIGN
    length = len(data) - len(prefix)
    if _FORM.fullmatch(data):
        if length == _SECRET_LENGTH:
            return KeyForm.UNCHECKED
        if length == _SECRET_LENGTH + _CHECKSUM_LENGTH:
            bare, checksum = data[:-_CHECKSUM_LENGTH], data[-_CHECKSUM_LENGTH:]
            return KeyForm.WHOLE if checksum == _checksumOf(bare) else KeyForm.MISTYPED
    return KeyForm.MISTYPED


def _checksumOf(bare: bytes) -> bytes:
    """The CRC-32 in base64url: it finds every character that is wrong alone, and every two neighbours that changed places."""
    return urlsafe_b64encode(zlib.crc32(bare).to_bytes(4, "big"))[:_CHECKSUM_LENGTH]


def digestOf(key: str | bytes) -> bytes:
    """
    What the gateway keeps of a key: its SHA-256 digest, 32 bytes.

    :param key: the key; text counts as UTF-8.
    """
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


@implementer(IAuthenticator)
class ApiKeyAuthenticator:
    """
    Knows principals by the digests of their keys.

    :param keys: the principal of each key, under the key's digest (:func:`digestOf`).
    :param now: tells the Unix time, by which keys expire.
    :raise ValueError: an address that a key is held to is none.
    """

    realm: ClassVar[str] = REALM

    def __init__(self, keys: Mapping[bytes, Principal], now: Callable[[], float]) -> None:
        self._now = now
        self._keys = {digest: (digest, principal, _addressesOf(principal)) for digest, principal in keys.items()}

    def authenticate(self, head: RequestHead) -> Principal:
        """
        The principal of the key in ``head``. ``X-API-Key`` decides where it is present, else ``Authorization``.

        :raise Unauthenticated: there is no key, there are several, it is malformed, expired, or nobody has it. An unknown key
            gets the same words, by the same way, as one that is wrong in its last character and has no checksum to tell.
        :raise MisplacedKey: the key is not to be used from this address.
        """
        presented = _credential(head)
        digest = hashlib.sha256(presented).digest()
        known, principal, addresses = self._keys.get(digest, _NOBODY)
        if not hmac.compare_digest(known, digest) or principal is None:
            raise Unauthenticated(_MISTYPED if checkKeyForm(presented) is KeyForm.MISTYPED else _UNKNOWN)
        _checkUse(principal, addresses, head.peer, self._now())
        return principal


_NOBODY: tuple[bytes, None, None] = (b"", None, None)
_UNKNOWN = "The API key is not one of this gateway's. Check it, or ask whoever runs the gateway for one."
_MISTYPED = "The API key is mistyped: its checksum does not fit, or a part of it is missing. Copy it again, whole."
_EXPIRED = "The API key has expired. Ask whoever runs the gateway for another one."


def checkUse(principal: Principal, peer: str, now: float) -> None:
    """
    Find out whether a key may still be used, and from there.

    :param peer: the textual address of the other end.
    :param now: Unix time.
    :raise Unauthenticated: it has expired.
    :raise MisplacedKey: it is not to be used from this address.
    """
    _checkUse(principal, _addressesOf(principal), peer, now)


def _checkUse(principal: Principal, addresses: AddressPolicy | None, peer: str, now: float) -> None:
    expires = principal.grant.expires
    if expires is not None and expires <= now:
        raise Unauthenticated(_EXPIRED, code="expired_api_key")
    if addresses is not None and not addresses.permits(peer):
        msg = f"This API key may not be used from {peer}. Ask whoever runs the gateway."
        raise MisplacedKey(msg, principal)


def _addressesOf(principal: Principal) -> AddressPolicy | None:
    """Where a key may be used from; None for anywhere."""
    return AddressPolicy(principal.grant.addresses) if principal.grant.addresses else None


@implementer(IAuthenticator)
class OpenAuthenticator:
    """
    Takes everybody for one principal: for a gateway that only this machine can reach and that has no key.

    :param principal: who everybody is.
    """

    realm: ClassVar[str] = REALM

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    def authenticate(self, head: RequestHead) -> Principal:
        """The one principal, whatever the head says. Never raises."""
        return self._principal


@implementer(IAuthorizer)
class ScopeAuthorizer:
    """Lets principals do what their scopes say."""

    def permit(self, principal: Principal, scope: Scope) -> None:
        """
        Let ``principal`` do what needs ``scope``, or not.

        :raise Forbidden: it holds neither ``scope`` nor ``admin``. The message names what is needed and what is held.
        """
        if not principal.holds(scope):
            held = ", ".join(sorted(held.value for held in principal.scopes)) or "none"
            raise Forbidden(
                f'This needs a key with the scope "{scope.value}"; the scopes of this one: {held}. Use another key.',
                code="missing_scope",
            )


def _credential(head: RequestHead) -> bytes:
    """
    The one key in ``head``.

    :raise Unauthenticated: there is none, there are several, or it is not a bearer key.
    """
    apiKeys = head.fields.get(b"x-api-key", ())
    authorizations = head.fields.get(b"authorization", ())
    if len(apiKeys) > 1 or len(authorizations) > 1:
        raise Unauthenticated("The request has several credentials, and they need not agree. Send one.")
    if apiKeys:
        key = apiKeys[0].strip(b" \t")
    elif authorizations:
        key = _bearerKey(authorizations[0])
    else:
        raise Unauthenticated(f"No API key was sent. {_HOW}", code="missing_api_key")
    if not key:
        raise Unauthenticated(f"The API key that was sent is empty. {_HOW}", code="missing_api_key")
    return key


def _bearerKey(value: bytes) -> bytes:
    """
    The key in an ``Authorization`` field. The scheme's case does not matter (RFC 9110 section 11.1).

    :raise Unauthenticated: the scheme is another.
    """
    scheme, _, key = value.strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated(f"The Authorization field holds no bearer key. {_HOW}")
    return key.strip(b" \t")
