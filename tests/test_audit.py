"""The audit: lines that are on the disk, or owed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from lmgateway import audit as module
from lmgateway.audit import AUDIT_FILE, MOST_OWED, AuditEntry, AuditFailed, AuditLog, readAudit
from lmgateway.errors import Unavailable
from lmgateway.policy.acts import AuditQuery
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.folders import temporaryFolder

UNNEEDED: Any = None
"""A reactor for what has no thread yet."""


def entry(number: int = 0, **members: Any) -> AuditEntry:
    """A line."""
    return AuditEntry(**{"time": 1_800_000_000.0 + number, "action": "keys.add", "outcome": "done", **members})


class AuditTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.audit = self.open()
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def open(self) -> AuditLog:
        """An audit in the folder."""
        audit = AuditLog(self.folder, UNNEEDED, lambda text: text.replace("secret", "…"))
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(audit.close())))
        return audit

    def record(self, *entries: AuditEntry) -> None:
        """Have lines written."""
        for each in entries:
            self.successResultOf(self.audit.record(each))

    def lines(self, query: AuditQuery | None = None) -> list[dict[str, Any]]:
        """What is found."""
        reading = Deferred.fromCoroutine(self.audit.read(query or AuditQuery()))
        return cast("list[dict[str, Any]]", self.successResultOf(reading)["lines"])

    def targets(self, query: AuditQuery | None = None) -> list[str]:
        """The targets of what is found."""
        return [line["target"] for line in self.lines(query)]

    def breakDisk(self) -> None:
        """Have the file be one that takes nothing."""
        (self.folder / AUDIT_FILE).mkdir()

    def mendDisk(self) -> None:
        """Undo that."""
        (self.folder / AUDIT_FILE).rmdir()

    def test_line(self) -> None:
        """A line is an object of all that is known, in a file that only its owner can read."""
        self.record(entry(key="alice", target="a secret", before={"a": None}, status=201, client="10.0.0.7"))
        (text,) = (self.folder / AUDIT_FILE).read_bytes().splitlines()
        self.assertEqual(
            json.loads(text),
            {
                "time": "2027-01-15T08:00:00.000Z",
                "action": "keys.add",
                "outcome": "done",
                "client": "10.0.0.7",
                "key": "alice",
                "target": "a …",
                "before": {"a": None},
                "status": 201,
            },
        )
        self.assertEqual((self.folder / AUDIT_FILE).stat().st_mode & 0o777, 0o600)

    def test_newestFirst(self) -> None:
        """The newest lines come first, as many as are wanted, of the action and the key that are."""
        self.record(*(entry(number, target=str(number), key=f"k{number % 2}") for number in range(6)))
        self.assertEqual(self.targets(), ["5", "4", "3", "2", "1", "0"])
        self.assertEqual(self.targets(AuditQuery(limit=2, key="k0")), ["4", "2"])
        self.assertEqual(self.targets(AuditQuery(action="models")), [])

    def test_none(self) -> None:
        """Where nothing was written, nothing is found."""
        self.assertEqual(self.lines(), [])

    def test_torn(self) -> None:
        """A line that a crash tore is passed over, and the next one begins on a line of its own."""
        self.record(entry(target="a"))
        with (self.folder / AUDIT_FILE).open("ab") as file:
            file.write(b'{"target": "torn')
        self.audit = self.open()
        self.record(entry(target="b"))
        self.assertEqual(self.targets(), ["b", "a"])

    def test_owed(self) -> None:
        """What the disk does not take is told, owed, and written before what comes later, once the disk takes it."""
        self.breakDisk()
        self.failureResultOf(self.audit.record(entry(target="a")), AuditFailed)
        self.assertTrue(self.audit.isFailing)
        self.failureResultOf(self.audit.recover(), AuditFailed)
        self.mendDisk()
        self.record(entry(target="b"))
        self.assertFalse(self.audit.isFailing)
        self.assertEqual(self.targets(), ["b", "a"])
        said = [str(formatEvent(event)) for event in self.events]
        self.assertEqual(len(said), 2, said)
        self.assertIn("No administrative act is carried out", said[0])
        self.assertIn("written again. 1 lines were late", said[1])

    def test_recover(self) -> None:
        """What is owed can be written without anything new."""
        self.breakDisk()
        self.failureResultOf(self.audit.record(entry(target="a")), AuditFailed)
        self.mendDisk()
        self.successResultOf(self.audit.recover())
        self.assertEqual((self.audit.isFailing, self.targets()), (False, ["a"]))

    def test_owedBounded(self) -> None:
        """A disk that takes nothing for long costs no more memory than so many lines; the newest are kept."""
        self.breakDisk()
        for number in range(MOST_OWED + 5):
            self.failureResultOf(self.audit.record(entry(target=str(number))), AuditFailed)
        self.mendDisk()
        self.successResultOf(self.audit.recover())
        found = self.targets(AuditQuery(limit=MOST_OWED))
        self.assertEqual((len(found), found[0], found[-1]), (MOST_OWED, str(MOST_OWED + 4), "5"))

    def test_full(self) -> None:
        """A full disk is one that takes nothing."""
        (self.folder / AUDIT_FILE).symlink_to("/dev/full")
        self.failureResultOf(self.audit.record(entry()), AuditFailed)
        self.assertIn("No space left on device", str(formatEvent(self.events[0])))

    if sys.platform != "linux":
        test_full.skip = "there is no /dev/full"  # type: ignore[attr-defined]

    def test_rotated(self) -> None:
        """A file that is full is kept beside the new one, and both are searched; of the oldest there are no more than so many."""
        with (self.folder / AUDIT_FILE).open("wb") as file:
            file.write(b"x" * (module.ROTATE_SIZE - 100) + b"\n")
        self.record(entry(target="new", before=["y" * 200]))
        names = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(names, [AUDIT_FILE, f"{AUDIT_FILE}.1"])
        (self.folder / f"{AUDIT_FILE}.{module.KEEP}").write_bytes(b'{"target":"oldest"}\n')
        self.assertEqual(self.targets(), ["new", "oldest"])

    def test_movedAway(self) -> None:
        """A file that somebody moves away or deletes is begun anew with the next line, which is not lost with it."""
        self.record(entry(target="a"))
        path = self.folder / AUDIT_FILE
        path.rename(self.folder / "kept")
        self.record(entry(target="b"))
        self.assertEqual(self.targets(), ["b"])
        path.unlink()
        self.record(entry(target="c"))
        self.assertEqual(self.targets(), ["c"])
        self.assertIn(b'"a"', (self.folder / "kept").read_bytes())

    def test_bounded(self) -> None:
        """A search ends after so many bytes, and says so."""
        big = b'{"target":"x","filler":"%s"}\n' % (b"y" * (1 << 20))
        (self.folder / AUDIT_FILE).write_bytes(big * 20)
        answer = readAudit(self.folder, AuditQuery())
        self.assertTrue(answer["truncated"])
        self.assertEqual(len(answer["lines"]), module.MOST_READ // len(big))

    def test_closed(self) -> None:
        """What comes after the end is not written, and told."""
        self.successResultOf(Deferred.fromCoroutine(self.audit.close()))
        self.failureResultOf(self.audit.record(entry()), AuditFailed)
        self.failureResultOf(Deferred.fromCoroutine(self.audit.read(AuditQuery())), Unavailable)


class ThreadTests(TestCase):
    """On the real reactor: that another thread writes is the point."""

    def test_order(self) -> Deferred[None]:
        """Lines are written in the order in which they were asked for, and read after they are written."""
        return Deferred.fromCoroutine(self.inOrder())

    async def inOrder(self) -> None:
        """Write some, and read them."""
        folder = Path(temporaryFolder(self))
        audit = AuditLog(folder, reactor, str)  # type: ignore[arg-type]
        audit.start()
        for number in range(20):
            audit.record(entry(number, target=str(number)))
        answer = await audit.read(AuditQuery())
        await audit.close()
        await audit.close()
        self.assertEqual([line["target"] for line in answer["lines"]], [str(number) for number in reversed(range(20))])
