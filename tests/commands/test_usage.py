"""``lmgateway usage`` against a little gateway."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200


def figures(requests: int) -> dict[str, Any]:
    """What a row counts."""
    names = ("errors", "promptTokens", "completionTokens", "totalTokens", "estimated", "seconds")
    return {"requests": requests, **{name: requests * 1000 + number for number, name in enumerate(names)}}


ANSWER = {
    "from": "2027-01-01",
    "to": "2027-01-31",
    "by": ["key", "model"],
    "rows": [
        {"key": "alice", "model": "qwen/qwen3-8b", **figures(7)},
        {"key": "bob", "model": "[red]\x1b[2J\x9b", **figures(12)},
    ],
    "total": figures(19),
}


class UsageTests(SynchronousTestCase):
    def usage(self, said: Said, *options: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(self, {"/admin/usage": [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["usage", "--url", self.gateway.url, *options])

    def test_table(self) -> None:
        """The table has a line for each row, and the total below; what a model is called drives no terminal."""
        run = self.usage(json200(ANSWER), "--from", "2027-01-01", "--to", "2027-01-31", "--by", "key,model")
        self.assertEqual(run.exit_code, 0)
        self.assertEqual(
            [line.split() for line in run.output.splitlines()],
            [
                ["key", "model", "requests", "errors", "prompt", "completion", "tokens"],
                ["alice", "qwen/qwen3-8b", "7", "7,000", "7,001", "7,002", "7,003"],
                ["bob", r"[red]\x1b[2J\x9b", "12", "12,000", "12,001", "12,002", "12,003"],
                ["total", "19", "19,000", "19,001", "19,002", "19,003"],
            ],
        )
        target = "/admin/usage?from=2027-01-01&to=2027-01-31&by=key%2Cmodel&format=json"
        self.assertEqual(self.gateway.targets, [target])

    def test_usual(self) -> None:
        """The days are the gateway's to choose where none are named; without rows there is still a total."""
        run = self.usage(json200({**ANSWER, "by": ["day"], "rows": []}))
        self.assertEqual(self.gateway.targets, ["/admin/usage?by=day&format=json"])
        self.assertEqual(run.output.splitlines()[-1].split()[0], "total")

    def test_json(self) -> None:
        """As JSON it is what the gateway said."""
        run = self.usage(json200(ANSWER), "--json")
        self.assertEqual((run.exit_code, json.loads(run.output)), (0, ANSWER))
        self.assertTrue(run.output.isascii())

    def test_csv(self) -> None:
        """As CSV it is what the gateway said, line by line, but for controls."""
        run = self.usage(Said(pieces=("day,requests\r\n2027-01-01,1\r\nä\x1b[2J\x85,2\r\n".encode(),)), "--csv")
        self.assertEqual(run.output, "day,requests\n2027-01-01,1\nä\\x1b[2J\\x85,2\n")
        self.assertEqual(self.gateway.targets, ["/admin/usage?by=day&format=csv"])
        self.assertEqual(self.gateway.asked[0][1]["Accept"], "text/csv")

    def test_refused(self) -> None:
        """What is wrong with the question is told in one line, with 1."""
        fault = {"path": ["from"], "message": "Must be a day such as 2026-01-31."}
        run = self.usage(error(400, {"error": "Validation failed", "details": [fault]}), "--from", "x")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertRegex(run.stderr, r"^Error: .* 400: Validation failed: from: Must be a day such as 2026-01-31\.\n$")

    def test_otherVersion(self) -> None:
        """An answer of another shape is told, not a traceback."""
        for answer in (
            {},
            {**ANSWER, "by": 1},
            {**ANSWER, "rows": [{}]},
            {**ANSWER, "total": {**figures(1), "errors": "x"}},
        ):
            run = self.usage(json200(answer))
            self.assertEqual((run.exit_code, run.stderr.count("\n")), (1, 1), answer)
            self.assertIn("cannot be read", run.stderr)

    def test_choose(self) -> None:
        """It is one form or the other."""
        self.assertEqual(CliRunner(env=NO_SETTINGS).invoke(main, ["usage", "--csv", "--json"]).exit_code, 2)
