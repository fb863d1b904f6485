"""
Lines of the access log.

Records are made of arbitrary text: what a client can put into one must never break a line, a parser or a terminal.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.telemetry.accesslog import (
    LONGEST_FIELD,
    AccessRecord,
    Outcome,
    formatJson,
    formatText,
    levelOf,
    printable,
)
from twisted.trial.unittest import SynchronousTestCase

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=400)
"""Text as Python has it: control characters, bidirectional overrides and lone surrogates included."""

SECONDS = st.floats(0, 1e9)
RECORDS = st.builds(
    AccessRecord,
    time=st.floats(0, 4e9),
    requestId=ANY_TEXT,
    keyName=st.none() | ANY_TEXT,
    address=ANY_TEXT,
    method=ANY_TEXT,
    route=ANY_TEXT,
    status=st.none() | st.integers(100, 599),
    bytesIn=st.integers(0, 2**60),
    bytesOut=st.integers(0, 2**60),
    seconds=SECONDS,
    secondsToFirstByte=st.none() | SECONDS,
    model=st.none() | ANY_TEXT,
    outcome=st.sampled_from(get_args(Outcome)),
)


def makeRecord(**changes: Any) -> AccessRecord:
    """An ordinary record, with ``changes``."""
    record = AccessRecord(
        time=1_795_000_000.25,
        requestId="r-1",
        keyName="laptop",
        address="192.168.1.5",
        method="POST",
        route="/v1/chat/completions",
        status=200,
        bytesIn=321,
        bytesOut=4567,
        seconds=1.5234,
        secondsToFirstByte=0.0812,
        model="qwen/qwen3-8b",
        outcome="complete",
    )
    return msgspec.structs.replace(record, **changes)


class FormatJsonTests(SynchronousTestCase):
    def test_fields(self) -> None:
        """A line holds what happened, by the names that the debug events use, with durations in milliseconds."""
        self.assertEqual(
            json.loads(formatJson(makeRecord())),
            {
                "time": "2026-11-18T11:06:40.250000Z",
                "level": "info",
                "type": "access",
                "requestId": "r-1",
                "key": "laptop",
                "client": "192.168.1.5",
                "method": "POST",
                "route": "/v1/chat/completions",
                "status": 200,
                "bytesIn": 321,
                "bytesOut": 4567,
                "totalTimeMs": 1523.4,
                "firstByteMs": 81.2,
                "model": "qwen/qwen3-8b",
                "outcome": "complete",
            },
        )

    def test_absent(self) -> None:
        """What is not known is null: the line of a client that left keeps its shape."""
        line = json.loads(
            formatJson(makeRecord(status=None, keyName=None, model=None, secondsToFirstByte=None, outcome="cancelled"))
        )
        self.assertEqual(
            [line["status"], line["key"], line["model"], line["firstByteMs"], line["outcome"]],
            [None, None, None, None, "cancelled"],
        )

    @given(RECORDS)
    def test_anyTextMakesOneLine(self, record: AccessRecord) -> None:
        """Every record makes one line of valid UTF-8 that every JSON parser reads, free of control characters."""
        line = formatJson(record)
        self.assertTrue(line.endswith(b"\n"))
        text = line[:-1].decode("utf-8")
        self.assertTrue(text.isprintable(), text)
        self.assertEqual(json.loads(line), msgspec.json.decode(line))

    @given(RECORDS)
    def test_bounded(self, record: AccessRecord) -> None:
        """However long the client's text, each field is bounded, and so is the line."""
        for value in json.loads(formatJson(record)).values():
            if isinstance(value, str):
                self.assertLessEqual(len(value), LONGEST_FIELD)

    @given(RECORDS)
    def test_time(self, record: AccessRecord) -> None:
        """The time of a line is the record's, in UTC."""
        told = datetime.fromisoformat(json.loads(formatJson(record))["time"])
        self.assertEqual(told, datetime.fromtimestamp(record.time, UTC))


class FormatTextTests(SynchronousTestCase):
    def test_columns(self) -> None:
        """A line reads from what happened to who asked."""
        self.assertEqual(
            formatText(makeRecord()),
            "200    1523 ms POST /v1/chat/completions first=81ms in=321 out=4567"
            " model=qwen/qwen3-8b key=laptop from=192.168.1.5 id=r-1",
        )

    def test_outcome(self) -> None:
        """An end that is not the usual one is told, and a status that was never sent is not invented."""
        line = formatText(
            makeRecord(status=None, outcome="cancelled", secondsToFirstByte=None, keyName=None, model=None)
        )
        self.assertEqual(
            line, "---    1523 ms POST /v1/chat/completions cancelled in=321 out=4567 from=192.168.1.5 id=r-1"
        )

    def test_forgedColumns(self) -> None:
        """A model's name cannot imitate the columns behind it."""
        self.assertIn(" model=x\\x20key=admin key=laptop ", formatText(makeRecord(model="x key=admin")))

    def test_escapes(self) -> None:
        """What a terminal would obey is spelled out."""
        self.assertIn("model=\\x1b[2J\\x9b\\u202e\\n ", formatText(makeRecord(model="\x1b[2J\x9b\u202e\n")))

    @given(RECORDS)
    def test_printable(self, record: AccessRecord) -> None:
        """Every record makes one printable line that can be encoded."""
        line = formatText(record)
        self.assertTrue(line.isprintable())
        self.assertEqual(line.encode("utf-8").decode("utf-8"), line)


class PrintableTests(SynchronousTestCase):
    @given(ANY_TEXT, st.integers(1, 300))
    def test_bounded(self, text: str, longest: int) -> None:
        """The result is printable and never longer than asked."""
        shown = printable(text, longest)
        self.assertTrue(shown.isprintable())
        self.assertLessEqual(len(shown), longest)

    def test_untouched(self) -> None:
        """A printable text that fits is shown as it is, whatever its script."""
        self.assertEqual(printable("Modèle 模型 🦙"), "Modèle 模型 🦙")

    def test_cut(self) -> None:
        """A text that was cut says so."""
        self.assertEqual(printable("abcdef", 4), "abc…")


class LevelOfTests(SynchronousTestCase):
    def test_levels(self) -> None:
        """Refusals warn; what broke is an error; a client that leaves, and an upstream's own 400, only inform."""
        cases: list[tuple[int | None, Outcome, str]] = [
            (200, "complete", "info"),
            (400, "complete", "info"),
            (401, "refused", "warn"),
            (503, "refused", "error"),
            (500, "complete", "error"),
            (200, "cut", "error"),
            (None, "cancelled", "info"),
        ]
        for status, outcome, level in cases:
            self.assertEqual(levelOf(makeRecord(status=status, outcome=outcome)), level, (status, outcome))
