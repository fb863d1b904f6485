"""``lmgateway status`` against a little gateway."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.cli import main
from lmgateway.commands.status import linesOf
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200
from tests.commands.test_talk import VALUES

NOW: dict[str, Any] = {
    "status": "processing_inference",
    "currentOperation": {
        "type": "inference",
        "modelKey": "qwen\x1b[2J",
        "progress": None,
        "startedAt": "2027-01-15T08:00:00",
    },
    "activeModel": {"modelKey": "qwen", "instanceId": "qwen:2", "defaultInference": {"topP": 0.5}},
    "recentRequests": [
        {
            "requestId": "req_1",
            "status": 200,
            "timeMs": 12.5,
            "timestamp": "2027-01-15T08:00:00.000Z",
            "tokenUsage": {"promptTokens": 3, "completionTokens": 4, "totalTokens": 7},
        },
        {"requestId": "req_2", "status": None, "timeMs": 1.0, "timestamp": "2027-01-15T08:00:01", "tokenUsage": None},
    ],
    "totalRequests": 12,
    "totalErrors": 1,
    "inFlight": 2,
    "upstream": {"url": "http://127.0.0.1:1234", "up": True, "reason": None},
}

READY = json200({"status": "ready"})
NOT_READY = error(503, {"status": "not_ready", "error": "LM Studio refused the connection."})


class StatusTests(SynchronousTestCase):
    def status(self, now: Said, ready: Said, *options: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(self, {"/debug/status": [now], "/health/ready": [ready]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["status", "--url", self.gateway.url, *options])

    def test_readable(self) -> None:
        """A gateway with an LM Studio behind it is shown with all that it says, and the command ends with 0."""
        run = self.status(json200(NOW), READY)
        self.assertEqual(
            [" ".join(line.split()) for line in run.output.splitlines()],
            [
                f"gateway {self.gateway.url}, processing_inference",
                "upstream http://127.0.0.1:1234 answers",
                'model qwen as qwen:2, with {"topP": 0.5}',
                "requests 12, 2 running, 1 failed",
                r"now inference of qwen\x1b[2J since 2027-01-15T08:00:00",
                "",
                "last requests",
                "ended status ms prompt completion request",
                "2027-01-15T08:00:00.000Z 200 12.5 3 4 req_1",
                "2027-01-15T08:00:01 - 1.0 - - req_2",
            ],
        )
        self.assertEqual(run.exit_code, 0)

    def test_notReady(self) -> None:
        """Without LM Studio the status is shown as well, with the reason, and the command ends with 1."""
        run = self.status(
            json200({**NOW, "activeModel": None, "currentOperation": None, "recentRequests": []}), NOT_READY
        )
        self.assertEqual(run.exit_code, 1)
        self.assertIn("does not answer: LM Studio refused the connection.", run.stdout)
        self.assertIn("none is active", run.stdout)
        self.assertNotIn("last requests", run.stdout)

    def test_json(self) -> None:
        """As JSON it is what the gateway says, with where it is and whether it is ready."""
        run = self.status(json200(NOW), NOT_READY, "--json")
        expected = {**NOW, "url": self.gateway.url, "ready": False, "reason": "LM Studio refused the connection."}
        self.assertEqual((run.exit_code, json.loads(run.stdout)), (1, expected))
        self.assertTrue(run.stdout.isascii())
        run = self.status(json200(NOW), READY, "--json")
        self.assertEqual((run.exit_code, json.loads(run.stdout)["ready"]), (0, True))

    def test_refused(self) -> None:
        """Who may not ask is told in one line, with 1."""
        run = self.status(error(401, {"error": "No."}), READY)
        self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "", 1))
        self.assertIn("asks for a key", run.stderr)
        run = self.status(json200(NOW), error(403, {"error": "Not from here."}))
        self.assertEqual((run.exit_code, run.stderr.count("\n")), (1, 1))

    @given(
        st.dictionaries(st.sampled_from(sorted(NOW)), VALUES | st.sampled_from(list(NOW.values()))),
        st.none() | st.text(),
    )
    def test_total(self, now: dict[str, Any], reason: str | None) -> None:
        """Whatever a gateway says of itself, each line is one, of characters that a terminal shows."""
        for line in linesOf("http://x", now, reason):
            self.assertTrue(line.plain.isprintable())
