# -*- test-case-name: tests.telemetry.test_usage_chunk -*-
"""
Taking out of a stream what is in it only because the gateway asked: the chunk that tells the usage and nothing else.

OpenAI's reference: "an additional chunk will be streamed before the ``data: [DONE]`` message. The ``usage`` field on this chunk
shows the token usage statistics for the entire request, and the ``choices`` field will always be an empty array. All other
chunks will also include a ``usage`` field, but with a null value." Those others pass as they are, and so does usage that is
told in the last chunk with choices: a member that they do not know does clients no harm, but a chunk without choices breaks
those that take the first one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from lmgateway.telemetry.usage_figures import decode

CHUNK_LIMIT = 65_536
"""Bytes that a line may have to be taken for such a chunk. It has some 400."""

_FIELD = b"data:"
_SPACE = b" \t"
_CHOICES = b'"choices"'
_EMPTY = re.compile(rb'"choices"[ \t]*(?:\Z|:[ \t]*(?:\Z|\[[ \t]*(?:\Z|\])))')
"""Choices of which there are none, or may turn out to be none."""

_USAGE = b'"usage"'


class _Chunk(Struct):
    """What tells a usage chunk from others."""

    choices: Any = None
    usage: Any = None


_DECODER = msgspec.json.Decoder(_Chunk)


class UsageChunkRemover:
    """
    Takes each usage chunk out of one stream of completions: its ``data`` line, and the empty line after it.

    Every other byte passes, and at once, but for the beginning of a line that may still become a usage chunk: until
    ``"choices":[`` and one character more, and if that is ``]``, until its end.
    """

    def __init__(self) -> None:
        self._held = b""
        self._isPassing = False

    def feed(self, data: bytes) -> bytes:
        """
        :param data: the next piece of the stream.
        :return: what passes now.
        """
        if not self._held and not self._isPassing and data[-1:] == b"\n" and _USAGE not in data:
            return data
        place = 0
        if self._isPassing:
            place = data.find(b"\n") + 1
            if not place:
                return data
            self._isPassing = False
        data, self._held = self._held + data, b""
        passed = []
        start = 0
        while place < len(data):
            end = chunkEnd(data, place)
            if end is None:
                self._held = data[place:]
                data = data[:place]
            elif end > place:
                passed.append(data[start:place])
                start = place = end
            else:
                place = data.find(b"\n", place) + 1
                if not place:
                    self._isPassing = True
                    break
        passed.append(data[start:])
        return b"".join(passed)

    def finish(self) -> bytes:
        """
        The stream is over, and whole. Of one that broke off, what is held may be forgotten: it is no event.

        :return: the rest; a usage chunk counts as one even without the empty line.
        """
        held, self._held = self._held, b""
        return b"" if _isUsageChunk(held) else held


def chunkEnd(data: bytes, start: int) -> int | None:
    """
    Look for a usage chunk.

    :param data: a part of a stream.
    :param start: where in it a line begins.
    :return: the end of the usage chunk that begins there; ``start`` where none does; None while that is not decided.
    """
    lineEnd = data.find(b"\n", start)
    line = data[start:] if lineEnd < 0 else data[start:lineEnd]
    if len(line) > CHUNK_LIMIT or not _mayBeUsageChunk(line):
        return start
    if lineEnd < 0:
        return None
    if not _isUsageChunk(line):
        return start
    after = data[lineEnd + 1 : lineEnd + 3]
    if after in {b"", b"\r"}:
        return None
    if after == b"\r\n":
        return lineEnd + 3
    # A second line makes it another event.
    return lineEnd + 2 if after[:1] in {b"\n", b"\r"} else start


def _mayBeUsageChunk(line: bytes) -> bool:
    """
    Whether a line, as far as it came, could be a usage chunk when all of it has come. It goes by the first ``"choices"``; one
    that is no member of the chunk itself only lets the chunk pass.
    """
    if not line.startswith(_FIELD):
        return _FIELD.startswith(line)
    text = line[len(_FIELD) :].lstrip(_SPACE)
    if text[:1] not in {b"", b"{"} or b"\r" in text[:-1]:
        return False
    place = text.find(_CHOICES)
    return place < 0 or _EMPTY.match(text, place) is not None


def _isUsageChunk(line: bytes) -> bool:
    """Whether a line that may be a usage chunk is one."""
    if _USAGE not in line:
        return False
    chunk = decode(_DECODER, line[len(_FIELD) :])
    return chunk is not None and chunk.choices == [] and isinstance(chunk.usage, dict)
