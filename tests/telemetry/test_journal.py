"""The ring of events, and what goes into it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmgateway
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.interfaces import IEventJournal
from lmgateway.telemetry.journal import (
    KINDS,
    LONGEST_EVENT,
    LONGEST_TEXT,
    OVERHEAD,
    Event,
    Journal,
    encodeData,
    isoTime,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

NOW = 1_800_000_000.25


def journalOf(maxBytes: int = 8 << 20, maxEvents: int = 100_000) -> Journal:
    """A journal whose clock stands still."""
    return Journal(lambda: NOW, maxBytes, maxEvents)


def idsOf(events: tuple[Event, ...]) -> list[int]:
    """The ids of events, in order."""
    return [event.id for event in events]


class RingTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """A journal is one."""
        verifyObject(IEventJournal, journalOf())

    def test_ids(self) -> None:
        """Ids begin at one and grow by one; each event has its time beside what it says."""
        journal = journalOf()
        self.assertEqual([journal.record("error", {"n": n}) for n in range(3)], [1, 2, 3])
        batch = journal.read(0)
        self.assertEqual((idsOf(batch.events), batch.next, batch.gap), ([1, 2, 3], 4, 0))
        self.assertEqual(json.loads(batch.events[2].data), {"timestamp": "2027-01-15T08:00:00.250Z", "n": 2})
        self.assertEqual((batch.events[0].kind, journal.firstId, journal.nextId), ("error", 1, 4))

    def test_nothingYet(self) -> None:
        """A journal without events has nothing to read, and nothing is missing."""
        batch = journalOf().read(0)
        self.assertEqual((batch.events, batch.next, batch.gap), ((), 1, 0))

    def test_kinds(self) -> None:
        """Events of other types count as read."""
        journal = journalOf()
        for kind in ("error", "debug_log", "error", "debug_log"):
            journal.record(kind, {})
        batch = journal.read(0, frozenset({"error"}))
        self.assertEqual((idsOf(batch.events), batch.next), ([1, 3], 5))
        self.assertEqual(journal.read(batch.next, frozenset({"error"})).next, 5)

    def test_limit(self) -> None:
        """No more events come than asked for, and none is passed over: not even one of another type that follows."""
        journal = journalOf()
        for kind in ("error", "debug_log", "error"):
            journal.record(kind, {})
        batch = journal.read(0, frozenset({"error"}), limit=1)
        self.assertEqual((idsOf(batch.events), batch.next), ([1], 3))
        self.assertEqual(idsOf(journal.read(batch.next, limit=1).events), [3])

    def test_size(self) -> None:
        """No further event comes once there are as many bytes as asked for, but one always does."""
        journal = journalOf()
        for _ in range(5):
            journal.record("error", {"error": "x" * 100})
        self.assertEqual(len(journal.read(0, size=1).events), 1)
        self.assertEqual(len(journal.read(0, size=200).events), 2)

    def test_forgets(self) -> None:
        """The oldest events go when there are too many bytes, or too many events; an event larger than all goes too."""
        journal = journalOf(maxBytes=10 * (OVERHEAD + 40))
        for _ in range(100):
            journal.record("error", {})
        self.assertEqual((len(journal.read(0).events), journal.firstId), (10, 91))
        journal = journalOf(maxEvents=3)
        for _ in range(100):
            journal.record("error", {})
        self.assertEqual(idsOf(journal.read(0).events), [98, 99, 100])
        journal = journalOf(maxBytes=10)
        journal.record("error", {})
        self.assertEqual((journal.read(0).events, journal.firstId, journal.nextId), ((), 2, 2))

    def test_gap(self) -> None:
        """What was forgotten before it was read is told by number; who asks for all that is held lost nothing."""
        journal = journalOf(maxEvents=10)
        for _ in range(100):
            journal.record("error", {})
        batch = journal.read(5)
        self.assertEqual((batch.gap, batch.events[0].id), (86, 91))
        self.assertEqual((journal.read(0).gap, journal.read(91).gap, journal.read(90).gap), (0, 0, 1))
        self.assertEqual(journal.read(batch.next).gap, 0)

    def test_gapOfOtherTypes(self) -> None:
        """Of what was forgotten the types are forgotten too: all of it counts."""
        journal = journalOf(maxEvents=2)
        for _ in range(10):
            journal.record("debug_log", {})
        batch = journal.read(1, frozenset({"error"}))
        self.assertEqual((batch.events, batch.gap, batch.next), ((), 8, 11))

    def test_anotherRun(self) -> None:
        """A position that was never given out gets all that is held, is told what was forgotten, and never waits in vain."""
        journal = journalOf(maxEvents=2)
        journal.record("error", {})
        batch = journal.read(5000)
        self.assertEqual((idsOf(batch.events), batch.gap, batch.next), ([1], 0, 2))
        for _ in range(4):
            journal.record("error", {})
        batch = journal.read(5000)
        self.assertEqual((idsOf(batch.events), batch.gap, batch.next), ([4, 5], 3, 6))

    def test_theNext(self) -> None:
        """The position of the next event, which is not there yet, is no stranger: there is nothing to read at it."""
        journal = journalOf()
        journal.record("error", {})
        self.assertEqual((journal.read(2).events, journal.read(2).next, journal.locate(2)), ((), 2, 2))

    @given(
        st.lists(st.tuples(st.sampled_from(["error", "debug_log"]), st.integers(0, 300)), max_size=60),
        st.integers(300, 4000),
        st.integers(1, 12),
        st.sampled_from([None, frozenset({"error"})]),
        st.integers(1, 5),
    )
    def test_everyEventOnceOrCounted(
        self, events: list[tuple[str, int]], maxBytes: int, every: int, kinds: frozenset[str] | None, limit: int
    ) -> None:
        """
        However seldom a follower reads, each event of its types is read once, in order, or counted in a gap; and the ring
        never holds more bytes than it may.
        """
        journal = journalOf(maxBytes)
        position = 1
        seen: list[int] = []
        passed = lost = 0
        for count, (kind, size) in enumerate(events, 1):
            journal.record(kind, {"error": "x" * size})
            held = journal.read(0).events
            self.assertLessEqual(sum(len(event.data) + OVERHEAD for event in held), maxBytes)
            if count % every == 0 or count == len(events):
                before = position
                batch = journal.read(position, kinds, limit)
                position, lost = batch.next, lost + batch.gap
                seen += idsOf(batch.events)
                passed += position - before - batch.gap
        self.assertEqual(seen, sorted(set(seen)))
        self.assertEqual(passed + lost, position - 1)
        if kinds is None:
            self.assertEqual(len(seen), passed)
        self.assertTrue(all(kinds is None or events[eventId - 1][0] in kinds for eventId in seen))


class WakingTests(SynchronousTestCase):
    def test_once(self) -> None:
        """Who waits is woken by the next event, and by no further one until it waits again."""
        journal = journalOf()
        woken: list[int] = []
        journal.awaitEvent(lambda: woken.append(journal.nextId))
        for _ in range(3):
            journal.record("error", {})
        self.assertEqual(woken, [2])

    def test_again(self) -> None:
        """Who waits again while it is woken waits for the event after."""
        journal = journalOf()
        woken: list[int] = []

        def wake() -> None:
            woken.append(journal.nextId - 1)
            journal.awaitEvent(wake)

        journal.awaitEvent(wake)
        for _ in range(3):
            journal.record("error", {})
        self.assertEqual(woken, [1, 2, 3])

    def test_forget(self) -> None:
        """Who has changed its mind is not woken; that it changes it twice does no harm."""
        journal = journalOf()
        woken: list[str] = []
        stays: Callable[[], None] = lambda: woken.append("stays")  # noqa: E731 - the journal must know it again
        leaves: Callable[[], None] = lambda: woken.append("leaves")  # noqa: E731 - likewise
        journal.awaitEvent(leaves)
        journal.awaitEvent(stays)
        journal.forgetWaiter(leaves)
        journal.forgetWaiter(leaves)
        journal.record("error", {})
        self.assertEqual(woken, ["stays"])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=30))

SURROGATES = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)

STRANGE = st.one_of(
    SURROGATES,
    st.sampled_from(
        [object(), 1 << 9000, b"bytes", {object(): object()}, "\0\x1b[2J<script>", "x" * 5000, {1, 2}, Path()]
    ),
)


class TextTests(SynchronousTestCase):
    def encode(self, data: dict[str, Any]) -> dict[str, Any]:
        """What a reader gets, if it is one line of UTF-8 and no longer than it may be."""
        encoded = encodeData(data, NOW)
        self.assertNotIn(b"\n", encoded)
        self.assertNotIn(b"\r", encoded)
        self.assertLess(len(encoded), 6 * LONGEST_EVENT + 1000)
        told: dict[str, Any] = json.loads(encoded.decode("utf-8"))
        self.assertEqual(told.pop("timestamp"), isoTime(NOW))
        return told

    @given(st.dictionaries(st.text(max_size=9).filter("timestamp".__ne__), PLAIN, max_size=8))
    def test_plain(self, data: dict[str, Any]) -> None:
        """Plain values are told as they are."""
        self.assertEqual(self.encode(data), data)

    @given(st.dictionaries(st.one_of(st.text(max_size=9), SURROGATES), st.one_of(JSON, STRANGE), max_size=8))
    def test_anything(self, data: dict[str, Any]) -> None:
        """Whatever it is given, an event is one line of JSON, of bounded length, with its time."""
        self.encode(data)

    def test_megabyte(self) -> None:
        """A text of a megabyte is cut, wherever it is; what stands beside it is kept."""
        text = "x" * 1_000_000
        told = self.encode({"model": text, "loadConfig": {"deep": [text, 1]}, "key": "laptop"})
        self.assertEqual(told["model"], "x" * LONGEST_TEXT + "…")
        self.assertEqual(told["loadConfig"], {"deep": ["x" * LONGEST_TEXT + "…", 1]})
        self.assertEqual(told["key"], "laptop")

    def test_manyTexts(self) -> None:
        """Many long texts, names or values are cut together, and the first ones stay."""
        told = self.encode({"first": 1, "many": ["x" * 1000] * 1000, **{f"{n}" + "n" * 3000: n for n in range(1000)}})
        self.assertEqual(told["first"], 1)
        self.assertLess(len(told["many"]), 20)

    def test_manyValues(self) -> None:
        """However small its values are, an event holds no more of them than fit."""
        told = self.encode({"first": 1, "numbers": [0] * 100_000, "empty": [[]] * 100_000})
        self.assertLess(len(told["numbers"]), LONGEST_EVENT)

    def test_hostileNames(self) -> None:
        """Markup and control characters come out as they went in, escaped; half a character becomes a replacement."""
        self.assertEqual(self.encode({"key": '<script>"\0\x1b[2J\r\n\x85'}), {"key": '<script>"\0\x1b[2J\r\n\x85'})
        self.assertEqual(self.encode({"model": "half \ud83d"}), {"model": "half \N{REPLACEMENT CHARACTER}"})
        self.assertEqual(self.encode({"model": "whole \U0001f600 \ud83d"})["model"][:7], "whole \U0001f600")

    def test_nested(self) -> None:
        """What is nested too deeply, or holds itself, ends somewhere."""
        endless: list[Any] = []
        endless.append(endless)
        deep: Any = 1
        for _ in range(100_000):
            deep = {"d": deep}
        told = self.encode({"endless": endless, "deep": deep, "key": "laptop"})
        self.assertEqual(told["key"], "laptop")
        while isinstance(deep, dict):  # Taken apart: so deep a thing cannot be freed in one go on every Python.
            deep = deep["d"]

    def test_ownTime(self) -> None:
        """The time is that of the journal, whatever the data says."""
        self.assertEqual(self.encode({"timestamp": "yesterday"}), {})

    @given(st.integers(0, 4_000_000_000_000))
    def test_time(self, milliseconds: int) -> None:
        """A time is told to the millisecond, in UTC, and can be read again."""
        told = isoTime(milliseconds / 1000)
        self.assertRegex(told, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        read = datetime.fromisoformat(told)
        self.assertEqual(read.tzinfo, UTC)
        self.assertLess(abs(read.timestamp() - milliseconds / 1000), 0.0015)


class KindTests(SynchronousTestCase):
    def test_vocabulary(self) -> None:
        """Every event that some module records by name is in the vocabulary, and the journal's own two are."""
        recorded = set()
        for path in Path(lmgateway.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr
                if called == "record" and isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
                    recorded.add(node.args[0].value)
        self.assertIn("inference_start", recorded)
        self.assertEqual(recorded - KINDS, set())
        self.assertLessEqual({"connected", "gap"}, KINDS)
