# -*- test-case-name: tests.policy.test_usage_query -*-
"""
What a question about the usage may ask: ``?from=2026-01-01&to=2026-01-31&by=day,key,model&format=csv``.

It is read strictly: a parameter that is misspelled and ignored gives sums that nobody asked for, and that look right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Literal
from urllib.parse import parse_qsl

from msgspec import Struct

from lmgateway.policy.checks import Fault, refuse

COLUMNS = ("day", "key", "model")
"""What usage can be summed up by."""

USUAL_DAYS = 30
"""Days that are told of where the question does not say from when."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAMES = ("from", "to", "by", "format")
_FORMATS: Mapping[str, Format] = {"json": "json", "csv": "csv"}
_MEDIA_TYPES: Mapping[str, Format] = {"application/json": "json", "text/csv": "csv"}

Format = Literal["json", "csv"]


class UsageQuery(Struct, frozen=True):
    """
    A question about the usage.

    :param first: the first day that counts, in UTC.
    :param last: the last one.
    :param by: some of :data:`COLUMNS`, in the order in which the answer has and sorts them; at least one, none twice.
    :param format: how the answer is written.
    """

    first: date
    last: date
    by: tuple[str, ...]
    format: Format


def parseUsageQuery(query: bytes, accept: bytes | None, today: date) -> UsageQuery:
    """
    Read a question.

    :param query: of the request target: what stands after its question mark.
    :param accept: the field of that name; it decides on the format where ``format`` does not.
    :param today: the day that it is, in UTC: the last one that counts, where the question does not say.
    :raise ValidationFailed: something of it is unknown or not allowed; every fault is told, with its parameter.
    """
    faults: list[Fault] = []
    given = _parametersOf(query, faults)
    last = _dayOf(given, "to", today, faults)
    first = _dayOf(given, "from", last - timedelta(days=min(USUAL_DAYS, last.toordinal()) - 1), faults)
    if not faults and first > last:
        faults.append((("from",), f"Must not be after the last day, {last}."))
    by = tuple(given.get("by", "day").split(","))
    if not set(by) <= set(COLUMNS) or len(set(by)) < len(by):
        faults.append((("by",), f"Must be one or more of {', '.join(COLUMNS)}, each once, with commas between."))
    spelled = given.get("format")
    if spelled is not None and spelled not in _FORMATS:
        faults.append((("format",), f"Must be one of {', '.join(_FORMATS)}."))
    refuse(faults)
    return UsageQuery(first, last, by, _acceptedFormat(accept) if spelled is None else _FORMATS[spelled])


def _parametersOf(query: bytes, faults: list[Fault]) -> Mapping[str, str]:
    """Each parameter; one that is unknown or given several times is a fault."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
        if name not in _NAMES:
            faults.append(((name,), f"Is unknown. Known here: {', '.join(_NAMES)}."))
        elif name in given:
            faults.append(((name,), "Must be given once."))
        given[name] = value
    return given


def _dayOf(given: Mapping[str, str], name: str, usual: date, faults: list[Fault]) -> date:
    text = given.get(name)
    if text is None:
        return usual
    try:
        # date.fromisoformat alone takes weeks and dates without hyphens, too.
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        """The calendar has no such day."""
    faults.append(((name,), "Must be a day such as 2026-01-31."))
    return usual


def _acceptedFormat(accept: bytes | None) -> Format:
    """The first format that an ``Accept`` field names, whatever weights it gives; JSON where it names none."""
    for element in (accept or b"").decode("latin-1").split(","):
        mediaType = element.partition(";")[0].strip().lower()
        if mediaType in _MEDIA_TYPES:
            return _MEDIA_TYPES[mediaType]
    return "json"
