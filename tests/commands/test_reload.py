"""``lmgateway reload`` against a little gateway."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200


class ReloadTests(SynchronousTestCase):
    def run_(self, said: Said, *arguments: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(self, {"/admin/reload": [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["reload", "--url", self.gateway.url, *arguments])

    def told(self, **members: Any) -> str:
        """What is printed of this answer, to an exit status of 0."""
        run = self.run_(json200({"status": "reloaded", **members}))
        self.assertEqual(run.exit_code, 0)
        self.assertEqual(self.gateway.orders(), [("/admin/reload", {})])
        return run.output

    def test_changed(self) -> None:
        """What has changed is told, and what counts later only on a line of its own."""
        self.assertEqual(
            self.told(changed=["log.level", "access.allow"], needsRestart=["listen.port"]),
            "The configuration was read again. Changed: log.level, access.allow.\nOnly after a restart: listen.port.\n",
        )

    def test_nothing(self) -> None:
        """That nothing has changed is told as well."""
        self.assertEqual(
            self.told(changed=[], needsRestart=[]), "The configuration was read again. No setting has changed.\n"
        )

    def test_hostile(self) -> None:
        """Whatever answers drives no terminal."""
        self.assertNotIn("\x1b", self.told(changed=["\x1b[2J"], needsRestart="all"))

    def test_json(self) -> None:
        """The answer as it is, where that is wanted."""
        answer = {"status": "reloaded", "changed": [], "needsRestart": []}
        self.assertEqual(json.loads(self.run_(json200(answer), "--json").output), answer)

    def test_refused(self) -> None:
        """A bad configuration ends the command with 1, and with the reason."""
        said = "The configuration was not read again; the old one stays: file lmgateway.toml: access.nothing is unknown"
        run = self.run_(error(409, {"error": said}), "--json")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertIn(said, run.stderr)
