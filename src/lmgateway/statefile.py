# -*- test-case-name: tests.test_statefile -*-
"""
The SQLite file that the gateway's state is in: owned by one process, inspected before it is touched, brought up to date.

Everything here blocks, and is done before the reactor runs or in a thread of its own.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

STATE_FILE = "state.sqlite3"
LOCK_FILE = "state.lock"

_APPLICATION_ID = 0x4C4D4757
"""``LMGW``, in the file's header, so that another program's file is not taken for the gateway's."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE activeModel (id INTEGER PRIMARY KEY CHECK (id = 1), model TEXT NOT NULL)",
        """
        CREATE TABLE keys (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL, created REAL NOT NULL
        )
        """,
    ),
    (
        """
        CREATE TABLE usage (
            day TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
            requests INTEGER NOT NULL, errors INTEGER NOT NULL, promptTokens INTEGER NOT NULL, completionTokens INTEGER NOT NULL,
            estimated INTEGER NOT NULL, seconds REAL NOT NULL,
            PRIMARY KEY (day, key, model)
        ) WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE keys ADD COLUMN held TEXT NOT NULL DEFAULT '{}'",
        "CREATE UNIQUE INDEX keyNames ON keys (name)",
        """
        CREATE TABLE formerSecrets (
            digest BLOB PRIMARY KEY, key TEXT NOT NULL, until REAL NOT NULL
        ) WITHOUT ROWID
        """,
    ),
)
"""What turns the file of one version into that of the next; its ``user_version`` counts those that it has been through."""


class StateError(Exception):
    """
    The gateway cannot start with the state that it finds.

    The message is a sentence or two for whoever starts it: which file, what is wrong with it, what to do.
    """


def takeFolder(directory: Path) -> int:
    """
    Own a state folder, which is made, for its owner only, where there is none.

    :return: the descriptor that holds the lock. It is given up by closing it, or by the end of the process, whatever ends it.
    :raise StateError: the folder cannot be made or written, or another process owns it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateError(
            f"The state folder {directory} cannot be used ({error.strerror}). Make it writable, or name another one."
        ) from error
    try:
        _lockDescriptor(lock)
    except OSError as error:
        owner = _ownerOf(lock)
        os.close(lock)
        which = f"process {owner}" if owner else error.strerror
        raise StateError(
            f"Another gateway is using the state folder {directory} ({which}). Stop it, or name another folder."
        ) from error
    signOwner(lock)
    return lock


def signOwner(lock: int) -> None:
    """
    Write this process's number into the file of its lock, for whoever is refused. To be called again after a fork.

    :param lock: the descriptor that holds the lock.
    """
    # Windows lets nobody read a locked byte: that is the first one, so the number stands behind it.
    with suppress(OSError):
        os.lseek(lock, 0, os.SEEK_SET)
        os.write(lock, f" {os.getpid()}\n".encode("ascii"))
        os.ftruncate(lock, os.lseek(lock, 0, os.SEEK_CUR))


def _ownerOf(lock: int) -> str:
    """The number of the process that holds a lock; empty where it left none."""
    with suppress(OSError):
        os.lseek(lock, 1, os.SEEK_SET)
        text = os.read(lock, 20).partition(b"\n")[0].decode("ascii", "replace")
        return text if text.isascii() and text.isdigit() else ""
    return ""


if sys.platform == "win32":
    import msvcrt

    def _lockDescriptor(lock: int) -> None:
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lockDescriptor(lock: int) -> None:
        # flock, unlike fcntl's own locks, is kept by a child when twistd forks.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do ``work`` whole or not at all."""
    connection.execute("BEGIN")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return result


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there, so that what is confirmed is on the disk."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL").close()
        connection.execute("PRAGMA synchronous=FULL").close()
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: Path) -> None:
    """
    Have a file of this version at ``path``, that only its owner can read.

    :raise StateError: the file that is there is refused, or none can be made.
    """
    try:
        if path.exists() and path.stat().st_size > 0:
            _inspect(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        with closing(connect(path)) as connection:
            _migrate(connection)
    except OSError as error:
        raise StateError(f"The state file {path} cannot be used ({error.strerror}). Make it writable.") from error
    except sqlite3.Error as error:
        raise StateError(f"The state file {path} cannot be used ({error}). Is the disk full or read-only?") from error


def _inspect(path: Path) -> None:
    """
    Look at a file without changing a byte of it.

    :raise StateError: it is damaged, another program's, or a newer version's.
    """
    try:
        found = _examine(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # A crash cut a write short, and whoever opens the file next undoes it: with a file that is refused, that is not us.
        with TemporaryDirectory(dir=path.parent) as folder:
            for name in (path.name, f"{path.name}-journal"):
                shutil.copyfile(path.with_name(name), Path(folder) / name)
            found = _examine(Path(folder) / path.name, "rw")
    if found.verdict != "ok":
        raise StateError(
            f"The state file {path} is damaged ({found.verdict}) and was left as it is. Put back a copy of it, or move it away to "
            "start without the active model and the keys that it holds."
        )
    if found.application != _APPLICATION_ID and (found.application or found.version or found.tables):
        raise StateError(f"The file {path} is not a gateway's. Move it away, or name another state folder.")
    if found.version > len(_MIGRATIONS):
        raise StateError(
            f"The state file {path} was written by a newer version of the gateway and was left as it is. Install that version again, "
            "or name another state folder."
        )


class _Found(NamedTuple):
    """What a file is: ``ok`` or what is wrong with it, whose, of which version, and how many tables and indexes it has."""

    verdict: str
    application: int = 0
    version: int = 0
    tables: int = 0


def _examine(path: Path, mode: str) -> _Found:
    """
    Read a file through.

    :param mode: SQLite's: ``ro``, or ``rw``, which undoes what a crash cut short.
    :raise sqlite3.OperationalError: it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)) as connection:
            application = _pragma(connection, "application_id")
            version = _pragma(connection, "user_version")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            verdict = _pragma(connection, "quick_check(1)")
            if path.stat().st_size % _pragma(connection, "page_size") and not _hasLog(path):
                verdict = "it ends within a page"
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return _Found(str(error))
    return _Found(verdict, application, version, tables)


def _hasLog(path: Path) -> bool:
    """Whether a write-ahead log is there, from which SQLite completes a page that a crash left half written."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    """The one value of a pragma."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version, whole or not at all. One that is there already is not written to."""
    version = _pragma(connection, "user_version")

    def work(connection: sqlite3.Connection) -> None:
        for statements in _MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(_MIGRATIONS)}")

    if version < len(_MIGRATIONS):
        transact(connection, work)
