# -*- test-case-name: tests.web.test_keys -*-
"""
What is done about keys, whoever asks and in whatever way: over HTTP, or with the state folder when no gateway runs.

Bodies are those of ``/admin/keys``, and so are the answers. A key's secret is in the one answer that makes it, and in no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from lmgateway.errors import Conflict, Unauthenticated
from lmgateway.keys import KeyRing, Minted, StoredKey
from lmgateway.message import Principal, Scope
from lmgateway.policy.minting import Edit, decodeEdit, decodeMint, decodeRotation, requireWithin, within
from lmgateway.telemetry.journal import isoTime

CONFIGURED = "GATEWAY_API_KEY"
"""The name of the key that is configured rather than stored."""


class KeyDesk:
    """
    Does what is asked about keys.

    :param ring: the keys.
    :param now: tells the Unix time.
    :param hasConfigured: tells whether there is a key beside them that is configured, and so administers the gateway.
    """

    def __init__(self, ring: KeyRing, now: Callable[[], float], hasConfigured: Callable[[], bool]) -> None:
        self._ring = ring
        self._now = now
        self._hasConfigured = hasConfigured

    def listAll(self) -> dict[str, Any]:
        """Every key: the configured one, then those that are stored, the oldest first."""
        configured = [{"id": None, "name": CONFIGURED, "configured": True}] if self._hasConfigured() else []
        return {"keys": [*configured, *map(self.describe, self._ring.all())]}

    def show(self, keyId: str) -> dict[str, Any]:
        """
        Tell all that may be known of a key.

        :raise NotFound: there is none of this id.
        """
        return self.describe(self._ring.get(keyId))

    async def mint(self, minter: Principal, body: bytes) -> dict[str, Any]:
        """
        Make a key.

        :param minter: who asks.
        :param body: says which.
        :raise GatewayError: it cannot be made; nothing has changed.
        """
        order = decodeMint(body, self._now())
        grant = within(minter, order.scopes, order.grant)
        minted = self._ring.add(
            order.name,
            order.scopes,
            grant,
            hasOther=self._hasConfigured(),
            permit=lambda: self._requireGood(minter),
        )
        return self._shownOnce(await minted)

    async def edit(self, minter: Principal, keyId: str, body: bytes) -> dict[str, Any]:
        """
        Change what a key may do.

        :param minter: who asks.
        :param body: says what is to change.
        :raise GatewayError: it cannot be changed; nothing has changed.
        """
        edit = decodeEdit(body, self._now())

        def become(key: StoredKey) -> StoredKey:
            self._requireGood(minter)
            return edited(minter, key, edit)

        return self.describe(await self._ring.change(keyId, become, hasOther=self._hasConfigured()))

    async def rotate(self, minter: Principal, keyId: str, body: bytes) -> dict[str, Any]:
        """
        Give a key a new secret.

        :param minter: who asks.
        :param body: says for how long the old one stays good.
        :raise GatewayError: it cannot be done; nothing has changed.
        """
        grace = decodeRotation(body)

        def permit(key: StoredKey) -> None:
            self._requireGood(minter)
            requireWithin(minter, key.scopes, key.grant)

        return self._shownOnce(await self._ring.rotate(keyId, grace, permit))

    async def revoke(self, keyId: str) -> dict[str, Any]:
        """
        End a key.

        :raise GatewayError: it cannot be done; nothing has changed.
        """
        key = await self._ring.revoke(keyId, hasOther=self._hasConfigured())
        return {
            "status": "revoked",
            "id": key.id,
            "name": key.name,
            "message": f"The key {key.name} is good no more, and what ran with it was cut off.",
        }

    def _requireGood(self, minter: Principal) -> None:
        """
        See that whoever asks may still ask: another change may have come while their request was on its way.

        :raise Unauthenticated: their key was revoked meanwhile.
        :raise Conflict: it was given other rights.
        """
        if minter.keyId is None:
            return
        if minter.keyId not in self._ring:
            raise Unauthenticated("The API key was revoked.")
        key = self._ring.get(minter.keyId)
        # A secret that was rotated ends sooner than its key, and may ask all the same.
        isSame = replace(minter.grant, expires=None) == replace(key.grant, expires=None)
        if key.scopes != minter.scopes or not isSame or minter.grant.outlasts(key.grant):
            raise Conflict("The API key that you ask with was changed meanwhile. Nothing was done; ask again.")

    def describe(self, key: StoredKey) -> dict[str, Any]:
        """Tell all that may be known of a key."""
        grant = key.grant
        return {
            "id": key.id,
            "name": key.name,
            "scopes": [scope.value for scope in Scope if scope in key.scopes],
            "created": isoTime(key.created),
            "expires": _timeOf(grant.expires),
            "models": list(grant.models),
            "addresses": list(grant.addresses),
            "requestsPerMinute": grant.requestsPerMinute,
            "tokensPerDay": grant.tokensPerDay,
            "parallel": grant.parallel,
            "defaultInference": dict(grant.defaultInference),
            "capture": grant.capture,
            "lastUsed": _timeOf(self._ring.lastUsed(key.id)),
            "rotatedUntil": _timeOf(key.rotatedUntil(self._now())),
        }

    def _shownOnce(self, minted: Minted) -> dict[str, Any]:
        return {
            "key": minted.secret,
            **self.describe(minted.key),
            "message": "This is the only time that the key is shown. Keep it.",
        }


def auditable(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit tells of a key: all that may be known of it, and above all not its secret."""
    return {name: value for name, value in answer.items() if name not in {"key", "message", "lastUsed"}}


def edited(minter: Principal, key: StoredKey, edit: Edit) -> StoredKey:
    """
    Give what a key becomes.

    :raise Forbidden: it may do more than whoever asks, before or after.
    """
    requireWithin(minter, key.scopes, key.grant)
    scopes = key.scopes if edit.scopes is None else edit.scopes
    return replace(key, scopes=scopes, grant=within(minter, scopes, edit.grantAfter(key.grant)))


def _timeOf(moment: float | None) -> str | None:
    return None if moment is None else isoTime(moment)
