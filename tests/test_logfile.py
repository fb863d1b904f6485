"""Files of lines, and lines that wait for each other. Real files in a folder of the test's own; a clock that does not tick."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.logfile import FLUSH_BYTES, FLUSH_SECONDS, LineBuffer, RotatingFile
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder


class RotatingFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.path = self.folder / "access.log"

    def open(self, *, rotateSize: int = 100, keep: int = 2) -> RotatingFile:
        """Open the file; it is closed when the test ends."""
        file = RotatingFile(self.path, rotateSize=rotateSize, keep=keep)
        self.addCleanup(file.close)
        return file

    def contents(self) -> dict[str, bytes]:
        """Every file in the folder."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def test_append(self) -> None:
        """What is written is in the file at once, behind what was there before."""
        self.path.write_bytes(b"before\n")
        file = self.open()
        file.write(b"one\n")
        file.write(b"two\n")
        self.assertEqual(self.contents(), {"access.log": b"before\none\ntwo\n"})

    def test_private(self) -> None:
        """Nobody but the owner can read any of the files, however generous the umask."""
        self.addCleanup(os.umask, os.umask(0))
        file = self.open(rotateSize=4)
        file.write(b"one\n")
        file.write(b"two\n")
        self.assertEqual([oct(path.stat().st_mode & 0o777) for path in self.folder.iterdir()], ["0o600"] * 2)

    def test_rotate(self) -> None:
        """A file that would grow over the limit is renamed first; of the old ones only so many are kept."""
        file = self.open(rotateSize=8, keep=2)
        for line in (b"1234567\n", b"a\n", b"b\n", b"c\n", b"d\n", b"e\n", b"f\n", b"g\n", b"h\n", b"i\n"):
            file.write(line)
        self.assertEqual(
            self.contents(),
            {"access.log": b"i\n", "access.log.1": b"e\nf\ng\nh\n", "access.log.2": b"a\nb\nc\nd\n"},
        )

    def test_rotateImpossible(self) -> None:
        """A file that cannot be renamed goes on growing, and no old file is lost over it."""
        (self.folder / "access.log.1").mkdir()
        file = self.open(rotateSize=4, keep=1)
        for line in (b"one\n", b"two\n", b"six\n"):
            file.write(line)
        self.assertEqual(self.path.read_bytes(), b"one\ntwo\nsix\n")

    def test_sync(self) -> None:
        """What was written can be had on the disk, before and after a new file is begun; what is no disk says so."""
        file = self.open(rotateSize=4)
        for line in (b"one\n", b"two\n"):
            file.write(line)
            file.sync()
        self.path.unlink()
        self.path.symlink_to("/dev/full")
        other = self.open()
        self.assertRaises(OSError, other.sync)

    def test_inPlace(self) -> None:
        """A file knows whether it is still the one of its name, after it was rotated, too."""
        file = self.open(rotateSize=4)
        file.write(b"one\n")
        file.write(b"two\n")
        self.assertTrue(file.isInPlace)
        self.path.rename(self.folder / "kept")
        self.assertFalse(file.isInPlace)
        self.path.touch()
        self.assertFalse(file.isInPlace)

    def test_torn(self) -> None:
        """A line that a crash tore is ended before the next one begins."""
        self.path.write_bytes(b'whole\n{"tor')
        self.open().write(b"next\n")
        self.assertEqual(self.path.read_bytes(), b'whole\n{"tor\nnext\n')

    def test_full(self) -> None:
        """A full disk is an OSError."""
        if not Path("/dev/full").exists():
            self.skipTest("this platform has no /dev/full")
        file = RotatingFile(Path("/dev/full"), rotateSize=100, keep=1)
        self.addCleanup(file.close)
        self.assertEqual(self.assertRaises(OSError, file.write, b"line\n").errno, errno.ENOSPC)

    @given(
        st.lists(st.binary(min_size=1, max_size=30).map(lambda line: line.replace(b"\n", b" ") + b"\n"), max_size=30)
    )
    def test_nothingLost(self, lines: list[bytes]) -> None:
        """Over all files that are kept, the lines are those that were written, in order; none is split over two."""
        folder = temporaryFolder(self)
        file = RotatingFile(folder / "log", rotateSize=64, keep=100)
        for line in lines:
            file.write(line)
        file.close()
        names = [f"log.{number}" for number in range(100, 0, -1)] + ["log"]
        parts = [(folder / name).read_bytes() for name in names if (folder / name).exists()]
        self.assertEqual(b"".join(parts), b"".join(lines))
        self.assertTrue(all(part.endswith(b"\n") for part in parts[:-1]))
        self.assertTrue(all(len(part) + len(following) > 64 - 31 for part, following in pairwise(parts)))


class LineBufferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        self.told: list[object] = []
        self.fault: OSError | None = None
        self.lines = LineBuffer(self.write, self.clock, self.told.append, self.told.append)

    def write(self, data: bytes) -> None:
        """Take data, or fail as told."""
        if self.fault is not None:
            raise self.fault
        self.written.append(data)

    def test_together(self) -> None:
        """Lines wait for each other, and are written in one piece."""
        self.lines.append(b"one\n")
        self.clock.advance(FLUSH_SECONDS * 0.9)
        self.lines.append(b"two\n")
        self.assertEqual(self.written, [])
        self.clock.advance(FLUSH_SECONDS * 0.1)
        self.assertEqual(self.written, [b"one\ntwo\n"])

    def test_again(self) -> None:
        """A line after that waits anew; with none to write, no timer runs."""
        self.lines.append(b"one\n")
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lines.append(b"two\n")
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(self.written, [b"one\n", b"two\n"])

    def test_bounded(self) -> None:
        """What waits is written before it grows too large, clock or no clock."""
        line = b"x" * 1023 + b"\n"
        for _ in range(FLUSH_BYTES // 1024):
            self.lines.append(line)
        self.assertEqual([len(data) for data in self.written], [FLUSH_BYTES])

    def test_stop(self) -> None:
        """A stopped buffer has written everything, leaves no timer behind, and holds back nothing that still comes."""
        self.lines.append(b"one\n")
        self.lines.stop()
        self.assertEqual(self.written, [b"one\n"])
        self.lines.append(b"two\n")
        self.assertEqual(self.written, [b"one\n", b"two\n"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_toldOnce(self) -> None:
        """A failure is told once, however long it lasts; so is its end, with the number of lines that it cost."""
        self.fault = OSError(errno.ENOSPC, "No space left on device")
        for line in (b"one\n", b"two\n", b"three\n"):
            self.lines.append(line)
            self.lines.flush()
        self.assertEqual(self.told, [self.fault])
        self.fault = None
        self.lines.append(b"four\n")
        self.lines.flush()
        self.assertEqual((self.written, self.told[1:]), ([b"four\n"], [3]))
