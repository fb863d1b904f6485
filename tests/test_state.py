"""
What survives: the active model. The keys are in :mod:`tests.test_keys`.

A store that is not started answers at once, in the calling thread, which is how most tests use it. The threads, and a process
that is killed while it writes, are real.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from subprocess import run
from typing import Any, ClassVar, TypeVar
from unittest import skipUnless

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Unavailable
from lmgateway.interfaces import IActiveModel
from lmgateway.message import ActiveModel
from lmgateway.state import StateStore, StoredActiveModel
from lmgateway.statefile import LOCK_FILE, STATE_FILE, StateError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.folders import fullBeyond, temporaryFolder

T = TypeVar("T")

QWEN = ActiveModel("qwen/qwen3-8b", "qwen3:2", {"temperature": 0.5, "stopStrings": ["a", "b"], "maxTokens": 10**30})
GEMMA = ActiveModel("google/gemma-3-4b")

ROUNDS = 20

CRASHER = """
import itertools, os, signal, sys
from twisted.internet.defer import Deferred

def write(folder, first, pipe):
    from lmgateway.message import ActiveModel
    from lmgateway.state import StateStore, StoredActiveModel
    from twisted.internet import reactor

    async def confirm():
        store = StateStore.open(folder, reactor)
        store.start()
        active = StoredActiveModel(store)
        for number in itertools.count(first):
            await active.activate(ActiveModel(str(number)))
            os.write(pipe, b"%d\\n" % number)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(confirm()).addErrback(lambda reason: os._exit(3)))
    reactor.run(installSignalHandlers=False)

folder, rounds = sys.argv[1], int(sys.argv[2])
import lmgateway.state
confirmed = -1
for number in range(rounds):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        write(folder, confirmed + 1, writing)
    os.close(writing)
    told = b""
    while told.count(b"\\n") < number % 4 + 1:
        told += os.read(reading, 1) or os._exit(4)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open(reading, "rb") as rest:
        told += rest.read()
    confirmed = int(told.split()[-1])
    store = lmgateway.state.StateStore.open(folder, None)
    active = lmgateway.state.StoredActiveModel(store)
    Deferred.fromCoroutine(active.load())
    print(confirmed, active.current().modelKey)
    Deferred.fromCoroutine(store.close())
    confirmed = int(active.current().modelKey)
"""
"""
Kills a writer again and again, each time after some confirmations and in the midst of whatever it does then; prints the last
number that was confirmed and the one that is found.
"""


@implementer(IReactorFromThreads)
class Unneeded:
    """The reactor of a store that is not started: nothing may come from a thread."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: A002 - the interface's name
        """Fail."""
        raise AssertionError("A store that is not started used a thread.")


class StoreTestCase(SynchronousTestCase):
    """Stores that are not started, in a folder that goes away."""

    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.store = self.open()

    def open(self) -> StateStore:
        """A store on the folder."""
        store = StateStore.open(self.folder, Unneeded())
        self.addCleanup(lambda: self.now(store.close()))
        return store

    def reopened(self) -> StateStore:
        """A store on the folder, as the next start of the gateway finds it."""
        self.now(self.store.close())
        return self.open()

    def now(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """The result of what needs no reactor."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def loaded(self, store: StateStore) -> StoredActiveModel:
        """The active model of a store."""
        active = StoredActiveModel(store)
        self.now(active.load())
        return active


def _put(text: str, connection: sqlite3.Connection) -> None:
    """Write any text where the active model's belongs."""
    connection.execute("REPLACE INTO activeModel VALUES (1, ?)", (text,))


class StateStoreTests(StoreTestCase):
    def test_transaction(self) -> None:
        """What fails half-way changes nothing and is told as it is."""

        def halfDone(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO activeModel VALUES (1, 'half')")
            raise KeyError

        self.failureResultOf(self.store.run(halfDone), KeyError)
        self.assertEqual(
            self.successResultOf(self.store.run(lambda c: c.execute("SELECT * FROM activeModel").fetchall())), []
        )

    def test_mistake(self) -> None:
        """A constraint that a statement breaks is a defect of ours, not told to the client as a disk's."""
        statement = "INSERT INTO activeModel VALUES (2, 'x')"
        self.failureResultOf(self.store.run(lambda c: c.execute(statement).close()), sqlite3.IntegrityError)

    def test_oneOwner(self) -> None:
        """A second store on the folder is refused while the first is open, and welcome afterwards."""
        error = self.assertRaises(StateError, StateStore.open, self.folder, Unneeded())
        self.assertIn("Another gateway", str(error))
        self.reopened()

    def test_refusedFileLetsGo(self) -> None:
        """A folder whose file is refused is not kept locked."""
        self.now(self.store.close())
        path = self.folder / STATE_FILE
        path.write_bytes(b"no database " * 100)
        for _ in range(2):
            error = self.assertRaises(StateError, StateStore.open, self.folder, Unneeded())
            self.assertIn("damaged", str(error))
        path.unlink()
        self.open()

    def test_closed(self) -> None:
        """A closed store takes nothing more, says so, and can be closed again."""
        self.now(self.store.close())
        self.now(self.store.close())
        error = self.failureResultOf(self.store.run(lambda _: None), Unavailable)
        self.assertIn("stopping", error.getErrorMessage())

    def test_fileGone(self) -> None:
        """A file that can no longer be opened makes requests fail with a sentence without a path, not the gateway."""
        for file in self.folder.glob(f"{STATE_FILE}*"):
            file.unlink()
        error = self.failureResultOf(self.store.run(lambda _: None), Unavailable)
        self.assertIn("cannot be opened", error.getErrorMessage())
        self.assertNotIn(str(self.folder), error.getErrorMessage())


class StoredActiveModelTests(StoreTestCase):
    def test_interface(self) -> None:
        """The stored model is what the proxy asks for."""
        verifyObject(IActiveModel, StoredActiveModel(self.store))

    def test_none(self) -> None:
        """A fresh state has no active model."""
        self.assertIsNone(self.loaded(self.store).current())

    def test_survives(self) -> None:
        """What was activated last is active after a restart, with all its parameters, to the last digit."""
        active = self.loaded(self.store)
        for model in (GEMMA, QWEN):
            self.successResultOf(active.activate(model))
            self.assertEqual(active.current(), model)
        self.assertEqual(self.loaded(self.reopened()).current(), QWEN)

    def test_deactivate(self) -> None:
        """None stays none after a restart."""
        active = self.loaded(self.store)
        self.successResultOf(active.activate(QWEN))
        self.successResultOf(active.deactivate())
        self.assertIsNone(active.current())
        self.assertIsNone(self.loaded(self.reopened()).current())

    def test_oneRow(self) -> None:
        """However often a model is activated, the file holds one."""
        active = self.loaded(self.store)
        for _ in range(5):
            self.successResultOf(active.activate(QWEN))
        counted = self.store.run(lambda c: c.execute("SELECT count(*) FROM activeModel").fetchone())
        self.assertEqual(self.successResultOf(counted), (1,))

    def test_ownCopy(self) -> None:
        """Whoever changes the parameters that they activated changes nothing of what is active."""
        parameters: dict[str, Any] = {"stopStrings": ["a"]}
        active = self.loaded(self.store)
        self.successResultOf(active.activate(ActiveModel("m", None, parameters)))
        parameters["stopStrings"].append("b")
        parameters["topP"] = 1
        self.assertEqual(active.current(), ActiveModel("m", None, {"stopStrings": ["a"]}))

    def test_notStored(self) -> None:
        """What the disk does not take is not active, and what was active still is."""
        active = self.loaded(self.store)
        self.successResultOf(active.activate(GEMMA))
        for file in self.folder.glob(f"{STATE_FILE}*"):
            file.unlink()
        self.failureResultOf(active.activate(QWEN), Unavailable)
        self.failureResultOf(active.deactivate(), Unavailable)
        self.assertEqual(active.current(), GEMMA)

    def test_unreadable(self) -> None:
        """Text that is no model, in a file that is sound, is refused at the start."""
        for text in ("", "{}", "[1,null,{}]", '["m",null,{}', '["m",null,[]]', '["m",null,{},1]', '["m",null]'):
            self.successResultOf(self.store.run(partial(_put, text)))
            active = StoredActiveModel(self.store)
            self.failureResultOf(Deferred.fromCoroutine(active.load()), StateError)

    @given(
        st.text(),
        st.none() | st.text(),
        st.dictionaries(
            st.text(),
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text()),
            max_size=5,
        ),
    )
    def test_anyModel(self, modelKey: str, instanceId: str | None, parameters: dict[str, Any]) -> None:
        """Whatever a model is called and whatever its parameters are, lone surrogates included, it is found again as it was."""
        model = ActiveModel(modelKey + "\ud83d", instanceId, parameters, {"gpu": {"ratio": 0.5}})
        self.successResultOf(StoredActiveModel(self.store).activate(model))
        self.assertEqual(self.loaded(self.store).current(), model)

    def test_before(self) -> None:
        """A model that was stored before it was kept what to load it with is found again."""
        self.successResultOf(self.store.run(partial(_put, '["m","i",{"topP":1}]')))
        self.assertEqual(self.loaded(self.store).current(), ActiveModel("m", "i", {"topP": 1}))


class ThreadTests(TestCase):
    """The store as it runs: with its worker thread, on the real reactor."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        assert IReactorFromThreads.providedBy(reactor)
        self.folder = temporaryFolder(self)
        self.store = StateStore.open(self.folder, reactor)
        (self.folder / LOCK_FILE).write_bytes(b" 1\n")
        self.store.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.close()))

    def test_signed(self) -> None:
        """From its start on the lock names this process, whichever took the folder before a fork."""
        self.assertEqual((self.folder / LOCK_FILE).read_text(), f" {os.getpid()}\n")

    async def test_ownThread(self) -> None:
        """Statements run in one thread, which is not the reactor's; their results arrive in the reactor's."""
        threads = {await self.store.run(lambda _: threading.get_ident()) for _ in range(5)}
        self.assertEqual(len(threads), 1)
        self.assertNotIn(threading.get_ident(), threads)

    async def test_order(self) -> None:
        """Activations that overlap take effect in the order in which they were asked for, in memory as on the disk."""
        active = StoredActiveModel(self.store)
        waiting = [active.activate(ActiveModel(str(number))) for number in range(20)]
        self.assertIsNone(active.current())
        for number, done in enumerate(waiting):
            await done
            current = active.current()
            assert current is not None
            self.assertGreaterEqual(int(current.modelKey), number)
        fresh = StoredActiveModel(self.store)
        await fresh.load()
        self.assertEqual(fresh.current(), ActiveModel("19"))

    async def test_notBefore(self) -> None:
        """The model is not told as active before the disk has it."""
        begun, go = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> bool:
            begun.set()
            return go.wait(10)

        held = self.store.run(hold)
        active = StoredActiveModel(self.store)
        activating = active.activate(QWEN)
        self.assertTrue(begun.wait(10))
        self.assertFalse(activating.called)
        self.assertIsNone(active.current())
        go.set()
        await activating
        self.assertEqual(active.current(), QWEN)
        self.assertTrue(await held)

    async def test_cancelled(self) -> None:
        """Whoever stops waiting for an activation does not undo it: memory and disk stay of one mind."""
        active = StoredActiveModel(self.store)
        activating = active.activate(QWEN)
        activating.cancel()
        self.failureResultOf(activating, CancelledError)
        await self.store.run(lambda _: None)
        self.assertEqual(active.current(), QWEN)
        fresh = StoredActiveModel(self.store)
        await fresh.load()
        self.assertEqual(fresh.current(), QWEN)

    async def test_full(self) -> None:
        """A disk that is full fails that one request with a sentence; what was active stays, and there is room again later."""
        active = StoredActiveModel(self.store)
        await active.activate(GEMMA)
        pages = await self.store.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await self.store.run(lambda c: c.execute(f"PRAGMA max_page_count={pages}").close())
        with self.assertRaises(Unavailable) as caught:
            await active.activate(ActiveModel("m" * 100000))
        self.assertIn("is full", caught.exception.message)
        self.assertEqual(active.current(), GEMMA)
        await self.store.run(lambda c: c.execute("PRAGMA max_page_count=100000").close())
        await active.activate(QWEN)
        self.assertEqual(active.current(), QWEN)

    async def test_failing(self) -> None:
        """A disk that takes no more in the middle of a write fails that one request with a sentence, and the next one passes."""
        active = StoredActiveModel(self.store)
        await active.activate(GEMMA)
        size = (self.folder / f"{STATE_FILE}-wal").stat().st_size
        with fullBeyond(size + 100):
            for _ in range(2):
                with self.assertRaises(Unavailable) as caught:
                    await active.activate(ActiveModel("m" * 100_000))
                self.assertIn("the disk that holds its state fails", caught.exception.message)
                self.assertEqual(active.current(), GEMMA)
        await active.activate(QWEN)
        fresh = StoredActiveModel(self.store)
        await fresh.load()
        self.assertEqual((active.current(), fresh.current()), (QWEN, QWEN))

    async def test_cancelledAndFailed(self) -> None:
        """An activation that nobody waits for any more and that fails leaves all as it was and ends in silence."""
        active = StoredActiveModel(self.store)
        await active.activate(GEMMA)
        pages = await self.store.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await self.store.run(lambda c: c.execute(f"PRAGMA max_page_count={pages}").close())
        activating = active.activate(ActiveModel("m" * 100000))
        activating.cancel()
        self.failureResultOf(activating, CancelledError)
        await self.store.run(lambda _: None)
        self.assertEqual(active.current(), GEMMA)

    async def test_closing(self) -> None:
        """Closing finishes what was asked for before it; afterwards the thread is gone and all is in the one file."""
        active = StoredActiveModel(self.store)
        activating = active.activate(QWEN)
        thread = await self.store.run(lambda _: threading.current_thread())
        await self.store.close()
        await activating
        self.assertFalse(thread.is_alive())
        self.assertFalse((self.folder / f"{STATE_FILE}-wal").exists())
        self.assertEqual(active.current(), QWEN)


@skipUnless(hasattr(os, "fork"), "kill -9 needs a POSIX system")
class CrashTests(SynchronousTestCase):
    rounds: ClassVar[int] = ROUNDS

    def test_kill(self) -> None:
        """Of a gateway that is killed while it writes, every confirmed activation is found, and at most one more that it had begun."""
        folder = temporaryFolder(self)
        command = [sys.executable, "-c", CRASHER, str(folder), str(self.rounds)]
        done = run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - our own command
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        self.assertEqual(len(found), self.rounds)
        for confirmed, present in found:
            self.assertIn(present, (confirmed, confirmed + 1))
