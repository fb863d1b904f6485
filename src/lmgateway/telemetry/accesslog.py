# -*- test-case-name: tests.telemetry.test_accesslog -*-
"""
One request as one line of the access log: JSON for programs, columns for people.

A record has room for names and numbers only: no query, no header value, no body, no key, so that none can leak. What a
client can choose (a method, a model's name) is bounded in length and made printable, so that a line is always one line
and cannot drive a terminal. Pure; :class:`lmgateway.logs.AccessLog` decides where the lines go.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

Outcome = Literal["complete", "cancelled", "cut", "refused"]
"""How a request ended: answered whole, left by its client, broken off upstream, or turned down by the gateway."""

LONGEST_FIELD = 200
"""Characters of a text that a line shows; what is cut off is marked by an ellipsis."""


class AccessRecord(Struct, frozen=True, gc=False):
    """
    What is worth remembering of one request.

    :param time: when its head was complete, in seconds since 1970, UTC.
    :param requestId: what ``X-Request-Id`` told the client.
    :param keyName: the name of the key that asked, never the key; None where there was none.
    :param address: the client's IP address.
    :param method: the request method.
    :param route: the path as the gateway routed it, without its query.
    :param status: the status that the client was sent, or None when it left before any was.
    :param bytesIn: bytes of the request's body.
    :param bytesOut: bytes of the answer's body.
    :param seconds: from the complete head to the last byte of the answer, or to its end otherwise.
    :param secondsToFirstByte: from the complete head to the first byte of the answer's body, or None if none came.
    :param model: the model that the request went to, where one was named.
    :param outcome: how it ended.
    """

    time: float
    requestId: str
    keyName: str | None
    address: str
    method: str
    route: str
    status: int | None
    bytesIn: int
    bytesOut: int
    seconds: float
    secondsToFirstByte: float | None
    model: str | None
    outcome: Outcome


Level = Literal["error", "warn", "info"]
"""How much attention a line wants."""


def levelOf(record: AccessRecord) -> Level:
    """
    Refusals warn, faults of the upstream or the gateway are errors, everything else informs.

    A client that leaves is no error: it happens with every stop button.
    """
    if record.outcome == "cut" or (record.status is not None and record.status >= 500):
        return "error"
    return "warn" if record.outcome == "refused" else "info"


class _Line(Struct, gc=False):
    """The JSON spelling of a record; the names are those that the debug events use."""

    time: datetime
    level: str
    type: str
    requestId: str
    key: str | None
    client: str
    method: str
    route: str
    status: int | None
    bytesIn: int
    bytesOut: int
    totalTimeMs: float
    firstByteMs: float | None
    model: str | None
    outcome: str


_encode = msgspec.json.Encoder().encode


def formatJson(record: AccessRecord) -> bytes:
    """One line of JSON, its newline included. Every control byte in it is escaped; it is valid UTF-8."""
    first = record.secondsToFirstByte
    return (
        _encode(
            _Line(
                datetime.fromtimestamp(record.time, UTC),
                levelOf(record),
                "access",
                printable(record.requestId),
                None if record.keyName is None else printable(record.keyName),
                printable(record.address),
                printable(record.method),
                printable(record.route),
                record.status,
                record.bytesIn,
                record.bytesOut,
                round(record.seconds * 1000, 1),
                None if first is None else round(first * 1000, 1),
                None if record.model is None else printable(record.model),
                record.outcome,
            )
        )
        + b"\n"
    )


def formatText(record: AccessRecord) -> str:
    """
    One line for a terminal, without a newline and without the time, which the process log puts in front of every line:
    status, duration, method, route, then what was asked for and by whom.

    No text in it holds a space, so that none can imitate another column.
    """
    columns = [
        "---" if record.status is None else str(record.status),
        f"{record.seconds * 1000:7.0f} ms",
        _column(record.method),
        _column(record.route),
    ]
    if record.outcome != "complete":
        columns.append(record.outcome)
    if record.secondsToFirstByte is not None:
        columns.append(f"first={record.secondsToFirstByte * 1000:.0f}ms")
    columns += [f"in={record.bytesIn}", f"out={record.bytesOut}"]
    if record.model is not None:
        columns.append(f"model={_column(record.model)}")
    if record.keyName is not None:
        columns.append(f"key={_column(record.keyName)}")
    columns += [f"from={_column(record.address)}", f"id={_column(record.requestId)}"]
    return " ".join(columns)


def printable(text: str, longest: int = LONGEST_FIELD) -> str:
    """
    The text with every character that a terminal might obey, or that is none, spelled as an escape, and no longer than
    ``longest``.

    :param text: any text, lone surrogates included.
    """
    if text.isprintable() and len(text) <= longest:
        return text
    shown = "".join(map(_spell, text[: longest + 1]))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _spell(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _column(text: str) -> str:
    return printable(text).replace(" ", "\\x20") or "-"
