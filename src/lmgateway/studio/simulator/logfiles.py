# -*- test-case-name: tests.studio.simulator.test_logfiles -*-
"""
The log, and the files that LM Studio writes it to: ``server-logs/2026-11/2026-11-21.1.log``, a folder a month, a file a day,
the next number when it starts anew or a file is full.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from lmgateway.studio.simulator.logtext import line, opening

LARGEST = 10 * 1024 * 1024
"""Bytes after which a file is full."""


class StudioLog(Protocol):
    """Where the simulator tells what LM Studio would."""

    def write(self, level: str, message: str, *tags: str) -> None:
        """Take down one entry. See :func:`lmgateway.studio.simulator.logtext.line`."""


class LogFiles:
    """
    The log in files. What is written can be read at once, and a folder that vanishes is made again.

    :param folder: where the folders of the months are; made with the first entry.
    :param clock: what the time of the entries is taken from, in seconds since 1970, shown as local time.
    :param largest: bytes after which a file is full. An entry is never split.
    """

    def __init__(self, folder: Path, clock: IReactorTime, largest: int = LARGEST) -> None:
        self._folder = folder
        self._clock = clock
        self._largest = largest
        self._path: Path | None = None
        self._day = ""

    def begin(self, address: str, *, jit: bool) -> None:
        """
        Write what LM Studio does when its server starts.

        :param address: where it listens, as a URL without a path.
        :raise OSError: the file cannot be written.
        """
        for level, message, tags in opening(address, str(self._folder), jit=jit):
            self.write(level, message, *tags)

    def write(self, level: str, message: str, *tags: str) -> None:
        """
        Append an entry.

        :raise OSError: the file cannot be written.
        """
        moment = datetime.fromtimestamp(self._clock.seconds())  # noqa: DTZ006 - LM Studio's is local, too
        path = self._pathFor(moment)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line(moment, level, message, *tags).encode("utf-8", "backslashreplace"))

    def _pathFor(self, moment: datetime) -> Path:
        """The file of this moment: a new one on a new day, and when the last is full."""
        day = f"{moment:%Y-%m-%d}"
        if self._path is None or day != self._day or _size(self._path) >= self._largest:
            self._day = day
            self._path = _unused(self._folder / f"{moment:%Y-%m}", day)
        return self._path


def _size(path: Path) -> int:
    """The size of a file; one that is gone has none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unused(folder: Path, day: str) -> Path:
    """The first file of a day that is not there yet."""
    number = 1
    while (path := folder / f"{day}.{number}.log").exists():
        number += 1
    return path
