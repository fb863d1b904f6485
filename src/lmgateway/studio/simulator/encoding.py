# -*- test-case-name: tests.studio.simulator.test_encoding -*-
"""JSON and event streams as Node and Express spell them, for LM Studio is an Express application. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, NoReturn

from msgspec import Struct

_LONGEST_INTEGER = 400
"""Digits beyond which a number is infinite in JavaScript anyway; Python would refuse to convert thousands of them."""


class Reply(Struct, frozen=True):
    """
    An answer that is JSON and no stream.

    :param indent: how many spaces its lines are indented by; None is one line without a space.
    """

    status: int
    value: object
    indent: int | None = None


def parse(body: bytes) -> Any:
    """
    Read JSON as ``JSON.parse`` does: lone surrogates pass, of a key that appears twice the last wins, bytes that are no
    UTF-8 become U+FFFD.

    :raise ValueError: the body is no JSON, or nested deeper than Python's parser goes.
    """
    try:
        return json.loads(body.decode("utf-8", "replace"), parse_constant=_refuse, parse_int=_integer)
    except RecursionError:
        raise ValueError("The body is nested too deeply.") from None


def render(value: object, indent: int | None = None) -> bytes:
    """
    Write JSON as ``JSON.stringify(value, null, indent)`` does: not one space without an indent, no escape that is not
    needed, lone surrogates as escapes.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return text.encode("utf-8", "backslashreplace")


def event(value: object, name: str | None = None) -> bytes:
    """One server-sent event: its data, on one line, under its name if it has one."""
    head = b"" if name is None else b"event: %s\n" % (name.encode("ascii"),)
    return b"%sdata: %s\n\n" % (head, render(value))


def entityTag(body: bytes) -> bytes:
    """The weak ``ETag`` that Express computes: the length in hexadecimal and 27 characters of SHA-1 in base64."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest())
    return b'W/"%x-%s"' % (len(body), digest[:27])


def _integer(digits: str) -> int | float:
    """An integer, or what JavaScript makes of one that is out of all bounds."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _refuse(constant: str) -> NoReturn:
    """``NaN`` and ``Infinity`` are Python's own additions to JSON."""
    raise ValueError(f"{constant} is not JSON.")
