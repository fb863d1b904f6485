# -*- test-case-name: tests.test_ledger -*-
"""
The usage that is kept: what each key asked of each model, day by day, in the state file.

It is added up in memory, which costs a request next to nothing, and written behind: a ``kill -9`` loses the last five
seconds of it at most, a clean stop nothing. What a disk does not take stays in memory and is tried again; no request notices.

Days are those of UTC, and a request counts on the day on which it ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import date
from functools import partial
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lmgateway.errors import Unavailable
from lmgateway.exchange import Exchange
from lmgateway.interfaces import IExchangeListener
from lmgateway.policy.usage_query import COLUMNS, UsageQuery
from lmgateway.state import StateStore
from lmgateway.telemetry.accesslog import LONGEST_FIELD, printable

WRITE_SECONDS = 4.0
"""How long usage waits to be written; with the time that a disk takes, it is five seconds."""

MOST_MODELS = 1000
"""Models of one key that are told apart on one day. Clients can make names up; the rest is counted under :data:`OTHER`."""

MOST_PENDING = 10_000
"""Sums that wait to be written, be the disk full for days; beyond, models are not told apart any more."""

NONE = "none"
"""Stands for the model where a request named none, as in the metrics."""

OTHER = "other"
"""Stands for all models beyond those that are told apart, as in the metrics."""

MOST = 2**53 - 1
"""The highest number that is kept, which is the highest that JavaScript can count to: a sum that would be higher stays there."""

_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()

_log = Logger()

_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, key, model) DO UPDATE SET
    requests = requests + excluded.requests,
    errors = errors + excluded.errors,
    promptTokens = min(promptTokens + excluded.promptTokens, 9007199254740991),
    completionTokens = min(completionTokens + excluded.completionTokens, 9007199254740991),
    estimated = estimated + excluded.estimated,
    seconds = seconds + excluded.seconds
"""

# total() instead of sum(), which fails where a number becomes too large.
_READ = """
SELECT
    CASE WHEN :day THEN day END,
    CASE WHEN :key THEN key END,
    CASE WHEN :model THEN model END,
    sum(requests),
    sum(errors),
    CAST(min(total(promptTokens), 9007199254740991) AS INTEGER),
    CAST(min(total(completionTokens), 9007199254740991) AS INTEGER),
    sum(estimated),
    total(seconds)
FROM usage WHERE day BETWEEN :first AND :last GROUP BY 1, 2, 3 LIMIT :most
"""

_TODAY = "SELECT key, model, min(promptTokens + completionTokens, 9007199254740991) FROM usage WHERE day = ?"

Place = tuple[int, str, str]
"""What is summed up apart: the day (proleptic Gregorian ordinal), the name of the key, the model."""


class Sums(Struct, gc=False):
    """
    What requests add up to.

    :param requests: that ended, however they did.
    :param errors: those answered with a status from 400, cut off or never answered.
    :param promptTokens: as far as they are known.
    :param completionTokens: likewise.
    :param estimated: requests whose completion tokens were counted by the gateway rather than told by LM Studio.
    :param seconds: from complete heads to the ends of answers.
    """

    requests: int = 0
    errors: int = 0
    promptTokens: int = 0
    completionTokens: int = 0
    estimated: int = 0
    seconds: float = 0.0

    @property
    def totalTokens(self) -> int:
        """Prompt and completion tokens."""
        return self.promptTokens + self.completionTokens

    @property
    def figures(self) -> tuple[int, int, int, int, int, float]:
        """All of it, no token count higher than :data:`MOST`."""
        prompt, completion = min(self.promptTokens, MOST), min(self.completionTokens, MOST)
        return self.requests, self.errors, prompt, completion, self.estimated, self.seconds

    def add(self, other: Sums) -> None:
        """Take another's in."""
        self.requests += other.requests
        self.errors += other.errors
        self.promptTokens = min(self.promptTokens + other.promptTokens, MOST)
        self.completionTokens = min(self.completionTokens + other.completionTokens, MOST)
        self.estimated += other.estimated
        self.seconds += other.seconds


class UsageRow(Struct, frozen=True):
    """
    A line of an answer about the usage.

    :param group: what these requests have in common: a value for each column that was asked for, in that order.
    :param sums: what they add up to.
    """

    group: tuple[str, ...]
    sums: Sums


@implementer(IExchangeListener)
class UsageLedger:
    """
    Adds up what passes, writes it behind and reads it again.

    :param store: where it survives.
    :param clock: when to write.
    """

    def __init__(self, store: StateStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._pending: dict[Place, Sums] = {}
        self._writing: dict[Place, Sums] = {}
        self._lock = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._isFailing = False
        self._today = 0
        self._models: dict[str, set[str]] = {}
        self._tokens: dict[str, int] = {}

    async def load(self) -> None:
        """
        Take up what an earlier run counted today. To be awaited before the first request is served.

        :raise Unavailable: the state file cannot be read.
        """
        today = _EPOCH + int(self._clock.seconds() // _DAY)
        rows = await self._store.run(partial(_fetch, _TODAY, (str(date.fromordinal(today)),)))
        self._turn(today)
        for key, model, tokens in rows:
            self._models.setdefault(key, set()).add(model)
            self._tokens[key] = self._tokens.get(key, 0) + tokens

    # who is told of requests

    def exchangeBegun(self, exchange: Exchange) -> None:
        """Wait for its end: only then is it known what it cost."""

    def firstTokenPassed(self, exchange: Exchange) -> None:
        """Wait for its end."""

    def exchangeEnded(self, exchange: Exchange) -> None:
        """Count it."""
        day = _EPOCH + int(exchange.endedAt // _DAY)
        key, model = exchange.key, exchange.model or NONE
        sums = self._pending.get((day, key, model))
        if sums is None:
            sums = self._sumsOf(day, key, model)
        sums.requests += 1
        sums.seconds += exchange.endedAt - exchange.startedAt
        status = exchange.status
        if exchange.ending in {"cut", "failed"} or (status is not None and status >= 400):
            sums.errors += 1
        usage = exchange.usage
        if usage is not None:
            prompt, completion = usage.promptTokens or 0, usage.completionTokens or 0
            sums.promptTokens += prompt
            sums.completionTokens += completion
            sums.estimated += usage.estimated
            if day == self._today:
                self._tokens[key] = self._tokens.get(key, 0) + prompt + completion

    def _sumsOf(self, day: int, key: str, model: str) -> Sums:
        """Give what a request is added to where that is not there yet, or where the model's name cannot be kept."""
        if day != self._today:
            self._turn(day)
        if self._timer is None:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._writeNow)
        known = self._models.setdefault(key, set())
        name = _nameOf(model)
        if name not in known and len(known) >= MOST_MODELS:
            name = OTHER
        if (day, key, name) not in self._pending:
            if len(self._pending) + len(self._writing) >= MOST_PENDING:
                name = OTHER
            known.add(name)
        return self._pending.setdefault((day, key, name), Sums())

    def _turn(self, day: int) -> None:
        """Begin a day."""
        self._today = day
        self._models.clear()
        self._tokens.clear()

    # who asks

    def tokensOn(self, day: date, key: str) -> int:
        """
        Tell the prompt and completion tokens of a key on the present day, from memory.

        :param day: in UTC. Of any other than the day of the last request nothing is known here, and the answer is 0.
        :param key: its name.
        """
        return self._tokens.get(key, 0) if day.toordinal() == self._today else 0

    async def read(self, query: UsageQuery, most: int) -> list[UsageRow]:
        """
        Sum up what is written and what is not yet.

        :param most: rows at which the state file is not read on: an answer with more than these is not whole.
        :return: sorted by their groups.
        :raise Unavailable: the state file cannot be read.
        """
        # While nothing is being written, what is pending is in memory alone; and what is written from here on is written
        # after this has been read, for the store does one thing after the other.
        await self._lock.acquire()
        try:
            asked: dict[str, Any] = {column: column in query.by for column in COLUMNS}
            asked |= {"first": str(query.first), "last": str(query.last), "most": most + 1}
            reading = self._store.run(partial(_fetch, _READ, asked))
            rows = self._grouped(query)
        finally:
            self._lock.release()
        for *columns, requests, errors, prompt, completion, estimated, seconds in await reading:
            group = tuple(columns[COLUMNS.index(column)] for column in query.by)
            rows.setdefault(group, Sums()).add(Sums(requests, errors, prompt, completion, estimated, seconds))
        return [UsageRow(group, rows[group]) for group in sorted(rows)]

    def _grouped(self, query: UsageQuery) -> dict[tuple[str, ...], Sums]:
        """Sum up what is pending."""
        rows: dict[tuple[str, ...], Sums] = {}
        first, last = query.first.toordinal(), query.last.toordinal()
        for (day, key, model), sums in self._pending.items():
            if first <= day <= last:
                values = {"day": str(date.fromordinal(day)), "key": key, "model": model}
                rows.setdefault(tuple(values[column] for column in query.by), Sums()).add(sums)
        return rows

    # writing

    async def flush(self) -> None:
        """Write what is pending, before the store is closed. What cannot be written is lost, and the log says so."""
        await self._write()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            lost = sum(sums.requests for sums in self._pending.values())
            _log.error("The usage of the last {lost} requests could not be written and is lost.", lost=lost)

    def _writeNow(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._write()).addErrback(_toldAsDefect)

    async def _write(self) -> None:
        """Write what is pending. What the disk does not take is pending again, and will be tried again."""
        await self._lock.acquire()
        try:
            self._writing, self._pending = self._pending, {}
            if self._writing:
                await self._store.run(partial(_add, _rowsOf(self._writing)))
                self._succeeded()
        except (Unavailable, sqlite3.Error) as error:
            for place, sums in self._pending.items():
                self._writing.setdefault(place, Sums()).add(sums)
            self._pending = self._writing
            self._failed(error)
        finally:
            self._writing = {}
            self._lock.release()

    def _succeeded(self) -> None:
        if self._isFailing:
            self._isFailing = False
            _log.info("The usage is written again; nothing of it was lost.")

    def _failed(self, error: Exception) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(WRITE_SECONDS, self._writeNow)
        if not self._isFailing:
            self._isFailing = True
            _log.error(
                "The usage could not be written; it stays in memory and is tried again. {reason}", reason=str(error)
            )


def dayOf(moment: float) -> date:
    """
    Tell the day of a moment, in UTC.

    :param moment: Unix time.
    """
    return date.fromordinal(_EPOCH + int(moment // _DAY))


def _nameOf(text: str) -> str:
    """Make a name that every file, terminal and table can take. A client may have written a megabyte of anything."""
    return printable(text if len(text) <= LONGEST_FIELD else text[: LONGEST_FIELD + 1])


def _rowsOf(pending: Mapping[Place, Sums]) -> list[tuple[object, ...]]:
    return [(str(date.fromordinal(day)), key, model, *sums.figures) for (day, key, model), sums in pending.items()]


def _add(rows: Iterable[tuple[object, ...]], connection: sqlite3.Connection) -> None:
    connection.executemany(_ADD, rows).close()


def _fetch(query: str, values: Any, connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(query, values).fetchall()


def _toldAsDefect(reason: Failure) -> None:
    _log.failure("Defect while writing the usage", reason)
