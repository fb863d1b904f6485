"""The log's files: their names, and when there is a new one."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta

from lmgateway.studio.simulator.logfiles import LogFiles
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

NOON = datetime(2026, 11, 30, 12)  # noqa: DTZ001 - the log goes by local time


class LogFilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self) / "server-logs"
        self.clock = Clock()
        self.clock.rightNow = NOON.timestamp()
        self.log = LogFiles(self.folder, self.clock, largest=100)

    def files(self) -> dict[str, str]:
        """Every file below the folder, with what is in it."""
        paths = sorted(self.folder.rglob("*.log"))
        return {path.relative_to(self.folder).as_posix(): path.read_text("utf-8") for path in paths}

    def test_first(self) -> None:
        """A folder for the month, a file for the day, made with the first entry; entries follow each other in it."""
        self.assertEqual(self.files(), {})
        self.log.write("INFO", "é", "a")
        self.log.write("DEBUG", "two\nlines")
        text = "[2026-11-30 12:00:00][INFO][a] é\n[2026-11-30 12:00:00][DEBUG] two\nlines\n"
        self.assertEqual(self.files(), {"2026-11/2026-11-30.1.log": text})

    def test_full(self) -> None:
        """A full file is followed by the next number; an entry is never split."""
        for length in (150, 10, 10):
            self.log.write("INFO", "x" * length)
        lengths = [text.count("x") for text in self.files().values()]
        self.assertEqual(
            (list(self.files()), lengths), (["2026-11/2026-11-30.1.log", "2026-11/2026-11-30.2.log"], [150, 20])
        )

    def test_newDay(self) -> None:
        """A new day is a new file, and a new month a new folder."""
        for _ in range(2):
            self.log.write("INFO", "x")
            self.clock.advance(timedelta(days=1).total_seconds())
        self.assertEqual(list(self.files()), ["2026-11/2026-11-30.1.log", "2026-12/2026-12-01.1.log"])

    def test_newStart(self) -> None:
        """A simulator that starts anew takes the next number."""
        self.log.write("INFO", "x")
        LogFiles(self.folder, self.clock).write("INFO", "y")
        self.assertEqual(list(self.files()), ["2026-11/2026-11-30.1.log", "2026-11/2026-11-30.2.log"])

    def test_vanished(self) -> None:
        """A folder that vanished is made again."""
        self.log.write("INFO", "x")
        shutil.rmtree(self.folder)
        self.log.write("INFO", "y")
        self.assertEqual(list(self.files().values()), ["[2026-11-30 12:00:00][INFO] y\n"])

    def test_surrogate(self) -> None:
        """What cannot be encoded is written as an escape."""
        self.log.write("INFO", "\ud83d")
        self.assertIn("\\ud83d", next(iter(self.files().values())))

    def test_begin(self) -> None:
        """A start is told, with the folder."""
        log = LogFiles(self.folder, self.clock)
        log.begin("http://127.0.0.1:1234", jit=True)
        (text,) = self.files().values()
        self.assertIn(f"[LM STUDIO SERVER] Logs are saved into {self.folder}\n", text)
        self.assertTrue(text.endswith("[INFO] Just-in-time model loading active.\n"))
