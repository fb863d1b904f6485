"""
The process log and the access log, over outputs in memory and a clock that does not tick.

The last class runs a real ``twistd``, because what it tests is whose lines that prints.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.logs import (
    LONGEST_MESSAGE,
    LoggedService,
    LogService,
    Output,
    ProcessLog,
    describe,
    framesOf,
    redactor,
    streamOutput,
    twistdOutput,
)
from lmgateway.settings import LogSettings, SettingsError
from twisted.application.service import Application
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.folders import temporaryFolder
from tests.subprocesses import TWISTD, runPython
from tests.telemetry.test_accesslog import ANY_TEXT, makeRecord

CANARY = "correct-horse-battery-staple"

TAC = """
import sys
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.logger import Logger
from lmgateway.logs import LoggedService, LogService, streamOutput
from lmgateway.settings import loadSettings

class Probe(Service):
    def startService(self):
        Logger("lmgateway.probe").info("Hello from the service")
        print("printed")
        logs.access.record(record)
        reactor.callWhenRunning(reactor.stop)

from tests.telemetry.test_accesslog import makeRecord
record = makeRecord()
logs = LogService(loadSettings().log, reactor, streamOutput(sys.stdout))
top = LoggedService(logs)
Probe().setServiceParent(top)
application = Application("probe")
top.setServiceParent(application)
"""


def logSettings(**changes: Any) -> LogSettings:
    """The defaults, with ``changes``."""
    settings = LogSettings(level="info", file=None, rotateSize=1 << 20, keep=2, format="auto")
    return msgspec.structs.replace(settings, **changes)


def failureOf(error: Exception) -> Failure:
    """A failure as it is caught, with a traceback."""
    try:
        raise error
    except type(error):
        return Failure()


class ProcessLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []

    def processLog(self, *, terminal: bool = False, **changes: Any) -> ProcessLog:
        """A process log that writes to ``written``."""
        return ProcessLog(logSettings(**changes), Output(self.written.append, terminal), self.clock, redactor([CANARY]))

    def logger(self, log: ProcessLog, namespace: str = "lmgateway.test") -> Logger:
        """A logger that ``log`` observes."""
        return Logger(namespace, observer=log)

    def lines(self) -> list[str]:
        """What was written, line by line."""
        return b"".join(self.written).decode("utf-8").splitlines()

    def test_interface(self) -> None:
        """A process log is what twisted.logger calls an observer."""
        verifyObject(ILogObserver, self.processLog())

    def test_json(self) -> None:
        """Where nobody is watching, an event is a line of JSON, written at once."""
        self.processLog()(
            {
                "log_time": 1_795_000_000.25,
                "log_level": LogLevel.warn,
                "log_namespace": "lmgateway.test",
                "log_format": "Disk {disk} is full",
                "disk": "A",
            }
        )
        self.assertEqual(
            [json.loads(line) for line in self.lines()],
            [
                {
                    "time": "2026-11-18T11:06:40.250000Z",
                    "level": "warn",
                    "type": "log",
                    "source": "lmgateway.test",
                    "message": "Disk A is full",
                }
            ],
        )

    def test_text(self) -> None:
        """On a terminal an event is a line to read."""
        self.logger(self.processLog(terminal=True)).warn("Disk {disk} is full", disk="A")
        (line,) = self.lines()
        self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARN  Disk A is full$")

    def test_formatGiven(self) -> None:
        """A format that is named is kept to, whoever is watching."""
        self.logger(self.processLog(terminal=True, format="json")).info("one")
        self.logger(self.processLog(terminal=False, format="text")).info("two")
        first, second = self.lines()
        self.assertEqual(json.loads(first)["message"], "one")
        self.assertTrue(second.endswith(" INFO  two"))

    def test_level(self) -> None:
        """Each level lets through itself and what is graver."""
        for level, expected in (("error", 2), ("warn", 3), ("info", 4), ("debug", 5)):
            self.written.clear()
            log = self.logger(self.processLog(level=level))
            for emit in (log.debug, log.info, log.warn, log.error, log.critical):
                emit("something")
            self.assertEqual(len(self.lines()), expected, level)

    def test_twistedIsQuiet(self) -> None:
        """What Twisted tells of itself is for debugging; what it warns of is not."""
        for level, expected in (("info", ["(TCP Port 1 failed)"]), ("debug", None)):
            self.written.clear()
            log = self.processLog(level=level)
            self.logger(log, "twisted.internet.tcp").info("(TCP Port 8001 Closed)")
            self.logger(log, "lmgateway.wire.site.GatewaySite").info("Starting factory {factory!r}", factory=1)
            self.logger(log, "twisted.internet.tcp").warn("(TCP Port 1 failed)")
            messages = [json.loads(line)["message"] for line in self.lines()]
            self.assertEqual(messages if expected else len(messages), expected or 3)

    def test_failure(self) -> None:
        """A defect is told by its kind, its words and the functions it passed through: no traceback, no folder."""
        self.logger(self.processLog()).failure("Cannot relay.", failureOf(ValueError("odd")))
        line = json.loads(self.lines()[0])
        self.assertEqual((line["level"], line["message"]), ("error", "Cannot relay. ValueError: odd"))
        self.assertRegex(line["at"][-1], r"^tests/test_logs\.py:\d+ failureOf$")
        self.assertNotIn(str(Path(__file__).parent), self.lines()[0])

    def test_failureInText(self) -> None:
        """On a terminal the functions stand below, indented."""
        self.logger(self.processLog(terminal=True)).failure("Cannot relay.", failureOf(ValueError("odd")))
        first, second = self.lines()
        self.assertTrue(first.endswith(" ERROR Cannot relay. ValueError: odd"), first)
        self.assertRegex(second, r"^      at tests/test_logs\.py:\d+ failureOf$")

    def test_pathOfOSError(self) -> None:
        """An OSError's file is a path of this machine, and is not told."""
        failure = failureOf(FileNotFoundError(2, "No such file or directory", "/home/somebody/secret"))
        self.assertEqual(describe(failure), "FileNotFoundError: No such file or directory")

    def test_framesBounded(self) -> None:
        """Of a recursion without end, only so many functions are told."""

        def recurse() -> None:
            recurse()

        try:
            recurse()
        except RecursionError:
            self.assertEqual(len(framesOf(Failure())), 30)

    @given(ANY_TEXT, st.sampled_from(["text", "json"]))
    def test_anyTextMakesOneLine(self, text: str, form: str) -> None:
        """Whatever a message holds, it makes one line that is printable, and JSON where JSON is asked for."""
        self.written.clear()
        self.logger(self.processLog(format=form)).info("Model {model}", model=text)
        (line,) = b"".join(self.written).decode("utf-8").removesuffix("\n").split("\n")
        self.assertTrue(line.isprintable())
        if form == "json":
            json.loads(line)

    def test_bounded(self) -> None:
        """However long a message is, its line is not."""
        for form in ("text", "json"):
            self.written.clear()
            self.logger(self.processLog(format=form)).info("Model {model}", model="x" * 100_000)
            self.assertLess(len(b"".join(self.written)), LONGEST_MESSAGE + 500)

    @given(st.text(), st.text(), st.sampled_from(["text", "json"]))
    def test_secrets(self, before: str, after: str, form: str) -> None:
        """A configured secret appears in no line, be it in a message or in an exception."""
        self.written.clear()
        log = self.logger(self.processLog(format=form))
        log.info("{text}", text=before + CANARY + after)
        log.failure("Failed.", failureOf(ValueError(before + CANARY + after)))
        self.assertNotIn(CANARY.encode(), b"".join(self.written))
        self.assertEqual(len(self.written), 2)

    def test_accessLevels(self) -> None:
        """A request's line is let through by what became of it."""
        log = self.processLog(level="warn")
        log.access(makeRecord(), None)
        log.access(makeRecord(status=401, outcome="refused"), None)
        log.access(makeRecord(status=502), None)
        log.stop()
        self.assertEqual([json.loads(line)["status"] for line in self.lines()], [401, 502])

    def test_accessWaits(self) -> None:
        """A request's line waits for others; an event after it is written at once, and behind it."""
        log = self.processLog(terminal=True)
        log.access(makeRecord(), None)
        self.assertEqual(self.written, [])
        self.logger(log).info("later")
        first, second = self.lines()
        self.assertRegex(first, r"INFO  200 +1523 ms POST /v1/chat/completions .* id=r-1$")
        self.assertTrue(second.endswith("later"))

    def test_outputFails(self) -> None:
        """A process log whose reader left goes on in silence."""

        def fail(_: bytes) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        log = ProcessLog(logSettings(), Output(fail, False), self.clock, redactor([]))
        self.logger(log).info("one")
        log.access(makeRecord(), None)
        log.stop()

    def test_reconfigure(self) -> None:
        """Another level counts from then on."""
        log = self.processLog(level="error")
        self.logger(log).info("before")
        log.reconfigure(logSettings(), redactor([]))
        self.logger(log).info("after")
        self.assertEqual([json.loads(line)["message"] for line in self.lines()], ["after"])


class RedactorTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Every given secret is masked, the longer before the shorter that it holds."""
        redact = redactor(["abcd", None, "abcdefgh"])
        self.assertEqual(redact("abcdefgh abcd abc"), "*** *** abc")

    def test_shapes(self) -> None:
        """What is shaped like a key is masked although nobody named it."""
        redact = redactor([])
        for text in ("lmg_0123456789abcdef", "sk-lm-ABCDEFGH:0123456789", "Bearer whatever"):
            self.assertNotIn(text.split()[-1], redact(f"got {text}, refused"))
            self.assertTrue(redact(f"got {text}, refused").endswith(", refused"))

    def test_nothing(self) -> None:
        """With no secrets given, ordinary words stay."""
        self.assertEqual(redactor([])("lmgateway asks a task"), "lmgateway asks a task")


class AccessLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.shown: list[bytes] = []
        self.path = temporaryFolder(self) / "access.log"

    def logs(self, **changes: Any) -> LogService:
        """Logs that write to ``path`` unless told otherwise, and show in ``shown``."""
        settings = logSettings(**{"file": str(self.path), **changes})
        logs = LogService(settings, self.clock, Output(self.shown.append, False), [CANARY])
        self.addCleanup(logs.access.reconfigure, logSettings())
        return logs

    def test_everywhere(self) -> None:
        """A request is remembered in the file and shown in the process log."""
        logs = self.logs()
        logs.access.record(makeRecord())
        self.clock.advance(1)
        self.assertEqual(json.loads(self.path.read_bytes())["requestId"], "r-1")
        self.assertEqual(json.loads(b"".join(self.shown))["requestId"], "r-1")

    def test_fileIsComplete(self) -> None:
        """The file holds every request, whatever the level of the process log."""
        logs = self.logs(level="error")
        logs.access.record(makeRecord())
        self.clock.advance(1)
        self.assertEqual((len(self.path.read_bytes().splitlines()), self.shown), (1, []))

    def test_noFile(self) -> None:
        """Without a file named, requests are shown and no file is made."""
        logs = self.logs(file=None)
        logs.access.record(makeRecord())
        self.clock.advance(1)
        self.assertEqual((len(self.shown), self.path.exists()), (1, False))

    def test_drain(self) -> None:
        """What ends while the process stops is still written, with no clock to wait for."""
        logs = self.logs()
        logs.startService()
        logs.access.record(makeRecord(requestId="before"))
        logs.stopService()
        logs.access.record(makeRecord(requestId="draining"))
        self.assertEqual(
            [json.loads(line)["requestId"] for line in self.path.read_bytes().splitlines()], ["before", "draining"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_diskFull(self) -> None:
        """A full disk is told once, without the path, and requests are shown as before."""
        if not Path("/dev/full").exists():
            self.skipTest("this platform has no /dev/full")
        logs = self.logs(file="/dev/full")
        events: list[str] = []

        def observer(event: LogEvent) -> None:
            events.append(formatEvent(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for _ in range(3):
            logs.access.record(makeRecord())
            self.clock.advance(1)
        (told,) = events
        self.assertEqual(
            told,
            "The access log (log.file) cannot be written: No space left on device. Its lines are lost until it can; "
            "requests go on.",
        )
        self.assertEqual(len(self.shown), 3)

    def test_cannotOpen(self) -> None:
        """A file that cannot be opened stops the start with the setting, its value and the reason."""
        missing = str(self.path / "missing" / "access.log")
        error = self.assertRaises(SettingsError, self.logs, file=missing)
        self.assertEqual(str(error), f"log.file = {missing}: cannot be opened for writing: No such file or directory")

    def test_reconfigure(self) -> None:
        """Another file takes over; the old one has all that came before."""
        logs = self.logs()
        logs.access.record(makeRecord(requestId="old"))
        other = self.path.with_name("other.log")
        logs.reconfigure(logSettings(file=str(other)))
        logs.access.record(makeRecord(requestId="new"))
        self.clock.advance(1)
        self.assertEqual([json.loads(path.read_bytes())["requestId"] for path in (self.path, other)], ["old", "new"])

    def test_reconfigureRefused(self) -> None:
        """A file that cannot be opened leaves the old one as it was."""
        logs = self.logs()
        self.assertRaises(SettingsError, logs.reconfigure, logSettings(file=str(self.path / "x")))
        logs.access.record(makeRecord())
        self.clock.advance(1)
        self.assertEqual(len(self.path.read_bytes().splitlines()), 1)


class TwistdOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bytes = io.BytesIO()
        self.stdout = io.TextIOWrapper(self.bytes)
        self.addCleanup(self.stdout.close)

    def output(self, **options: Any) -> Output | None:
        """Where the process log goes, with these options of twistd's."""
        return twistdOutput({"nodaemon": True, "logfile": None, "logger": None, **options}, logSettings(), self.stdout)

    def test_foreground(self) -> None:
        """In the foreground it is standard output, as it is for ``-`` and without twistd."""
        for output in (self.output(), self.output(logfile="-"), twistdOutput(None, logSettings(), self.stdout)):
            assert output is not None
            output.write(b"line\n")
            self.assertFalse(output.terminal)
        self.assertEqual(self.bytes.getvalue(), b"line\n" * 3)

    def test_logfile(self) -> None:
        """``--logfile`` is honoured, in the foreground and in the background."""
        path = temporaryFolder(self) / "process.log"
        for daemon in (True, False):
            output = self.output(logfile=str(path), nodaemon=not daemon)
            assert output is not None
            output.write(b"line\n")
        self.assertEqual(path.read_bytes(), b"line\n" * 2)

    def test_logfileRefused(self) -> None:
        """A file that cannot be opened is told by the option that named it."""
        error = self.assertRaises(SettingsError, self.output, logfile=str(temporaryFolder(self)))
        self.assertTrue(str(error).startswith("--logfile = "), error)

    def test_others(self) -> None:
        """An observer that was asked for by name is let alone; so is a daemon told to write where it cannot."""
        self.assertIsNone(self.output(logger="some.observer"))
        self.assertIsNone(self.output(syslog=True))
        self.assertIsNone(self.output(nodaemon=False, logfile="-"))


class LoggedServiceTests(SynchronousTestCase):
    def test_application(self) -> None:
        """An application that the service joins logs through its process log."""
        logs = LogService(logSettings(), Clock(), streamOutput(io.TextIOWrapper(io.BytesIO())))
        application = Application("test")
        LoggedService(logs).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), logs.observer)

    def test_noOutput(self) -> None:
        """Where somebody else keeps the process log, the application's is left alone."""
        application = Application("test")
        LoggedService(LogService(logSettings(), Clock(), None)).setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))

    def test_twistd(self) -> None:
        """``twistd`` prints our lines and none of its own; what is printed becomes a line; requests are shown."""
        folder = temporaryFolder(self)
        (folder / "probe.tac").write_text(TAC)
        root = str(Path(__file__).parent.parent)
        arguments = ("-n", "--pidfile=", "-y", str(folder / "probe.tac"))
        printed = runPython(f"import sys; sys.path.insert(0, {root!r}); {TWISTD}", *arguments, cwd=folder)
        lines = [json.loads(line) for line in printed.splitlines()]
        self.assertEqual(
            [line.get("message", line["type"]) for line in lines], ["Hello from the service", "printed", "access"]
        )
