"""
The one table that the bench prints: a row each figure, a column each way to the upstream, and what the figure should be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

UPSTREAM, BARE, TREQ, DIRECT = "upstream itself", "bare Klein + treq", "gateway, treq", "gateway, direct"
COLUMNS = (UPSTREAM, BARE, TREQ, DIRECT)
GATEWAYS = (TREQ, DIRECT)

Value = float | str
Goal = Callable[[str, float, float | None], bool]


def under(limit: float) -> Goal:
    """
    :return: the goal to stay at or under a figure.
    """
    return lambda _column, value, _bare: value <= limit


def faster(column: str, value: float, bare: float | None) -> bool:
    """
    :return: whether requests per second are 3.5 times the bare proxy's through treq, 5 times directly.
    """
    return bare is not None and value >= bare * (3.5 if column == TREQ else 5)


def half(_column: str, value: float, bare: float | None) -> bool:
    """
    :return: whether it is under half of the bare proxy's.
    """
    return bare is not None and value < bare / 2


@dataclass(frozen=True)
class Row:
    """
    One figure.

    :param name: which.
    :param form: how a number is written.
    :param target: what it should be, in words.
    :param goal: the same, judged; None where there is no target.
    :param ratio: whether the gateway's is also given as a multiple of the bare proxy's.
    """

    name: str
    form: str
    target: str = ""
    goal: Goal | None = None
    ratio: bool = False

    def cell(self, column: str, values: Mapping[str, Value]) -> str:
        """
        :return: the value, its ratio to the bare proxy's, and a mark where it misses its target.
        """
        value, bare = values.get(column), values.get(BARE)
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        said = self.form.format(value)
        base = bare if isinstance(bare, float) and bare > 0 else None
        if self.ratio and column in GATEWAYS and base is not None:
            said += f" ({value / base:.2f}x)"
        if self.goal is not None and column in GATEWAYS and not self.goal(column, value, base):
            said += " !"
        return said


LEAVING = "N/N within 50 ms; p50 / max"


def streamRows(count: int) -> tuple[Row, ...]:
    """
    :return: the rows about so many streams.
    """
    prefix = f"{count} streams: "
    return (
        Row(prefix + "lag p50", "{:.2f} ms"),
        Row(prefix + "lag p99", "{:.2f} ms", "< 10 ms", under(10)),
        Row(prefix + "CPU per chunk", "{:.1f} us", "<= 35 us", under(35), ratio=True),
        Row(prefix + "memory each", "{:.1f} KB", "<= 25 KB", under(25), ratio=True),
    )


ROWS = (
    Row("requests/s, 32 connections", "{:,.0f}", ">= 3.5x / >= 5x of bare", faster, ratio=True),
    Row("latency p50, 1 connection", "{:.3f} ms", "< 0.5x of bare", half, ratio=True),
    *streamRows(100),
    *streamRows(1000),
    Row("stalled reader: growth", "{:.1f} MB", "< 5 MB", under(5)),
    Row("30 MB body: growth", "{:.1f} MB", "<= 70 MB", under(70)),
    Row("30 MB body: stays", "{:.1f} MB", "none (< 2 MB)", under(2)),
    Row("30 MB body: time", "{:.0f} ms"),
    Row("leave in half-sent JSON", "{}", "N/N"),
    Row("leave in a half-sent upload", "{}", LEAVING),
    Row("leave before the first byte", "{}", LEAVING),
    Row("leave mid-stream", "{}", LEAVING),
)


class Table:
    """
    What was measured so far.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Value]] = {}
        self.notes: list[str] = []

    def put(self, name: str, column: str, value: Value) -> None:
        """Set one cell."""
        self._values.setdefault(name, {})[column] = value

    def text(self) -> str:
        """
        :return: the table, for a terminal.
        """
        lines = [["", *COLUMNS, "target"]]
        for row in ROWS:
            if row.name in self._values:
                values = self._values[row.name]
                lines.append([row.name, *(row.cell(column, values) for column in COLUMNS), row.target])
        widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
        said = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        said.insert(1, "-" * sum(widths, 2 * (len(widths) - 1)))
        return "\n".join(said)
