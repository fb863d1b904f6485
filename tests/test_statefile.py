"""
The state file from the outside: who may have it, what is done to it, and which files are refused untouched.

Files are damaged the way disks, people and other programs do it, and must be byte for byte the same after the refusal.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from stat import S_IMODE
from subprocess import run

from lmgateway.statefile import LOCK_FILE, STATE_FILE, StateError, connect, prepare, signOwner, takeFolder, transact
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import fullBeyond, temporaryFolder

LEFT_BEHIND = """
import os, signal, sys
from pathlib import Path
from lmgateway.statefile import connect, prepare, transact
path = Path(sys.argv[1])
prepare(path)
connection = connect(path)
transact(connection, lambda connection: connection.execute("INSERT INTO activeModel VALUES (1, 'left')"))
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A process that is killed with its last transaction in the write-ahead log only."""

SECOND = """
import sys
from pathlib import Path
from lmgateway.statefile import StateError, takeFolder
try:
    takeFolder(Path(sys.argv[1]))
except StateError as error:
    print(error)
"""
"""Another gateway on the same folder."""

FIRST_VERSION = """
CREATE TABLE activeModel (id INTEGER PRIMARY KEY CHECK (id = 1), model TEXT NOT NULL);
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL, created REAL NOT NULL
);
INSERT INTO activeModel VALUES (1, 'kept');
INSERT INTO keys VALUES ('key_1', 'alice', x'00', 'admin', 0.0);
PRAGMA application_id=1280132951;
PRAGMA user_version=1;
"""
"""What the first version of the gateway left on the disk, from when there was no usage."""


class PrepareTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.path = self.folder / STATE_FILE

    def contents(self) -> dict[str, bytes]:
        """Every file in the folder that holds data: SQLite's shared memory holds none, and a log that is empty none either."""
        contents = {file.name: file.read_bytes() for file in self.folder.iterdir() if not file.name.endswith("-shm")}
        return {name: data for name, data in contents.items() if data}

    def assertRefused(self, said: str) -> None:
        """The file is refused with a sentence that names it, and no byte of the folder has changed."""
        before = self.contents()
        error = self.assertRaises(StateError, prepare, self.path)
        self.assertIn(said, str(error))
        self.assertIn(str(self.path), str(error))
        self.assertEqual(self.contents(), before)

    def filled(self) -> bytearray:
        """The bytes of a sound file of several pages."""
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            rows = [(f"key_{number}", f"{number:0200}", os.urandom(32), "admin", 0.0, "{}") for number in range(300)]
            transact(
                connection,
                lambda connection: connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", rows),
            )
        return bytearray(self.path.read_bytes())

    def test_fresh(self) -> None:
        """Where there is nothing, an empty state is made, in WAL mode and synchronous to the disk."""
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM activeModel").fetchone(), (0,))
            self.assertEqual(connection.execute("SELECT count(*) FROM keys").fetchone(), (0,))
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))

    def test_empty(self) -> None:
        """A file that was made but never written, as a crash at the very first start leaves it, is as good as none."""
        self.path.touch()
        prepare(self.path)
        prepare(self.path)

    def test_again(self) -> None:
        """A second start changes nothing of what is there."""
        before = bytes(self.filled())
        prepare(self.path)
        self.assertEqual(self.path.read_bytes(), before)

    def test_older(self) -> None:
        """The file of the first version is brought to this one, and keeps what it holds."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(FIRST_VERSION)
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT model FROM activeModel").fetchall(), [("kept",)])
            self.assertEqual(connection.execute("SELECT name, held FROM keys").fetchall(), [("alice", "{}")])
            self.assertEqual(connection.execute("SELECT count(*) FROM usage").fetchall(), [(0,)])
        before = self.path.read_bytes()
        prepare(self.path)
        self.assertEqual(self.path.read_bytes(), before)

    def test_onlyForItsOwner(self) -> None:
        """Whatever the umask, and however the file was left, nobody else can read it or what SQLite puts beside it."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        prepare(self.path)
        self.path.chmod(0o644)
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            transact(connection, lambda connection: connection.execute("DELETE FROM keys"))
            modes = {file.name: S_IMODE(file.stat().st_mode) for file in self.folder.iterdir()}
        self.assertEqual(modes, dict.fromkeys((STATE_FILE, f"{STATE_FILE}-wal", f"{STATE_FILE}-shm"), 0o600))

    def test_notADatabase(self) -> None:
        """A file that is something else altogether is refused."""
        self.path.write_bytes(b"These are not the bytes you are looking for. " * 40)
        self.assertRefused("damaged")

    def test_overwritten(self) -> None:
        """A file with pages of zeros or noise in it is refused."""
        sound = self.filled()
        for noise in (bytes(4096), b"\xff" * 4096):
            for page in range(1, len(sound) // 4096):
                damaged = sound.copy()
                damaged[page * 4096 : (page + 1) * 4096] = noise
                self.path.write_bytes(damaged)
                self.assertRefused("damaged")

    def test_headGone(self) -> None:
        """A file without its beginning is refused."""
        damaged = self.filled()
        damaged[:100] = bytes(100)
        self.path.write_bytes(damaged)
        self.assertRefused("damaged")

    def test_cutShort(self) -> None:
        """A file that ends too early, be it in its first page, is refused."""
        sound = self.filled()
        for length in (1, 50, 2000, 4096, 3 * 4096, len(sound) - 4096, len(sound) - 1):
            self.path.write_bytes(sound[:length])
            self.assertRefused("damaged")

    def test_newer(self) -> None:
        """What a newer gateway wrote is refused: this one cannot know what it means."""
        self.filled()
        with closing(connect(self.path)) as connection:
            connection.execute("PRAGMA user_version=99")
        self.assertRefused("newer version")

    def test_anothers(self) -> None:
        """Another program's database is refused, though it be sound."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE precious (value)")
        self.assertRefused("not a gateway's")

    def test_anothersMark(self) -> None:
        """Another program's database is refused, though there be nothing in it but its mark or its version."""
        for mark in ("application_id=7", "user_version=1"):
            self.path.unlink(missing_ok=True)
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute(f"PRAGMA {mark}")
            self.assertRefused("not a gateway's")

    def test_full(self) -> None:
        """Wherever a disk is full at the very first start, it is said, and with room again the same folder serves."""
        for size in (0, 100, 4096, 10_000):
            for file in self.folder.iterdir():
                file.unlink()
            with fullBeyond(size):
                error = self.assertRaises(StateError, prepare, self.path)
            self.assertIn("Is the disk full or read-only?", str(error))
            prepare(self.path)

    def test_noFile(self) -> None:
        """A folder in the file's place is refused in a sentence."""
        self.path.mkdir()
        error = self.assertRaises(StateError, prepare, self.path)
        self.assertIn(str(self.path), str(error))

    def test_noFolder(self) -> None:
        """A file that cannot be made is told in a sentence."""
        path = self.folder / "missing" / STATE_FILE
        error = self.assertRaises(StateError, prepare, path)
        self.assertIn("Make it writable", str(error))
        self.assertIn(str(path), str(error))

    def test_leftBehind(self) -> None:
        """What a killed process had confirmed is there, though only the write-ahead log had it; a refusal leaves that log, too."""
        killed = run([sys.executable, "-c", LEFT_BEHIND, str(self.path)], check=False)  # noqa: S603 - our own command
        self.assertEqual(killed.returncode, -signal.SIGKILL)
        self.assertIn(f"{STATE_FILE}-wal", self.contents())
        log = self.contents()
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT model FROM activeModel").fetchone(), ("left",))
        (self.folder / f"{STATE_FILE}-wal").write_bytes(log[f"{STATE_FILE}-wal"])
        self.path.write_bytes(b"no database " * 1000)
        self.assertRefused("damaged")

    def cutShort(self, statement: str) -> None:
        """Leave the file as a crash does in the middle of a write that goes by a rollback journal, as the first ones do."""
        original = temporaryFolder(self)
        self.path.rename(original / STATE_FILE)
        with closing(sqlite3.connect(original / STATE_FILE, isolation_level=None)) as connection:
            connection.executescript("PRAGMA journal_mode=DELETE; CREATE TABLE IF NOT EXISTS big (value)")
            connection.executescript(f"PRAGMA cache_size=1; BEGIN; {statement}")
            connection.execute("INSERT INTO big VALUES (zeroblob(1000000))")
            for name in (STATE_FILE, f"{STATE_FILE}-journal"):
                (self.folder / name).write_bytes((original / name).read_bytes())

    def test_cutShortBeforeTheLog(self) -> None:
        """What a crash cut short while SQLite went by a rollback journal is undone: the state can be used, and is what it was."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(FIRST_VERSION)
        self.cutShort("UPDATE activeModel SET model = 'half'")
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT model FROM activeModel").fetchall(), [("kept",)])
        self.assertNotIn(f"{STATE_FILE}-journal", self.contents())

    def test_anothersCutShort(self) -> None:
        """Another program's database is refused, and what a crash cut short there is left for that program to undo."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TABLE precious (value)")
        self.cutShort("INSERT INTO precious VALUES (1)")
        self.assertRefused("not a gateway's")


class TransactTests(SynchronousTestCase):
    def test_wholeOrNot(self) -> None:
        """What fails half-way leaves nothing behind, and the next transaction is not disturbed."""
        path = temporaryFolder(self) / STATE_FILE
        prepare(path)

        def halfDone(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO activeModel VALUES (1, 'half')")
            raise KeyError

        with closing(connect(path)) as connection:
            self.assertRaises(KeyError, transact, connection, halfDone)
            self.assertEqual(connection.execute("SELECT * FROM activeModel").fetchall(), [])
            transact(connection, lambda connection: connection.execute("INSERT INTO activeModel VALUES (1, 'whole')"))
            self.assertEqual(connection.execute("SELECT * FROM activeModel").fetchall(), [(1, "whole")])


class TakeFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self) / "new" / "state"

    def test_made(self) -> None:
        """A folder that is not there is made, for its owner only."""
        os.close(takeFolder(self.folder))
        self.assertEqual(S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(S_IMODE((self.folder / LOCK_FILE).stat().st_mode), 0o600)

    def test_leftAsItIs(self) -> None:
        """A folder that is there keeps its rights: it may be a volume that others need."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        os.close(takeFolder(self.folder))
        self.assertEqual(S_IMODE(self.folder.stat().st_mode), 0o755)

    def test_secondProcess(self) -> None:
        """Another process is refused with a sentence that names the folder, until the first one lets go."""
        lock = takeFolder(self.folder)
        refused = self.second()
        self.assertIn("Another gateway is using the state folder", refused)
        self.assertIn(str(self.folder), refused)
        os.close(lock)
        self.assertEqual(self.second(), "")

    def second(self) -> str:
        """What another process says that takes the folder."""
        return run([sys.executable, "-c", SECOND, str(self.folder)], check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own command

    def test_numberNotTaken(self) -> None:
        """The number is for people: a full disk that does not take it keeps nobody from owning the folder."""
        with fullBeyond(0):
            lock = takeFolder(self.folder)
        self.addCleanup(os.close, lock)
        self.assertIn("Another gateway is using the state folder", self.second())

    def test_fork(self) -> None:
        """The lock outlives the parent's descriptor in a child, as when twistd goes into the background."""
        lock = takeFolder(self.folder)
        copy = os.dup(lock)
        os.close(lock)
        self.assertIn("Another gateway", self.second())
        os.close(copy)

    def test_whose(self) -> None:
        """Whoever is refused is told by which process, as long as that has left its number."""
        lock = takeFolder(self.folder)
        self.addCleanup(os.close, lock)
        self.assertIn(f"(process {os.getpid()})", self.second())
        os.pwrite(lock, b" 99999999999999999999\n", 0)
        signOwner(lock)
        self.assertIn(f"(process {os.getpid()})", self.second())
        for left in (b"", b" \n", b"\xff\xff\n", b" -1\n", b" 1 2\n"):
            os.truncate(lock, 0)
            os.pwrite(lock, left, 0)
            refused = self.second()
            self.assertIn("Another gateway is using", refused)
            self.assertNotIn("process", refused)

    def test_cannot(self) -> None:
        """A folder that cannot be made is refused in a sentence."""
        Path(self.folder.parent.parent, "new").write_text("in the way", "utf-8")
        error = self.assertRaises(StateError, takeFolder, self.folder)
        self.assertIn(str(self.folder), str(error))
