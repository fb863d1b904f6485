"""``lmgateway tail``: what the lines say, and the command against a little gateway."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.cli import main
from lmgateway.commands.tail import REMEMBERED, EventLines, askedFor, jsonLine, targetOf
from lmgateway.telemetry.journal import KINDS
from lmgateway.telemetry.sse import StreamEvent, encodeEvent
from rich.text import Text
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, error, events
from tests.commands.test_talk import VALUES

GONE = error(401, {"error": "No."})

HOSTILE = "\x1b[2J\x9b31m\u202e[red]:boom: \ud83d\nline".encode("utf-8", "replace").decode()

NAMES = (
    "timestamp", "requestId", "key", "model", "modelKey", "method", "path", "stream", "injected", "client", "ttftMs", "status",
    "totalTimeMs", "tokenUsage", "tokensPerSecond", "phase", "operation", "error", "message", "lost",
)  # fmt: skip


def eventOf(kind: str, eventId: int = 1, **data: Any) -> StreamEvent:
    """An event, at a time."""
    return StreamEvent(kind, json.dumps({"timestamp": "2027-01-15T08:00:00.123Z", **data}), str(eventId))


def startOf(requestId: str, **data: Any) -> StreamEvent:
    """The event that begins a request."""
    common = {"requestId": requestId, "method": "POST", "path": "/v1/chat/completions", "model": "qwen", "key": "alice"}
    return eventOf("inference_start", **{**common, "stream": False, "injected": [], "client": "::1", **data})


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines = EventLines(frozenset(), UTC)

    def line(self, event: StreamEvent) -> Text:
        """The line of an event that has one."""
        line = self.lines.lineOf(event)
        assert line is not None
        return line

    def words(self, event: StreamEvent) -> str:
        """The line without what aligns it."""
        return " ".join(self.line(event).plain.split())

    def test_request(self) -> None:
        """Each line of a request says whose it is and of what model, though only the first event says so."""
        for event, words in (
            (startOf("r1", stream=True, injected=["model", "topP"]),
             "inference_start alice qwen POST /v1/chat/completions stream +model,topP from ::1"),
            (startOf("r2", key="bob", model=None), "inference_start bob - POST /v1/chat/completions from ::1"),
            (eventOf("inference_first_token", requestId="r1", ttftMs=12.6), "inference_first_token alice qwen first after 13 ms"),
            (eventOf("inference_complete", requestId="r1", status=200, totalTimeMs=1500.4, tokensPerSecond=81.25,
                     tokenUsage={"promptTokens": 12, "completionTokens": 121, "totalTokens": 133}),
             "inference_complete alice qwen 200 1500 ms 12 + 121 tokens 81.2 tok/s"),
            (eventOf("inference_cancelled", requestId="r2", totalTimeMs=7, phase="waiting"),
             "inference_cancelled bob - 7 ms while waiting"),
        ):  # fmt: skip
            self.assertEqual(self.words(event), f"08:00:00.123 {words}")

    def test_counted(self) -> None:
        """Tokens that were counted rather than told are marked; unknown ones are a dash."""
        usage = {"promptTokens": None, "completionTokens": 5, "estimated": True}
        words = self.words(eventOf("inference_complete", requestId="r", status=200, totalTimeMs=1, tokenUsage=usage))
        self.assertIn("- + ~5 tokens", words)
        self.assertIn("first after - ms", self.words(eventOf("inference_first_token", requestId="r", ttftMs=10**400)))

    def test_error(self) -> None:
        """An error says what failed, and how."""
        self.line(startOf("r1"))
        failed = eventOf(
            "error", requestId="r1", operation="inference", error="LM Studio refused.", status=503, totalTimeMs=3
        )
        self.assertIn("error alice qwen 503 3 ms inference: LM Studio refused.", self.words(failed))
        loading = eventOf("error", modelKey="llama", operation="load", error="No memory.")
        self.assertIn("error - llama load: No memory.", self.words(loading))

    def test_others(self) -> None:
        """Any other event says all that it has, by name."""
        for event, words in (
            (eventOf("auth_failure", client="10.0.0.9", path="/v1/models", reason="invalid_api_key"),
             "auth_failure client=10.0.0.9 path=/v1/models reason=invalid_api_key"),
            (eventOf("connected", message="Connected. Events follow."), "connected Connected. Events follow."),
            (eventOf("gap", lost=12), "gap 12 events were lost"),
            (eventOf("model_load_progress", modelKey="m", progress=12.5), "model_load_progress modelKey=m progress=12.5"),
            (eventOf("model_state", loaded=["a"], unloaded=[]), 'model_state loaded=["a"] unloaded=[]'),
        ):  # fmt: skip
            self.assertEqual(self.words(event), f"08:00:00.123 {words}")

    def test_failedLooksSo(self) -> None:
        """An answer that is an error is not shown in the colour of success."""
        styles = []
        for status in (200, 404, 500):
            line = self.line(eventOf("inference_complete", requestId="r", status=status))
            styles.append([str(span.style) for span in line.spans][1])
        self.assertEqual(styles, ["green", "yellow", "red"])

    def test_hostile(self) -> None:
        """Names and errors with controls, markup or line ends show as what they are, on their one line."""
        line = self.line(startOf("r1", model=HOSTILE, key="a b", path="/" + "x" * 5000))
        self.assertIn(r"\x1b[2J\x9b31m\u202e[red]:boom:\x20", line.plain)
        self.assertIn(r"a\x20b ", line.plain)
        self.assertLess(len(line.plain), 500)
        self.assertIn(r"\nline", self.line(eventOf("error", error=HOSTILE)).plain)

    def test_wanted(self) -> None:
        """Events that came only so that names are known have no line; what tells of losses always has."""
        self.lines = EventLines(frozenset({"inference_complete"}), UTC)
        self.assertIsNone(self.lines.lineOf(startOf("r1")))
        self.assertIsNone(self.lines.lineOf(eventOf("upstream_up")))
        self.assertIn("alice", self.line(eventOf("inference_complete", requestId="r1")).plain)
        for kind in ("connected", "gap"):
            self.line(eventOf(kind))

    def test_bounded(self) -> None:
        """What is remembered goes with the request, and is bounded where its end is never seen."""
        for number in range(2 * REMEMBERED):
            self.line(startOf(f"r{number}"))
        self.assertEqual(len(self.lines._asked), REMEMBERED)
        for number in range(2 * REMEMBERED):
            self.line(eventOf("inference_complete", requestId=f"r{number}"))
        self.assertEqual(len(self.lines._asked), 0)

    @given(
        st.sampled_from(sorted(KINDS)) | st.text(),
        st.dictionaries(
            st.sampled_from(NAMES) | st.text(), VALUES | st.sampled_from((10**400, 1e400, "r1")), max_size=6
        ).map(json.dumps)
        | st.text(),
        st.text(),
    )
    def test_total(self, kind: str, data: str, eventId: str) -> None:
        """Whatever an event says, it is one line, of characters that a terminal shows; as JSON it is one that can be read."""
        event = StreamEvent(kind, data, eventId)
        self.assertTrue(self.line(event).plain.isprintable())
        plain = jsonLine(event).plain
        self.assertTrue(plain.isprintable() and plain.isascii())
        self.assertEqual(json.loads(plain)["type"], kind)


class TargetTests(SynchronousTestCase):
    def test_targets(self) -> None:
        """The gateway is asked for what is wanted, and for the beginning of requests where only the rest is wanted."""
        self.assertEqual(targetOf(frozenset(), None), "/debug/stream")
        self.assertEqual(targetOf(frozenset({"b", "a&c"}), 0), "/debug/stream?types=a%26c,b&since=0")
        self.assertEqual(askedFor(frozenset({"error"})), {"error", "inference_start"})
        self.assertEqual(askedFor(frozenset({"upstream_up"})), {"upstream_up"})
        self.assertEqual(askedFor(frozenset()), frozenset())


class CommandTests(SynchronousTestCase):
    def tail(self, *options: str) -> Result:
        """Follow a gateway that says a few things over two connections, and then that the key is none any more."""
        frames = [
            encodeEvent(event.data.encode(), event.kind, event.id)
            for event in (
                eventOf("connected", 0, message="Connected."), startOf("r1"), eventOf("debug_log", 2, line="x"),
                eventOf("inference_complete", 3, requestId="r1", status=200),
            )
        ]  # fmt: skip
        first, second = events(*frames[:3], isCut=True), events(*frames[3:])
        self.gateway = LittleGateway(self, {"/debug/stream": [first, second, GONE]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["tail", "--url", self.gateway.url, *options])

    def test_lines(self) -> None:
        """A line for each event; lost connections are told apart from them; the last word is why there is no more."""
        run = self.tail()
        kinds = [line.split()[1] for line in run.stdout.splitlines()]
        self.assertEqual(kinds, ["connected", "inference_start", "debug_log", "inference_complete"])
        self.assertIn("alice", run.stdout.splitlines()[-1])
        lost, ended, why = run.stderr.splitlines()
        self.assertEqual((lost[:24], ended[:29]), ("The connection was lost.", "The gateway ended the stream."))
        self.assertRegex(why, "^Error: .*--key-file")
        self.assertEqual(run.exit_code, 1)
        self.assertNotIn("\x1b", run.output)

    def test_json(self) -> None:
        """As JSON there is a line for each event, and nothing else."""
        run = self.tail("--json", "--types", "a, b", "--since", "5")
        values = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertEqual([(value["id"], value["type"]) for value in values], [
            (0, "connected"), (1, "inference_start"), (2, "debug_log"), (3, "inference_complete")
        ])  # fmt: skip
        self.assertEqual(values[2]["data"], {"timestamp": "2027-01-15T08:00:00.123Z", "line": "x"})
        self.assertEqual(set(self.gateway.targets), {"/debug/stream?types=a,b&since=5"})

    def test_types(self) -> None:
        """Only what is wanted is printed, with the names that another event told."""
        run = self.tail("--types", "inference_complete")
        self.assertEqual([line.split()[1:3] for line in run.stdout.splitlines()][1:], [["inference_complete", "alice"]])
        self.assertEqual(self.gateway.targets[0], "/debug/stream?types=inference_complete,inference_start")

    def test_refused(self) -> None:
        """What cannot be asked is refused before anything is."""
        run = CliRunner(env=NO_SETTINGS).invoke(main, ["tail", "--since", "-1"])
        self.assertEqual(run.exit_code, 2)
