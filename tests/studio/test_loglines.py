"""LM Studio's log as text: lines, entries, and what they mean."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.loglines import (
    LONGEST_ENTRY,
    SOURCE,
    Entry,
    Line,
    LineSplitter,
    LogReader,
    eventsOf,
    masked,
)
from lmgateway.studio.simulator.logtext import accumulated, engine, line, opening, received
from lmgateway.telemetry.journal import KINDS, LONGEST_TEXT
from twisted.trial.unittest import SynchronousTestCase

NOON = datetime(2026, 11, 21, 12)  # noqa: DTZ001 - the log goes by local time
PREFIX = "[2026-11-21 12:00:00][INFO]"

MESSAGES = st.text(max_size=40).map(lambda text: text.replace("\n", " "))
FRAGMENTS = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [b"\n", b"\r\n", PREFIX.encode(), b"[2026-11-21 12:00:00][DEBUG][qwen/qwen3-8b] ", b"\xc3", b"{"]
        ),
        st.sampled_from(list(engine(7, 4096, None))).map(str.encode),
        st.integers(LONGEST_ENTRY - 50, 3 * LONGEST_ENTRY).map(lambda length: b"x" * length),
    ),
    max_size=12,
).map(b"".join)


def read(*pieces: bytes) -> list[Entry]:
    """All entries of these pieces."""
    reader = LogReader()
    return [*(entry for piece in pieces for entry in reader.feed(piece)), *reader.finish()]


def tell(text: str, *, showBodies: bool = False) -> list[tuple[str, dict[str, object]]]:
    """All events of a text, without what all of them have in common."""
    common = {"source", "file", "level", "tag", "loggedAt"}
    return [
        (kind, {name: value for name, value in data.items() if name not in common})
        for entry in read(text.encode("utf-8", "surrogatepass"))
        for kind, data in eventsOf(entry, "f.log", showBodies=showBodies)
    ]


def messages(text: str, *, showBodies: bool = False) -> list[object]:
    """What the events called ``debug_log`` show."""
    return [data["message"] for kind, data in tell(text, showBodies=showBodies) if kind == "debug_log"]


def meanings(text: str) -> list[tuple[str, dict[str, object]]]:
    """The other events."""
    return [event for event in tell(text) if event[0] != "debug_log"]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class SplitterTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Lines end in LF or CRLF; a line without an end is one only when all is over."""
        splitter = LineSplitter()
        self.assertEqual(list(splitter.feed(b"a\r\n\nb\rc\nd")), [Line("a", 0), Line("", 0), Line("b\rc", 0)])
        self.assertEqual(list(splitter.finish()), [Line("d", 0)])
        self.assertEqual(list(splitter.finish()), [])

    def test_bounded(self) -> None:
        """Of a line that never ends only the beginning is held, the rest counted."""
        splitter = LineSplitter(longest=4)
        for _ in range(1000):
            self.assertEqual(list(splitter.feed(b"x" * 1000)), [])
            self.assertLessEqual(len(splitter._kept), 4)
        self.assertEqual(list(splitter.feed(b"\nyy\n")), [Line("xxxx", 999_996), Line("yy", 0)])
        self.assertEqual(list(splitter.feed(b"abc\rde\r\n")), [Line("abc\r", 3)])

    def test_damage(self) -> None:
        """What is no UTF-8 is replaced."""
        self.assertEqual(next(LineSplitter().feed(b"\xffa\xc3\n")).text, "\ufffda\ufffd")


class ReaderTests(SynchronousTestCase):
    @given(FRAGMENTS, st.lists(st.integers(0, 1 << 20), max_size=6))
    def test_chunking(self, data: bytes, places: list[int]) -> None:
        """However the bytes are cut, the entries are the same."""
        self.assertEqual(read(*cut(data, places)), read(data))

    @given(data=FRAGMENTS, showBodies=st.booleans())
    def test_total(self, *, data: bytes, showBodies: bool) -> None:
        """Any bytes make bounded entries and events of known types, and nothing is raised."""
        for entry in read(data):
            self.assertLessEqual(entry.size, LONGEST_ENTRY)
            self.assertEqual(entry.size, len("\n".join(entry.lines)))
            for kind, told in eventsOf(entry, "f.log", showBodies=showBodies):
                self.assertIn(kind, KINDS)
                self.assertLessEqual(len(str(told.get("message", ""))), LONGEST_TEXT)
                self.assertEqual(told["source"], SOURCE)

    @given(st.lists(st.tuples(st.sampled_from(["DEBUG", "INFO", "WARN", "ERROR"]), MESSAGES), max_size=8))
    def test_simulated(self, written: list[tuple[str, str]]) -> None:
        """What the simulator writes is read back: each entry, its time, level, tag and message."""
        text = "".join(line(NOON, level, message, "some model [2]") for level, message in written)
        entries = [(entry.loggedAt, entry.level, entry.tag, entry.lines) for entry in read(text.encode())]
        expected = [("2026-11-21 12:00:00", level, "some model [2]", [message]) for level, message in written]
        # A line's end may be CRLF, so that a CR there is none of the message.
        self.assertEqual(entries, [(*entry[:3], [entry[3][0].removesuffix("\r")]) for entry in expected])

    def test_everySimulated(self) -> None:
        """All that the simulator says when it starts and answers is read, an entry for each."""
        said = [*opening("http://127.0.0.1:1234", "/logs", jit=True)]
        said += [("DEBUG", text, ()) for text in engine(7, 4096, 100)]
        said += [("DEBUG", received("POST", "/v1/chat/completions", b'{"model": "a", "messages": []}'), ())]
        entries = read("".join(line(NOON, level, text, *tags) for level, text, tags in said).encode())
        self.assertEqual(["\n".join(entry.lines) for entry in entries], [text for _, text, _ in said])
        self.assertEqual([entry.tag for entry in entries], [tags[0] if tags else None for *_, tags in said])

    def test_tags(self) -> None:
        """Several tags are one, in their order."""
        self.assertEqual(
            read(line(NOON, "ERROR", "x", "Client=a", "Endpoint=b").encode())[0].tag, "Client=a, Endpoint=b"
        )

    def test_believed(self) -> None:
        """Only a full prefix at the start of a line begins an entry: all else goes on with the one before."""
        imitations = [
            f" {PREFIX} x",
            f'"{PREFIX} x"',
            "[2026-11-21 12:00:00] x",
            "[2026-11-21 12:00:00][NOTICE] x",
            "[2026-11-21 12:00:00][INFO]x",
            "[2026-13-21 12:00:00][INFO] x",
            "[2026-11-21 25:00:00][INFO] x",
            "[2026-11-21T12:00:00][INFO] x",
            "[\u0662026-11-21 12:00:00][INFO] x",
            f"\u2028{PREFIX} x",
            f"a\r{PREFIX} x",
        ]
        (entry,) = read("\n".join([f"{PREFIX} body {{", *imitations]).encode())
        self.assertEqual(entry.lines, ["body {", *imitations])

    def test_beforeTheFirst(self) -> None:
        """Lines of an entry that nobody saw begin are passed over."""
        self.assertEqual([entry.lines for entry in read(f"}}\nx\n{PREFIX} a\n".encode())], [["a"]])

    def test_midLine(self) -> None:
        """A reader that begins within a line does not take what it finds first for a line's start."""
        reader = LogReader(midLine=True)
        entries = [*reader.feed(f"{PREFIX} forged\n{PREFIX} a\n".encode()), *reader.finish()]
        self.assertEqual([entry.lines for entry in entries], [["a"]])
        reader = LogReader(midLine=True)
        self.assertEqual([*reader.feed(f"{PREFIX} forged".encode()), *reader.finish()], [])

    def test_settle(self) -> None:
        """When the log is quiet the last entry is told, once, and lines that go on with it later are no entries."""
        reader = LogReader()
        self.assertEqual(list(reader.feed(f"{PREFIX} a\nb\n".encode())), [])
        self.assertEqual([entry.lines for entry in reader.settle()], [["a", "b"]])
        self.assertEqual(list(reader.settle()), [])
        self.assertEqual([*reader.feed(b"c\n"), *reader.finish()], [])

    def test_boundedEntry(self) -> None:
        """An entry of more lines than anybody wants is kept to its bound, the rest counted."""
        (entry,) = read(f"{PREFIX} a\n".encode() + b"123456789\n" * 100_000)
        self.assertEqual(entry.size + entry.lost, 1 + 1_000_000)
        self.assertLessEqual(entry.size, LONGEST_ENTRY)
        (entry,) = read(f"{PREFIX} a\n{'x' * LONGEST_ENTRY}\nb\n".encode())
        self.assertEqual((entry.lines, entry.lost), (["a"], LONGEST_ENTRY + 3))


class MessageTests(SynchronousTestCase):
    def test_bodies(self) -> None:
        """What somebody asked or a model said is cut out of what LM Studio logs of it."""
        self.assertEqual(
            messages(
                line(NOON, "DEBUG", received("POST", "/v1/chat/completions", b'{"messages": [{"content": "canary"}]}'))
                + line(NOON, "INFO", accumulated(7, "canary"), "qwen")
                + line(NOON, "INFO", "Accumulated 2 tokens in response  canary")
                + line(NOON, "INFO", "[LM STUDIO SERVER] Accumulated 2 tokens: canary")
                + line(NOON, "INFO", 'Returning {\n  "a": "canary"\n}')
                + line(NOON, "INFO", "Generated prediction: { canary }")
                + line(NOON, "INFO", "Model generated tool calls: [canary(a)]")
                + line(NOON, "ERROR", '[Server Error] {"title": "canary"}')
                + line(NOON, "ERROR", "Received request for /api/v1/chat with invalid JSON: canary is not valid")
                + line(NOON, "INFO", "Something else\ncanary\n" + "Total prompt tokens: 7"),
            ),
            [
                "Received request: POST to /v1/chat/completions with body …",
                "Accumulated 7 tokens …",
                "Accumulated 2 tokens …",
                "[LM STUDIO SERVER] Accumulated 2 tokens …",
                "Returning …",
                "Generated prediction: …",
                "Model generated tool calls: …",
                "[Server Error] …",
                "Received request for /api/v1/chat with invalid JSON: …",
                "Something else …",
            ],
        )

    def test_shown(self) -> None:
        """Bodies are shown where that is wanted, as far as there is room, with keys masked."""
        text = line(NOON, "DEBUG", received("POST", "/v1/x", b'{"a": "hello", "key": "sk-lm-abcdefgh:ijklmnop"}'))
        shown = 'Received request: POST to /v1/x with body {\n  "a": "hello",\n  "key": "***"\n}'
        self.assertEqual(messages(text, showBodies=True), [shown])
        (event,) = tell(f"{PREFIX} {'x' * 5000}\n", showBodies=True)
        self.assertEqual(event[1], {"message": f"{'x' * (LONGEST_TEXT - 2)} …", "truncated": 5002 - LONGEST_TEXT})

    def test_truncated(self) -> None:
        """It is told how much of a message is missing."""
        (event,) = tell(line(NOON, "INFO", 'Returning {"a": 1}'))
        self.assertEqual(event[1], {"message": "Returning …", "truncated": len('{"a": 1}')})
        (event,) = tell(line(NOON, "INFO", "Nothing is missing."))
        self.assertEqual(event[1], {"message": "Nothing is missing.", "truncated": 0})

    def test_engine(self) -> None:
        """The figures of the engine are shown on all lines; a line among them that is something else is not."""
        sampling = next(engine(7, 4096, None))
        self.assertEqual(messages(line(NOON, "DEBUG", sampling)), [sampling])
        self.assertEqual(messages(line(NOON, "DEBUG", f"{sampling}\ncanary = x")), [f"{sampling} …"])

    def test_masked(self) -> None:
        """Keys are masked wherever they stand, and paths of LM Studio's machine; nothing else is."""
        for secret in (
            "Bearer canary",
            "Malformed LM Studio API token provided: canary*****",
            "Authorization: canary",
            "x-api-key: canary",
            "sk-lm-canary12:345",
            "lmg_canary12345",
            "GET /v1/models?a=1&key=canary",
            "GET /v1/models?api_key=canary",
            "Logs are saved into anything canary",
            "Cannot open C:\\Users\\Jo Doe\\canary",
            "Cannot open /Users/jo/.lmstudio/canary",
        ):
            self.assertIn("***", masked(secret))
            self.assertNotIn("canary", masked(secret))
        (entry,) = read(line(NOON, "INFO", "x", "Client=sk-lm-canary12:345").encode())
        ((_, data),) = eventsOf(entry, "f.log")
        self.assertEqual(data["tag"], "Client=***")
        for harmless in (
            "POST to /v1/chat/completions",
            "->  GET  http://127.0.0.1:1234/v1/models",
            "a/home/b",
            "10:30",
        ):
            self.assertEqual(masked(harmless), harmless)

    def test_origin(self) -> None:
        """Every event says that it comes from the log, of which file, when, and who spoke."""
        (entry,) = read(line(NOON, "INFO", "Prompt processing progress: 37.5%", "qwen").encode())
        origin = {"source": SOURCE, "file": "f.log", "level": "INFO", "tag": "qwen", "loggedAt": "2026-11-21 12:00:00"}
        text = "Prompt processing progress: 37.5%"
        self.assertEqual(
            list(eventsOf(entry, "f.log")),
            [
                ("debug_log", {**origin, "message": text, "truncated": 0}),
                ("lmstudio_prompt_progress", {**origin, "progress": 37.5, "message": text}),
            ],
        )


class MeaningTests(SynchronousTestCase):
    def test_chat(self) -> None:
        """A chat begins, of whichever API, with as many messages."""
        for text in ("Running chat completion on", "Running Anthropic messages API on"):
            said = f"{text} conversation with 12 messages"
            self.assertEqual(
                meanings(line(NOON, "INFO", f"{said}.", "qwen")),
                [("lmstudio_chat_start", {"messages": 12, "message": said})],
            )

    def test_engine(self) -> None:
        """What the engine says before it reads a prompt is told in figures, by the names that it gives them."""
        told = meanings("".join(line(NOON, "DEBUG", text) for text in engine(7, 4096, None)))
        self.assertEqual(
            [kind.removeprefix("lmstudio_") for kind, _ in told],
            ["sampling_params", "token_info", "token_info", "cache_stats", "processing_start"],
        )
        sampling, limits, counts, cache, begin = (data for _, data in told)
        self.assertEqual((sampling["repeat_last_n"], sampling["temp"], sampling["min_p"]), (64, 0.8, 0.05))
        self.assertEqual(limits, {"n_ctx": 4096, "n_batch": 512, "n_predict": -1, "n_keep": 7})
        self.assertEqual(counts, {"totalPromptTokens": 7, "promptTokensToDecode": 7})
        summary = "Cache reuse summary: 0/7 of prompt (0%), 0 prefix, 0 non-prefix"
        figures = {"reused": 0, "total": 7, "percentage": 0.0, "prefix": 0, "nonPrefix": 0}
        self.assertEqual(cache, {**figures, "message": summary})
        self.assertEqual(begin, {"message": "BeginProcessingPrompt"})

    def test_oneEntry(self) -> None:
        """Some versions put all of it into a single entry."""
        told = meanings(
            line(NOON, "DEBUG", "\n".join([*engine(7, 4096, None), "FinishedProcessingPrompt. Progress: 100"]))
        )
        self.assertEqual(
            [kind.removeprefix("lmstudio_") for kind, _ in told],
            ["sampling_params", "token_info", "cache_stats", "processing_start", "prompt_progress"],
        )
        self.assertEqual(
            (told[1][1]["n_ctx"], told[1][1]["totalPromptTokens"], told[4][1]["progress"]), (4096, 7, 100.0)
        )

    def test_cache(self) -> None:
        """Percentages have two decimals."""
        ((_, data),) = meanings(
            line(NOON, "DEBUG", "Cache reuse summary: 2158/5889 of prompt (36.6446%), 2158 prefix, 3 non-prefix")
        )
        self.assertEqual((data["reused"], data["total"], data["percentage"], data["nonPrefix"]), (2158, 5889, 36.64, 3))

    def test_accumulated(self) -> None:
        """Of an answer that is logged as it grows only the count is told."""
        for text in (accumulated(1, "canary"), accumulated(52, "canary " * 9000)):
            ((kind, data),) = meanings(line(NOON, "INFO", text, "qwen"))
            self.assertEqual((kind, data), ("lmstudio_token_info", {"accumulatedTokens": int(text.split()[1])}))

    def test_imitated(self) -> None:
        """What stands in a body or a generated text means nothing, whatever it looks like."""
        for text in engine(7, 4096, None):
            self.assertEqual(meanings(line(NOON, "DEBUG", f"Received request: POST to /v1/x with body {{\n{text}")), [])
            self.assertEqual(meanings(line(NOON, "INFO", f"Returning {text}")), [])
        self.assertEqual(meanings(line(NOON, "INFO", "He said: Prompt processing progress: 3%")), [])
