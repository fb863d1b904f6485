"""
Reads what a gateway wrote, strictly, and by other means than the gateway's own.

Whatever is not as RFC 9112 has it is an :class:`AssertionError`: a client that is kinder than that hides mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t -~\x80-\xff]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?|)")
_CHUNK_SIZE = re.compile(rb"0|[1-9a-f][0-9a-f]*")


class Answer(Struct, frozen=True):
    """
    One answer, as far as it came.

    :param fields: the values of each header field, by lower-case name.
    :param chunks: the chunks of a chunked body; of any other, the body in one.
    :param complete: whether the body came to the end that its head announced.
    """

    status: int
    fields: dict[str, tuple[str, ...]]
    chunks: tuple[bytes, ...]
    complete: bool

    @property
    def body(self) -> bytes:
        """The body as far as it came."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    def field(self, name: str) -> str | None:
        """The one value of a header field, or None where there is none."""
        values = self.fields.get(name.lower(), ())
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Whether it says that it is the last one."""
        return self.field("Connection") == "close"


def readAnswers(wire: bytes, methods: Sequence[str] = (), *, closed: bool = False) -> list[Answer]:
    """
    Read all answers, the last perhaps not complete.

    :param methods: those of the requests, in order; GET where it ends. An interim answer takes none.
    :param closed: whether the connection has ended, cleanly: then a body that ends with it has ended too.
    """
    return list(_answers(wire, list(methods), closed=closed))


def _answers(wire: bytes, methods: list[str], *, closed: bool) -> Iterator[Answer]:
    last = False
    while wire:
        assert not last, f"after the last answer there is more: {wire[:80]!r}"
        head, blank, rest = wire.partition(b"\r\n\r\n")
        assert blank, f"a head that does not end: {wire[:80]!r}"
        statusLine, *lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(statusLine)
        assert match, f"no status line: {statusLine!r}"
        status, fields = int(match[1]), _fields(lines)
        if status < 200:
            assert not fields, "an interim answer with header fields"
            yield Answer(status, fields, (), complete=True)
            wire = rest
            continue
        method = methods.pop(0) if methods else "GET"
        _checkOwnFields(fields, status)
        last = fields.get("connection") == ("close",)
        chunks, complete, wire = _body(fields, rest, bodiless=method == "HEAD" or status in {204, 304}, closed=closed)
        assert last or not closed or complete or "content-length" in fields or "transfer-encoding" in fields
        yield Answer(status, fields, chunks, complete)


def _fields(lines: list[bytes]) -> dict[str, tuple[str, ...]]:
    fields: dict[str, tuple[str, ...]] = {}
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        assert match, f"no field line: {line!r}"
        name = match[1].decode("ascii").lower()
        fields[name] = (*fields.get(name, ()), match[2].decode("latin-1"))
    return fields


def _checkOwnFields(fields: dict[str, tuple[str, ...]], status: int) -> None:
    for name in ("date", "x-request-id"):
        assert len(fields.get(name, ())) == 1, f"{name}: {fields.get(name)}"
    assert fields.get("connection", ("close",)) in {("close",), ("keep-alive",)}, fields["connection"]
    assert not ("content-length" in fields and "transfer-encoding" in fields), "framed twice"
    assert len(fields.get("content-length", ("0",))) == 1, "several lengths"
    assert fields.get("transfer-encoding", ("chunked",)) == ("chunked",), fields["transfer-encoding"]
    if status == 204:
        assert "content-length" not in fields, "a length with 204"


def _body(
    fields: dict[str, tuple[str, ...]], rest: bytes, *, bodiless: bool, closed: bool
) -> tuple[tuple[bytes, ...], bool, bytes]:
    """The chunks, whether that is all, and what follows."""
    if bodiless:
        assert "transfer-encoding" not in fields, "chunks announced where there can be no body"
        return (), True, rest
    if "transfer-encoding" in fields:
        return _chunks(rest)
    if "content-length" in fields:
        length = int(fields["content-length"][0])
        return (rest[:length],), len(rest) >= length, rest[length:]
    assert fields.get("connection") == ("close",), "a body without an end, on a connection that goes on"
    return (rest,), closed, b""


def _chunks(rest: bytes) -> tuple[tuple[bytes, ...], bool, bytes]:
    chunks = []
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        assert _CHUNK_SIZE.fullmatch(line), f"no chunk size: {line[:80]!r}"
        size = int(line, 16)
        assert rest[size : size + 2] in {b"\r\n", b"\r", b""}, "a chunk that is longer than it says"
        if size == 0:
            return tuple(chunks), rest.startswith(b"\r\n"), rest[2:]
        chunks.append(rest[:size])
        rest = rest[size + 2 :]
    assert re.fullmatch(rb"[0-9a-f]*\r?", rest), f"no chunk size: {rest[:80]!r}"
    return tuple(chunks), False, b""
