"""LM Studio's log files followed: real files, whatever becomes of them, and a clock that the tests turn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from lmgateway.studio.logs import FARTHEST, LONGEST_POLL, PIECE, POLL, LogFollower, logFolder
from lmgateway.studio.simulator.logfiles import LogFiles
from lmgateway.telemetry.journal import Journal
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

NOON = datetime(2026, 11, 30, 12)  # noqa: DTZ001 - the log goes by local time
DAY = timedelta(days=1).total_seconds()
PREFIX = "[2026-11-30 12:00:00][INFO]"


class TellingClock(Clock):
    """
    A clock that remembers how far the journal was whenever something was put off.

    :ivar meanwhile: what happens before the next thing that was put off for no time at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal(self.seconds)
        self.turns: list[int] = []
        self.meanwhile: list[Callable[[], object]] = []

    def callLater(self, when: float, what: Callable[..., object], *args: Any, **kwargs: Any) -> DelayedCall:
        self.turns.append(self.journal.nextId)
        while when == 0 and self.meanwhile:
            self.meanwhile.pop()()
        return super().callLater(when, what, *args, **kwargs)


class FollowingTestCase(SynchronousTestCase):
    """A follower, and what writes what it follows."""

    def setUp(self) -> None:
        self.folder = temporaryFolder(self) / "server-logs"
        self.clock = TellingClock()
        self.clock.rightNow = NOON.timestamp()
        self.journal = self.clock.journal
        self.log = LogFiles(self.folder, self.clock, largest=1000)
        self.follower = LogFollower(self.journal, self.clock)
        self.follower.configure(str(self.folder), isOn=True, showBodies=False)
        self.addCleanup(lambda: self.follower.running and self.follower.stopService())
        self.position = 0
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """Take down what the process log is told."""
        if event.get("log_namespace", "").startswith("lmgateway.studio.logs"):
            self.said.append(str(formatEvent(event)))

    def write(self, *messages: str) -> None:
        """Have LM Studio log something."""
        for message in messages:
            self.log.write("INFO", message)

    def put(self, name: str, text: str) -> Path:
        """Add to a file of any name."""
        path = self.folder / name[:7] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        return path

    def events(self, seconds: float = 3 * POLL) -> list[tuple[str, dict[str, Any]]]:
        """What is told within so many seconds."""
        self.clock.pump([POLL / 10] * int(seconds / POLL * 10))
        batch = self.journal.read(max(self.position, 1))
        self.position = batch.next
        return [(event.kind, json.loads(event.data)) for event in batch.events]

    def told(self, seconds: float = 3 * POLL) -> list[str]:
        """The messages of these events, or their types."""
        return [data.get("message", kind) for kind, data in self.events(seconds)]

    def start(self) -> None:
        """Begin to follow, with something in the log that is old."""
        self.write("old")
        self.follower.startService()
        self.assertEqual(self.told(), [])


class FollowerTests(FollowingTestCase):
    def test_fromEnd(self) -> None:
        """What was there before is not told; what is added is, soon."""
        self.start()
        self.write("a", "b")
        self.assertEqual(self.told(), ["a", "b"])
        self.write("c")
        self.assertEqual(self.told(), ["c"])

    def test_origin(self) -> None:
        """Events say of which file they are, without its folder."""
        self.start()
        self.write("a")
        ((kind, data),) = self.events()
        self.assertEqual((kind, data["source"], data["file"]), ("debug_log", "lmstudio_log", "2026-11-30.1.log"))
        self.assertNotIn(str(self.folder), json.dumps(data))

    def test_withinLine(self) -> None:
        """A line that was begun before is passed over, even where the rest of it looks like a line."""
        self.put("2026-11-30.1.log", f"{PREFIX} half")
        self.follower.startService()
        self.assertEqual(self.told(), [])
        self.put("2026-11-30.1.log", f"{PREFIX} forged\n{PREFIX} a\n")
        self.assertEqual(self.told(), ["a"])

    def test_halfLine(self) -> None:
        """A line that is written in two steps is told once it is whole."""
        self.start()
        self.put("2026-11-30.1.log", f"{PREFIX} ha")
        self.assertEqual(self.told(), [])
        self.put("2026-11-30.1.log", "lf\n")
        self.assertEqual(self.told(), ["half"])

    def test_rotated(self) -> None:
        """A full file is followed by the next number, in order, though several were filled between two looks."""
        self.start()
        self.write(*(f"{number} {'x' * 600}" for number in range(9)))
        self.assertGreater(len(list(self.folder.rglob("*.log"))), 3)
        self.assertEqual([message[0] for message in self.told(8 * POLL)], list("012345678"))

    def test_finished(self) -> None:
        """A file is read to its end before the next one, a line without an end included."""
        self.start()
        self.write("a")
        self.put("2026-11-30.2.log", f"{PREFIX} c\n")
        self.put("2026-11-30.1.log", f"{PREFIX} b\n{PREFIX} without an end")
        self.assertEqual(self.told(), ["a", "b", "without an end", "c"])

    def test_writtenAfterTheNext(self) -> None:
        """What comes to a file after it was found quiet, and before the next is turned to, is not missed."""
        self.start()
        self.put("2026-11-30.2.log", f"{PREFIX} c\n")
        self.clock.meanwhile.append(lambda: self.put("2026-11-30.1.log", f"{PREFIX} b\n"))
        self.assertEqual(self.told(), ["b", "c"])
        self.assertEqual(self.clock.meanwhile, [])

    def test_newMonth(self) -> None:
        """A new day and a new month are followed, and the month is told."""
        self.start()
        self.clock.rightNow -= DAY
        self.write("a")
        self.clock.rightNow += 2 * DAY
        self.write("b")
        events = self.events()
        self.assertEqual([data.get("message", kind) for kind, data in events], ["lmstudio_month_transition", "b"])
        transition = {name: value for name, value in events[0][1].items() if name != "timestamp"}
        folders = {"from": "2026-11", "to": "2026-12", "oldDirectory": "2026-11", "newDirectory": "2026-12"}
        self.assertEqual(transition, {**folders, "newLogFile": "2026-12-01.1.log"})

    def test_newDay(self) -> None:
        """A new day of the same month is no transition."""
        self.clock.rightNow -= DAY
        self.start()
        self.clock.rightNow += DAY
        self.write("a")
        self.assertEqual(self.told(), ["a"])

    def test_emptied(self) -> None:
        """A file that was emptied is followed from its new beginning."""
        self.start()
        self.write("a", "b")
        self.assertEqual(self.told(), ["a", "b"])
        (path,) = self.folder.rglob("*.log")
        path.write_text("")
        self.write("c")
        self.assertEqual(self.told(), ["c"])

    def test_replaced(self) -> None:
        """Another file of the same name is followed from its beginning."""
        self.start()
        path = self.put("2026-11-30.1.log", "")
        other = self.put("2026-11-30.9.txt", f"{PREFIX} of another file, which is longer than the first\n")
        other.replace(path)
        self.assertEqual(self.told(), ["of another file, which is longer than the first"])

    def test_multiLine(self) -> None:
        """An entry of several lines is told once, when the log has been quiet."""
        self.start()
        self.write('Returning {\n  "a": 1\n}')
        self.assertEqual(self.told(), ["Returning …"])

    def test_stopped(self) -> None:
        """Stopping tells what has been read, and leaves no call behind."""
        self.start()
        self.write("a")
        self.clock.advance(POLL)
        self.follower.stopService()
        self.assertEqual(self.told(), ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turns(self) -> None:
        """Much that has piled up is told in small steps, so that others have their turn in between."""
        self.start()
        self.put("2026-11-30.1.log", "".join(f"{PREFIX} {number:08}\n" for number in range(5000)))
        self.clock.turns.clear()
        self.events()
        self.assertEqual(self.journal.nextId, 5001)
        steps = [after - before for before, after in pairwise(self.clock.turns)]
        self.assertLess(max(steps), 1000)

    def test_skipped(self) -> None:
        """More than can be read is skipped, and told; what follows is read, from the start of a line."""
        self.start()
        self.put("2026-11-30.1.log", f"{PREFIX} {'x' * 1000}\n" * (FARTHEST // 1000 + 10))
        self.put("2026-11-30.1.log", f"{PREFIX} last\n")
        warning, *others = self.events()
        self.assertEqual((warning[1]["source"], warning[1]["level"]), ("lmgateway", "WARN"))
        self.assertIn("were skipped", warning[1]["message"])
        self.assertLess(len(others), 20)
        self.assertEqual({data["message"] for _, data in others}, {"x" * 1000, "last"})

    def test_skippedIntoLine(self) -> None:
        """Where reading goes on within a line, the rest of it is not believed, whatever it looks like."""
        self.start()
        self.put("2026-11-30.1.log", "x" * FARTHEST)
        forged = f"{PREFIX} forged {'y' * 1000}\n"
        self.put("2026-11-30.1.log", f"{forged}{PREFIX} {'z' * PIECE}"[: PIECE - 1] + "\n")
        warning, *others = self.told()
        self.assertIn("were skipped", warning)
        self.assertEqual([message[0] for message in others], ["z"])

    def test_longLine(self) -> None:
        """A line that grows without bound is not held."""
        self.start()
        self.put("2026-11-30.1.log", f"{PREFIX} Accumulated 9 tokens ")
        for _ in range(30):
            self.put("2026-11-30.1.log", "x" * 100_000)
            self.assertEqual(self.told(POLL), [])
        self.assertLess(len(self.follower._reader._splitter._kept), 20_000)
        self.put("2026-11-30.1.log", "\n")
        self.assertEqual(self.told(), ["Accumulated 9 tokens …", "lmstudio_token_info"])


class TroubleTests(FollowingTestCase):
    def errors(self) -> list[str]:
        """What is told as an error in half a minute."""
        return [
            data["error"] for kind, data in self.events(30) if (kind, data["operation"]) == ("error", "follow_logs")
        ]

    def test_later(self) -> None:
        """A folder that appears later is told once to be missing, and once to be there; it is followed from its beginning."""
        self.follower.startService()
        (error,) = self.errors()
        self.assertIn("is not there", error)
        self.assertNotIn(str(self.folder), error)
        self.assertEqual(self.said, [error])
        self.write("a")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["a", "LM Studio's log files are followed now."])
        self.assertEqual(len(self.said), 2)

    def test_empty(self) -> None:
        """A folder without a file is no fault; the first file is followed from its beginning."""
        self.folder.mkdir()
        self.follower.startService()
        self.assertEqual(self.errors(), [])
        self.write("a")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["a"])
        self.write("b")
        self.assertEqual(self.told(), ["b"])

    def test_deleted(self) -> None:
        """A folder that is deleted while it is followed is told; when it comes back, all that is in it is new."""
        self.write(*["x" * 600] * 4)
        self.start()
        shutil.rmtree(self.folder)
        self.assertEqual(len(self.errors()), 1)
        self.put("2026-11-30.1.log", f"{PREFIX} a\n")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["a", "LM Studio's log files are followed now."])

    def test_deletedForAMoment(self) -> None:
        """A folder that is back before anybody looked is followed as if nothing had been."""
        self.start()
        shutil.rmtree(self.folder)
        self.write("a is longer than what was there before")
        self.assertEqual(self.told(), ["a is longer than what was there before"])

    def test_away(self) -> None:
        """A folder that comes back as it was, a disk that was away, is read on from where it was read to."""
        self.start()
        self.write("a")
        self.assertEqual(self.told(), ["a"])
        away = self.folder.rename(self.folder.parent / "away")
        self.assertEqual(len(self.errors()), 1)
        away.rename(self.folder)
        self.write("b")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["b", "LM Studio's log files are followed now."])

    def test_fileDeleted(self) -> None:
        """When only the file is deleted, older ones are not told again; what is written next is told."""
        self.write(*["x" * 600] * 4)
        self.start()
        newest = max(self.folder.rglob("*.log"))
        newest.unlink()
        self.assertEqual(self.told(30), [])
        self.put("2026-11-30.1.log", f"{PREFIX} a\n")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["a"])

    def test_notAFolder(self) -> None:
        """A file in the folder's place is told, once, and what it is found to be when it is one."""
        self.folder.write_text("x")
        self.follower.startService()
        (error,) = self.errors()
        self.assertIn("Not a directory", error)
        self.folder.unlink()
        self.write("a")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["LM Studio's log files are followed now."])
        self.write("b")
        self.assertEqual(self.told(), ["b"])

    def test_unreadableFile(self) -> None:
        """A file that cannot be read is told, once; the one after it is followed all the same."""
        self.start()
        path = self.put("2026-11-30.1.log", "")
        path.unlink()
        path.symlink_to(path)
        (error,) = self.errors()
        self.assertIn("cannot be read", error)
        self.put("2026-11-30.2.log", f"{PREFIX} a\n")
        self.assertEqual(self.told(LONGEST_POLL + 2), ["a", "LM Studio's log files are followed now."])

    def test_patience(self) -> None:
        """Where there is nothing it looks less and less often, but never seldom."""
        self.follower.startService()
        self.clock.pump([1.0] * 60)
        (call,) = self.clock.getDelayedCalls()
        self.assertLessEqual(call.getTime() - self.clock.seconds(), LONGEST_POLL)
        self.assertGreaterEqual(self.follower._pause, LONGEST_POLL)


class SettingsTests(FollowingTestCase):
    def test_off(self) -> None:
        """Nothing is looked at until it is wanted."""
        self.follower.configure(str(self.folder), isOn=False, showBodies=False)
        self.follower.startService()
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))
        self.write("old")
        self.follower.configure(str(self.folder), isOn=True, showBodies=False)
        self.write("a")
        self.assertEqual(self.told(), ["a"])
        self.follower.configure(str(self.folder), isOn=False, showBodies=False)
        self.write("b")
        self.assertEqual((self.told(), self.clock.getDelayedCalls()), ([], []))

    def test_bodies(self) -> None:
        """Whether bodies are shown can change while it follows, and nothing is missed by that."""
        self.start()
        self.write('Returning {"a": 1}')
        self.follower.configure(str(self.folder), isOn=True, showBodies=True)
        self.assertEqual(self.told(), ['Returning {"a": 1}'])

    def test_otherFolder(self) -> None:
        """Another folder is followed from its end."""
        self.start()
        other = self.folder.parent / "other"
        log = LogFiles(other, self.clock)
        log.write("INFO", "old")
        self.follower.configure(str(other), isOn=True, showBodies=False)
        self.write("of the first")
        log.write("INFO", "a")
        self.assertEqual(self.told(), ["a"])

    def test_notRunning(self) -> None:
        """Settings may come before it starts, and after it has stopped."""
        self.follower.configure(None, isOn=True, showBodies=False)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_default(self) -> None:
        """Without a folder it is LM Studio's own, below the user's home folder."""
        home = self.folder.parent
        log = LogFiles(home / ".lmstudio/server-logs", self.clock)
        log.write("INFO", "old")
        self.follower = LogFollower(self.journal, self.clock, home=lambda: home)
        self.follower.configure(None, isOn=True, showBodies=False)
        self.follower.startService()
        log.write("INFO", "a")
        self.assertEqual(self.told(), ["a"])

    def test_homeless(self) -> None:
        """Where nobody knows the user's home folder, there is a folder that is not there."""

        def home() -> Path:
            raise RuntimeError

        self.assertEqual(logFolder("/x", home), Path("/x"))
        self.assertFalse(logFolder(None, home).exists())
