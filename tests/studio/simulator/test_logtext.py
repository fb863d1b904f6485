"""What the log says, to the letter of recordings."""

from __future__ import annotations

import re
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.logtext import (
    SERVER,
    accumulated,
    engine,
    line,
    opening,
    received,
    shortened,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.sdk import JSON

MOMENT = datetime(2026, 11, 21, 5, 6, 7)  # noqa: DTZ001 - the log has no time zone


class LineTests(SynchronousTestCase):
    def test_prefix(self) -> None:
        """Time, level and tags in brackets, then the message."""
        self.assertEqual(line(MOMENT, "INFO", "Server started."), "[2026-11-21 05:06:07][INFO] Server started.\n")
        self.assertEqual(line(MOMENT, "INFO", "x", SERVER), "[2026-11-21 05:06:07][INFO][LM STUDIO SERVER] x\n")
        self.assertEqual(
            line(MOMENT, "ERROR", "x", "Client=a", "Endpoint=b"),
            "[2026-11-21 05:06:07][ERROR][Client=a][Endpoint=b] x\n",
        )


class ReceivedTests(SynchronousTestCase):
    def test_body(self) -> None:
        """A request stands with its body, which spreads over lines; without one on a single line."""
        self.assertEqual(received("GET", "/v1/models?x", b""), "Received request: GET to /v1/models?x")
        self.assertEqual(
            received("POST", "/v1/completions", b'{"a":["\xc3\xa9"],"b":{}}'),
            'Received request: POST to /v1/completions with body {\n  "a": [\n    "é"\n  ],\n  "b": {}\n}',
        )
        self.assertEqual(received("POST", "/x", b"{"), "Received request: POST to /x")

    def test_deep(self) -> None:
        """A body that is nested as deep as can be read does no harm."""
        for depth in (300, 900, 100_000):
            text = received("POST", "/x", b'{"a":' * depth + b"1" + b"}" * depth)
            self.assertTrue(text.startswith("Received request: POST to /x"))

    def test_shortened(self) -> None:
        """Long strings keep 50 characters at both ends, wherever they stand; 100 are not long."""
        text = "a" * 50 + "b" + "c" * 50
        short = "a" * 50 + "... <Truncated in logs> ..." + "c" * 50
        self.assertEqual(shortened({"x": [text, "d" * 100, 5]}), {"x": [short, "d" * 100, 5]})

    @given(JSON)
    def test_total(self, value: object) -> None:
        """Short strings are what they were, and nothing else is changed."""
        self.assertEqual(shortened(value), value)


class MessageTests(SynchronousTestCase):
    @given(st.text())
    def test_accumulated(self, text: str) -> None:
        """The answer so far stays on one line, as far as its line feeds go."""
        self.assertNotIn("\n", accumulated(2, text))

    def test_count(self) -> None:
        """One token is one, two are tokens."""
        self.assertEqual(accumulated(1, "a\nb"), "Accumulated 1 token a\\nb")
        self.assertEqual(accumulated(2, ""), "Accumulated 2 tokens ")

    def test_engine(self) -> None:
        """The engine tells of sampling, of the cache and of the prompt."""
        said = list(engine(433, 4096, None))
        self.assertIn("n_ctx = 4096, n_batch = 512, n_predict = -1, n_keep = 433", said[1])
        self.assertIn("Total prompt tokens: 433\nPrompt tokens to decode: 433", said[2])
        self.assertTrue(said[2].startswith("Cache reuse summary: 0/433 of prompt"))
        self.assertEqual(said[-1], "BeginProcessingPrompt")
        self.assertIn("n_predict = 5", list(engine(1, 1, 5))[1])

    def test_opening(self) -> None:
        """A start tells the port, the routes, the folder, and whether models are loaded just in time."""
        said = [message for _, message, _ in opening("http://127.0.0.1:1234", "/logs", jit=True)]
        self.assertEqual(said[0], "Success! HTTP server listening on port 1234")
        self.assertIn("   ->  POST http://127.0.0.1:1234/v1/chat/completions", said)
        self.assertIn("Logs are saved into /logs", said)
        self.assertEqual(said[-1], "Just-in-time model loading active.")
        self.assertFalse(any(re.match("Just", text) for _, text, _ in opening("http://h:1", "/l", jit=False)))
