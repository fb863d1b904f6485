"""
Keys at rest and in memory: what is kept of them, what survives, and what is never there.

A store that is not started answers at once. That what was confirmed outlives a gateway which is killed, :mod:`tests.test_life` tests.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from functools import partial
from stat import S_IMODE
from typing import Any

from lmgateway.errors import Conflict, Forbidden, NotFound, Unavailable
from lmgateway.keys import FormerSecret, KeyChange, KeyRing, StoredKey
from lmgateway.message import UNLIMITED, Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.state import StateStore
from lmgateway.statefile import STATE_FILE, StateError
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.folders import fullBeyond, temporaryFolder
from tests.test_state import StoreTestCase

ADMIN = frozenset({Scope.ADMIN})
INFERENCE = frozenset({Scope.INFERENCE})
GRANT = Grant(500.25, ("qwen/*",), ("10.0.0.0/8",), 1, 2**53 - 1, 3, {"stopStrings": ["\ud83d"]}, capture=False)


def _execute(statement: str, connection: sqlite3.Connection) -> None:
    """Meddle with the file."""
    connection.execute(statement).close()


class RingTestCase(StoreTestCase):
    """A ring of keys, and what it tells."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.told: list[KeyChange] = []
        self.ring = self.ringOf(self.store)

    def ringOf(self, store: StateStore) -> KeyRing:
        """The keys of a store, loaded."""
        ring = KeyRing(store, self.clock.seconds, self.told.append)
        self.successResultOf(ring.load())
        return ring

    def add(self, name: str = "alice", scopes: frozenset[Scope] = INFERENCE, grant: Grant = UNLIMITED) -> Any:
        """A key that was just made."""
        return self.successResultOf(self.ring.add(name, scopes, grant))

    def meddle(self, statement: str) -> None:
        """Change the file in a way that the ring does not."""
        self.successResultOf(self.store.run(partial(_execute, statement)))


class KeyRingTests(RingTestCase):
    def test_survive(self) -> None:
        """Keys are found again after a restart, the oldest first, each with all that it is held to."""
        self.assertEqual(self.ring.all(), ())
        made = []
        for name, scopes, grant in (("b", ADMIN, UNLIMITED), ("a", INFERENCE, GRANT), ("c", frozenset(Scope), GRANT)):
            self.clock.advance(7)
            made.append(self.add(name, scopes, grant).key)
        self.assertEqual([key.created for key in made], [7, 14, 21])
        self.assertEqual(len({key.id for key in made}), 3)
        self.assertEqual(self.ring.all(), tuple(made))
        self.assertEqual(self.ringOf(self.reopened()).all(), tuple(made))

    def test_principal(self) -> None:
        """Whoever shows the secret is known by the key's name and id, with its scopes and what it is held to."""
        made = self.add(grant=GRANT)
        principal = Principal("alice", INFERENCE, made.key.id, GRANT)
        self.assertEqual(self.ring.principals, {digestOf(made.secret): principal})

    def test_secretNowhere(self) -> None:
        """No file of the state folder holds a secret, neither of a key that is made nor of one that is rotated."""
        made = self.add()
        again = self.successResultOf(self.ring.rotate(made.key.id, 60))
        held = b"".join(file.read_bytes() for file in self.folder.iterdir())
        for minted in (made, again):
            self.assertIn(digestOf(minted.secret), held)
            for start in range(0, 43, 8):
                self.assertNotIn(minted.secret[4 + start : 12 + start].encode(), held)

    def test_onlyForItsOwner(self) -> None:
        """Whatever the umask, nobody else can read what is written."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.ring = self.ringOf(self.reopened())
        self.add()
        for file in self.folder.iterdir():
            self.assertEqual(S_IMODE(file.stat().st_mode), 0o600, file.name)

    def test_change(self) -> None:
        """A change is in memory and on the disk, and told."""
        made = self.add()
        edited = replace(made.key, scopes=ADMIN, grant=GRANT)
        self.told.clear()
        self.assertEqual(self.successResultOf(self.ring.change(made.key.id, lambda _: edited)), edited)
        self.assertEqual(self.told, [KeyChange(made.key.id, isCut=False)])
        self.assertEqual(self.ring.principals[digestOf(made.secret)].grant, GRANT)
        self.assertEqual(self.ringOf(self.reopened()).all(), (edited,))

    def test_rotate(self) -> None:
        """The old secrets stay good for their grace, none longer than it was promised or than the key itself."""
        first = self.add(grant=Grant(expires=1000.0))
        second = self.successResultOf(self.ring.rotate(first.key.id, 60))
        third = self.successResultOf(self.ring.rotate(first.key.id, 5000))
        ring = self.ringOf(self.reopened())
        ends = {secret: ring.principals[digestOf(secret)].grant.expires for secret in (first.secret, second.secret)}
        self.assertEqual(ends, {first.secret: 60, second.secret: 1000})
        self.assertEqual(ring.principals[digestOf(third.secret)], third.key.principal)
        self.assertEqual({principal.keyId for principal in ring.principals.values()}, {first.key.id})

    def test_forgotten(self) -> None:
        """A secret whose grace is over is forgotten, in memory and on the disk."""
        first = self.add()
        self.successResultOf(self.ring.rotate(first.key.id, 60))
        self.clock.advance(60)
        store = self.reopened()
        self.assertEqual(len(self.ringOf(store).principals), 1)
        count = store.run(lambda connection: connection.execute("SELECT count(*) FROM formerSecrets").fetchone())
        self.assertEqual(self.successResultOf(count), (0,))

    def test_atOnce(self) -> None:
        """A rotation without grace leaves no old secret at all."""
        first = self.add()
        self.successResultOf(self.ring.rotate(first.key.id, 60))
        self.told.clear()
        last = self.successResultOf(self.ring.rotate(first.key.id, 0))
        self.assertEqual(list(self.ring.principals), [digestOf(last.secret)])
        self.assertEqual(self.told, [KeyChange(first.key.id, isCut=True)])

    def test_revoke(self) -> None:
        """A revoked key is gone with all of its secrets, here and after a restart, and its name is free."""
        made, other = self.add(), self.add("bob")
        self.successResultOf(self.ring.rotate(made.key.id, 60))
        self.told.clear()
        self.successResultOf(self.ring.revoke(made.key.id))
        self.assertEqual(self.told, [KeyChange(made.key.id, isCut=True)])
        self.assertEqual(list(self.ring.principals), [digestOf(other.secret)])
        store = self.reopened()
        self.ring = self.ringOf(store)
        self.assertEqual(list(self.ring.principals), [digestOf(other.secret)])
        count = store.run(lambda connection: connection.execute("SELECT count(*) FROM formerSecrets").fetchone())
        self.assertEqual(self.successResultOf(count), (0,))
        self.add()

    def test_inForceBefore(self) -> None:
        """Whoever is told of a change finds it in force."""
        seen: list[int] = []
        ring = KeyRing(self.store, self.clock.seconds, lambda _: seen.append(len(ring.principals)))
        made = self.successResultOf(ring.add("alice", INFERENCE))
        self.successResultOf(ring.revoke(made.key.id))
        self.assertEqual(seen, [1, 0])

    def test_refused(self) -> None:
        """What may not be changed is as it was: an unknown id, a name that is taken, whatever whoever asks forbids."""

        def forbid(_: StoredKey) -> StoredKey:
            raise Forbidden("no")

        def refuse(key: StoredKey) -> None:
            forbid(key)

        made = self.add()
        self.failureResultOf(self.ring.revoke("key_x"), NotFound)
        self.failureResultOf(self.ring.rotate("key_x", 1), NotFound)
        self.failureResultOf(self.ring.add("alice", ADMIN), Conflict)
        self.failureResultOf(self.ring.change(made.key.id, forbid), Forbidden)
        self.failureResultOf(self.ring.rotate(made.key.id, 0, refuse), Forbidden)
        self.assertEqual(self.ringOf(self.reopened()).all(), (made.key,))

    def test_administered(self) -> None:
        """Where nothing else administers the gateway, some key must that is still good."""
        self.failureResultOf(self.ring.add("alice", INFERENCE, hasOther=False), Conflict)
        boss = self.successResultOf(self.ring.add("boss", ADMIN, Grant(expires=10.0), hasOther=False))
        self.successResultOf(self.ring.add("alice", INFERENCE, hasOther=False))
        self.failureResultOf(self.ring.revoke(boss.key.id, hasOther=False), Conflict)
        less = replace(boss.key, scopes=INFERENCE)
        self.failureResultOf(self.ring.change(boss.key.id, lambda _: less, hasOther=False), Conflict)
        self.clock.advance(10)
        self.successResultOf(self.ring.revoke(boss.key.id, hasOther=False))

    def test_notStored(self) -> None:
        """What the disk does not take is not in force, and what was in force still is; nobody is told."""
        made = self.add()
        self.told.clear()
        for file in self.folder.glob(f"{STATE_FILE}*"):
            file.unlink()
        self.failureResultOf(self.ring.add("bob", ADMIN), Unavailable)
        self.failureResultOf(self.ring.revoke(made.key.id), Unavailable)
        self.failureResultOf(self.ring.rotate(made.key.id, 0), Unavailable)
        self.failureResultOf(self.ring.change(made.key.id, lambda key: replace(key, scopes=ADMIN)), Unavailable)
        self.assertEqual(self.ring.principals, {digestOf(made.secret): made.key.principal})
        self.assertEqual(self.told, [])

    def test_diskFails(self) -> None:
        """What a disk that fails does not take is told, and not in force; as soon as it takes it again, nothing is in the way."""
        made = self.add()
        self.told.clear()
        with fullBeyond(100):
            for act in (
                lambda: self.ring.add("bob", ADMIN),
                lambda: self.ring.revoke(made.key.id),
                lambda: self.ring.rotate(made.key.id, 0),
                lambda: self.ring.change(made.key.id, lambda key: replace(key, scopes=ADMIN)),
            ):
                self.assertIn("Nothing has changed.", self.failureResultOf(act(), Unavailable).value.message)
        self.assertEqual(self.ring.principals, {digestOf(made.secret): made.key.principal})
        self.assertEqual(self.told, [])
        self.successResultOf(self.ring.add("bob", ADMIN))
        self.assertEqual(len(self.ring.principals), 2)

    def test_used(self) -> None:
        """When a key was used last is known until it is revoked."""
        made = self.add()
        self.assertIsNone(self.ring.lastUsed(made.key.id))
        self.clock.advance(3)
        self.ring.used(made.key.id)
        self.assertEqual(self.ring.lastUsed(made.key.id), 3)
        self.successResultOf(self.ring.revoke(made.key.id))
        # What ran with it is cut off, and tells of its end only now.
        self.ring.used(made.key.id)
        self.assertIsNone(self.ring.lastUsed(made.key.id))

    def test_unreadable(self) -> None:
        """A row that nobody can understand is refused with a sentence, and what was known stays."""
        self.add()
        for meddling in (
            "UPDATE keys SET scopes = 'inference root'",
            "UPDATE keys SET scopes = x'00'",
            "UPDATE keys SET digest = 'text'",
            "UPDATE keys SET held = '{'",
            "UPDATE keys SET held = '[]'",
            """UPDATE keys SET held = '{"rights": 1}'""",
            """UPDATE keys SET held = '{"parallel": -1}'""",
            """UPDATE keys SET held = '{"addresses": ["here"]}'""",
            "UPDATE keys SET held = x'00'",
        ):
            self.meddle("UPDATE keys SET scopes = 'inference', digest = x'00', held = '{}'")
            self.meddle(meddling)
            failure = self.failureResultOf(self.ring.load(), StateError)
            self.assertIn("Put back a copy", failure.getErrorMessage(), meddling)
            self.assertEqual(len(self.ring), 1)

    def test_earlier(self) -> None:
        """A key of an earlier version, which was held to nothing, is as good as it was."""
        self.meddle(
            "INSERT INTO keys (id, name, digest, scopes, created) VALUES ('key_1', 'first', x'01', 'admin', 5.0)"
        )
        self.successResultOf(self.ring.load())
        self.assertEqual(self.ring.all(), (StoredKey("key_1", "first", b"\x01", ADMIN, 5.0),))


class StoredKeyTests(RingTestCase):
    def test_rotatedUntil(self) -> None:
        """Of several old secrets the one that stays good longest is told, of none that is over any."""
        key = replace(self.add().key, former=(FormerSecret(b"1", 5.0), FormerSecret(b"2", 9.0)))
        self.assertEqual([key.rotatedUntil(now) for now in (0.0, 5.0, 9.0)], [9.0, 9.0, None])


class ThreadTests(TestCase):
    """The ring as it runs: with the store's thread, on the real reactor."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        assert IReactorFromThreads.providedBy(reactor)
        self.store = StateStore.open(temporaryFolder(self), reactor)
        self.store.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.close()))
        self.ring = KeyRing(self.store, lambda: 7.0)

    async def test_oneAfterTheOther(self) -> None:
        """Changes that overlap do not undo one another: each begins with what the one before it left."""
        made = await self.ring.add("alice", INFERENCE)
        waiting = [
            self.ring.change(made.key.id, lambda key: replace(key, grant=Grant(parallel=(key.grant.parallel or 0) + 1)))
            for _ in range(10)
        ]
        for change in waiting:
            await change
        self.assertEqual(self.ring.get(made.key.id).grant.parallel, 10)

    async def test_twoOfOneName(self) -> None:
        """Of two keys of one name that are asked for at once, one is made."""
        first, second = self.ring.add("alice", INFERENCE), self.ring.add("alice", ADMIN)
        await first
        with self.assertRaises(Conflict):
            await second

    async def test_twoLast(self) -> None:
        """Of the last two keys that administer the gateway, one stays, though both be revoked at once."""
        keys = [await self.ring.add(name, ADMIN) for name in ("a", "b")]
        first, second = (self.ring.revoke(made.key.id, hasOther=False) for made in keys)
        await first
        with self.assertRaises(Conflict):
            await second

    async def test_notBefore(self) -> None:
        """A key is good until the disk has that it is not, and is not told revoked before."""
        made = await self.ring.add("alice", INFERENCE)
        go = threading.Event()
        held = self.store.run(lambda _: go.wait(10))
        revoking = self.ring.revoke(made.key.id)
        self.assertNoResult(revoking)
        self.assertEqual(len(self.ring.principals), 1)
        go.set()
        await revoking
        self.assertEqual(len(self.ring.principals), 0)
        self.assertTrue(await held)

    async def test_cancelled(self) -> None:
        """Whoever stops waiting for a revocation does not undo it: memory and disk stay of one mind."""
        made = await self.ring.add("alice", INFERENCE)
        revoking = self.ring.revoke(made.key.id)
        revoking.cancel()
        self.failureResultOf(revoking, CancelledError)
        await self.ring.load()
        self.assertEqual(self.ring.all(), ())
