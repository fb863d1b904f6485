# -*- test-case-name: tests.telemetry.test_usage_json -*-
"""
The figures of an answer that is one JSON object: its end is kept as it passes, and read when all of it has.

Every API writes ``usage`` or ``stats`` behind what was generated. A short answer is there whole, and read as a whole.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from lmgateway.telemetry.usage_figures import HELD_LIMIT, Figures, decode, decodeEnd

_REASON = re.compile(rb'"(finish_reason|stop_reason)"\s*:\s*"([^"\\]+)"')
r"""The reason of the end, where the text before it is lost. It does not fit inside a string, whose quotes are ``\"``."""


class _Answer(Struct):
    """What an answer of any API may tell of itself. Its types are for :class:`Figures` to see."""

    usage: Any = None
    stats: Any = None
    choices: Any = None
    stop_reason: Any = None
    status: Any = None


_DECODER = msgspec.json.Decoder(_Answer)


class JsonReader(Figures):
    """
    Reads an answer that is no stream, in any dialect: no name means one thing in one of them and another in the next.

    Of the reason for the end, an answer of ``/v1/responses`` longer than what is kept tells nothing: it stands at its beginning.
    """

    def __init__(self) -> None:
        self._end = bytearray()

    def feed(self, data: bytes) -> bool:
        """
        Keep the end.

        :return: False: when such an answer comes, its first token is long past.
        """
        self._end += data
        # One byte more than is read, and so it shows that there were more.
        del self._end[: -HELD_LIMIT - 1]
        return False

    def finish(self) -> None:
        """Read what was kept."""
        end, self._end = bytes(self._end), bytearray()
        if len(end) > HELD_LIMIT:
            self._readEnd(end[-HELD_LIMIT:])
            return
        answer = decode(_DECODER, end)
        if answer is not None:
            self._readAnswer(answer)
            self.readReason(answer.status)
            self.readReason(answer.stop_reason)
            self.readReason(_reasonOf(answer.choices))

    def _readEnd(self, end: bytes) -> None:
        answer = decodeEnd(_DECODER, end, b'"usage"', b"{") or decodeEnd(_DECODER, end, b'"stats"', b"{")
        if answer is not None:
            reasons = dict(_REASON.findall(end))
            reason = reasons.get(b"finish_reason") or reasons.get(b"stop_reason")
            self.readReason(reason.decode("utf-8", "replace") if reason else None)
            self._readAnswer(answer)

    def _readAnswer(self, answer: _Answer) -> None:
        self.readUsage(answer.stats)
        self.readUsage(answer.usage)
        self.readStats(answer.stats)


def _reasonOf(choices: Any) -> Any:
    """The reason of the first choice that has one."""
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("finish_reason"):
            return choice["finish_reason"]
    return None
