# -*- test-case-name: tests.wire.test_head -*-
"""The head of an answer, as it goes over the wire."""

from __future__ import annotations

from lmgateway.message import HeaderPairs


def answerHead(
    status: int, reason: bytes, headers: HeaderPairs, dateLine: bytes, requestId: str, connection: bytes | None
) -> bytes:
    """
    Spell a head.

    :param headers: the fields that are known, framing among them; they are neither checked nor respelled.
    :param dateLine: the ``Date`` field of now, with its line end.
    :param connection: what becomes of the connection, where that must be said.
    """
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    dated = False
    for name, value in headers:
        lines.append(name + b": " + value + b"\r\n")
        dated = dated or (len(name) == 4 and name.lower() == b"date")
    if not dated:
        # "An origin server with a clock MUST generate a Date header field" (RFC 9110 section 6.6.1); so does a
        # recipient that forwards an answer without one.
        lines.append(dateLine)
    lines.append(b"X-Request-Id: " + requestId.encode("ascii") + b"\r\n")
    if connection is not None:
        lines.append(b"Connection: " + connection + b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
