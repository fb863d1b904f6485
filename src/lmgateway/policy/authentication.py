# -*- test-case-name: tests.policy.test_authentication -*-
"""
Who is asking, and may they: keys, digests, scopes.

A key is 256 random bits, so its SHA-256 digest is as good as a slow hash at rest, and finding it by the digest tells
nobody anything through its timing. The gateway keeps digests only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import ClassVar

from zope.interface import implementer

from lmgateway.errors import Forbidden, Unauthenticated
from lmgateway.interfaces import IAuthenticator, IAuthorizer
from lmgateway.message import Principal, RequestHead, Scope

KEY_PREFIX = "lmg_"
"""What a generated key begins with, so that people and secret scanners recognise one."""

REALM = "lmgateway"
"""The one protection space of the gateway."""

_KEY_BYTES = 32
_HOW = 'Send it as "Authorization: Bearer KEY" or as "X-API-Key: KEY".'


def generateKey() -> str:
    """Make a new key: ``lmg_`` and 43 characters of base64url, 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


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
    """

    realm: ClassVar[str] = REALM

    def __init__(self, keys: Mapping[bytes, Principal]) -> None:
        self._keys = {digest: (digest, principal) for digest, principal in keys.items()}

    def authenticate(self, head: RequestHead) -> Principal:
        """
        The principal of the key in ``head``. ``X-API-Key`` decides where it is present, else ``Authorization``.

        :raise Unauthenticated: there is no key, there are several, it is malformed, or nobody has it. An unknown key gets
            the same words, by the same way, as one that is wrong in its last character.
        """
        presented = _credential(head)
        digest = hashlib.sha256(presented).digest()
        known, principal = self._keys.get(digest, (b"", None))
        if not hmac.compare_digest(known, digest) or principal is None:
            raise Unauthenticated(
                "The API key is not one of this gateway's. Check it, or ask whoever runs the gateway for one."
            )
        return principal


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
