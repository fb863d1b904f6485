"""Streams cut into pieces, and read by the letter of the grammar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from hypothesis import strategies as st

_LINE_END = re.compile(rb"\r\n|\n|\r")

CUTS = st.lists(st.integers(0, 2000), max_size=12)
"""Places to cut at; those beyond the end are none."""


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The pieces of something cut at some places."""
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def singly(data: bytes) -> list[bytes]:
    """Each byte by itself."""
    return cut(data, range(len(data)))


def everyCut(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut something in two, and each byte by itself."""
    yield singly(data)
    for place in range(len(data) + 1):
        yield cut(data, [place])


def eventsOf(stream: bytes) -> Iterator[tuple[bytes, int]]:
    """
    The data of each event that is dispatched, as WHATWG HTML 9.2.6 interprets an event stream, and where its last line of
    data ends, its line break included. Names and ids are of no interest here.
    """
    data: list[bytes] = []
    place = end = 0
    for found in _LINE_END.finditer(stream):
        line = stream[place : found.start()]
        place = found.end()
        name, _, value = line.partition(b":")
        if not line:
            if data:
                yield b"\n".join(data), end
            data = []
        elif name == b"data":
            data.append(value.removeprefix(b" "))
            end = found.start() + 1


def fed(feed: Callable[[bytes], bool], pieces: Iterable[bytes]) -> int | None:
    """
    Feed pieces to a reader.

    :return: how many bytes had been fed when it told the first text; None where it told none.
    :raise AssertionError: it told it twice.
    """
    first = None
    count = 0
    for piece in pieces:
        count += len(piece)
        if feed(piece):
            assert first is None, "The first text came twice."
            first = count
    return first
