"""``lmgateway audit`` against a little gateway, and against a state folder."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.audit import AUDIT_FILE
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200
from tests.folders import temporaryFolder

LINES = [
    {
        "time": "2027-01-15T08:00:01.000Z",
        "action": "keys.add",
        "outcome": "refused",
        "status": 403,
        "client": "10.0.0.7",
        "key": "[red]\x1b[2J",
        "requestId": "req_2",
        "target": "/admin/keys",
        "omitted": 7,
    },
    {"time": "2027-01-15T08:00:00.000Z", "action": "start", "outcome": "done"},
]


class AuditTests(SynchronousTestCase):
    def ask(self, said: Said, *options: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(self, {"/admin/audit": [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["audit", "--url", self.gateway.url, *options])

    def test_table(self) -> None:
        """Each line is a line; what somebody else wrote drives no terminal; what has no line is counted."""
        run = self.ask(json200({"lines": LINES, "truncated": True}), "--limit", "5", "--action", "keys", "--key", "a b")
        self.assertEqual(run.exit_code, 0, run.output)
        heading, refused, start = run.stdout.splitlines()
        self.assertEqual(heading.split(), ["time", "action", "target", "outcome", "key", "from", "request"])
        self.assertIn("refused (403), and 7 more before", refused)
        self.assertIn(r"[red]\x1b[2J", refused)
        self.assertEqual(start.split(), ["2027-01-15T08:00:00.000Z", "start", "-", "done", "-", "-", "-"])
        self.assertIn("older lines", run.stderr)
        self.assertEqual(self.gateway.targets, ["/admin/audit?limit=5&action=keys&key=a+b"])

    def test_json(self) -> None:
        """As JSON it is what the gateway said."""
        answer = {"lines": LINES, "truncated": False}
        run = self.ask(json200(answer), "--json")
        self.assertEqual((run.exit_code, json.loads(run.output)), (0, answer))

    def test_refused(self) -> None:
        """A refusal is one line, with 1; an answer of another shape likewise."""
        for said in (error(403, {"error": "This needs the scope admin."}), json200({}), json200({"lines": [1]})):
            run = self.ask(said)
            self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "", 1), run.stderr)

    def test_offline(self) -> None:
        """The state folder can be read without a gateway: what was done to keys there is in it, and no secret is."""
        folder = str(temporaryFolder(self))
        environ: dict[str, Any] = {**NO_SETTINGS, "GATEWAY_STATE_DIR": folder}
        runner = CliRunner(env=environ)
        secret = runner.invoke(main, ["keys", "add", "alice", "--quiet", "--offline"]).stdout.strip()
        for words in (
            ["change", "alice", "--parallel", "2"],
            ["rotate", "alice"],
            ["revoke", "alice"],
            ["add", "x", "--model", ""],
        ):
            runner.invoke(main, ["keys", *words, "--offline"])
        for options in (["--offline"], ["--state-dir", folder]):
            lines = json.loads(runner.invoke(main, ["audit", "--json", *options]).stdout)["lines"]
            told = [(line["action"], line["outcome"], line["key"]) for line in lines]
            acts = [(f"keys.{what}", "done", "state folder") for what in ("revoke", "rotate", "change", "add")]
            self.assertEqual(told, [("keys.add", "failed", "state folder"), *acts])
        self.assertEqual((lines[3]["before"]["parallel"], lines[3]["after"]["parallel"]), (None, 2))
        self.assertTrue(secret.startswith("lmg_"))
        self.assertNotIn(secret, json.dumps(lines))

    def test_noFolder(self) -> None:
        """A folder that is not there, or cannot be read, is told in one line."""
        folder = temporaryFolder(self)
        run = CliRunner(env=NO_SETTINGS).invoke(main, ["audit", "--state-dir", str(folder / "none")])
        self.assertEqual((run.exit_code, run.stderr.count("\n")), (1, 1))
        self.assertIn("There is no state folder", run.stderr)
        (folder / AUDIT_FILE).mkdir()
        run = CliRunner(env=NO_SETTINGS).invoke(main, ["audit", "--state-dir", str(folder)])
        self.assertEqual((run.exit_code, run.stderr.count("\n")), (1, 1))
        self.assertIn("cannot be read", run.stderr)

    def test_unwritable(self) -> None:
        """An act on the folder that cannot be told in the audit says so, with 1."""
        folder = temporaryFolder(self)
        (folder / AUDIT_FILE).mkdir()
        run = CliRunner(env=NO_SETTINGS).invoke(main, ["keys", "add", "alice", "--state-dir", str(folder)])
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertIn("could not be written to the gateway's audit", run.stderr)
