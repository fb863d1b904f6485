"""LM Studio's log files: where they are, which there are, and what is new in one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lmgateway.studio.logfolder import LogName, Piece, TailedFile, defaultLogFolder, names, sizes
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

NAME = LogName("2026-11", "2026-11-21", 1)
FAR = 1 << 20


class DefaultTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = temporaryFolder(self)

    def test_plain(self) -> None:
        """Nothing is there yet: it will be where a new LM Studio has it."""
        self.assertEqual(defaultLogFolder(self.home), self.home / ".lmstudio/server-logs")

    def test_older(self) -> None:
        """A home of earlier versions is still used where it exists."""
        (self.home / ".cache/lm-studio").mkdir(parents=True)
        self.assertEqual(defaultLogFolder(self.home), self.home / ".cache/lm-studio/server-logs")

    def test_pointer(self) -> None:
        """LM Studio's own pointer comes first; one that says nothing usable does not count."""
        (self.home / ".cache/lm-studio").mkdir(parents=True)
        pointer = self.home / ".lmstudio-home-pointer"
        pointer.write_text(f"{self.home}/elsewhere\n")
        self.assertEqual(defaultLogFolder(self.home), self.home / "elsewhere/server-logs")
        for unusable in (b" \n", b"\0", b"\xff\xfe"):
            pointer.write_bytes(unusable)
            self.assertEqual(defaultLogFolder(self.home), self.home / ".cache/lm-studio/server-logs")


class FolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def write(self, path: str, text: bytes = b"x") -> None:
        """Put a file there."""
        file = self.folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text)

    def test_names(self) -> None:
        """Log files are those that are named as such, in the order of time, numbers by their value."""
        for path in ("2026-11/2026-11-21.10.log", "2026-11/2026-11-21.9.log", "2026-12/2026-12-01.1.log"):
            self.write(path)
        for path in (
            "2026-11/2026-11-21.log",
            "2026-11/2026-11-21.01.log",
            "2026-11/x",
            "other/2026-11-21.1.log",
            "2025-01",
        ):
            self.write(path)
        expected = ["2026-11-21.9.log", "2026-11-21.10.log", "2026-12-01.1.log"]
        self.assertEqual([name.file for name in sorted(names(self.folder))], expected)
        self.assertEqual([name.file for name in names(self.folder, "2026-12")], expected[2:])

    def test_sizes(self) -> None:
        """Sizes are in bytes, and what is no file has none."""
        self.write("2026-11/2026-11-21.1.log", b"12345")
        (self.folder / "2026-11/2026-11-21.2.log").mkdir()
        os.mkfifo(self.folder / "2026-11/2026-11-21.3.log")
        (self.folder / "2026-11/2026-11-21.4.log").symlink_to("nowhere")
        self.assertEqual(sizes(self.folder), {NAME: 5})

    def test_missing(self) -> None:
        """A folder that is not there is told."""
        self.assertRaises(FileNotFoundError, sizes, self.folder / "x")


class TailedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        (self.folder / NAME.month).mkdir()
        self.path = self.folder / NAME.month / NAME.file
        self.path.write_bytes(b"old\n")
        self.file = TailedFile(self.folder, NAME, 4)

    def append(self, data: bytes) -> None:
        """Write more."""
        with self.path.open("ab") as file:
            file.write(data)

    def test_added(self) -> None:
        """What is added is had once, in pieces of the size that was asked for."""
        self.assertEqual(self.file.read(4, FAR), Piece(b""))
        self.append(b"abcdef")
        self.assertEqual([self.file.read(4, FAR).data for _ in range(3)], [b"abcd", b"ef", b""])

    def test_midLine(self) -> None:
        """It is known whether reading begins within a line."""
        self.assertFalse(self.file.midLine)
        self.assertTrue(TailedFile(self.folder, NAME, 3).midLine)
        self.assertFalse(TailedFile(self.folder, NAME, 0).midLine)

    def test_emptied(self) -> None:
        """A file that has become shorter is read anew."""
        self.path.write_bytes(b"n\n")
        self.assertEqual(self.file.read(100, FAR), Piece(b"n\n", isAnew=True))
        self.path.write_bytes(b"")
        self.assertEqual(self.file.read(100, FAR), Piece(b"", isAnew=True))
        self.assertEqual(self.file.read(100, FAR), Piece(b""))

    def test_emptiedAndGrown(self) -> None:
        """So is one that was emptied and has grown beyond where it was read to, which its size does not tell."""
        self.path.write_bytes(b"another\n")
        self.assertEqual(self.file.read(100, FAR), Piece(b"another\n", isAnew=True))

    def test_replaced(self) -> None:
        """So is one that took the place of the first, be it of the same size, or the same in what was read of it."""
        self.file.read(4, FAR)
        for text in (b"new\n", b"new\nmore\n"):
            other = Path(shutil.copy(self.path, self.folder / "other"))
            other.write_bytes(text)
            other.replace(self.path)
            self.assertEqual(self.file.read(100, FAR), Piece(text, isAnew=True))

    def test_gone(self) -> None:
        """One that is gone is told; when it is there again as it was, reading goes on."""
        moved = self.path.rename(self.folder / "other")
        self.assertRaises(FileNotFoundError, self.file.read, 4, FAR)
        moved.rename(self.path)
        self.append(b"more")
        self.assertEqual(self.file.read(100, FAR), Piece(b"more"))

    def test_skipped(self) -> None:
        """When too much is waiting, all but the last is skipped."""
        self.append(b"x" * 100 + b"last")
        self.assertEqual(self.file.read(4, 100), Piece(b"last", skipped=100))
        self.append(b"more")
        self.assertEqual(self.file.read(4, 100), Piece(b"more"))

    def test_notSkipped(self) -> None:
        """As much as may wait is read in order."""
        self.append(b"abcd" * 25)
        self.assertEqual([self.file.read(4, 100).data for _ in range(26)], [b"abcd"] * 25 + [b""])

    def test_pipe(self) -> None:
        """A pipe that took the file's place hangs nobody."""
        self.path.unlink()
        os.mkfifo(self.path)
        self.assertEqual(self.file.read(4, FAR), Piece(b""))
