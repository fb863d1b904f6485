# -*- test-case-name: tests.telemetry.test_journal -*-
"""
What happened lately: a ring of events that forgets the oldest. Pure.

Whoever follows it has nothing in it but a position, the id of the first event that it has not seen, so that followers cost
the ring nothing, however many and however slow they are. What a follower did not read before the ring forgot it is a gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from zope.interface import implementer

from lmgateway.interfaces import IEventJournal

KINDS = frozenset(
    {
        "auth_failure",
        "connected",
        "debug_log",
        "error",
        "gap",
        "inference_cancelled",
        "inference_complete",
        "inference_first_token",
        "inference_start",
        "lmstudio_cache_stats",
        "lmstudio_chat_start",
        "lmstudio_month_transition",
        "lmstudio_processing_start",
        "lmstudio_prompt_progress",
        "lmstudio_sampling_params",
        "lmstudio_token_info",
        "model_activate",
        "model_deactivate",
        "model_load_complete",
        "model_load_progress",
        "model_load_start",
        "model_state",
        "model_unload_complete",
        "model_unload_start",
        "upstream_down",
        "upstream_up",
    }
)
"""Every type of event (contract, section 5). ``connected`` and ``gap`` are told to one follower each, and never recorded."""

LONGEST_TEXT = 2000
"""Characters that are kept of any one text: names, paths and errors can be megabytes long."""

LONGEST_EVENT = 16_000
"""Characters that are kept of all texts of an event together, each value counting as some more."""

OVERHEAD = 240
"""What an event takes in memory beside its JSON, in bytes: three objects and a place in the ring."""

_VALUE_LENGTH = 16
_DEEPEST = 8
_LARGEST_INT = (1 << 63) - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JavaScript clients send now and then, and UTF-8 cannot say."""

_encode = msgspec.json.Encoder().encode


class Event(Struct, frozen=True, gc=False):
    """
    One event.

    :param id: one more than that of the event before; the first has 1.
    :param kind: its type, one of :data:`KINDS`.
    :param data: what it says, a JSON object, its ``timestamp`` included.
    """

    id: int
    kind: str
    data: bytes


class Batch(Struct, frozen=True):
    """
    What a follower reads at once.

    :param events: in order; only those that it wants.
    :param next: the position to read on from: one more than the id of the last event that was looked at, wanted or not.
    :param gap: how many events the ring forgot before they were read, of whatever type.
    """

    events: tuple[Event, ...]
    next: int
    gap: int


@implementer(IEventJournal)
class Journal:
    """
    The last events, as many as fit.

    :param now: tells the Unix time.
    :param maxBytes: of memory that events may take, roughly.
    :param maxEvents: how many there may be, whatever they take.
    :ivar nextId: the id that the next event will have. The first has 1.
    :ivar firstId: the id of the oldest event that is held; ``nextId`` where none is.
    """

    def __init__(
        self,
        now: Callable[[], float],
        maxBytes: int = 8 << 20,
        maxEvents: int = 100_000,
    ) -> None:
        self.nextId = self.firstId = 1
        self._now = now
        self._maxBytes = maxBytes
        self._maxEvents = maxEvents
        self._bytes = 0
        self._events: dict[int, Event] = {}
        self._waiting: list[Callable[[], None]] = []

    def record(self, kind: str, data: Mapping[str, object]) -> int:
        """
        Add an event. Never waits, never fails.

        :param data: JSON values. Texts are cut to :data:`LONGEST_TEXT`, and an event as a whole to some
            :data:`LONGEST_EVENT`; what JSON cannot say is replaced.
        """
        encoded = encodeData(data, self._now())
        eventId = self.nextId
        self.nextId += 1
        self._events[eventId] = Event(eventId, kind, encoded)
        self._bytes += len(encoded) + OVERHEAD
        while self._bytes > self._maxBytes or len(self._events) > self._maxEvents:
            self._bytes -= len(self._events.pop(self.firstId).data) + OVERHEAD
            self.firstId += 1
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for wake in waiting:
                wake()
        return eventId

    def awaitEvent(self, wake: Callable[[], None]) -> None:
        """
        Have something called at the next event, from within :meth:`record`: it must be cheap and must not fail.

        It is called once, and not again until it is asked for again: a burst of events wakes nobody twice.
        """
        self._waiting.append(wake)

    def forgetWaiter(self, wake: Callable[[], None]) -> None:
        """Take :meth:`awaitEvent` back. Where nobody waits, that is as well."""
        if wake in self._waiting:
            self._waiting.remove(wake)

    def locate(self, position: int) -> int:
        """
        Tell where a follower that comes with a position has to read.

        :return: the position itself. For 0, which stands for all that is held, that of the oldest event held: nothing is
            missing there. For one that lies beyond what was given out, which comes from an earlier run of the gateway, the
            very beginning: all of this run is new to that follower, and what was forgotten of it is a gap.
        """
        if position <= 0:
            return self.firstId
        return position if position <= self.nextId else 1

    def read(self, position: int, kinds: frozenset[str] | None = None, limit: int = 1000, size: int = 1 << 20) -> Batch:
        """
        Read on.

        :param position: the id of the first event not seen, which is ``next`` of the batch before (:meth:`locate`).
        :param kinds: the types that are wanted; None for all.
        :param limit: events, at most.
        :param size: bytes of their data after which no further one is added.
        """
        position = self.locate(position)
        start = upTo = max(position, self.firstId)
        events: list[Event] = []
        while upTo < self.nextId:
            event = self._events[upTo]
            if kinds is None or event.kind in kinds:
                if len(events) == limit or size <= 0:
                    break
                events.append(event)
                size -= len(event.data)
            upTo += 1
        return Batch(tuple(events), upTo, start - position)


def encodeData(data: Mapping[str, object], moment: float) -> bytes:
    """
    Write what an event says, with its time, as JSON. Total.

    :param data: as of :meth:`Journal.record`.
    :param moment: Unix time.
    """
    stamped = {**data, "timestamp": isoTime(moment)}
    try:
        for value in data.values():
            # A text must not be written out to find that it is too long.
            if type(value) is str and len(value) > LONGEST_TEXT:
                break
        else:
            encoded = _encode(stamped)
            if len(encoded) <= LONGEST_TEXT:
                return encoded
    except (TypeError, ValueError, OverflowError, RecursionError):
        """Something of it is no JSON."""
    return _encode({**_Shortening().members(data), "timestamp": stamped["timestamp"]})


def isoTime(moment: float) -> str:
    """Write a Unix time as ISO 8601 in UTC, to the millisecond, as JavaScript does: ``2027-01-15T08:00:00.000Z``."""
    milliseconds = int(moment * 1000)
    return f"{_isoSecond(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=2)
def _isoSecond(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


class _Shortening:
    """Copies values to such that JSON can say, and leaves out what would make them large."""

    def __init__(self) -> None:
        self._room = LONGEST_EVENT

    def shorten(self, value: object, depth: int = 0) -> object:
        """Copy a value, as far as there is room."""
        self._room -= _VALUE_LENGTH
        if isinstance(value, bool | float) or value is None:
            return value
        if isinstance(value, int):
            return value if abs(value) <= _LARGEST_INT else "…"
        if isinstance(value, str):
            return self._text(value)
        if depth < _DEEPEST and isinstance(value, Mapping):
            return self.members(value, depth)
        if depth < _DEEPEST and isinstance(value, Sequence) and not isinstance(value, bytes):
            return self._items(value, depth)
        return "…"

    def members(self, value: Mapping[Any, object], depth: int = 0) -> dict[str, object]:
        """Copy an object's members, the first ones first."""
        copy: dict[str, object] = {}
        for name, member in value.items():
            if self._room <= 0:
                break
            kept = self._text(str(name))
            copy[kept] = self.shorten(member, depth + 1)
        return copy

    def _items(self, value: Sequence[object], depth: int) -> list[object]:
        copy: list[object] = []
        for item in value:
            if self._room <= 0:
                break
            copy.append(self.shorten(item, depth + 1))
        return copy

    def _text(self, text: str) -> str:
        length = min(LONGEST_TEXT, max(self._room, 0))
        kept = text if len(text) <= length else text[:length] + "…"
        self._room -= len(kept)
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", kept)
