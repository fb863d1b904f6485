# -*- test-case-name: tests.test_audit -*-
"""
Who did what to the gateway, line by line, in files that only grow: ``audit.jsonl`` in the state folder.

A line is on the disk before anybody is told that it is written. A thread of its own writes, so that no disk holds up the
reactor. Lines that the disk did not take are owed: they are kept in memory, and written before all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lmgateway.errors import Unavailable
from lmgateway.logfile import RotatingFile
from lmgateway.policy.acts import AuditQuery, tellable
from lmgateway.telemetry.journal import isoTime

T = TypeVar("T")

AUDIT_FILE = "audit.jsonl"

ROTATE_SIZE = 8 << 20
"""Bytes of a file, some 30,000 lines."""

KEEP = 24
"""Old files that are kept: with the new one 200 MB at the most."""

MOST_OWED = 1000
"""Lines that are kept for a disk that does not take them; then the oldest are given up, and the log says so."""

MOST_READ = 16 << 20
"""Bytes that one question has read, from the newest line back."""

_BLOCK = 64 << 10

_log = Logger()


class AuditFailed(Unavailable):
    """What was done could not be written to the audit, or is not done because it could not be."""

    code = "audit_failed"


class AuditEntry(Struct, frozen=True, kw_only=True):
    """
    One line.

    :param time: Unix time; ISO 8601 in the file.
    :param action: what: ``keys.add``, ``models.load``, ``start``.
    :param outcome: ``done``; ``refused``, to whom may not; ``failed``; ``passed_on``, to LM Studio, before it was; ``unanswered``, where
        the client left before the answer.
    :param client: the address that asked, if one did.
    :param key: the name of its key.
    :param keyId: the id of its key, where it is stored.
    :param requestId: as in the answer and in the logs.
    :param target: what it was done to.
    :param before: the state before.
    :param after: the state after.
    :param status: of the answer.
    :param error: the code of what went wrong.
    :param omitted: refusals before this one that have no line, because there were too many.
    """

    time: float
    action: str
    outcome: str
    client: str | None = None
    key: str | None = None
    keyId: str | None = None
    requestId: str | None = None
    target: str | None = None
    before: Any = None
    after: Any = None
    status: int | None = None
    error: str | None = None
    omitted: int = 0


class AuditLog:
    """
    The audit of one state folder, which this process owns.

    As the state's store, it writes at once until :meth:`start`, and in a thread of its own from then on.

    :param directory: the state folder.
    :param reactor: where results arrive.
    :param mask: masks the secrets in a text; assign to change it.
    """

    def __init__(self, directory: Path, reactor: IReactorFromThreads, mask: Callable[[str], str]) -> None:
        self.mask = mask
        self._directory = directory
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._file: RotatingFile | None = None
        self._owed: list[bytes] = []
        self._hasFailed = False
        self._isClosed = False

    @property
    def isFailing(self) -> bool:
        """Whether lines are owed, so that nothing more should be done that must be told."""
        return self._hasFailed or bool(self._owed)

    def start(self) -> None:
        """Have the worker thread write. To be called once the reactor runs, after any fork."""
        self._pool = ThreadPool(1, 1, name="lmgateway-audit")
        self._pool.start()

    def record(self, entry: AuditEntry) -> Deferred[None]:
        """
        Write a line.

        :return: fires once it is on the disk; fails with :class:`AuditFailed` where it is not. Then it is owed.
        """
        return self._write([_lineOf(entry, self.mask)])

    def recover(self) -> Deferred[None]:
        """
        Write what is owed.

        :return: fires once nothing is; fails with :class:`AuditFailed` while the disk takes nothing.
        """
        return self._write([]) if self.isFailing else succeed(None)

    async def read(self, query: AuditQuery) -> dict[str, Any]:
        """
        Find lines, the newest first.

        :return: as :func:`readAudit`.
        :raise Unavailable: the files cannot be read, or the gateway is stopping.
        """
        try:
            return await self._run(lambda: readAudit(self._directory, query))
        except OSError:
            raise Unavailable("The gateway could not read its audit. Tell whoever runs it.") from None

    async def close(self) -> None:
        """Finish what was asked for. Does nothing the second time."""
        if self._isClosed:
            return
        self._isClosed = True
        if self._pool is not None:
            await deferToThreadPool(self._reactor, self._pool, self._closeFile)
            self._pool.stop()
        else:
            self._closeFile()

    def _run(self, work: Callable[[], T]) -> Deferred[T]:
        if self._isClosed:
            return fail(Unavailable("The gateway is stopping. Try again when it is back."))
        if self._pool is None:
            return execute(work)
        return deferToThreadPool(self._reactor, self._pool, work)

    def _write(self, lines: list[bytes]) -> Deferred[None]:
        wasFailing = self.isFailing
        due, self._owed = [*self._owed, *lines], []

        def ebWrite(reason: Failure) -> None:
            self._owe(due)
            self._hasFailed = True
            if not wasFailing:
                said = getattr(reason.value, "strerror", None) or reason.getErrorMessage()
                _log.error(
                    "The audit ({file} in the state folder) cannot be written: {reason}. No administrative act is carried out until it can.",
                    file=AUDIT_FILE,
                    reason=said,
                )
            reason.trap(OSError, Unavailable)
            msg = "This could not be written to the gateway's audit: its disk is full, or fails. Tell whoever runs it."
            raise AuditFailed(msg) from None

        def cbWritten(_: None) -> None:
            self._hasFailed = False
            if wasFailing:
                _log.warn("The audit is written again. {count} lines were late.", count=len(due) - len(lines))

        return self._run(lambda: self._append(due)).addCallbacks(cbWritten, ebWrite)

    def _owe(self, lines: list[bytes]) -> None:
        self._owed += lines
        lost = len(self._owed) - MOST_OWED
        if lost > 0:
            del self._owed[:lost]
            _log.error("{lost} lines of the audit are lost.", lost=lost)

    def _append(self, lines: list[bytes]) -> None:
        """Write lines, in the worker thread, and see that they are on the disk."""
        if self._file is not None and not self._file.isInPlace:
            self._closeFile()
        if self._file is None:
            self._file = RotatingFile(self._directory / AUDIT_FILE, rotateSize=ROTATE_SIZE, keep=KEEP)
        try:
            # What one call writes is never split over two files, of which only the second would be synced.
            self._file.write(b"".join(lines))
            self._file.sync()
        except OSError:
            # After a failed fsync only a file that is opened anew tells the truth.
            self._closeFile()
            raise

    def _closeFile(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _lineOf(entry: AuditEntry, mask: Callable[[str], str]) -> bytes:
    told = {
        name: tellable(value, mask) if name not in {"time", "requestId"} else value
        for name, value in msgspec.structs.asdict(entry).items()
        if value is not None and (name != "omitted" or value)
    }
    return msgspec.json.encode({**told, "time": isoTime(entry.time)}) + b"\n"


def readAudit(directory: Path, query: AuditQuery) -> dict[str, Any]:
    """
    Find lines, the newest first. Blocks.

    :return: ``lines``, and ``truncated``: whether there are older ones that were not looked at, because that would be too much.
    :raise OSError: a file cannot be read.
    """
    found: list[dict[str, Any]] = []
    left = MOST_READ
    for line in _newestFirst(directory / AUDIT_FILE):
        left -= len(line)
        if left < 0:
            return {"lines": found, "truncated": True}
        value = _objectIn(line)
        if value is not None and query.matches(value):
            found.append(value)
            if len(found) == query.limit:
                break
    return {"lines": found, "truncated": False}


def _objectIn(line: bytes) -> dict[str, Any] | None:
    """The line's object; None of what a crash or a full disk left half written."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _newestFirst(path: Path) -> Iterator[bytes]:
    """Every line of a file and of those that it was before, the last first."""
    for each in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEEP + 1))):
        if each.exists():
            yield from _backwards(each)


def _backwards(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        while position:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
        yield rest
