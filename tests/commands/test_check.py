"""``lmgateway check``: every setting with its layer, no secret, and a status for scripts."""

from __future__ import annotations

import io
import json
import os

from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.cli import main
from lmgateway.commands.check import renderJson, renderPlain, renderTable, rowsOf, warningsOf
from lmgateway.configuration.table import SPECS
from lmgateway.settings import Settings, loadSettings
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import selfSigned, temporaryFolder

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=7, max_size=40).map("Q{}".format)
"""Keys and tokens that stand in no output by chance."""


def renderAll(settings: Settings) -> tuple[str, str, str]:
    """The output in each form: plain, JSON, on a terminal."""
    rows, warnings = rowsOf(settings), list(warningsOf(settings))
    terminal = io.StringIO()
    renderTable(rows, warnings, Console(file=terminal, width=200, force_terminal=True))
    return renderPlain(rows, warnings), renderJson(rows, warnings), terminal.getvalue()


class RenderTests(SynchronousTestCase):
    def test_everySetting(self) -> None:
        """Each form has every setting, its value and its layer."""
        settings = loadSettings(environ={"GATEWAY_PORT": "9000", "LMSTUDIO_BASE_URL": "http://[::1]:1234"})
        for output in renderAll(settings):
            for spec in SPECS:
                self.assertIn(spec.key, output)
            for text in ("9000", "variable GATEWAY_PORT", "http://[::1]:1234", "256MB", "75s"):
                self.assertIn(text, output)

    def test_plain(self) -> None:
        """Plain output is a line for each setting, its columns aligned."""
        lines = renderPlain(rowsOf(loadSettings()), []).splitlines()
        self.assertEqual(len(lines), len(SPECS))
        self.assertEqual(len({line.rindex("default") for line in lines}), 1)
        line = lines[[spec.key for spec in SPECS].index("access.requireAuthForHealth")]
        self.assertEqual(line.split(), ["access.requireAuthForHealth", "false", "default"])

    def test_json(self) -> None:
        """JSON has values as the file would have them, and none as null."""
        settings = loadSettings(options={"listen": ["tcp:1"]}, environ={"GATEWAY_API_KEY": "sesame-open"})
        document = json.loads(renderJson(rowsOf(settings), ["Beware."]))
        values = {row["key"]: (row["value"], row["layer"]) for row in document["settings"]}
        self.assertEqual(values["listen.endpoints"], (["tcp:1"], "option --listen"))
        self.assertEqual(values["access.apiKey"], ("set (11 characters)", "variable GATEWAY_API_KEY"))
        self.assertEqual(values["upstream.apiToken"], (None, "default"))
        self.assertEqual(values["limits.headTimeout"], ("10s", "default"))
        self.assertEqual(document["warnings"], ["Beware."])

    def test_hostileName(self) -> None:
        """A folder named with line ends, terminal controls or rich's markup stays on its line, and all of it shows."""
        settings = loadSettings(environ={"GATEWAY_STATE_DIR": "/[red]a\n\x1b[2Jb\ud800"})
        plain, _, terminal = renderAll(settings)
        self.assertEqual(len(plain.splitlines()), len(SPECS))
        for output in (plain, terminal):
            self.assertIn("/[red]a\\n\\x1b[2Jb\\ud800", output)

    @given(SECRETS, SECRETS)
    def test_secrets(self, apiKey: str, apiToken: str) -> None:
        """A secret shows in no form of the output, only its length does."""
        settings = loadSettings(environ={"GATEWAY_API_KEY": apiKey, "LMSTUDIO_API_TOKEN": apiToken})
        self.assertEqual((settings.access.apiKey, settings.upstream.apiToken), (apiKey, apiToken))
        for output in renderAll(settings):
            for secret in (apiKey, apiToken):
                self.assertNotIn(secret, output)
                self.assertNotIn(json.dumps(secret), output)
                self.assertIn(f"set ({len(secret)} characters)", output)


class WarningTests(SynchronousTestCase):
    def warnings(self, *listen: str, **environ: str) -> str:
        """The warnings about settings, in one text."""
        return "\n".join(warningsOf(loadSettings(environ=environ, options={"listen": listen})))

    def test_loopback(self) -> None:
        """There is nothing dubious about the defaults."""
        self.assertEqual(self.warnings(), "")

    def test_noKey(self) -> None:
        """Beyond loopback without a key, one will be generated."""
        self.assertIn("one is generated", self.warnings(GATEWAY_HOST="0.0.0.0"))
        self.assertNotIn("one is generated", self.warnings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY="sesame-open"))

    def test_everybody(self) -> None:
        """Beyond loopback, an allowlist of everybody is dubious."""
        self.assertIn("access.allow is *", self.warnings(GATEWAY_HOST="0.0.0.0", IP_ALLOWLIST="*"))
        self.assertNotIn("access.allow is *", self.warnings(GATEWAY_HOST="0.0.0.0"))

    def test_clear(self) -> None:
        """Beyond loopback, a listener without TLS is dubious, though asked for; one on loopback beside one with TLS is not."""
        plain = {"GATEWAY_TLS": "off", "GATEWAY_ALLOW_PLAIN": "true"}
        self.assertIn("without TLS", self.warnings("tcp:8001", **plain))
        self.assertNotIn("without TLS", self.warnings("tcp:8001"))
        self.assertNotIn("without TLS", self.warnings("tls:/certificates:8443", "tcp:8001:interface=127.0.0.1"))

    def test_noEffect(self) -> None:
        """A port that endpoints replace, and certificates that nobody looks at, have no effect."""
        self.assertIn("listen.port have no effect", self.warnings("tcp:8001:interface=127.0.0.1", GATEWAY_PORT="1"))
        pem = temporaryFolder(self) / "ca.pem"
        pem.write_bytes(selfSigned())
        for url, count in (("http://studio", 1), ("https://studio", 0)):
            settings = loadSettings(options={"ca-file": os.fspath(pem), "lmstudio-base-url": url})
            self.assertEqual("\n".join(warningsOf(settings)).count("caFile has no effect"), count)


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def check(self, *arguments: str, **environ: str) -> Result:
        """Run the command in the test's folder."""
        names = {spec.variable: None for spec in SPECS if spec.variable}
        return CliRunner(env={**names, **environ}).invoke(main, ["check", *arguments])

    def test_layers(self) -> None:
        """Values are told with the file, the .env file or the variable that they came from."""
        config, env = self.folder / "lmgateway.toml", self.folder / "env"
        config.write_text('[limits]\nmaxBody = "1MB"\n')
        env.write_text("GATEWAY_PORT=9000\n")
        result = self.check("--config", str(config), "--env-file", str(env), LOG_LEVEL="debug")
        self.assertEqual(result.exit_code, 0)
        rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
        self.assertEqual(rows["limits.maxBody"].split(maxsplit=1), ["1MB", f"file {config}"])
        self.assertEqual(rows["listen.port"].split(maxsplit=1), ["9000", f"variable GATEWAY_PORT in {env}"])
        self.assertEqual(rows["log.level"].split(maxsplit=1), ["debug", "variable LOG_LEVEL"])

    def test_json(self) -> None:
        """--json prints one JSON document."""
        result = self.check("--json", GATEWAY_HOST="0.0.0.0")
        document = json.loads(result.stdout)
        self.assertEqual([row["key"] for row in document["settings"]], [spec.key for spec in SPECS])
        self.assertTrue(document["warnings"])

    def test_refused(self) -> None:
        """A setting that is not allowed is told in one line, with status 1 and nothing else printed."""
        result = self.check(GATEWAY_PORT="99999")
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertEqual(
            result.stderr,
            'Error: variable GATEWAY_PORT: listen.port = "99999": must be a whole number from 0 to 65535\n',
        )
