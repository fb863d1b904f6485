# -*- test-case-name: tests.studio.test_logfolder -*-
"""
Where LM Studio's log files are, which there are, and what has been added to one of them.

``server-logs/2026-11/2026-11-21.1.log``: a folder a month; a file a day, and the next number when LM Studio starts anew or a
file is full.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_FILE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.([0-9]{1,9})\.log")

_REMEMBERED = 64
"""Bytes before the position by which a file that was written anew is told from one that has grown."""

_LONGEST_POINTER = 4096


def defaultLogFolder(home: Path) -> Path:
    """
    Find LM Studio's ``server-logs`` as LM Studio finds its own home (findLMStudioHome.ts).

    :param home: the user's home folder.
    :return: a folder that need not exist.
    """
    try:
        with (home / ".lmstudio-home-pointer").open(encoding="utf-8") as file:
            pointed = file.read(_LONGEST_POINTER).strip()
    except (OSError, ValueError):
        pointed = ""
    if pointed and "\0" not in pointed:
        return home / pointed / "server-logs"
    older = home / ".cache" / "lm-studio"
    return (older if older.is_dir() else home / ".lmstudio") / "server-logs"


class LogName(Struct, frozen=True, order=True):
    """
    The name of a log file. Of two, the later file's is greater.

    :param month: the folder, ``2026-11``.
    :param day: ``2026-11-21``.
    :param number: counts the files of a day, from 1.
    """

    month: str
    day: str
    number: int

    @property
    def file(self) -> str:
        """The name without its folder."""
        return f"{self.day}.{self.number}.log"


def names(folder: Path, month: str = "") -> Iterator[LogName]:
    """
    Give the names of the log files, in no order.

    :param folder: ``server-logs``.
    :param month: months before this one are left out.
    :raise OSError: the folder cannot be read.
    """
    for name in os.listdir(folder):  # noqa: PTH208 - names are all that is needed, and there may be many
        if _MONTH.fullmatch(name) and name >= month:
            try:
                files = os.listdir(folder / name)  # noqa: PTH208 - likewise
            except (FileNotFoundError, NotADirectoryError):
                continue
            for match in filter(None, map(_FILE.fullmatch, files)):
                # A number is spelled in one way, or the name could not be made from it again.
                if str(int(match[2])) == match[2]:
                    yield LogName(name, match[1], int(match[2]))


def sizes(folder: Path) -> dict[LogName, int]:
    """
    Give the size of every log file in bytes. What is no regular file is none.

    :raise OSError: the folder cannot be read.
    """
    found = {}
    for name in names(folder):
        try:
            status = (folder / name.month / name.file).stat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = status.st_size
    return found


class Piece(Struct, frozen=True):
    """
    What was read at once.

    :param data: may be empty: there is nothing new.
    :param isAnew: the file was written anew since, or is another; this is its beginning.
    :param skipped: bytes that were passed over before this piece, which begins within a line then.
    """

    data: bytes
    isAnew: bool = False
    skipped: int = 0


class TailedFile:
    """
    A log file, and how far it has been read. It is not kept open, so that it can be moved and deleted, on Windows too.

    :ivar name: its name.

    :param folder: ``server-logs``.
    :param position: where to begin, in bytes.
    :raise OSError: the file cannot be read.
    """

    def __init__(self, folder: Path, name: LogName, position: int) -> None:
        self.name = name
        self._path = folder / name.month / name.file
        self._position = position
        self._identity: tuple[int, int] | None = None
        self._before = self._read(max(0, position - _REMEMBERED), min(position, _REMEMBERED))

    @property
    def midLine(self) -> bool:
        """Whether it has been read to somewhere within a line."""
        return self._position > 0 and not self._before.endswith(b"\n")

    def read(self, most: int, farthest: int) -> Piece:
        """
        Read on.

        :param most: bytes to read.
        :param farthest: when more bytes than this are waiting, all of them but the last ``most`` are skipped.
        :raise FileNotFoundError: it is gone.
        :raise OSError: it cannot be read.
        """
        status = self._path.stat()
        # A regular file is opened without waiting; a pipe of that name would hang whoever opens it.
        if not stat.S_ISREG(status.st_mode):
            return Piece(b"")
        isAnew = not self._isSame(status)
        self._identity = (status.st_dev, status.st_ino)
        if isAnew:
            self._position, self._before = 0, b""
        skipped = status.st_size - self._position - most
        if skipped > farthest - most:
            self._position += skipped
            self._before = b""
        else:
            skipped = 0
        data = b"" if status.st_size == self._position else self._read(self._position, most)
        self._position += len(data)
        self._before = (self._before + data)[-_REMEMBERED:]
        return Piece(data, isAnew, skipped)

    def _isSame(self, status: os.stat_result) -> bool:
        """Whether this is the file that was read, with what was read of it still in it."""
        if self._identity not in {None, (status.st_dev, status.st_ino)}:
            return False
        if status.st_size == self._position:
            return True
        # One that has become shorter has less there.
        return self._read(self._position - len(self._before), len(self._before)) == self._before

    def _read(self, position: int, most: int) -> bytes:
        if most == 0:
            return b""
        with self._path.open("rb", buffering=0) as file:
            file.seek(position)
            return file.read(most)
