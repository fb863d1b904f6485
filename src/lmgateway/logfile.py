# -*- test-case-name: tests.test_logfile -*-
"""
Lines on their way to a file or a stream: gathered for a moment, written together, and never the reason why a request
fails.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReactorTime

FLUSH_SECONDS = 0.25
"""How long a line may wait for others, at most."""

FLUSH_BYTES = 64 * 1024
"""How many bytes may wait, at most."""

FILE_MODE = 0o600
"""Who asked for what, and when, is nobody else's business."""


class RotatingFile:
    """
    A file that only grows, until it is renamed to ``NAME.1`` and begun anew. What is older becomes ``NAME.2`` and so on.

    Unlike :class:`twisted.python.logfile.LogFile` it never loses the rest of a short write, gives a line that a crash or
    a full disk tore its end before the next one begins, and keeps as many files as it was told.

    :param path: an absolute path; its folder exists.
    :param rotateSize: bytes that a file may hold.
    :param keep: how many old files are kept.
    :raise OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, *, rotateSize: int, keep: int) -> None:
        self.path = path
        self.rotateSize = rotateSize
        self.keep = keep
        self._descriptor = _open(path)
        self._size = os.fstat(self._descriptor).st_size
        self._torn = self._size > 0 and os.pread(self._descriptor, 1, self._size - 1) != b"\n"
        self._isNamed = False

    def write(self, data: bytes) -> None:
        """
        Append lines. A single call is never split over two files.

        :raise OSError: some or all of it could not be written. Later calls may succeed.
        """
        if self._size and self._size + len(data) > self.rotateSize:
            self._rotate()
        if self._torn:
            self._append(b"\n")
        self._append(data)

    @property
    def isInPlace(self) -> bool:
        """Whether the file is still the one of its name: somebody may have moved it away, or deleted it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def sync(self) -> None:
        """
        Have on the disk what was written, and the file's name with it.

        :raise OSError: the disk did not take it.
        """
        os.fsync(self._descriptor)
        # Windows lets nobody open a folder, and needs no such thing.
        if not self._isNamed and os.name == "posix":
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._isNamed = True

    def close(self) -> None:
        """Close the file. Nothing may be written after."""
        os.close(self._descriptor)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._descriptor, rest)
            self._size += written
            self._torn = rest[written - 1] != ord("\n")
            rest = rest[written:]

    def _rotate(self) -> None:
        """
        Begin a new file. Where that cannot be done the old one goes on growing: better too long than lost. The new file
        is opened before anything is renamed, so that failing again and again does not push out the old ones.
        """
        fresh = self._numbered("new")
        with contextlib.suppress(OSError):
            descriptor = _open(fresh, os.O_TRUNC)
            try:
                for number in range(self.keep - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        self._numbered(number).replace(self._numbered(number + 1))
                self.path.replace(self._numbered(1))
                fresh.replace(self.path)
            except OSError:
                os.close(descriptor)
                raise
            os.close(self._descriptor)
            self._descriptor, self._size, self._torn = descriptor, 0, False
            self._isNamed = False

    def _numbered(self, number: int | str) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would write each line's end as two bytes."""


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY | flags, FILE_MODE)


class LineBuffer:
    """
    Lines that wait for each other, so that one costs a request no more than an append.

    :param write: takes bytes, or raises OSError.
    :param clock: ends the wait.
    :param failed: told of the first failure after a success.
    :param recovered: told of the first success after a failure, and how many lines were lost between them.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        clock: IReactorTime,
        failed: Callable[[OSError], None],
        recovered: Callable[[int], None],
    ) -> None:
        self._write = write
        self._clock = clock
        self._failed = failed
        self._recovered = recovered
        self._lines: list[bytes] = []
        self._size = 0
        self._lost = 0
        self._call: IDelayedCall | None = None
        self._stopped = False

    def append(self, line: bytes) -> None:
        """
        Take a line, its newline included. It is written within :data:`FLUSH_SECONDS`, or at once after :meth:`stop`.
        """
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES or self._stopped:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(FLUSH_SECONDS, self._flushLater)

    def flush(self) -> None:
        """Write what waits. What cannot be written is lost: requests matter more than their lines."""
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._lost += len(lines)
            if self._lost == len(lines):
                self._failed(error)
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._recovered(lost)

    def stop(self) -> None:
        """Write what waits, and from now on every line at once: a reactor that stops calls nothing later."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.flush()

    def _flushLater(self) -> None:
        self._call = None
        self.flush()
