"""The options of ``twistd lmgateway``: from the table, checked at once, and read again on demand."""

from __future__ import annotations

import os
from pathlib import Path

from lmgateway.configuration.table import SPECS
from lmgateway.options import Options
from lmgateway.settings import SettingsError
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.subprocesses import runPython

NO_REACTOR = """
import sys
from lmgateway.options import Options
Options({}).parseOptions(["--listen", "tcp6:8001", "--listen", "tls:/certificates"])
print("twisted.internet.reactor" in sys.modules)
"""


class OptionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def parse(self, *arguments: str, **environ: str) -> Options:
        """Parse a command line in an environment."""
        options = Options(environ)
        options.parseOptions(arguments)
        return options

    def refusal(self, *arguments: str, **environ: str) -> str:
        """The one line with which a command line is refused."""
        message = str(self.assertRaises(UsageError, self.parse, *arguments, **environ))
        self.assertEqual(len(message.splitlines()), 1)
        return message

    def test_nothing(self) -> None:
        """Without options the settings are those of the environment."""
        settings = self.parse(GATEWAY_PORT="9000").settings
        self.assertEqual((settings.listen.port, settings.origins["listen.port"]), (9000, "variable GATEWAY_PORT"))

    def test_ownEnvironment(self) -> None:
        """The environment is the process's own unless another is given."""
        self.assertIs(Options()._environ, os.environ)

    def test_everyOption(self) -> None:
        """Every option of the table is one of twistd's, takes a value, and is described with its variable."""
        options = Options({})
        usage = options.getUsage(width=10_000)
        for spec in SPECS:
            if spec.option:
                self.assertIn(f"{spec.option}=", options.longOpt)
                self.assertIn(f"--{spec.option}=", usage)
                self.assertIn(f"[{spec.variable}]" if spec.variable else spec.meaning, usage)

    def test_overrides(self) -> None:
        """An option overrides the environment, and that the file."""
        config = self.folder / "lmgateway.toml"
        config.write_text('[listen]\nport = 1\nhost = "127.0.0.2"\n[log]\nlevel = "warn"\n')
        options = self.parse("--config", str(config), "--port", "3", GATEWAY_PORT="2", LOG_LEVEL="debug")
        listen = options.settings.listen
        self.assertEqual((listen.port, listen.host, options.settings.log.level), (3, "127.0.0.2", "debug"))
        self.assertEqual(options.settings.origins["listen.port"], "option --port")

    def test_repeated(self) -> None:
        """--listen may be given several times, in order; options of another command line do not add up with them."""
        for endpoints in (("tcp:1", "unix:/run/a.sock"), ("tcp:2",)):
            arguments = [argument for endpoint in endpoints for argument in ("--listen", endpoint)]
            self.assertEqual(self.parse(*arguments).settings.listen.endpoints, endpoints)
        self.assertEqual(self.parse("--allow", "::1", "--allow", "10.0.0.1").settings.access.allow, ("::1", "10.0.0.1"))

    def test_environmentFile(self) -> None:
        """An .env file is read only when it is named, and the environment overrides it."""
        path = self.folder / ".env"
        path.write_text("GATEWAY_PORT=1\nLOG_LEVEL=warn\n")
        settings = self.parse("--env-file", str(path), LOG_LEVEL="debug").settings
        self.assertEqual((settings.listen.port, settings.log.level), (1, "debug"))
        self.assertEqual(self.parse("--env-file", "").settings.listen.port, 8001)

    def test_refused(self) -> None:
        """What is not allowed is a usage error of one line, and so is an unknown option or an argument too many."""
        self.assertEqual(
            self.refusal("--port", "99999"),
            'option --port: listen.port = "99999": must be a whole number from 0 to 65535',
        )
        self.assertIn("variable LOG_LEVEL: log.level", self.refusal(LOG_LEVEL="loud\n"))
        self.assertIn("file missing.toml: cannot be read", self.refusal("--config", "missing.toml"))
        self.assertIn("not recognized", self.refusal("--prot", "1"))
        self.assertIn("Wrong number", self.refusal("extra"))

    def test_secretInstead(self) -> None:
        """A key given on the command line, where twistd takes an abbreviated option, is refused and not repeated."""
        for arguments in (
            ("--api-key", "sesame-open"),
            ("--api-key=sesame-open",),
            ("--lmstudio-api-token=sesame-open",),
        ):
            message = self.refusal(*arguments)
            self.assertNotIn("sesame", message)
            self.assertIn("-file: ", message)

    def test_reload(self) -> None:
        """Reading again gives what the files say now, with the same options over them."""
        config, key = self.folder / "lmgateway.toml", self.folder / "key"
        config.write_text('[log]\nlevel = "warn"\n[listen]\nport = 1\n')
        key.write_text("sesame-open")
        options = self.parse("--config", str(config), "--port", "3", "--api-key-file", str(key))
        config.write_text('[log]\nlevel = "debug"\n[listen]\nport = 2\n')
        key.write_text("sesame-shut")
        self.assertEqual(options.settings.log.level, "warn")
        self.assertIs(options.reload(), options.settings)
        settings = options.settings
        self.assertEqual(
            (settings.log.level, settings.listen.port, settings.access.apiKey), ("debug", 3, "sesame-shut")
        )

    def test_reloadRefused(self) -> None:
        """When the files have become wrong, that is told and the settings stay as they were."""
        config = self.folder / "lmgateway.toml"
        config.write_text("[listen]\nport = 1\n")
        options = self.parse("--config", str(config))
        before = options.settings
        config.write_text("[listen]\nport = 99999\n")
        error = self.assertRaises(SettingsError, options.reload)
        self.assertIn("listen.port = 99999", str(error))
        self.assertIs(options.settings, before)

    def test_reloadElsewhere(self) -> None:
        """Reading again finds the files even if the process has changed its folder since, as a daemon does."""
        (self.folder / "lmgateway.toml").write_text('[log]\nfile = "access.log"\n')
        here = Path.cwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder)
        options = self.parse("--config", "lmgateway.toml", "--state-dir", "state")
        before = options.settings
        os.chdir(here)
        self.assertEqual(options.reload(), before)
        self.assertEqual(before.state.directory, str(Path(os.path.realpath(self.folder)) / "state"))

    def test_noReactor(self) -> None:
        """Neither importing nor parsing the options chooses a reactor: twistd's --reactor comes after."""
        self.assertEqual(runPython(NO_REACTOR).strip(), "False")
