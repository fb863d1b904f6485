"""Followers of the journal, served in turn: on a clock that only the test moves, with clients that only keep what comes."""

from __future__ import annotations

import gc
from collections.abc import Callable

from lmgateway.telemetry.journal import Journal
from lmgateway.telemetry.sse import EventStreamDecoder, StreamEvent
from lmgateway.web.followers import HEARTBEAT_SECONDS, PROGRESS_SECONDS, TURN, TURN_SECONDS, Edition, IFollower, Rounds
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase


class Reader:
    """Takes every edition, and notes when."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.position = 1
        self.data: list[bytes] = []
        self.progress: list[bytes] = []
        self.served: list[float] = []
        self.ended = False

    def serve(self, edition: Edition) -> bool:
        frames = edition.framesAt(self.position, None)
        self.position = frames.next
        self.data.append(edition.comment + frames.data)
        self.progress.append(edition.progress)
        self.served.append(self.rounds._clock.seconds())
        return frames.more

    def end(self) -> None:
        self.ended = True
        self.rounds.leave(self)

    @property
    def events(self) -> list[StreamEvent]:
        return EventStreamDecoder().feed(b"".join(self.data))


class Broken(Reader):
    """Fails when it is served."""

    def serve(self, edition: Edition) -> bool:
        raise RuntimeError("a defect")


class RoundsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_800_000_000.0
        self.journal = Journal(self.clock.seconds)
        self.told: list[bytes] = []
        self.progress = b"progress"
        self.rounds = Rounds(self.journal, self.clock, self.tellProgress)

    def tellProgress(self) -> bytes:
        """Tell the progress, and count how often it is asked for."""
        self.told.append(self.progress)
        return self.progress

    def readers(self, count: int) -> list[Reader]:
        """So many readers, who have joined and been served once."""
        readers = [Reader(self.rounds) for _ in range(count)]
        for reader in readers:
            self.rounds.join(reader)
        self.pass_(10.0)
        for reader in readers:
            reader.data.clear()
            reader.served.clear()
        return readers

    def happen(self, count: int = 1) -> None:
        """So many events."""
        for _ in range(count):
            self.journal.record("error", {})

    def pass_(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let time pass, in turns."""
        for _ in range(round(seconds / TURN_SECONDS) + 1):
            self.clock.advance(TURN_SECONDS)
            meanwhile()

    def test_everybody(self) -> None:
        """Everybody gets every event, once."""
        readers = self.readers(30)
        self.happen(3)
        self.pass_(1)
        self.assertEqual({tuple(event.id for event in reader.events) for reader in readers}, {("1", "2", "3")})

    def test_fewATurn(self) -> None:
        """However many follow, few are served in a turn, and turns have a distance."""
        readers = self.readers(50)
        self.happen()
        self.clock.advance(0)
        for turn in range(1, 13):
            served = sum(len(reader.served) for reader in readers)
            self.assertLessEqual(served, turn * TURN)
            self.clock.advance(TURN_SECONDS)
        self.assertEqual(sum(len(reader.served) for reader in readers), 50)

    def test_atOnce(self) -> None:
        """After a quiet time the first followers are served without waiting."""
        (reader,) = self.readers(1)
        self.happen()
        self.clock.advance(0)
        self.assertEqual(len(reader.events), 1)

    def test_coalesced(self) -> None:
        """All that happens in one turn is one write."""
        (reader,) = self.readers(1)
        self.happen(100)
        self.pass_(0.1)
        self.assertEqual((len(reader.events), len([data for data in reader.data if data])), (100, 1))

    def test_duringARound(self) -> None:
        """What happens while a round goes on comes with the next: nothing is lost between them."""
        readers = self.readers(20)
        self.pass_(1.0, self.happen)
        self.pass_(1.0)
        wanted = [str(eventId) for eventId in range(1, self.journal.nextId)]
        for reader in readers:
            self.assertEqual([event.id for event in reader.events], wanted)

    def test_writtenOnce(self) -> None:
        """What a round sends is written once, and shared by all who are at the same place."""
        readers = self.readers(20)
        self.happen(3)
        self.pass_(1)
        sent = {id(data) for reader in readers for data in reader.data if data}
        self.assertEqual(len(sent), 1)

    def test_behind(self) -> None:
        """Who is far behind gets it in several writes, each bounded, and all of it."""
        for _ in range(1000):
            self.journal.record("error", {"error": "x" * 1000})
        reader = Reader(self.rounds)
        self.rounds.join(reader)
        self.pass_(1)
        self.assertEqual(len(reader.events), 1000)
        self.assertLess(max(len(data) for data in reader.data), 70_000)

    def test_heartbeat(self) -> None:
        """Everybody gets a comment every fifteen seconds, whatever happens."""
        readers = self.readers(6)
        self.pass_(4 * HEARTBEAT_SECONDS)
        for reader in readers:
            self.assertEqual(b"".join(reader.data), b":\n" * 4)
        self.happen()
        self.pass_(HEARTBEAT_SECONDS)
        self.assertEqual([b"".join(reader.data).count(b":\n") for reader in readers], [5] * 6)

    def test_leaving(self) -> None:
        """When the last one leaves, nothing goes on: no call, no waiter, nothing kept."""
        readers = self.readers(5)
        self.happen()
        self.clock.advance(0)
        for reader in readers:
            self.rounds.leave(reader)
            self.rounds.leave(reader)
        self.assertEqual((self.clock.getDelayedCalls(), self.journal._waiting, len(self.rounds)), ([], [], 0))
        self.assertEqual((len(self.rounds._due), self.rounds._edition._frames), (0, {}))
        self.happen()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_comingBack(self) -> None:
        """When somebody comes after the last one has left, all goes on: events and heartbeats."""
        for reader in self.readers(2):
            self.rounds.leave(reader)
        (reader,) = self.readers(1)
        self.happen()
        self.pass_(HEARTBEAT_SECONDS)
        self.assertEqual((len(reader.events), b"".join(reader.data).count(b":\n")), (1, 1))

    def test_distance(self) -> None:
        """However fast events come, nobody is served more often than turns may be."""
        (reader,) = self.readers(1)
        for _ in range(1000):
            self.happen()
            self.clock.advance(TURN_SECONDS / 10)
        self.assertLessEqual(len(reader.served), 102)
        self.assertGreater(len(reader.events), 950)

    def test_leavesWhileServed(self) -> None:
        """Followers that end while they are served take nothing from the others."""
        ones = [Once(self.rounds) for _ in range(6)]
        for one in ones:
            self.rounds.join(one)
        self.happen()
        self.pass_(1)
        self.assertEqual([len(one.events) for one in ones], [1] * 6)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_newsForNobody(self) -> None:
        """When the last ones leave in the midst of a round, nothing goes on, though there was news meanwhile."""
        ones = [Once(self.rounds) for _ in range(TURN + 1)]
        for one in ones:
            self.rounds.join(one)
        self.pass_(1)
        self.happen()
        self.clock.advance(0)
        self.happen()
        self.pass_(1)
        self.assertEqual((len(self.rounds), self.clock.getDelayedCalls(), self.journal._waiting), (0, [], []))

    def test_progress(self) -> None:
        """Progress is written once a second however many watch, and only while somebody does."""
        self.readers(3)
        self.assertEqual(self.told, [])
        watching = [Reader(self.rounds) for _ in range(6)]
        for reader in watching:
            self.rounds.join(reader, isWatching=True)
        self.pass_(5.5 * PROGRESS_SECONDS)
        self.assertEqual(len(self.told), 5)
        for reader in watching:
            self.assertEqual([each for each in reader.progress if each], [b"progress"] * 5)
            self.rounds.leave(reader)
        self.pass_(3 * PROGRESS_SECONDS)
        self.assertEqual(len(self.told), 5)

    def test_progressWithEvents(self) -> None:
        """While events come the progress goes with them, about once a second, and nobody is served more often for it."""
        reader = Reader(self.rounds)
        self.rounds.join(reader, isWatching=True)
        self.pass_(0.05)
        reader.served.clear()
        for _ in range(60):
            self.happen()
            self.pass_(PROGRESS_SECONDS / 10)
        self.assertLessEqual(len(reader.served), 61)
        self.assertIn(len([each for each in reader.progress if each]), (5, 6, 7))

    def test_noProgress(self) -> None:
        """While there is none to tell nobody is served for it."""
        self.progress = b""
        reader = Reader(self.rounds)
        self.rounds.join(reader, isWatching=True)
        self.pass_(1)
        reader.served.clear()
        self.pass_(5 * PROGRESS_SECONDS)
        self.assertEqual((reader.served, len(self.told) >= 5), ([], True))

    def test_defect(self) -> None:
        """A defect met with one follower ends that one, is logged, and takes nothing from the others."""
        broken = Broken(self.rounds)
        self.rounds.join(broken)
        readers = self.readers(2)
        self.assertTrue(broken.ended)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.happen()
        self.pass_(1)
        self.assertEqual([len(reader.events) for reader in readers], [1, 1])

    def test_endAll(self) -> None:
        """Who is ended gets what has happened until then."""
        readers = self.readers(6)
        self.happen(2)
        self.rounds.endAll()
        self.assertEqual([(len(reader.events), reader.ended) for reader in readers], [(2, True)] * 6)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_doesNotGrow(self) -> None:
        """Hours of events and heartbeats leave no more objects behind than minutes do."""
        journal = Journal(self.clock.seconds, maxEvents=50)
        rounds = Rounds(journal, self.clock, lambda: b"")
        silent: list[IFollower] = [Silent() for _ in range(10)]
        for follower in silent:
            rounds.join(follower)

        def hour() -> int:
            for _ in range(720):
                journal.record("error", {})
                self.clock.advance(5)
            gc.collect()
            return len(gc.get_objects()) + len(rounds._due) + len(journal._waiting)

        hour()
        after = hour()
        self.assertLessEqual(hour(), after + 5)


class Once(Reader):
    """Ends with the first event."""

    def serve(self, edition: Edition) -> bool:
        super().serve(edition)
        if self.events:
            self.end()
        return False


class Silent:
    """Keeps nothing."""

    def __init__(self) -> None:
        self.position = 1

    def serve(self, edition: Edition) -> bool:
        frames = edition.framesAt(self.position, None)
        self.position = frames.next
        return frames.more

    def end(self) -> None:
        """Nothing to end."""


class EditionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal = Journal(lambda: 0.0, maxEvents=10)
        for _ in range(30):
            self.journal.record("error", {})
        self.edition = Edition(self.journal, lambda: 0.0)

    def test_gap(self) -> None:
        """A gap comes first, tells how much is lost, and has the id of the last event that is."""
        frames = self.edition.framesAt(5, None)
        gap, first, *_ = EventStreamDecoder().feed(frames.data)
        self.assertEqual((gap.kind, gap.id, first.id), ("gap", "20", "21"))
        self.assertIn('"lost":16', gap.data)

    def test_wholeEvents(self) -> None:
        """Each of several types is written by itself."""
        self.journal.record("debug_log", {})
        self.assertEqual(len(EventStreamDecoder().feed(self.edition.framesAt(31, frozenset({"debug_log"})).data)), 1)
        self.assertEqual(self.edition.framesAt(31, frozenset({"error"})).data, b"")

    def test_shared(self) -> None:
        """What one place is sent is written once, others between or not."""
        first = self.edition.framesAt(25, None)
        self.edition.framesAt(26, None)
        self.assertIs(self.edition.framesAt(25, None), first)

    def test_keepsLittle(self) -> None:
        """Followers in a thousand different places do not fill the memory."""
        for position in range(1, 30):
            for kinds in (None, frozenset({"error"})):
                self.edition.framesAt(position, kinds)
        self.assertLessEqual(len(self.edition._frames), 16)
