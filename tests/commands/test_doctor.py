"""``lmgateway doctor`` as a whole."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, json200
from tests.folders import temporaryFolder


class DoctorTests(SynchronousTestCase):
    def doctor(self, *options: str, **environ: str) -> Result:
        """Ask it, with a state folder of the test's and a port that is free."""
        folder = str(temporaryFolder(self) / "state")
        given = {**NO_SETTINGS, "GATEWAY_STATE_DIR": folder, "GATEWAY_PORT": "0", **environ}
        return CliRunner(env=given).invoke(main, ["doctor", *options])

    def lmStudio(self) -> str:
        """An LM Studio that is well."""
        return LittleGateway(self, {"/v1/models": [json200({"data": []})]}).url

    def test_well(self) -> None:
        """Where nothing is wrong it says so of each thing, and exits with 0."""
        run = self.doctor(LMSTUDIO_BASE_URL=self.lmStudio())
        self.assertEqual(run.exit_code, 0, run.output)
        self.assertIn("ok      LM Studio: LM Studio answers at", run.output)
        self.assertTrue(run.output.endswith("\n0 errors, 0 warnings\n"), run.output)

    def test_wrong(self) -> None:
        """Where something is wrong, that comes last, with what to do; it exits with 1."""
        run = self.doctor(LMSTUDIO_BASE_URL="http://127.0.0.1:1")
        self.assertEqual(run.exit_code, 1)
        *_, wrong, remedy, counts = run.output.splitlines()
        self.assertIn("does not answer at http://127.0.0.1:1 (Connection refused).", wrong)
        self.assertIn("lms server start", remedy)
        self.assertEqual(counts, "1 error, 0 warnings")

    def test_json(self) -> None:
        """As JSON there is an object for each thing; what the settings warn of is among them."""
        run = self.doctor("--json", LMSTUDIO_BASE_URL=self.lmStudio(), GATEWAY_HOST="0.0.0.0", IP_ALLOWLIST="*")
        findings = json.loads(run.output)["findings"]
        self.assertEqual({tuple(each) for each in findings}, {("level", "subject", "message", "remedy")})
        warnings = [each["message"] for each in findings if each["subject"] == "settings"]
        self.assertEqual(len(warnings), 2, warnings)
        self.assertEqual(run.exit_code, 0, run.output)

    def test_settings(self) -> None:
        """Settings that are not allowed are an error by themselves."""
        run = self.doctor(GATEWAY_PORT="x")
        self.assertEqual(run.exit_code, 1)
        self.assertIn("GATEWAY_PORT", run.output)
        self.assertEqual(run.output.count("\n"), 3)
