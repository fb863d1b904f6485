# -*- test-case-name: tests.studio.test_logs -*-
"""
LM Studio's log files, followed into events while LM Studio writes them.

It looks for news a few times a second: file notices differ from system to system, and do not come over network folders.
What it reads it reads in the reactor's own thread, little at a time: a piece of a file that has just been written is in
the system's memory, and is had in less time than a thread takes to be woken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from lmgateway.interfaces import IEventJournal
from lmgateway.studio.logfolder import LogName, TailedFile, defaultLogFolder, names, sizes
from lmgateway.studio.loglines import Entry, LogReader, eventsOf

POLL = 0.5
"""Seconds between two looks for news."""

LONGEST_POLL = 5.0
"""The same where there is no file to follow."""

PIECE = 16 * 1024
"""Bytes that are read and told before others have their turn: some milliseconds, when their lines are short."""

FARTHEST = 4 * 1024 * 1024
"""Bytes that may wait to be read. When there are more, all but the last are skipped."""

_log = Logger()


class LogFollower(Service):
    """
    Follows LM Studio's log, from the end of the newest file that is there when it begins.

    After that nothing is left out: what is added, a new file once the one before has been read to its end, and a file that
    was emptied, replaced or deleted and made again, from its beginning. It never fails: what it cannot read it tells once,
    and tries again.

    :param journal: takes the events.
    :param clock: waits.
    :param home: tells the user's home folder; may raise RuntimeError.
    """

    def __init__(self, journal: IEventJournal, clock: IReactorTime, home: Callable[[], Path] = Path.home) -> None:
        self._journal = journal
        self._clock = clock
        self._home = home
        self._directory: str | None = None
        self._isOn = False
        self._showBodies = False
        self._call: IDelayedCall | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin from nothing."""
        self._folder = Path()
        self._file: TailedFile | None = None
        self._lost: TailedFile | None = None
        self._next: LogName | None = None
        self._month: str | None = None
        self._seen: dict[LogName, int] | None = None
        self._reader = LogReader()
        self._pause = POLL
        self._isFailing = False

    def startService(self) -> None:
        """Begin, if that is wanted."""
        super().startService()
        self._begin()

    def stopService(self) -> None:
        """Stop, and tell what has been read."""
        super().stopService()
        self._end()

    def configure(self, directory: str | None, *, isOn: bool, showBodies: bool) -> None:
        """
        Go by other settings from now on. Another folder is followed from the end of its newest file, too; so is this one,
        when it had not been followed.

        :param directory: the ``server-logs`` folder; None for where LM Studio has it.
        :param isOn: whether it is followed at all; until it is told to be, it is not.
        :param showBodies: whether events show the bodies of requests and the text of answers.
        """
        self._showBodies = showBodies
        if (directory, isOn) != (self._directory, self._isOn):
            self._end()
            self._directory, self._isOn = directory, isOn
            if self.running:
                self._begin()

    def _begin(self) -> None:
        if self._isOn:
            self._forget()
            self._folder = logFolder(self._directory, self._home)
            self._turn()

    def _end(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._tell(self._reader.finish())
        self._reader = LogReader()

    def _turn(self) -> None:
        """Do a little, and come back."""
        self._call = None
        try:
            delay = self._step()
        except OSError as error:
            self._failed(error)
            delay = self._wait()
        self._call = self._clock.callLater(delay, self._turn)

    def _wait(self) -> float:
        """Tell how long to wait where there is nothing to follow: longer each time."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_POLL)
        return pause

    def _step(self) -> float:
        """
        Read one piece, or look for a file.

        :return: how long to wait before the next step, in seconds.
        :raise OSError: something cannot be read.
        """
        if self._file is None:
            return 0.0 if self._find() else self._wait()
        try:
            isNew, isMore = self._read(self._file)
        except FileNotFoundError:
            self._lose(self._file)
            return self._wait()
        except OSError:
            # One file that cannot be read must not hide those after it.
            if (later := self._later(self._file)) is None:
                raise
            self._follow(self._open(later))
            return 0.0
        if isNew:
            return 0.0 if isMore else POLL
        # It has been quiet, so its last entry is whole.
        self._tell(self._reader.settle())
        return self._moveOn(self._file)

    def _read(self, file: TailedFile) -> tuple[bool, bool]:
        """
        Tell the next piece of a file.

        :return: whether there was any, and whether there may be more.
        """
        piece = file.read(PIECE, FARTHEST)
        if piece.isAnew or piece.skipped:
            self._tell(self._reader.finish())
            self._reader = LogReader(midLine=bool(piece.skipped))
        if piece.skipped:
            self._say(
                "WARN", f"{piece.skipped} bytes of LM Studio's log were skipped: more was written than can be read."
            )
        self._tell(self._reader.feed(piece.data))
        return bool(piece.data) or piece.isAnew, len(piece.data) == PIECE

    def _moveOn(self, file: TailedFile) -> float:
        """
        Turn to the next file. What is still written to this one before the next is made must not be missed: it is read
        once more when the next has been seen.

        :return: how long to wait, in seconds.
        """
        if self._next is not None:
            self._tell(self._reader.finish())
            self._follow(self._open(self._next))
            return 0.0
        self._next = self._later(file)
        self._works()
        return POLL if self._next is None else 0.0

    def _later(self, file: TailedFile) -> LogName | None:
        """The name of the first file after this one."""
        return min((name for name in names(self._folder, file.name.month) if name > file.name), default=None)

    def _find(self) -> bool:
        """
        Find a file to follow: at first the newest, from its end; after one was lost, what is written from then on.

        :return: whether there is one.
        """
        found, known = self._look(), self._seen
        if known is None:
            # What there is, is old; the newest file is the one that will grow.
            known, fresh = found, list(found)
        else:
            fresh = [name for name, size in found.items() if size != known.get(name)]
        if fresh:
            name = max(fresh)
            # A folder may come back as it was.
            lost = self._lost if self._lost is not None and self._lost.name == name else None
            self._follow(lost or TailedFile(self._folder, name, known.get(name, 0)))
            self._seen = known
        else:
            self._seen = found
            self._works()
        return bool(fresh)

    def _open(self, name: LogName) -> TailedFile:
        """Open a later file: from its beginning, unless it was known to be there before anything was followed."""
        return TailedFile(self._folder, name, (self._seen or {}).get(name, 0))

    def _look(self) -> dict[LogName, int]:
        try:
            return sizes(self._folder)
        except FileNotFoundError:
            # Whatever will be there is new.
            self._seen = {}
            raise

    def _lose(self, file: TailedFile) -> None:
        """Let go of a file that is gone."""
        self._tell(self._reader.finish())
        self._file, self._next, self._lost = None, None, file
        self._seen = self._look()

    def _follow(self, file: TailedFile) -> None:
        """Read this file from now on."""
        self._file, self._next, self._lost = file, None, None
        self._reader = LogReader(midLine=file.midLine)
        self._pause = POLL
        before, self._month = self._month, file.name.month
        if before is not None and before != self._month:
            # The first two as they are called here, the others as clients know them.
            folders = {"from": before, "to": self._month, "oldDirectory": before, "newDirectory": self._month}
            self._journal.record("lmstudio_month_transition", {**folders, "newLogFile": file.name.file})

    def _tell(self, entries: Iterable[Entry]) -> None:
        """Record the events of entries."""
        file = "" if self._file is None else self._file.name.file
        for entry in entries:
            for kind, data in eventsOf(entry, file, showBodies=self._showBodies):
                self._journal.record(kind, data)

    def _say(self, level: str, message: str) -> None:
        """Record what the gateway has to say of the log."""
        data = {"file": None, "level": level, "tag": None, "loggedAt": None, "message": message, "truncated": 0}
        self._journal.record("debug_log", {"source": "lmgateway", **data})

    def _failed(self, error: OSError) -> None:
        """Tell that the log cannot be followed, once."""
        if self._isFailing:
            return
        self._isFailing = True
        if isinstance(error, FileNotFoundError):
            reason = "LM Studio's log folder is not there. It is followed as soon as it is."
        else:
            why = error.strerror or type(error).__name__
            reason = f"LM Studio's log files cannot be read: {why}. They are followed as soon as they can be."
        reason += " If it lies elsewhere, set upstream.logDirectory (LMSTUDIO_LOG_DIR)."
        _log.warn("{reason}", reason=reason)
        self._journal.record("error", {"operation": "follow_logs", "error": reason})

    def _works(self) -> None:
        """Tell that the log can be followed again, if it could not."""
        if self._isFailing:
            self._isFailing = False
            self._pause = POLL
            _log.info("LM Studio's log files are followed now.")
            self._say("INFO", "LM Studio's log files are followed now.")


def logFolder(directory: str | None, home: Callable[[], Path]) -> Path:
    """
    Tell which folder to follow.

    :param directory: the one that was named; None for where LM Studio has it.
    :param home: tells the user's home folder; raises RuntimeError where that is not known.
    """
    if directory is not None:
        return Path(directory)
    try:
        return defaultLogFolder(home())
    except RuntimeError:
        return Path("~/.lmstudio/server-logs")
