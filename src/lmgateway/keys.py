# -*- test-case-name: tests.test_keys -*-
"""
The keys that the gateway has made: at rest as digests in the state file, and in memory as the principals that they stand for.

A change is on the disk before it is answered, and in force at once. Changes are made one after the other, and whoever stops
waiting for one does not undo it. A key that is revoked is gone; what it used stays in the usage, under its name.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.errors import Conflict, NotFound
from lmgateway.message import UNLIMITED, Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf, generateKey
from lmgateway.policy.checks import ValidationFailed
from lmgateway.policy.minting import fieldsOf, grantOf
from lmgateway.state import StateStore
from lmgateway.statefile import StateError

T = TypeVar("T")

MOST_KEYS = 10_000
"""Keys that there may be: all are in memory."""

_log = Logger()


class FormerSecret(Struct, frozen=True):
    """
    What a key was before it was rotated.

    :param digest: the digest of the old secret.
    :param until: the Unix time up to which it is as good as the new one.
    """

    digest: bytes
    until: float


class StoredKey(Struct, frozen=True):
    """
    A key as it is at rest.

    :param id: its id, which is no secret.
    :param name: its name in logs, events and the usage.
    :param digest: the SHA-256 digest of the key.
    :param scopes: what it may do.
    :param created: when it was made, in seconds since the epoch.
    :param grant: what it is held to.
    :param former: the secrets that it had before.
    """

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    created: float
    grant: Grant = UNLIMITED
    former: tuple[FormerSecret, ...] = ()

    @property
    def principal(self) -> Principal:
        """Who holds the key."""
        return Principal(self.name, self.scopes, self.id, self.grant)

    def principals(self) -> Iterator[tuple[bytes, Principal]]:
        """Who holds each of its secrets, by the digest. An old one ends when its grace does."""
        yield self.digest, self.principal
        ends = self.grant.expires
        for secret in self.former:
            until = secret.until if ends is None else min(ends, secret.until)
            yield secret.digest, Principal(self.name, self.scopes, self.id, replace(self.grant, expires=until))

    def rotatedUntil(self, now: float) -> float | None:
        """Until when one of its old secrets is good; None where none is."""
        return max((secret.until for secret in self.former if secret.until > now), default=None)

    def administers(self, now: float) -> bool:
        """Whether an administrator can use it."""
        return Scope.ADMIN in self.scopes and (self.grant.expires is None or self.grant.expires > now)


class Minted(Struct, frozen=True):
    """
    A key that was just made or rotated.

    :param key: what is kept of it.
    :param secret: the key itself, which is kept nowhere.
    """

    key: StoredKey
    secret: str


class KeyChange(Struct, frozen=True):
    """
    A key was made, or is another now. Whoever follows events with it is to be judged anew.

    :param keyId: the key's id.
    :param isCut: whether what runs with it must not run on.
    """

    keyId: str
    isCut: bool


Permit = Callable[[StoredKey], None]
"""Told the key that is about to be changed; raises where it must not be."""


def permitAll(_: StoredKey) -> None:
    """Let whoever asks change any key."""


class KeyRing:
    """
    All keys that are stored.

    :param store: where they are kept.
    :param now: tells the Unix time.
    :param changed: told of each change, once it is in force.
    :ivar principals: who holds each secret, by its digest; another mapping after each change.
    """

    def __init__(
        self, store: StateStore, now: Callable[[], float], changed: Callable[[KeyChange], None] = lambda _: None
    ) -> None:
        self.principals: Mapping[bytes, Principal] = MappingProxyType({})
        self._store = store
        self._now = now
        self._changed = changed
        self._keys: Mapping[str, StoredKey] = {}
        self._lastUsed: dict[str, float] = {}
        self._lock = DeferredLock()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, keyId: str) -> bool:
        return keyId in self._keys

    def load(self) -> Deferred[None]:
        """
        Take up what is stored, in place of what is known. Nobody is told.

        :return: fails with StateError where a row cannot be understood, and with
            :class:`~lmgateway.errors.Unavailable` where the file cannot be read; then what was known stays.
        """
        return self._alone(self._load)

    def all(self) -> tuple[StoredKey, ...]:
        """Every key, the oldest first."""
        return tuple(sorted(self._keys.values(), key=lambda key: (key.created, key.id)))

    def get(self, keyId: str) -> StoredKey:
        """
        Give a key.

        :raise NotFound: there is none of this id.
        """
        key = self._keys.get(keyId)
        if key is None:
            raise NotFound("There is no key of this id. GET /admin/keys lists all.")
        return key

    def used(self, keyId: str) -> None:
        """Remember that a key is in use now, unless it was revoked meanwhile."""
        if keyId in self._keys:
            self._lastUsed[keyId] = self._now()

    def lastUsed(self, keyId: str) -> float | None:
        """When a key was used last since the gateway was started; None where it was not."""
        return self._lastUsed.get(keyId)

    def add(
        self,
        name: str,
        scopes: Iterable[Scope],
        grant: Grant = UNLIMITED,
        *,
        hasOther: bool = True,
        permit: Callable[[], None] = lambda: None,
    ) -> Deferred[Minted]:
        """
        Make a key.

        :param name: what it is to be called.
        :param scopes: what it may do.
        :param grant: what it is held to.
        :param hasOther: whether the gateway can be administered without any stored key.
        :param permit: called when it is this key's turn; may raise.
        :return: fires once a ``kill -9`` can no longer lose it. Fails with :class:`~lmgateway.errors.Conflict` where another
            key has the name, there are too many, or nobody could administer the gateway then; with
            :class:`~lmgateway.errors.Unavailable` where the disk does not take it. Cancelling ends the waiting alone.
        """
        return self._alone(lambda: self._add(name, frozenset(scopes), grant, permit, hasOther=hasOther))

    def change(
        self, keyId: str, edit: Callable[[StoredKey], StoredKey], *, hasOther: bool = True
    ) -> Deferred[StoredKey]:
        """
        Give a key other scopes, or hold it to something else.

        :param edit: gives what the key is to be; may raise.
        :param hasOther: as for :meth:`add`.
        :return: as of :meth:`add`, or fails with :class:`~lmgateway.errors.NotFound` or what ``edit`` raised.
        """
        return self._alone(lambda: self._change(keyId, edit, hasOther=hasOther))

    def rotate(self, keyId: str, grace: float, permit: Permit = permitAll) -> Deferred[Minted]:
        """
        Give a key a new secret.

        :param grace: seconds for which the secrets that it had stay good, those of earlier rotations no longer than they
            would have. With 0, what runs with them is cut, too.
        :param permit: told of the key; may raise.
        :return: as of :meth:`add`, or fails with :class:`~lmgateway.errors.NotFound` or what ``permit`` raised.
        """
        return self._alone(lambda: self._rotate(keyId, grace, permit))

    def revoke(self, keyId: str, *, hasOther: bool = True) -> Deferred[StoredKey]:
        """
        End a key.

        :param hasOther: as for :meth:`add`.
        :return: fires with what the key was, once it is good no more, neither now nor after a ``kill -9``; fails as that
            of :meth:`add`, or with :class:`~lmgateway.errors.NotFound`.
        """
        return self._alone(lambda: self._revoke(keyId, hasOther=hasOther))

    async def _load(self) -> None:
        now = self._now()
        keys, former = await self._store.run(lambda connection: _read(connection, now))
        self._become({row[0]: _keyOf(row, former) for row in keys})

    async def _add(
        self, name: str, scopes: frozenset[Scope], grant: Grant, permit: Callable[[], None], *, hasOther: bool
    ) -> Minted:
        permit()
        if any(key.name == name for key in self._keys.values()):
            raise Conflict(
                "Another key has this name, and usage goes by the name. Choose another one, or revoke that key."
            )
        if len(self._keys) >= MOST_KEYS:
            raise Conflict(f"There are {MOST_KEYS} keys, and there cannot be more. Revoke some.")
        secret = generateKey()
        key = StoredKey(f"key_{secrets.token_hex(8)}", name, digestOf(secret), scopes, self._now(), grant)
        after = {**self._keys, key.id: key}
        self._requireAdministered(after, hasOther=hasOther)
        await self._store.run(lambda connection: _insert(connection, key))
        self._become(after)
        self._changed(KeyChange(key.id, isCut=False))
        return Minted(key, secret)

    async def _change(self, keyId: str, edit: Callable[[StoredKey], StoredKey], *, hasOther: bool) -> StoredKey:
        key = edit(self.get(keyId))
        after = {**self._keys, keyId: key}
        self._requireAdministered(after, hasOther=hasOther)
        await self._store.run(lambda connection: _update(connection, key))
        self._become(after)
        self._changed(KeyChange(keyId, isCut=False))
        return key

    async def _rotate(self, keyId: str, grace: float, permit: Permit) -> Minted:
        before = self.get(keyId)
        permit(before)
        now = self._now()
        secret = generateKey()
        old = (*before.former, FormerSecret(before.digest, now + grace))
        ended = tuple(replace(each, until=min(each.until, now + grace)) for each in old)
        key = replace(before, digest=digestOf(secret), former=tuple(each for each in ended if each.until > now))
        await self._store.run(lambda connection: _update(connection, key))
        self._become({**self._keys, keyId: key})
        self._changed(KeyChange(keyId, isCut=grace == 0))
        return Minted(key, secret)

    async def _revoke(self, keyId: str, *, hasOther: bool) -> StoredKey:
        key = self.get(keyId)
        after = {each: other for each, other in self._keys.items() if each != keyId}
        if key.administers(self._now()):
            self._requireAdministered(after, hasOther=hasOther)
        await self._store.run(lambda connection: _delete(connection, keyId))
        self._lastUsed.pop(keyId, None)
        self._become(after)
        self._changed(KeyChange(keyId, isCut=True))
        return key

    def _requireAdministered(self, after: Mapping[str, StoredKey], *, hasOther: bool) -> None:
        """
        Refuse a change after which nobody could undo it.

        :raise Conflict: there would be no key that an administrator can use.
        """
        now = self._now()
        if not hasOther and not any(key.administers(now) for key in after.values()):
            raise Conflict(
                'There would be no key with the scope "admin" then, and nobody could administer this gateway. '
                "Make such a key first, or set GATEWAY_API_KEY."
            )

    def _become(self, keys: Mapping[str, StoredKey]) -> None:
        self._keys = keys
        self.principals = {digest: principal for key in keys.values() for digest, principal in key.principals()}

    def _alone(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        """Do something while no other change is made, and to its end though nobody should wait for it any more."""
        waiting: Deferred[T] = Deferred(_letGo)

        def tell(result: T | Failure) -> None:
            if not waiting.called:
                waiting.callback(result)
            elif isinstance(result, Failure):
                _log.warn("A key was not changed: {reason}", reason=result.getErrorMessage())

        self._lock.run(lambda: Deferred.fromCoroutine(work())).addBoth(tell)
        return waiting


def _letGo(_: Deferred[Any]) -> None:
    """Cancel a wait for something that goes on by itself."""


_Row = tuple[str, str, bytes, str, float, str]


def _read(connection: sqlite3.Connection, now: float) -> tuple[list[_Row], dict[str, list[FormerSecret]]]:
    """Read all keys, and forget the secrets whose grace is over."""
    if connection.execute("SELECT 1 FROM formerSecrets WHERE until <= ?", (now,)).fetchone():
        connection.execute("DELETE FROM formerSecrets WHERE until <= ?", (now,)).close()
    former: dict[str, list[FormerSecret]] = {}
    for digest, key, until in connection.execute("SELECT digest, key, until FROM formerSecrets ORDER BY until"):
        former.setdefault(key, []).append(FormerSecret(digest, until))
    return connection.execute("SELECT id, name, digest, scopes, created, held FROM keys").fetchall(), former


def _keyOf(row: _Row, former: Mapping[str, list[FormerSecret]]) -> StoredKey:
    """
    Understand a row.

    :raise StateError: nobody can say what it means.
    """
    keyId, name, digest, scopes, created, held = row
    try:
        if not isinstance(digest, bytes):
            raise TypeError("its digest is none")
        words = frozenset(Scope(word) for word in scopes.split())
        grant = grantOf(json.loads(held))
    except ValidationFailed as error:
        raise StateError(f"The key {keyId} in the state file {_UNREADABLE} ({error.details}). {_COPY}") from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise StateError(f"The key {keyId} in the state file {_UNREADABLE} ({error}). {_COPY}") from None
    return StoredKey(keyId, name, digest, words, created, grant, tuple(former.get(keyId, ())))


_UNREADABLE = "has something about it that cannot be understood"
_COPY = "Put back a copy of the file."


def _heldText(key: StoredKey) -> str:
    return json.dumps(fieldsOf(key.grant))


def _scopesText(key: StoredKey) -> str:
    return " ".join(sorted(scope.value for scope in key.scopes))


def _insert(connection: sqlite3.Connection, key: StoredKey) -> None:
    row = (key.id, key.name, key.digest, _scopesText(key), key.created, _heldText(key))
    connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row).close()


def _update(connection: sqlite3.Connection, key: StoredKey) -> None:
    row = (key.digest, _scopesText(key), _heldText(key), key.id)
    connection.execute("UPDATE keys SET digest = ?, scopes = ?, held = ? WHERE id = ?", row).close()
    connection.execute("DELETE FROM formerSecrets WHERE key = ?", (key.id,)).close()
    rows = [(secret.digest, key.id, secret.until) for secret in key.former]
    connection.executemany("INSERT INTO formerSecrets VALUES (?, ?, ?)", rows).close()


def _delete(connection: sqlite3.Connection, keyId: str) -> None:
    connection.execute("DELETE FROM keys WHERE id = ?", (keyId,)).close()
    connection.execute("DELETE FROM formerSecrets WHERE key = ?", (keyId,)).close()
