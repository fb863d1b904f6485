"""``lmgateway activate`` and ``deactivate`` against a little gateway."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200

ACTIVATED = {"status": "activated", "modelKey": "qwen", "message": "Requests that name no model now go to qwen."}
CLEARED = {"status": "cleared", "message": "No model is active: requests must name one."}


class ActivateTests(SynchronousTestCase):
    def run_(self, said: Said, command: str, *arguments: str) -> Result:
        """Order it of a gateway that says this."""
        self.gateway = LittleGateway(self, {f"/admin/models/{command}": [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, [command, "--url", self.gateway.url, *arguments])

    def test_plain(self) -> None:
        """Only what is said is sent."""
        run = self.run_(json200(ACTIVATED), "activate", "qwen")
        self.assertEqual((run.exit_code, run.output), (0, "Requests that name no model now go to qwen.\n"))
        self.assertEqual(self.gateway.orders(), [("/admin/models/activate", {"modelKey": "qwen"})])
        self.assertEqual(self.gateway.asked[0][1]["Content-Type"], "application/json")

    def test_everything(self) -> None:
        """Each option is sent by the gateway's name for it, a zero as well as any other."""
        options = (
            "qwen --as qwen:2 --temperature 0 --max-tokens 500 --top-p 0.9 --top-k 0 --repeat-penalty 1.1 "
            "--stop END --stop ### --no-stream"
        )
        self.run_(json200(ACTIVATED), "activate", *options.split())
        defaults = {
            "temperature": 0.0,
            "maxTokens": 500,
            "topP": 0.9,
            "topK": 0,
            "repeatPenalty": 1.1,
            "stopStrings": ["END", "###"],
            "stream": False,
        }
        order = {"modelKey": "qwen", "instanceId": "qwen:2", "defaultInference": defaults}
        self.assertEqual(self.gateway.orders(), [("/admin/models/activate", order)])

    def test_range(self) -> None:
        """What is out of range is refused before anybody is asked."""
        run = self.run_(json200(ACTIVATED), "activate", "qwen", "--temperature", "2.1")
        self.assertEqual((run.exit_code, self.gateway.asked), (2, []))

    def test_deactivate(self) -> None:
        """No model is active after that, which is told, as JSON where it is wanted."""
        run = self.run_(json200(CLEARED), "deactivate")
        self.assertEqual((run.exit_code, run.output), (0, f"{CLEARED['message']}\n"))
        self.assertEqual(self.gateway.orders(), [("/admin/models/deactivate", {})])
        run = self.run_(json200(CLEARED), "deactivate", "--json")
        self.assertEqual(json.loads(run.output), CLEARED)

    def test_refused(self) -> None:
        """What the gateway does not do ends the command with 1, and its near matches are told."""
        said = {"error": 'There is no model "qwem". Near it: qwen\x1b[2J.', "details": None}
        run = self.run_(error(404, said), "activate", "qwem", "--json")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertIn(r'There is no model "qwem". Near it: qwen\x1b[2J.', run.stderr)
