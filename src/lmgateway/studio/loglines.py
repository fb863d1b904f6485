# -*- test-case-name: tests.studio.test_loglines -*-
"""
LM Studio's log read: bytes in any chunking to entries, entries to the events of the contract, section 5. Pure.

An entry begins with ``[2026-11-21 07:16:44][INFO][tag] `` at the start of a line, in local time, and ends where the next one
begins: bodies of requests and what the engine says spread over lines without a prefix. The log repeats what people asked and
what models said, so a line can be made to look like an entry by whoever talks to a model. Events therefore name their
source, and nothing is ever decided by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from lmgateway.telemetry.journal import LONGEST_TEXT

SOURCE = "lmstudio_log"
"""What events of the log name as their source."""

LONGEST_ENTRY = 16 * 1024
"""What is kept of a line in bytes, and of an entry in characters; the rest is counted."""

MASK = "***"
"""What stands where a secret stood."""

CUT = "…"
"""What stands at the end of a message that is not whole."""

_PREFIX = re.compile(
    r"\[([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]) (?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2})\]"
    r"\[(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL)\](?:\[(.{1,300}?)\](?= |\Z))?(?: (.*))?\Z",
    re.DOTALL,
)

_SECRET = re.compile(
    r"\b(?:lmg_[\w-]{8,}|sk-[\w:-]{8,})"
    r"|(?<=[Bb]earer )[^\s\"',]+"
    r"|(?<=token provided: )\S+"
    r"|(?:(?<=[Aa]uthorization: )|(?<=[Xx]-[Aa][Pp][Ii]-[Kk]ey: ))[^\r\n\"',]+"
    r"|(?:(?<=[?&]key=)|(?<=[?&]token=)|(?<=api_key=)|(?<=apikey=)|(?<=api-key=)|(?<=access_token=))[^\s&\"')]+"
    r"|(?<=Logs are saved into ).+"
    r"|\b[A-Za-z]:\\[^\r\n\"':*?<>|]*"
    r"|(?<![\w:/.-])/(?:home|Users|root|mnt|media|Volumes|opt|usr|var|tmp|private|srv|etc|Library|Applications)/[^\s\"',;:)]*"
)
"""
Keys of the gateway's, LM Studio's and OpenAI's; what LM Studio quotes of a token that it refuses; what stands where keys do;
paths of LM Studio's machine.
"""

_BODY = re.compile(
    r"\{|\[(?=\s*\Z)|(?<=: )\[|(?<=: )\"|(?<= with body )|(?<=\bReturning )(?=[\[\"])|(?<=generated tool calls: )"
    r"|(?<=invalid JSON: )"
)
"""Where on its first line a message turns to what somebody said: JSON, or the text of an answer."""

_ACCUMULATED = re.compile(r"Accumulated ([0-9]{1,9}) tokens?\b")
_CHAT = re.compile(r"Running .{1,60} on conversation with ([0-9]{1,9}) messages?\b")
_PROGRESS = re.compile(
    r"(?:Prompt processing progress: |FinishedProcessingPrompt\. Progress: )([0-9]{1,3}(?:\.[0-9]{1,9})?)%?\s*\Z"
)
_CACHE = re.compile(
    r"Cache reuse summary: ([0-9]{1,9})/([0-9]{1,9}) of prompt \(([0-9]{1,3}(?:\.[0-9]{1,9})?)%\), ([0-9]{1,9}) prefix, ([0-9]{1,9}) non-prefix"
)
_COUNT = re.compile(r"(Total prompt tokens|Prompt tokens to decode): ([0-9]{1,9})\s*\Z")
_PAIRS = re.compile(r"(Sampling params:|Generate:|)\s*\w{1,40} = -?[0-9.]{1,20}(?:, \w{1,40} = -?[0-9.]{1,20})*,?\s*\Z")
_PAIR = re.compile(r"(\w{1,40}) = (-?[0-9]{1,12}(?:\.[0-9]{1,12})?)(?=[,\s]|\Z)")
_BEGIN = "BeginProcessingPrompt"
_COUNTS = {"Total prompt tokens": "totalPromptTokens", "Prompt tokens to decode": "promptTokensToDecode"}
_ENGINE = (
    "Sampling params:",
    "Sampling:",
    "Generate:",
    "Cache reuse summary:",
    *_COUNTS,
    _BEGIN,
    "FinishedProcessingPrompt",
)
"""What the messages of the llama.cpp engine begin with."""


class Line(Struct, frozen=True):
    """
    A line, without its end.

    :param text: its first :data:`LONGEST_ENTRY` bytes; what is no UTF-8 is replaced.
    :param lost: how many more bytes it had.
    """

    text: str
    lost: int


class Entry(Struct):
    """
    One entry of the log.

    :param loggedAt: the time as LM Studio wrote it: local, of its own machine.
    :param level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
    :param tag: who speaks: the model, ``LM STUDIO SERVER``; several stand as ``Client=a, Endpoint=b``; None for nobody.
    :param lines: the message, of :data:`LONGEST_ENTRY` characters at most.
    :param size: how many characters these are.
    :param lost: how many more there were.
    """

    loggedAt: str
    level: str
    tag: str | None
    lines: list[str]
    size: int
    lost: int


class LineSplitter:
    """
    Lines out of bytes that come in pieces, however they are cut. It holds no more than one line's beginning.

    :param longest: bytes that are kept of a line.
    """

    def __init__(self, longest: int = LONGEST_ENTRY) -> None:
        self._longest = longest
        self._kept = bytearray()
        self._lost = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Take the next piece, and give the lines that end in it. To be read to its end."""
        first, *others = data.split(b"\n")
        self._hold(first)
        for piece in others:
            yield self._take()
            self._hold(piece)

    def finish(self) -> Iterator[Line]:
        """Give what there is of a line that did not end."""
        if self._kept:
            yield self._take()

    def _hold(self, piece: bytes) -> None:
        room = self._longest - len(self._kept)
        self._kept += piece[:room]
        self._lost += max(0, len(piece) - room)

    def _take(self) -> Line:
        kept, lost = self._kept, self._lost
        self._kept, self._lost = bytearray(), 0
        if not lost and kept.endswith(b"\r"):
            del kept[-1]
        return Line(kept.decode("utf-8", "replace"), lost)


class LogReader:
    """
    Entries out of the bytes of a log file. Lines before the first prefix belong to an entry that nobody saw begin: they are
    passed over.

    :param midLine: the first piece begins within a line. It could look like a line's start, and is passed over as well.
    """

    def __init__(self, *, midLine: bool = False) -> None:
        self._splitter = LineSplitter()
        self._entry: Entry | None = None
        self._midLine = midLine

    def feed(self, data: bytes) -> Iterator[Entry]:
        """Take the next piece, and give the entries that are known to have ended. To be read to its end."""
        for line in self._splitter.feed(data):
            if self._midLine:
                self._midLine = False
            else:
                yield from self._next(line)

    def settle(self) -> Iterator[Entry]:
        """Give the last entry as well, because the log has been quiet. Lines that go on with it are passed over then."""
        if self._entry is not None:
            entry, self._entry = self._entry, None
            yield entry

    def finish(self) -> Iterator[Entry]:
        """Give all there is, because nothing will follow."""
        for line in self._splitter.finish():
            if not self._midLine:
                yield from self._next(line)
        yield from self.settle()

    def _next(self, line: Line) -> Iterator[Entry]:
        """Take a line: as the begin of an entry, which ends the one before, or as its continuation."""
        match = _PREFIX.match(line.text) if line.text.startswith("[") else None
        if match is not None:
            yield from self.settle()
            loggedAt, level, tags, message = match.groups()
            tag = None if tags is None else tags.replace("][", ", ")
            self._entry = Entry(loggedAt, level, tag, [message or ""], len(message or ""), line.lost)
        elif self._entry is not None:
            _goOn(self._entry, line)


def _goOn(entry: Entry, line: Line) -> None:
    """Add a line to an entry, as far as there is room; once there is none, nothing that comes later is added."""
    size = len(line.text) + 1
    if entry.size + size <= LONGEST_ENTRY and not entry.lost:
        entry.lines.append(line.text)
        entry.size += size
        entry.lost += line.lost
    else:
        entry.lost += size + line.lost


def eventsOf(entry: Entry, file: str, *, showBodies: bool = False) -> Iterator[tuple[str, dict[str, object]]]:
    """
    Tell an entry: as ``debug_log``, and after it as what it is known to mean.

    :param file: the name of the log file, without its folder.
    :param showBodies: whether messages show the bodies of requests and the text of answers. Keys and paths are masked in any case.
    :return: types and data of events.
    """
    message, truncated = messageOf(entry, showBodies=showBodies)
    tag = None if entry.tag is None else masked(entry.tag)
    origin = {"source": SOURCE, "file": file, "level": entry.level, "tag": tag, "loggedAt": entry.loggedAt}
    yield "debug_log", {**origin, "message": message, "truncated": truncated}
    for kind, data in meaningsOf(entry):
        yield kind, {**origin, **data}


def messageOf(entry: Entry, *, showBodies: bool = False) -> tuple[str, int]:
    """
    Tell what an entry says.

    Unless bodies are shown, it ends on its first line, where what somebody said begins, and of its other lines there are
    only those by which the engine tells figures.

    :return: the message, no longer than the journal keeps texts, and how many characters of it are missing. Where any are,
        it ends in :data:`CUT`.
    """
    whole = "\n".join(entry.lines if showBodies else _withoutBody(entry))
    message = masked(whole)
    truncated = entry.size + entry.lost - len(whole)
    if len(message) >= LONGEST_TEXT:
        truncated += len(message) - LONGEST_TEXT + 2
        message = message[: LONGEST_TEXT - 2]
    return (f"{message.rstrip()} {CUT}" if truncated else message), truncated


def masked(text: str) -> str:
    """The text, with what is shaped like a key or like a path of the machine masked."""
    return _SECRET.sub(MASK, text)


def _withoutBody(entry: Entry) -> list[str]:
    """The lines of an entry that nobody else can have written, as far as lines tell."""
    first, *others = entry.lines
    counted, body = _ACCUMULATED.search(first), _BODY.search(first)
    if counted is not None or body is not None:
        first = first[: min(counted.end() if counted else len(first), body.start() if body else len(first))]
    return [first, *filter(_isFigures, others)] if _isEngine(entry) else [first]


def _isEngine(entry: Entry) -> bool:
    return entry.lines[0].startswith(_ENGINE)


def _isFigures(line: str) -> bool:
    """Whether a line is one of those by which the engine tells figures, and holds nothing else."""
    return line == _BEGIN or any(pattern.match(line) for pattern in (_PAIRS, _COUNT, _PROGRESS, _CACHE))


def meaningsOf(entry: Entry) -> Iterator[tuple[str, dict[str, object]]]:
    """
    Tell what an entry is known to mean. Only its first line counts, and of an engine's entry those lines that are figures.

    :return: types and data of events.
    """
    first, *others = entry.lines
    if match := _CHAT.match(first):
        yield "lmstudio_chat_start", {"messages": int(match[1]), "message": match[0]}
    elif match := _ACCUMULATED.match(first):
        yield "lmstudio_token_info", {"accumulatedTokens": int(match[1])}
    elif match := _PROGRESS.match(first):
        yield "lmstudio_prompt_progress", {"progress": float(match[1]), "message": first.rstrip()}
    elif _isEngine(entry):
        yield from _figures([first, *filter(_isFigures, others)])


def _figures(lines: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """What an engine's entry tells, one event of a type at most, but for the progress."""
    sampling: dict[str, object] = {}
    tokens: dict[str, object] = {}
    for line in lines:
        if match := _PAIRS.match(line):
            (tokens if match[1] == "Generate:" else sampling).update(_pairs(line))
        elif match := _COUNT.match(line):
            tokens[_COUNTS[match[1]]] = int(match[2])
    if sampling:
        yield "lmstudio_sampling_params", sampling
    if tokens:
        yield "lmstudio_token_info", tokens
    for line in lines:
        if match := _CACHE.match(line):
            yield "lmstudio_cache_stats", _cacheStats(match)
        elif match := _PROGRESS.match(line):
            yield "lmstudio_prompt_progress", {"progress": float(match[1]), "message": line.rstrip()}
        elif line == _BEGIN:
            yield "lmstudio_processing_start", {"message": line}


def _pairs(line: str) -> dict[str, object]:
    """The figures of a line ``n_ctx = 4096, temp = 0.800``."""
    return {name: float(text) if "." in text else int(text) for name, text in _PAIR.findall(line)}


def _cacheStats(match: re.Match[str]) -> dict[str, object]:
    """How much of a prompt was known already, in tokens, and in percent with two decimals."""
    reused, total, percentage, prefix, nonPrefix = match.groups()
    return {
        "reused": int(reused),
        "total": int(total),
        "percentage": round(float(percentage), 2),
        "prefix": int(prefix),
        "nonPrefix": int(nonPrefix),
        "message": match[0],
    }
