# -*- test-case-name: tests.test_state -*-
"""
What survives a crash, in one SQLite file; of that, the active model. The keys are in :mod:`lmgateway.keys`.

The file is in WAL mode with ``synchronous=FULL``: once a statement's Deferred has fired, neither ``kill -9`` nor a power cut
undoes it. One gateway owns the folder at a time. While the gateway runs, a single worker thread executes all
statements, one transaction each, in the order in which they were asked for, so that no disk ever holds up the reactor.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import ValidationError, convert
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmgateway.errors import Unavailable
from lmgateway.interfaces import IActiveModel
from lmgateway.message import ActiveModel
from lmgateway.statefile import STATE_FILE, StateError, connect, prepare, signOwner, takeFolder, transact

T = TypeVar("T")

_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "its state file cannot be opened",
    sqlite3.SQLITE_FULL: "the disk that holds its state is full",
    sqlite3.SQLITE_IOERR: "the disk that holds its state fails",
    sqlite3.SQLITE_READONLY: "its state file is read-only",
}

_StoredModel = tuple[str, str | None, dict[str, Any], dict[str, Any]]
_SINCE_LOAD_CONFIG = 4
"""Members of a stored model; the first versions did not keep what it was to be loaded with."""

_log = Logger()


class StateStore:
    """
    The state folder, owned by this process.

    Between :meth:`open` and :meth:`start` there is no reactor to disturb: statements are executed at once, each on a
    connection of its own, so that nothing is open when ``twistd`` forks. From :meth:`start` on the worker thread has them.

    :ivar directory: the state folder.

    :param directory: the state folder, locked.
    :param reactor: where results arrive.
    :param lock: the descriptor that holds the lock.
    """

    def __init__(self, directory: Path, reactor: IReactorFromThreads, lock: int) -> None:
        self.directory = directory
        self._path = directory / STATE_FILE
        self._reactor = reactor
        self._lock = lock
        self._pool: ThreadPool | None = None
        self._connection: sqlite3.Connection | None = None
        self._isClosed = False

    @classmethod
    def open(cls, directory: str | Path, reactor: IReactorFromThreads) -> StateStore:
        """
        Take possession of a state folder, for use before the reactor runs.

        Makes what is missing: the folder, for its owner only, and the file in it, likewise. An older file is brought to this
        version.

        :raise StateError: the folder cannot be made or written, another gateway owns it, or its file is damaged, of
            a newer version or not a gateway's. A file that is refused is left as it is.
        """
        directory = Path(directory).absolute()
        lock = takeFolder(directory)
        try:
            prepare(directory / STATE_FILE)
        except BaseException:
            os.close(lock)
            raise
        return cls(directory, reactor, lock)

    def start(self) -> None:
        """Hand all further statements to the worker thread. To be called once the reactor runs, after any fork."""
        signOwner(self._lock)
        self._pool = ThreadPool(1, 1, name="lmgateway-state")
        self._pool.start()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        """
        Execute statements as one transaction.

        :param work: is called with the connection, in the worker thread; what it does is kept whole or not at all.
        :return: fires with what ``work`` returned, once it is on the disk; fails with what ``work`` raised, or with
            :class:`~lmgateway.errors.Unavailable` when the disk is full, read-only or broken, or the store is closed.
            Cancelling ends the waiting, not the work.
        """
        if self._isClosed:
            return fail(Unavailable("The gateway is stopping and stores nothing any more. Try again when it is back."))
        if self._pool is None:
            return execute(self._executeOnce, work)
        return deferToThreadPool(self._reactor, self._pool, self._executeHere, work)

    async def close(self) -> None:
        """
        Finish what was asked for, then let go of the folder. Does nothing the second time.

        The worker thread is joined: a process that does not come here does not end.
        """
        if self._isClosed:
            return
        self._isClosed = True
        if self._pool is not None:
            await deferToThreadPool(self._reactor, self._pool, self._disconnect)
            self._pool.stop()
        os.close(self._lock)

    def _executeOnce(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Execute on a connection that is there for this alone."""
        with _toldAsUnavailable(), closing(connect(self._path)) as connection:
            return transact(connection, work)

    def _executeHere(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Execute on the worker thread's connection. SQLite's connections belong to the thread that made them."""
        with _toldAsUnavailable():
            if self._connection is None:
                self._connection = connect(self._path)
            return transact(self._connection, work)

    def _disconnect(self) -> None:
        """Close the worker thread's connection, in the worker thread."""
        if self._connection is not None:
            self._connection.close()


@implementer(IActiveModel)
class StoredActiveModel:
    """
    The active model, in memory for every request and on the disk for the next start.

    :param store: where it survives.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._current: ActiveModel | None = None

    async def load(self) -> None:
        """
        Take up what an earlier run stored. To be awaited before the first request is served.

        :raise StateError: what is stored is no active model.
        :raise Unavailable: the state file cannot be read.
        """
        self._current = _parseModel(await self._store.run(_readModel))

    def current(self) -> ActiveModel | None:
        """The active model, from memory."""
        return self._current

    def activate(self, model: ActiveModel) -> Deferred[None]:
        """
        Make ``model`` the active one, on the disk first and then in memory.

        :return: fires when both have it; fails with :class:`~lmgateway.errors.Unavailable` when the disk did not take it, and
            then nothing has changed. Cancelling ends the waiting, not the activation.
        """
        return self._become(_formatModel(model))

    def deactivate(self) -> Deferred[None]:
        """Have no active model; otherwise like :meth:`activate`."""
        return self._become(None)

    def _become(self, text: str | None) -> Deferred[None]:
        """Store a model's text, then remember the model that a restart would read from it."""
        waiting: Deferred[None] = Deferred(_letGo)

        def cbStored(_: None) -> None:
            self._current = _parseModel(text)

        def tell(result: Failure | None) -> None:
            if not waiting.called:
                waiting.callback(result)
            elif isinstance(result, Failure):
                _log.warn("The active model was not changed: {reason}", reason=result.getErrorMessage())

        self._store.run(lambda connection: _writeModel(connection, text)).addCallback(cbStored).addBoth(tell)
        return waiting


def _letGo(_: Deferred[None]) -> None:
    """Cancel a wait for something that goes on by itself."""


def _readModel(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT model FROM activeModel").fetchone()
    return None if row is None else str(row[0])


def _writeModel(connection: sqlite3.Connection, text: str | None) -> None:
    connection.execute("DELETE FROM activeModel")
    if text is not None:
        connection.execute("INSERT INTO activeModel VALUES (1, ?)", (text,))


def _formatModel(model: ActiveModel) -> str:
    """Write a model as ASCII JSON, in which even a lone surrogate survives."""
    return json.dumps([model.modelKey, model.instanceId, dict(model.defaultInference), dict(model.loadConfig)])


def _parseModel(text: str | None) -> ActiveModel | None:
    """
    Read what :func:`_formatModel` wrote.

    :raise StateError: it is something else.
    """
    if text is None:
        return None
    try:
        stored = json.loads(text)
        if isinstance(stored, list) and len(stored) == _SINCE_LOAD_CONFIG - 1:
            stored.append({})
        modelKey, instanceId, defaultInference, loadConfig = convert(stored, _StoredModel)
    except (ValidationError, ValueError) as error:
        raise StateError(
            "The state file holds an active model that cannot be read. Put back a copy of the file."
        ) from error
    return ActiveModel(modelKey, instanceId, MappingProxyType(defaultInference), MappingProxyType(loadConfig))


@contextmanager
def _toldAsUnavailable() -> Iterator[None]:
    """Turn what a disk does to SQLite into an error that a client may see; mistakes in statements stay what they are."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "its state file cannot be used")
        raise Unavailable(
            f"The gateway could not do this: {reason}. Nothing has changed. Tell whoever runs it."
        ) from error
