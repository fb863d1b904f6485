"""Usage read out of answers, against what the simulator says and against a plain reading of the grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import TokenUsage
from lmgateway.policy.routes import ROUTES
from lmgateway.telemetry.usage import readerFor
from lmgateway.telemetry.usage_figures import Figures
from lmgateway.telemetry.usage_json import JsonReader
from lmgateway.telemetry.usage_stream import StreamReader
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, Answer, Studio, chat
from tests.telemetry.chunking import CUTS, cut, eventsOf, fed, singly

TOOLS = [{"type": "function", "function": {"name": "f"}}]
MESSAGES = [{"role": "user", "content": "hi"}]


class Case(Struct, frozen=True):
    """
    A question that the simulator answers.

    :param counts: where in an answer's JSON its two counts are.
    :param reason: where the reason of the end is.
    :param asked: what makes a stream tell its usage.
    """

    dialect: str
    target: str
    body: dict[str, Any]
    counts: tuple[tuple[str, str], tuple[str, str]]
    reason: tuple[Any, ...] = ()
    asked: dict[str, Any] = {}


_OPENAI = (("usage", "prompt_tokens"), ("usage", "completion_tokens"))
_INPUT = (("usage", "input_tokens"), ("usage", "output_tokens"))
_STATS = (("stats", "input_tokens"), ("stats", "total_output_tokens"))
_FINISH = ("choices", 0, "finish_reason")
_ASKED = {"stream_options": {"include_usage": True}}
_RESPONSE = {"model": GEMMA, "input": "hi"}
_MESSAGE = {"model": GEMMA, "messages": MESSAGES, "max_tokens": 99}
_CALL = chat("tool: f", tools=TOOLS)

CASES = (
    Case("openai", "/v1/chat/completions", chat("hi"), _OPENAI, _FINISH, _ASKED),
    Case("openai", "/v1/chat/completions", chat('"usage":{} \\ \ud83d'), _OPENAI, _FINISH, _ASKED),
    Case("openai", "/v1/chat/completions", chat("hi", QWEN, max_tokens=5), _OPENAI, _FINISH, _ASKED),
    Case("openai", "/v1/chat/completions", chat("hi", GPT_OSS), _OPENAI, _FINISH, _ASKED),
    Case("openai", "/v1/chat/completions", _CALL, _OPENAI, _FINISH, _ASKED),
    Case("openai", "/v1/completions", {"model": GEMMA, "prompt": "hi"}, _OPENAI, _FINISH, _ASKED),
    Case("native_v0", "/api/v0/chat/completions", chat("hi"), _OPENAI, _FINISH, _ASKED),
    Case("native_v0", "/api/v0/completions", {"model": GEMMA, "prompt": "hi"}, _OPENAI, _FINISH, _ASKED),
    Case("responses", "/v1/responses", _RESPONSE, _INPUT, ("status",)),
    Case("responses", "/v1/responses", {**_RESPONSE, "model": QWEN, "max_output_tokens": 5}, _INPUT, ("status",)),
    Case("responses", "/v1/responses", {**_RESPONSE, "input": "tool: f", "tools": TOOLS}, _INPUT, ("status",)),
    Case("anthropic", "/v1/messages", _MESSAGE, _INPUT, ("stop_reason",)),
    Case("anthropic", "/v1/messages", {**_MESSAGE, "max_tokens": 5}, _INPUT, ("stop_reason",)),
    Case("native_v1", "/api/v1/chat", {"model": GEMMA, "input": "hi"}, _STATS),
    Case("native_v1", "/api/v1/chat", {"model": QWEN, "input": "hi"}, _STATS),
)
"""Every dialect, with thoughts, calls and limits."""


def ask(case: Case, **more: object) -> Answer:
    """The simulator's answer to a question."""
    answer = Studio().ask(case.target, {**case.body, **more})
    assert answer.status == 200, answer.body
    return answer


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What is there in some JSON."""
    for step in path:
        value = value[step]
    return value


def read(dialect: str, pieces: list[bytes], *, isStream: bool) -> Figures:
    """What a reader found in these pieces."""
    reader = readerFor(dialect, isStream)
    fed(reader.feed, pieces)
    reader.finish()
    return reader


class SimulatorTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Of each answer that is no stream the reader finds what its JSON tells."""
        for case in CASES:
            answer = ask(case)
            for pieces in ([answer.body], singly(answer.body)):
                reader = read(case.dialect, pieces, isStream=False)
                counts = [at(answer.json, path) for path in case.counts]
                self.assertEqual(reader.usage, TokenUsage(*counts))
                if case.reason:
                    self.assertEqual(reader.finishReason, at(answer.json, case.reason))

    def test_stream(self) -> None:
        """Of each stream it finds what the answer that is none tells of the same question, in any pieces."""
        for case in CASES:
            whole = ask(case).json
            stream = ask(case, stream=True, **case.asked)
            expected = TokenUsage(*(at(whole, path) for path in case.counts))
            for pieces in (list(stream.chunks), [stream.body], singly(stream.body)):
                reader = read(case.dialect, pieces, isStream=True)
                self.assertEqual(reader.usage, expected, case.target)
                if case.reason:
                    self.assertEqual(reader.finishReason, at(whole, case.reason))

    def test_estimated(self) -> None:
        """A stream that tells no usage, or breaks off before it, is counted: each event with text is one token."""
        for case in CASES:
            whole = ask(case).json
            chunks = list(ask(case, stream=True).chunks)
            if not case.asked:
                chunks = chunks[:-2]
            usage = read(case.dialect, chunks, isStream=True).usage
            assert usage is not None
            self.assertTrue(usage.estimated)
            calls = 1 if "tools" in case.body and case.asked else 0
            self.assertEqual(usage.completionTokens, at(whole, case.counts[1]) + calls)

    def test_statistics(self) -> None:
        """The rate and the time to the first token are those that LM Studio's own APIs tell."""
        for target, name in (
            ("/api/v0/chat/completions", "time_to_first_token"),
            ("/api/v1/chat", "time_to_first_token_seconds"),
        ):
            connection = (studio := Studio(prefill=0.5, tokensPerSecond=10)).connect()
            connection.send(target, chat("hi") if "v0" in target else {"model": GEMMA, "input": "hi"})
            studio.clock.pump([0.5, 1.7])
            reader = read("native_v0", [connection.answer.body], isStream=False)
            stats = connection.answer.json["stats"]
            self.assertEqual((reader.tokensPerSecond, reader.timeToFirstToken), (10, stats[name]))

    def test_embeddings(self) -> None:
        """Embeddings tell a prompt of 0."""
        for target in ("/v1/embeddings", "/api/v0/embeddings"):
            body = Studio().ask(target, {"model": NOMIC, "input": ["x"] * 40}).body
            self.assertGreater(len(body), 65_536)
            self.assertEqual(read("openai", [body], isStream=False).usage, TokenUsage(0, None))

    def test_error(self) -> None:
        """An error tells no usage, in a stream or not."""
        for case in (case for case in CASES if "tools" not in case.body):
            answer = Studio(errorInsideStream=0).ask(case.target, {**case.body, "stream": True})
            usage = read(case.dialect, [answer.body], isStream=True).usage
            self.assertTrue(usage is None or not usage.completionTokens)
            answer = Studio(errorInsideStream=0).ask(case.target, case.body)
            self.assertEqual((answer.status, read(case.dialect, [answer.body], isStream=False).usage), (400, None))


class ReaderForTests(SynchronousTestCase):
    def test_everyRoute(self) -> None:
        """There is a reader for the answers of each route that goes to LM Studio."""
        for route in ROUTES:
            if route.kind == "proxy":
                self.assertIsInstance(readerFor(route.dialect, True), StreamReader)
                self.assertIsInstance(readerFor(route.dialect, False), JsonReader)


def _textOfCompletion(event: Any) -> bool:
    """Whether a chunk carries text, said as simply as can be."""
    names = ("content", "reasoning_content", "reasoning", "tool_calls")
    deltas = [choice.get("delta") or {} for choice in event.get("choices") or ()]
    return any(delta.get(name) for delta in deltas for name in names)


def _textOfResponse(event: Any) -> bool:
    return event["type"].endswith(".delta") and event["delta"] != ""


def _textOfMessage(event: Any) -> bool:
    return event["type"] == "content_block_delta" and any(
        event["delta"].get(name) for name in ("text", "thinking", "partial_json")
    )


def _textOfChat(event: Any) -> bool:
    return event["type"] in {"message.delta", "reasoning.delta"} and event["content"] != ""


_WORDS = st.sampled_from(("", "Hi", " \n", '"usage":{"prompt_tokens":1}', "data: x\n\n", "é\u2028", "\ud83d", "\\"))
_NOISE = st.sampled_from((b": ping", b"id: 7", b"event: x", b"retry: 5", b"", b"nothing"))
_SEPARATORS = st.sampled_from(((",", ":"), (", ", ": ")))

_CHUNKS = st.one_of(
    st.builds(
        lambda name, word: {"choices": [{"delta": {"role": "assistant", name: word}, "finish_reason": None}]},
        st.sampled_from(("content", "reasoning_content", "reasoning", "other")),
        _WORDS,
    ),
    st.just({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None}),
)
_DELTAS = st.builds(
    lambda kind, word: {"type": f"response.output_text.{kind}", "delta": word},
    st.sampled_from(("delta", "done")),
    _WORDS,
)
_BLOCKS = st.builds(
    lambda kind, name, word: {"type": f"content_block_{kind}", "delta": {name: word}},
    st.sampled_from(("start", "delta")),
    st.sampled_from(("text", "thinking", "partial_json", "signature")),
    _WORDS,
)
_PARTS = st.builds(
    lambda name, word: {"type": f"{name}.delta", "content": word},
    st.sampled_from(("message", "reasoning", "x")),
    _WORDS,
)

Reference = tuple[str, st.SearchStrategy[Any], Callable[[Any], bool]]

REFERENCES: tuple[Reference, ...] = (
    ("openai", _CHUNKS, _textOfCompletion),
    ("responses", _DELTAS, _textOfResponse),
    ("anthropic", _BLOCKS, _textOfMessage),
    ("native_v1", _PARTS, _textOfChat),
)


@st.composite
def streams(draw: st.DrawFn, events: st.SearchStrategy[Any]) -> bytes:
    """Event streams in every spelling that the grammar allows, the JSON of each event on one line."""
    lineEnd = draw(st.sampled_from((b"\n", b"\r\n", b"\r")))
    parts: list[bytes] = []
    for event in draw(st.lists(events, max_size=8)):
        text = json.dumps(event, separators=draw(_SEPARATORS), ensure_ascii=draw(st.booleans()))
        data = b"data:" + draw(st.sampled_from((b"", b" "))) + text.encode("utf-8", "backslashreplace")
        parts += [*draw(st.lists(_NOISE, max_size=2)), data, *draw(st.lists(_NOISE, max_size=1)), b""]
    return b"".join(part + lineEnd for part in parts)


class GrammarTests(SynchronousTestCase):
    @given(st.sampled_from(REFERENCES), CUTS, st.data())
    def test_reference(self, reference: Reference, places: list[int], data: st.DataObject) -> None:
        """In any pieces, as many texts are counted, and the first one told as early, as a plain reading finds."""
        dialect, events, isText = reference
        stream = data.draw(streams(events))
        ends = [end for text, end in _decoded(stream) if isText(text)]
        reader = readerFor(dialect, True)
        pieces = cut(stream, places)
        first = fed(reader.feed, pieces)
        reader.finish()
        self.assertEqual(reader.texts, len(ends))
        fedUntil = [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]
        self.assertEqual(first, min((place for place in fedUntil if place >= ends[0]), default=None) if ends else None)


def _decoded(stream: bytes) -> Iterator[tuple[Any, int]]:
    for data, end in eventsOf(stream):
        yield json.loads(data), end
