"""
The usage that is kept.

Most tests use a store that is not started and so answers at once; the disk that refuses is a file that was moved away, and in
one test a database that may not grow. The file is always read by another connection than the ledger's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from datetime import date
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from lmgateway.errors import Unavailable
from lmgateway.exchange import Ending, Exchange, TokenUsage
from lmgateway.interfaces import IExchangeListener
from lmgateway.ledger import MOST, MOST_MODELS, MOST_PENDING, NONE, OTHER, WRITE_SECONDS, Sums, UsageLedger, dayOf
from lmgateway.policy.usage_query import COLUMNS, UsageQuery
from lmgateway.state import StateStore
from lmgateway.statefile import STATE_FILE
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.folders import temporaryFolder
from tests.test_state import Unneeded

T = TypeVar("T")

NOON = 20_000 * 86_400 + 43_200.0
"""Unix time of a noon."""

TODAY = date(2024, 10, 4)
"""The day of that noon."""

EVER = (date(1, 1, 1), date(9999, 12, 31))


def exchangeOf(
    *,
    key: str = "alice",
    model: str | None = "qwen",
    at: float = NOON,
    seconds: float = 2.0,
    status: int | None = 200,
    ending: Ending = "complete",
    tokens: tuple[int | None, int | None] | None = (10, 20),
    estimated: bool = False,
) -> Exchange:
    """An exchange that ended, at a time."""
    exchange = Exchange("r", "POST", "/v1/x", "/v1/x", key, None, "::1", at - seconds, lambda: None)
    exchange.model = model
    exchange.endedAt = at
    exchange.status = status
    exchange.ending = ending
    exchange.usage = None if tokens is None else TokenUsage(*tokens, estimated)
    return exchange


def queryOf(*by: str, days: tuple[date, date] = EVER) -> UsageQuery:
    """A question."""
    return UsageQuery(*days, by or ("day", "key", "model"), "json")


class LedgerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.clock = Clock()
        self.clock.advance(NOON)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.store = StateStore.open(self.folder, Unneeded())
        self.addCleanup(lambda: self.now(self.store.close()))
        self.ledger = self.freshLedger()

    def freshLedger(self) -> UsageLedger:
        """A ledger as the next start of the gateway has it."""
        ledger = UsageLedger(self.store, self.clock)
        self.now(ledger.load())
        return ledger

    def now(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """The result of what needs no reactor."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def count(self, *exchanges: Exchange) -> None:
        """Have exchanges pass, all of their steps."""
        for exchange in exchanges:
            self.ledger.exchangeBegun(exchange)
            self.ledger.firstTokenPassed(exchange)
            self.ledger.exchangeEnded(exchange)

    def read(self, *by: str, days: tuple[date, date] = EVER, most: int = 100_000) -> dict[tuple[str, ...], Sums]:
        """What the ledger answers."""
        rows = self.now(self.ledger.read(queryOf(*by, days=days), most))
        self.assertEqual([row.group for row in rows], sorted(row.group for row in rows))
        return {row.group: row.sums for row in rows}

    def onDisk(self) -> list[tuple[Any, ...]]:
        """What the file holds."""
        with closing(sqlite3.connect(self.folder / STATE_FILE)) as connection:
            return connection.execute("SELECT * FROM usage ORDER BY day, key, model").fetchall()

    def loseDisk(self) -> None:
        """Have the file refuse everything, until :meth:`regainDisk`."""
        for file in self.folder.glob(f"{STATE_FILE}*"):
            file.rename(file.with_name(f"away-{file.name}"))

    def regainDisk(self) -> None:
        """Have it back as it was."""
        for file in self.folder.glob(f"away-{STATE_FILE}*"):
            file.rename(file.with_name(file.name.removeprefix("away-")))

    def logged(self, level: LogLevel) -> int:
        """How many lines the log has of a level."""
        return sum(
            event["log_level"] is level and event["log_namespace"] == "lmgateway.ledger" for event in self.events
        )


class CountingTests(LedgerTestCase):
    def test_interface(self) -> None:
        """The ledger is told of exchanges."""
        verifyObject(IExchangeListener, self.ledger)

    def test_sums(self) -> None:
        """What is added up: requests, the failed ones, tokens as far as they are known, estimates, and time."""
        self.count(
            exchangeOf(),
            exchangeOf(tokens=(None, 5), estimated=True, seconds=0.5),
            exchangeOf(tokens=None, status=400),
            exchangeOf(tokens=(3, 0), ending="cut"),
            exchangeOf(tokens=None, status=None, ending="failed"),
            exchangeOf(tokens=(1, 1), ending="cancelled", status=None),
        )
        self.assertEqual(self.read(), {("2024-10-04", "alice", "qwen"): Sums(6, 3, 14, 26, 1, 10.5)})

    def test_nothingBefore(self) -> None:
        """A request that is under way counts for nothing yet."""
        self.ledger.exchangeBegun(exchangeOf())
        self.ledger.firstTokenPassed(exchangeOf())
        self.assertEqual(self.read(), {})

    def test_apart(self) -> None:
        """Days, keys and models are told apart; a request counts on the day, in UTC, on which it ended."""
        midnight = NOON + 43_200
        self.count(
            exchangeOf(at=midnight - 0.001),
            exchangeOf(at=midnight, seconds=60),
            exchangeOf(key="bob"),
            exchangeOf(model="llama"),
            exchangeOf(model=None),
            exchangeOf(model=""),
        )
        self.assertEqual(
            {group: sums.requests for group, sums in self.read().items()},
            {
                ("2024-10-04", "alice", "llama"): 1,
                ("2024-10-04", "alice", NONE): 2,
                ("2024-10-04", "alice", "qwen"): 1,
                ("2024-10-04", "bob", "qwen"): 1,
                ("2024-10-05", "alice", "qwen"): 1,
            },
        )

    def test_hostileNames(self) -> None:
        """A model named with a megabyte, controls or half a character is kept in a form that harms nothing, and added up."""
        for name in ("x" * 1_000_000, "\x1b[2Jevil\n", "half \ud83d", "\u202eback"):
            self.count(exchangeOf(model=name), exchangeOf(model=name))
        models = [model for (model,) in self.read("model")]
        self.assertEqual(len(models), 4)
        for model in models:
            self.assertTrue(model.isprintable() and len(model) <= 200, model)
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual([(row[2], row[3]) for row in self.onDisk()], [(model, 2) for model in models])

    def test_hugeNumbers(self) -> None:
        """Whatever LM Studio counts, the sums stay numbers that the file and JavaScript can hold."""
        huge = (MOST, MOST - 1)
        for _ in range(3):
            self.count(*(exchangeOf(key=f"k{number}", tokens=huge) for number in range(1500)))
            self.clock.advance(WRITE_SECONDS)
        self.assertEqual({row[5:7] for row in self.onDisk()}, {(MOST, MOST)})
        self.count(exchangeOf(tokens=huge), exchangeOf(tokens=huge))
        (sums,) = self.read("day").values()
        self.assertEqual((sums.requests, sums.promptTokens, sums.completionTokens), (4502, MOST, MOST))
        self.assertEqual(self.logged(LogLevel.error), 0)


class BoundTests(LedgerTestCase):
    def test_inventedModels(self) -> None:
        """A key that makes up names of models gets a bounded number of rows, day by day and over restarts; nobody else suffers."""
        for half in range(2):
            self.count(*(exchangeOf(model=f"m{half}-{number}") for number in range(MOST_MODELS + 5)))
            self.clock.advance(WRITE_SECONDS)
            self.ledger = self.freshLedger()
        self.count(
            exchangeOf(model="m0-1"), exchangeOf(key="bob", model="new"), exchangeOf(at=NOON + 86_400, model="new")
        )
        rows = self.read()
        self.assertEqual(len(rows), MOST_MODELS + 3)
        self.assertEqual(rows["2024-10-04", "alice", OTHER].requests, MOST_MODELS + 10)
        self.assertEqual(rows["2024-10-04", "alice", "m0-1"].requests, 2)
        for own in (("2024-10-04", "bob", "new"), ("2024-10-05", "alice", "new")):
            self.assertEqual(rows[own].requests, 1)

    def test_fullForDays(self) -> None:
        """While the disk refuses for days, memory does not grow beyond its bound, and every request is still counted."""
        self.loseDisk()
        self.clock.advance(WRITE_SECONDS)
        passed = 0
        for day in range(30):
            for _ in range(2):
                self.count(*(exchangeOf(at=NOON + day * 86_400, model=f"{passed + number}") for number in range(500)))
                passed += 500
                self.clock.advance(WRITE_SECONDS)
        self.assertLessEqual(len(self.ledger._pending), MOST_PENDING + 30)
        self.assertEqual(self.logged(LogLevel.error), 1)
        self.regainDisk()
        self.assertEqual(sum(sums.requests for sums in self.read("key").values()), passed)

    def test_idle(self) -> None:
        """A gateway that is asked nothing does nothing: no timer runs when all is written."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.count(exchangeOf())
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WritingTests(LedgerTestCase):
    def test_behind(self) -> None:
        """What passed is on the disk within five seconds, added to what is there already."""
        for rounds in (1, 2):
            self.count(exchangeOf(), exchangeOf(tokens=None, status=500))
            self.clock.advance(5)
            self.assertEqual(
                self.onDisk(),
                [("2024-10-04", "alice", "qwen", 2 * rounds, rounds, 10 * rounds, 20 * rounds, 0, 4.0 * rounds)],
            )

    def test_together(self) -> None:
        """Requests that come one after the other are written together, none of them later than five seconds after it ended."""
        self.count(exchangeOf())
        self.clock.advance(WRITE_SECONDS - 1)
        self.count(exchangeOf())
        self.assertEqual(self.onDisk(), [])
        self.clock.advance(1)
        self.assertEqual([row[3] for row in self.onDisk()], [2])

    def test_cleanStop(self) -> None:
        """A clean stop loses nothing, and leaves no timer behind."""
        self.count(exchangeOf())
        self.now(self.ledger.flush())
        self.assertEqual([row[3] for row in self.onDisk()], [1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """What the disk refuses stays, is tried again until it is taken, and is told once; then its end is told."""
        self.count(exchangeOf())
        self.loseDisk()
        for _ in range(3):
            self.clock.advance(WRITE_SECONDS)
            self.count(exchangeOf())
        self.assertEqual((self.logged(LogLevel.error), self.logged(LogLevel.info)), (1, 0))
        self.assertEqual(self.ledger.tokensOn(TODAY, "alice"), 120)
        self.regainDisk()
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual([row[3:7] for row in self.onDisk()], [(4, 0, 40, 80)])
        self.assertEqual((self.logged(LogLevel.error), self.logged(LogLevel.info)), (1, 1))

    def test_stopRefused(self) -> None:
        """A disk that refuses holds up no stop; the log tells how much is lost."""
        self.count(exchangeOf(), exchangeOf())
        self.loseDisk()
        self.now(self.ledger.flush())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([event["lost"] for event in self.events if "lost" in event], [2])


class ReadingTests(LedgerTestCase):
    def test_writtenOrNot(self) -> None:
        """Written or not, a request counts once in every answer."""
        self.count(exchangeOf(), exchangeOf(key="bob"))
        self.clock.advance(WRITE_SECONDS)
        self.count(exchangeOf(model="llama"), exchangeOf())
        expected = {("alice",): 3, ("bob",): 1}
        self.assertEqual({group: sums.requests for group, sums in self.read("key").items()}, expected)
        self.now(self.ledger.flush())
        self.assertEqual({group: sums.requests for group, sums in self.read("key").items()}, expected)

    def test_days(self) -> None:
        """Only the days that were asked for count, the first and the last included, written or not."""
        for write in (True, False):
            self.count(*(exchangeOf(at=NOON + day * 86_400) for day in range(4)))
            if write:
                self.clock.advance(WRITE_SECONDS)
        rows = self.read("day", days=(date(2024, 10, 5), date(2024, 10, 6)))
        self.assertEqual(
            {group: sums.requests for group, sums in rows.items()}, {("2024-10-05",): 2, ("2024-10-06",): 2}
        )

    def test_most(self) -> None:
        """Of more rows than are wanted, one more is read at most: enough to see that there are too many."""
        self.count(*(exchangeOf(model=str(number)) for number in range(50)))
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(len(self.read("model", most=10)), 11)

    def test_unreadable(self) -> None:
        """A file that cannot be read makes the question fail, and not the counting."""
        self.loseDisk()
        self.failureResultOf(Deferred.fromCoroutine(self.ledger.read(queryOf(), 10)), Unavailable)
        self.failureResultOf(Deferred.fromCoroutine(UsageLedger(self.store, self.clock).load()), Unavailable)
        self.count(exchangeOf())
        self.regainDisk()
        self.assertEqual(len(self.read()), 1)

    @settings(max_examples=30)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2), st.integers(0, 99), st.booleans()
            ),
            max_size=8,
        ),
        st.permutations(COLUMNS),
        st.integers(1, 3),
    )
    def test_anyOrder(self, passing: list[tuple[str, str, int, int, bool]], columns: list[str], count: int) -> None:
        """Whatever passes, whenever it is written, and by whatever it is summed up, the answer is the sum of what passed."""
        ledger = self.freshLedger()
        before = {row.group: row.sums.requests for row in self.now(ledger.read(queryOf(*columns[:count]), 1000))}
        expected: dict[tuple[str, ...], int] = dict(before)
        for key, model, day, tokens, write in passing:
            exchange = exchangeOf(key=key, model=model, at=NOON + day * 86_400, tokens=(tokens, 0))
            ledger.exchangeEnded(exchange)
            values = {"key": key, "model": model, "day": str(dayOf(exchange.endedAt))}
            group = tuple(values[column] for column in columns[:count])
            expected[group] = expected.get(group, 0) + 1
            if write:
                self.clock.advance(WRITE_SECONDS)
        found = {row.group: row.sums.requests for row in self.now(ledger.read(queryOf(*columns[:count]), 1000))}
        self.assertEqual(found, expected)
        self.now(ledger.flush())


class TokenTests(LedgerTestCase):
    def test_today(self) -> None:
        """The tokens of a key are known at once, written or not, from this run or the one before."""
        self.count(
            exchangeOf(), exchangeOf(key="bob", tokens=(1, None)), exchangeOf(model="llama"), exchangeOf(tokens=None)
        )
        self.assertEqual([self.ledger.tokensOn(TODAY, key) for key in ("alice", "bob", "eve")], [60, 1, 0])
        self.now(self.ledger.flush())
        self.ledger = self.freshLedger()
        self.assertEqual([self.ledger.tokensOn(TODAY, key) for key in ("alice", "bob", "eve")], [60, 1, 0])
        self.count(exchangeOf())
        self.assertEqual(self.ledger.tokensOn(TODAY, "alice"), 90)

    def test_nextDay(self) -> None:
        """Each day begins at nothing."""
        self.count(exchangeOf(), exchangeOf(at=NOON + 86_400, tokens=(1, 2)))
        self.assertEqual(self.ledger.tokensOn(date(2024, 10, 5), "alice"), 3)
        self.assertEqual(self.ledger.tokensOn(date(2024, 10, 6), "alice"), 0)
        self.count(exchangeOf())
        self.assertEqual(self.ledger.tokensOn(date(2024, 10, 5), "alice"), 3)
        self.clock.advance(86_400)
        self.assertEqual(self.freshLedger().tokensOn(date(2024, 10, 5), "alice"), 3)

    def test_dayOf(self) -> None:
        """Days change at midnight in UTC."""
        self.assertEqual([dayOf(moment) for moment in (0, NOON, NOON + 43_199.9)], [date(1970, 1, 1), TODAY, TODAY])


class ThreadTests(TestCase):
    """The ledger on a store as it runs: statements take time, and the disk really is full."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        assert IReactorFromThreads.providedBy(reactor)
        self.folder = temporaryFolder(self)
        self.store = StateStore.open(self.folder, reactor)
        self.store.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.close()))
        self.clock = Clock()
        self.ledger = UsageLedger(self.store, self.clock)

    async def requestsIn(self, ledger: UsageLedger) -> int:
        """How many requests an answer counts."""
        return sum(row.sums.requests for row in await ledger.read(queryOf("key"), 1000))

    async def test_whileWriting(self) -> None:
        """Asked while something is being written, and while more passes, the answer counts each request once."""
        for number in range(1, 10):
            self.ledger.exchangeEnded(exchangeOf(model=str(number)))
            self.clock.advance(WRITE_SECONDS)
            asking = Deferred.fromCoroutine(self.requestsIn(self.ledger))
            self.assertEqual(await asking, number)
        await self.ledger.flush()
        self.assertEqual(await self.requestsIn(UsageLedger(self.store, self.clock)), 9)

    async def test_askedFirst(self) -> None:
        """What is written after a question was asked does not count twice in its answer."""
        self.ledger.exchangeEnded(exchangeOf())
        asking = Deferred.fromCoroutine(self.requestsIn(self.ledger))
        self.clock.advance(WRITE_SECONDS)
        self.assertEqual(await asking, 1)
        await self.ledger.flush()
        self.assertEqual(await self.requestsIn(self.ledger), 1)

    async def test_stopWhileWriting(self) -> None:
        """A stop in the midst of writing waits for it, and writes the rest."""
        self.ledger.exchangeEnded(exchangeOf())
        self.clock.advance(WRITE_SECONDS)
        self.ledger.exchangeEnded(exchangeOf())
        await self.ledger.flush()
        self.assertEqual(await self.requestsIn(UsageLedger(self.store, self.clock)), 2)

    async def test_fullDisk(self) -> None:
        """A database that may not grow takes nothing; once it may, it has everything, once."""
        await self.store.run(lambda c: c.execute("PRAGMA max_page_count=1").close())
        for _ in range(3):
            for number in range(300):
                self.ledger.exchangeEnded(exchangeOf(model=f"a-model-with-a-rather-long-name-{number}"))
            self.clock.advance(WRITE_SECONDS)
            self.assertEqual(await self.requestsIn(UsageLedger(self.store, self.clock)), 0)
        self.assertEqual(await self.requestsIn(self.ledger), 900)
        await self.store.run(lambda c: c.execute("PRAGMA max_page_count=1000000").close())
        self.clock.advance(WRITE_SECONDS)
        await self.ledger.flush()
        self.assertEqual(await self.requestsIn(UsageLedger(self.store, self.clock)), 900)
