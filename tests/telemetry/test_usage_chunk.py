"""The chunk that nobody but the gateway asked for, taken out of a stream."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.telemetry.usage_chunk import CHUNK_LIMIT, UsageChunkRemover, chunkEnd
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import mutations
from tests.studio.simulator.wire import GEMMA, QWEN, Studio, chat
from tests.telemetry.chunking import CUTS, cut, everyCut, singly

USAGE = {"prompt_tokens": 148, "completion_tokens": 21, "total_tokens": 169}
DONE = b"data: [DONE]\n\n"
LONG = b"x" * CHUNK_LIMIT


def event(**members: object) -> bytes:
    """A chunk as LM Studio writes it."""
    head = {"id": "chatcmpl-um3b7", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**head, **members}, separators=(",", ":")).encode()


TEXT = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": '"choices":[] "usage":{'}}])
END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
EXTRA = event(choices=[], usage=USAGE)


def passed(pieces: list[bytes]) -> bytes:
    """What of these pieces passes."""
    remover = UsageChunkRemover()
    return b"".join([*map(remover.feed, pieces), remover.finish()])


_LINE = re.compile(rb"data:([^\n]*)(?:\n(?:\r\n|\n|\r|\Z)|\Z)")
_CHOICES = re.compile(rb'"choices"([ \t]*:[ \t]*\[[ \t]*\])?')


def withoutExtra(stream: bytes) -> bytes:
    """A whole stream without its usage chunks, found by expressions and Python's own parser."""
    kept = b""
    place = 0
    while place < len(stream):
        found = _LINE.match(stream, place)
        if found is not None and isExtra(found[1]):
            place = found.end()
        else:
            end = stream.find(b"\n", place) + 1 or len(stream)
            kept += stream[place:end]
            place = end
    return kept


def isExtra(data: bytes) -> bool:
    """Whether the data of a line is a usage chunk's."""
    choices = _CHOICES.search(data)
    if choices is None or choices[1] is None or b'"usage"' not in data or b"\r" in data[:-1]:
        return False
    try:
        value: Any = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("choices") == [] and isinstance(value.get("usage"), dict)


class RemovedTests(SynchronousTestCase):
    def test_cutEverywhere(self) -> None:
        """Cut at any byte, the stream comes out as if nobody had asked."""
        for lineEnd in (b"\n", b"\r\n"):
            asked, unasked = (part.replace(b"\n", lineEnd) for part in (TEXT + END + EXTRA + DONE, TEXT + END + DONE))
            for pieces in everyCut(asked):
                self.assertEqual(passed(pieces), unasked)

    def test_spellings(self) -> None:
        """However a server spells the chunk, and wherever in the stream it is, it goes."""
        for chunk in (
            b'data:{"usage":{},"choices":[]}\n\n',
            b'data: { "choices" : [ ] , "usage": {"prompt_tokens": 1}, "timings": {"x": [1]} }\n\n',
            b'data: {"choices":\t[],"created":1,"usage":{},"x":"\\ud83d \xff"}\n\n',
            b'data: \t{"x":"\\"choices\\":[1]","choices":[],"usage":{}}\r\n\r\n',
            b'data: {"choices":[],"usage":{}}\r\n\n',
        ):
            for stream in (chunk, TEXT + chunk + DONE, chunk + chunk + TEXT, b": ping\n" + chunk, TEXT + chunk):
                for pieces in ([stream], singly(stream)):
                    self.assertEqual(passed(pieces), stream.replace(chunk, b""))

    def test_simulator(self) -> None:
        """A stream that was asked for usage, and stripped of it, is the one that was not asked for any."""
        for model in (GEMMA, QWEN):
            plain, asked = (
                Studio().ask("/v1/chat/completions", chat("hi", model, stream=True, **more)).body
                for more in ({}, {"stream_options": {"include_usage": True}})
            )
            self.assertGreater(len(asked), len(plain))
            shape = b"data: %b\n\n"
            for pieces in ([asked], singly(asked), cut(asked, range(0, len(asked), 250))):
                left = passed(pieces)
                self.assertEqual(left.count(b"data:"), plain.count(b"data:"))
                events = [one + b"\n\n" for one in asked.split(b"\n\n")[:-1]]
                self.assertEqual(left, b"".join(events[:-2]) + shape % b"[DONE]")

    def test_unfinished(self) -> None:
        """The chunk goes even where the stream ends without the empty line; where it ends inside, that is kept."""
        for tail in (b"\n\n", b"\n", b"", b"\r\n\r", b"\r\n", b"\r"):
            self.assertEqual(passed([TEXT + EXTRA.rstrip() + tail]), TEXT)
        self.assertEqual(passed([TEXT + EXTRA[:-3]]), TEXT + EXTRA[:-3])


class KeptTests(SynchronousTestCase):
    def test_others(self) -> None:
        """What is not that chunk stays: usage beside choices or null, no choices without usage, other lines and fields."""
        for other in (
            event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE),
            event(choices=[], usage=None),
            event(choices=[], prompt_filter_results=[]),
            event(usage=USAGE),
            event(choices=None, usage=USAGE),
            event(choices=[], usage=[]),
            event(choices=[], usage=USAGE).replace(b"data", b"Data"),
            event(choices=[], usage=USAGE).replace(b"data:", b": "),
            event(x={"choices": [1]}, choices=[], usage=USAGE),
            EXTRA.rstrip() + b"\ndata: more\n\n",
            EXTRA.rstrip() + b"\nid: 7\n\n",
            EXTRA.replace(b",", b",\r"),
            EXTRA.replace(b'"usage"', b'"us\\u0061ge"'),
            b'data: {"choices":[],"usage":{}} x\n\n',
            b"\n\n\n: ping\n\nevent: x\n\n",
            b'{"choices":[],"usage":{}}\n\n',
        ):
            for pieces in everyCut(other):
                self.assertEqual(passed(pieces), other)

    def test_long(self) -> None:
        """A line that is too long for such a chunk passes, in one piece or in many, and what follows it is looked at."""
        spare = CHUNK_LIMIT - len(EXTRA) + 2
        for over in (0, 1):
            chunk = EXTRA.replace(b'"m"', b'"m%b"' % LONG[: spare + over])
            stream = TEXT + chunk + EXTRA + DONE
            expected = TEXT + (chunk if over else b"") + DONE
            for pieces in (
                [stream],
                cut(stream, range(0, len(stream), 997)),
                [TEXT + chunk[:-2], b"\n\n" + EXTRA + DONE],
            ):
                self.assertEqual(passed(pieces), expected)

    def test_passesWhole(self) -> None:
        """A piece of whole events is handed on itself, not a copy of it."""
        piece = TEXT + END
        self.assertIs(UsageChunkRemover().feed(piece), piece)


class DelayTests(SynchronousTestCase):
    def test_decided(self) -> None:
        """A byte is held only until the line is decided: by its field, by its data or by what its choices begin with."""
        for stream, held in (
            (TEXT, range(1, TEXT.index(b'"choices":[{') + len(b'"choices":[{'))),
            (DONE, range(1, len(b"data: ["))),
            (b": ping\n", range(0)),
            (b"id: 7\n", range(0)),
            (b"date: x\n", range(1, 4)),
            (b"data\n", range(1, 5)),
            (EXTRA, range(1, len(EXTRA))),
            (event(choices=[], usage=None), range(1, len(event(choices=[], usage=None)) - 1)),
        ):
            for place in range(len(stream)):
                remover = UsageChunkRemover()
                passing = remover.feed(TEXT + stream[:place])
                self.assertEqual(passing, TEXT if place in held else TEXT + stream[:place])
                self.assertEqual(remover._held, stream[:place] if place in held else b"")

    def test_bounded(self) -> None:
        """What may become the chunk, and never does, is held up to a limit; then it passes, and so does the rest."""
        for start in (b'data: {"', b'data: {"choices":[],"'):
            remover = UsageChunkRemover()
            self.assertEqual(remover.feed(start + LONG[: CHUNK_LIMIT - len(start)]), b"")
            self.assertEqual(len(remover.feed(b"x")), CHUNK_LIMIT + 1)
            self.assertEqual(remover.feed(b"yz"), b"yz")
            self.assertEqual(remover.feed(b"\n" + EXTRA), b"\n")


_PARTS = st.sampled_from(
    (TEXT, END, EXTRA, EXTRA, DONE, b"\n", b"\r\n", b"\r", b"data: ", b'{"choices":[', b"]", b'"usage":{}}', b": x\n")
)
STREAMS = st.one_of(
    st.lists(_PARTS, max_size=6).map(b"".join), mutations(st.just(TEXT + EXTRA + DONE)), st.binary(max_size=40)
)


class AnyStreamTests(SynchronousTestCase):
    @given(STREAMS, CUTS)
    def test_anyPieces(self, stream: bytes, places: list[int]) -> None:
        """In any pieces, what comes out is the stream without its usage chunks, and every other byte of it."""
        expected = withoutExtra(stream)
        self.assertEqual(passed(cut(stream, places)), expected)
        self.assertEqual(passed(singly(stream)), expected)

    @given(STREAMS, CUTS)
    def test_heldIsUndecided(self, stream: bytes, places: list[int]) -> None:
        """After each piece what is held is the end of what came, from the beginning of a line that is not decided yet."""
        remover = UsageChunkRemover()
        came = out = b""
        for piece in cut(stream, places):
            came += piece
            out += remover.feed(piece)
            held = remover._held
            self.assertTrue(came.endswith(held))
            self.assertEqual(out, withoutExtra(came[: len(came) - len(held)]))
            if held:
                self.assertIsNone(chunkEnd(held, 0))
                self.assertIn(came[: -len(held)][-1:], {b"", b"\n", b"\r"})

    @given(st.integers(0, len(EXTRA) - 1))
    def test_mayStillVanish(self, place: int) -> None:
        """Whatever is held of the chunk vanishes if the rest comes."""
        remover = UsageChunkRemover()
        self.assertEqual(remover.feed(EXTRA[:place]) + remover.feed(EXTRA[place:] + DONE), DONE)
