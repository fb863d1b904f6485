# -*- test-case-name: tests.test_logs -*-
"""
Where the gateway's own words go.

The **process log** is what an operator reads: on standard output, or in the file that ``twistd --logfile`` names, as text
on a terminal and as lines of JSON elsewhere. It holds what the gateway says of itself and a line for each request, from
``log.level`` up. The **access log** is a file that ``log.file`` names: every request, whatever the level, as JSON.

Neither holds a key, a path of this machine or a traceback: a defect is told by the functions it passed through.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import msgspec
from msgspec import Struct
from twisted.application.service import MultiService, Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str
from zope.interface import implementer

from lmgateway.logfile import LineBuffer, RotatingFile
from lmgateway.settings import LogSettings, SettingsError
from lmgateway.telemetry.accesslog import AccessRecord, formatJson, formatText, levelOf, printable

LONGEST_MESSAGE = 4000
"""Characters of a message that the process log shows."""

MOST_FRAMES = 30
"""Functions that a defect is told by: those nearest to where it happened."""

MASK = "***"
"""What stands where a secret stood."""

_RANKS = {"debug": 0, "info": 1, "warn": 2, "error": 3}

_OURS = ("lmgateway", "stdout", "stderr")
"""Where what is worth an operator's attention comes from; the rest tells of Twisted's inner life."""

_NOISE = frozenset({"Starting factory {factory!r}", "Stopping factory {factory!r}"})
"""What Twisted says in our name."""

_SECRET_SHAPES = (r"\blmg_[\w-]{8,}", r"\bsk-[\w:-]{8,}", r"(?<=[Bb]earer )[^\s\"',]+")
"""Keys of the gateway's, of LM Studio's and OpenAI's, and whatever stands where a bearer token does."""

_log = Logger()


class Output(Struct, frozen=True):
    """
    Where the process log is written.

    :param write: takes lines, or raises OSError.
    :param terminal: whether a person is watching.
    """

    write: Callable[[bytes], object]
    terminal: bool


def streamOutput(stream: TextIO) -> Output:
    """Write to a stream that exists already, such as standard output."""

    def write(data: bytes) -> None:
        stream.buffer.write(data)
        stream.buffer.flush()

    return Output(write, stream.isatty())


def twistdOutput(twistd: Mapping[str, Any] | None, settings: LogSettings, stdout: TextIO) -> Output | None:
    """
    Write where ``twistd`` was told to: our lines, but the place that its own options name.

    :param twistd: its options, which are the ``parent`` of a plugin's; None where there are none, as in a ``.tac`` file.
    :return: None when they name an observer (``--logger``, ``--syslog``), or what twistd itself refuses.
    :raise SettingsError: the file that they name cannot be opened.
    """
    if twistd is None:
        return streamOutput(stdout)
    daemon = not (twistd.get("nodaemon", True) or twistd.get("debug"))
    name = twistd.get("logfile") or ("twistd.log" if daemon else "-")
    if twistd.get("logger") or twistd.get("syslog") or (daemon and name == "-"):
        return None
    if name == "-":
        return streamOutput(stdout)
    return Output(_open("--logfile", Path(name).absolute(), settings).write, terminal=False)


def _open(key: str, path: Path, settings: LogSettings) -> RotatingFile:
    try:
        return RotatingFile(path, rotateSize=settings.rotateSize, keep=settings.keep)
    except OSError as error:
        raise SettingsError(f"{key} = {path}: cannot be opened for writing: {error.strerror}") from None


def redactor(secrets: Iterable[str | None]) -> Callable[[str], str]:
    """
    Make a function that masks secrets in a text: the given ones, and what is shaped like a key.

    :param secrets: None is ignored.
    """
    known = sorted((secret for secret in secrets if secret), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, known), *_SECRET_SHAPES]))
    return lambda text: pattern.sub(MASK, text)


class _Line(Struct, omit_defaults=True):
    """What the gateway says of itself, in JSON; the first members are those of the access log's lines."""

    time: datetime
    level: str
    type: str
    source: str
    message: str
    at: list[str] = []


@implementer(ILogObserver)
class ProcessLog:
    """
    The process log.

    Every line is printable, bounded, and free of secrets. What Twisted says of itself at ``info`` counts as ``debug``.

    :param settings: ``level`` and ``format`` count here.
    :param output: where it is written. When it cannot be, nobody is left to be told, and the lines are lost.
    :param clock: lets lines of requests wait for each other.
    :param redact: masks secrets.
    """

    def __init__(
        self, settings: LogSettings, output: Output, clock: IReactorTime, redact: Callable[[str], str]
    ) -> None:
        self._terminal = output.terminal
        self._lines = LineBuffer(output.write, clock, lambda _: None, lambda _: None)
        self.reconfigure(settings, redact)

    def reconfigure(self, settings: LogSettings, redact: Callable[[str], str]) -> None:
        """Go by other settings from now on."""
        self._threshold = _RANKS[settings.level]
        self._json = settings.format == "json" or (settings.format == "auto" and not self._terminal)
        self._redact = redact

    def __call__(self, event: LogEvent) -> None:
        """Write an event at once, for it may be the last."""
        level = _levelOf(event)
        if _RANKS[level] >= self._threshold:
            self._lines.append(self._format(event, level).encode("utf-8"))
            self._lines.flush()

    def access(self, record: AccessRecord, line: bytes | None) -> None:
        """
        Write a request's line soon.

        :param line: the record in JSON, where it has been formatted already.
        """
        level = levelOf(record)
        if _RANKS[level] < self._threshold:
            return
        if self._json:
            self._lines.append(line or formatJson(record))
        else:
            self._lines.append(_textLine(record.time, level, formatText(record)).encode("utf-8"))

    def stop(self) -> None:
        """Write what waits, and from now on every line at once."""
        self._lines.stop()

    def _format(self, event: LogEvent, level: str) -> str:
        seconds = event.get("log_time") or time.time()
        message = formatEvent(event).strip()
        failure = event.get("log_failure")
        frames: list[str] = []
        if isinstance(failure, Failure):
            message = f"{message} {describe(failure)}".lstrip()
            frames = framesOf(failure)
        message = printable(self._redact(message), LONGEST_MESSAGE)
        if not self._json:
            return _textLine(seconds, level, message, *frames)
        source = printable(str(event.get("log_namespace", "")))
        line = _Line(datetime.fromtimestamp(seconds, UTC), level, "log", source, message, frames)
        return msgspec.json.encode(line).decode("utf-8") + "\n"


class AccessLog:
    """
    Where requests are remembered. A request pays for an append; a full disk is told once and costs nothing but lines.

    :param settings: ``file``, ``rotateSize`` and ``keep`` count here.
    :param clock: lets lines wait for each other.
    :param process: where they are shown too, as far as ``level`` lets them.
    :raise SettingsError: the file cannot be opened.
    """

    def __init__(self, settings: LogSettings, clock: IReactorTime, process: ProcessLog | None = None) -> None:
        self._clock = clock
        self._process = process
        self._file: RotatingFile | None = None
        self._lines: LineBuffer | None = None
        self.reconfigure(settings)

    def record(self, record: AccessRecord) -> None:
        """Remember one request."""
        line = None
        if self._lines is not None:
            line = formatJson(record)
            self._lines.append(line)
        if self._process is not None:
            self._process.access(record, line)

    def reconfigure(self, settings: LogSettings) -> None:
        """
        Go by other settings from now on. The file is opened again, so that one that was moved away is begun anew.

        :raise SettingsError: the file cannot be opened; the old one goes on then.
        """
        file = lines = None
        if settings.file is not None:
            file = _open("log.file", Path(settings.file), settings)
            lines = LineBuffer(file.write, self._clock, self._failed, self._recovered)
        self.stop()
        if self._file is not None:
            self._file.close()
        self._file, self._lines = file, lines

    def stop(self) -> None:
        """Write what waits, and from now on every line at once."""
        if self._lines is not None:
            self._lines.stop()

    def _failed(self, error: OSError) -> None:
        _log.error(
            "The access log (log.file) cannot be written: {reason}. Its lines are lost until it can; requests go on.",
            reason=error.strerror,
        )

    def _recovered(self, lost: int) -> None:
        _log.warn("The access log (log.file) is written again. {lost} lines were lost.", lost=lost)


class LogService(Service):
    """
    Both logs, for as long as the process lives.

    :ivar observer: the process log, to be given to :mod:`twisted.logger`; None where somebody else keeps it.
    :ivar access: the access log.

    :param settings: how to log.
    :param clock: lets lines wait for each other.
    :param output: where the process log goes, or None if somebody else keeps it.
    :param secrets: what no line may hold.
    :raise SettingsError: the access log cannot be opened.
    """

    def __init__(
        self, settings: LogSettings, clock: IReactorTime, output: Output | None, secrets: Iterable[str | None] = ()
    ) -> None:
        self.observer = None if output is None else ProcessLog(settings, output, clock, redactor(secrets))
        self.access = AccessLog(settings, clock, self.observer)

    def reconfigure(self, settings: LogSettings, secrets: Iterable[str | None] = ()) -> None:
        """
        Go by other settings from now on.

        :raise SettingsError: the access log cannot be opened; nothing has changed then.
        """
        self.access.reconfigure(settings)
        if self.observer is not None:
            self.observer.reconfigure(settings, redactor(secrets))

    def stopService(self) -> None:
        """Write what waits. Requests that are still draining are written as they end."""
        super().stopService()
        self.access.stop()
        if self.observer is not None:
            self.observer.stop()


class LoggedService(MultiService):
    """
    A service on top of others that brings the process log along: ``twistd`` logs to the observer that it finds on the
    application, and looks for it after the service has been added.

    :param logs: the first of its children.
    """

    def __init__(self, logs: LogService) -> None:
        super().__init__()
        self._observer = logs.observer
        logs.setServiceParent(self)

    def setServiceParent(self, parent: object) -> None:
        """Join ``parent``, and be its log where it is an application."""
        super().setServiceParent(parent)
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)


def describe(failure: Failure) -> str:
    """What went wrong, without the path of the file that an OSError names."""
    value = failure.value
    text = value.strerror if isinstance(value, OSError) and value.strerror else safe_str(value)
    return f"{type(value).__name__}: {text}"


def framesOf(failure: Failure) -> list[str]:
    """The functions that a failure passed through, the last where it happened: ``lmgateway/state.py:12 load``."""
    frames = [f"{_withoutRoot(file)}:{line} {function}" for function, file, line, *_ in failure.frames]
    return [printable(frame) for frame in frames[-MOST_FRAMES:]]


def _withoutRoot(file: str) -> str:
    """A source file as Python imports it, so that no folder of this machine shows."""
    path = Path(file)
    inside = [path.relative_to(root).as_posix() for root in sys.path if root and path.is_relative_to(root)]
    return min(inside, key=len, default=path.name)


def _levelOf(event: LogEvent) -> str:
    level = getattr(event.get("log_level"), "name", "info")
    if level == "info":
        ours = str(event.get("log_namespace", "")).startswith(_OURS) and event.get("log_format") not in _NOISE
        return "info" if ours else "debug"
    return level if level in _RANKS else "error"


def _textLine(seconds: float, level: str, message: str, *frames: str) -> str:
    return "\n      at ".join((f"{_localTime(int(seconds))} {level.upper():5} {message}", *frames)) + "\n"


@lru_cache(maxsize=8)
def _localTime(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
