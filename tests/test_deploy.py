"""
The files in ``docs/deploy`` against the code and against what reads them; and the gateway, confined as its unit says.

What takes systemd, launchd or Windows itself is not tested here, and the README there says so.
"""

from __future__ import annotations

import http.client
import os
import plistlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from lmgateway.cli import main
from lmgateway.configuration.table import SPECS
from lmgateway.options import Options
from lmgateway.settings import loadSettings
from lmgateway.supervision import SPARE_SECONDS
from lmgateway.tls.folder import TlsFolder
from twisted.scripts import _twistd_unix, _twistw
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import confinement
from tests.confinement import valuesOf
from tests.folders import temporaryFolder
from tests.subprocesses import TWISTD, run, runPython
from tests.test_life import SECONDS, Running, freePort

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
UNIT = DEPLOY / "lmgateway.service"
PLIST = DEPLOY / "local.lmgateway.plist"
SERVICE = DEPLOY / "lmgateway-service.xml"

KEY = "a-key-for-tests"

WHOLE_STOP = loadSettings(environ={}).limits.drainTimeout + SPARE_SECONDS
"""Seconds that a stop may take, where nothing is configured."""

MOST_EXPOSED = 15
"""Tenths: how exposed ``systemd-analyze security`` may find the unit. 100 is the most."""

WINDOWS = """
import importlib, sys
modules = sys.argv[1:]
for name in modules:
    importlib.import_module(name)
# What they stand on is imported; now they come to a machine that has none of this.
for name in [name for name in sys.modules if name.partition(".")[0] == "lmgateway"]:
    del sys.modules[name]
import os, signal, socket, tempfile, types
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, names in {
    os: ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "chown", "fchmod", "fchown", "fork", "getegid", "geteuid", "getuid", "setuid", "sysconf"),
    signal: ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGKILL"),
    socket: ("AF_UNIX", "AF_NETLINK"),
}.items():
    for name in names:
        delattr(module, name)
locked = []
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *call: locked.append(call))
sys.platform = "win32"
for name in modules:
    importlib.import_module(name)
from pathlib import Path
from lmgateway.logfile import RotatingFile
from lmgateway.settings import loadSettings
from lmgateway.statefile import takeFolder
with tempfile.TemporaryDirectory() as folder:
    os.close(takeFolder(Path(folder)))
    file = RotatingFile(Path(folder) / "log", rotateSize=100, keep=1)
    file.write(b"a line\\n")
    file.close()
print(len(locked), loadSettings(environ={}).limits.maxConnections)
"""


def twistdOptions(parser: Any, arguments: list[str]) -> list[str]:
    """Have a ``twistd`` take its own options of a command line; those of ``lmgateway`` are left."""
    own, ours = arguments[: arguments.index("lmgateway")], arguments[arguments.index("lmgateway") + 1 :]
    options = parser.ServerOptions()
    options.parseOptions(own)
    assert options["nodaemon"]
    return ours


class CommandLineTests(SynchronousTestCase):
    """What the services start."""

    def check(self, parser: Any, arguments: list[str], environ: Any) -> None:
        """A command line and variables that the code knows."""
        ours = twistdOptions(parser, arguments)
        self.assertEqual(ours[0], "--config")
        file = temporaryFolder(self) / "lmgateway.toml"
        file.write_text("")
        Options().parseOptions([ours[0], str(file), *ours[2:]])
        known = {spec.variable for spec in SPECS} | {"PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"}
        self.assertEqual(set(environ) - known, set())
        self.assertIn("GATEWAY_STATE_DIR", environ)

    def test_unit(self) -> None:
        """The unit starts ``twistd`` with options that there are, and waits for as long as a stop may take."""
        unit = UNIT.read_text("utf-8")
        command = shlex.split(valuesOf(unit, "ExecStart")[0])
        self.assertEqual(Path(command[0]).name, "twistd")
        environ = [each.partition("=")[0] for line in valuesOf(unit, "Environment") for each in line.split()]
        self.check(_twistd_unix, command[1:], environ)
        self.assertGreaterEqual(float(valuesOf(unit, "TimeoutStopSec")[0].removesuffix("s")), WHOLE_STOP)
        self.assertEqual(valuesOf(unit, "UMask"), ["0077"])

    def test_confined(self) -> None:
        """The unit's process is nobody else's user, gains no rights, writes nowhere but in its folder, and has a limit of memory."""
        unit = UNIT.read_text("utf-8")
        for name, value in (
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("CapabilityBoundingSet", ""),
            ("AmbientCapabilities", ""),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("PrivateTmp", "yes"),
        ):
            self.assertEqual(valuesOf(unit, name), [value], name)
        self.assertTrue(valuesOf(unit, "MemoryMax") and valuesOf(unit, "LimitNOFILE"))

    def test_plist(self) -> None:
        """The list for launchd is one, has a user of its own, and the same command and time."""
        plist = plistlib.loads(PLIST.read_bytes())
        self.assertEqual(plist["Label"], PLIST.stem)
        command = plist["ProgramArguments"]
        self.assertEqual(Path(command[0]).name, "twistd")
        self.check(_twistd_unix, command[1:], plist["EnvironmentVariables"])
        self.assertGreaterEqual(plist["ExitTimeOut"], WHOLE_STOP)
        self.assertEqual((plist["UserName"], plist["Umask"]), ("_lmgateway", 0o077))
        self.assertEqual((plist["RunAtLoad"], plist["KeepAlive"]), (True, {"SuccessfulExit": False}))

    def test_windows(self) -> None:
        """WinSW's file is XML, has an account without rights, and a command and time that do on Windows."""
        service = ET.fromstring(SERVICE.read_text("utf-8").partition("?>")[2])  # noqa: S314 - our own file
        self.assertEqual(service.tag, "service")
        known = {"id", "name", "description", "executable", "arguments", "workingdirectory", "env", "serviceaccount"}
        known |= {"startmode", "stoptimeout", "onfailure", "resetfailure", "logpath", "log"}
        self.assertEqual({each.tag for each in service} - known, set())
        environ = [each.get("name") for each in service.iter("env")]
        self.check(_twistw, (service.findtext("arguments") or "").split(), environ)
        self.assertGreaterEqual(float((service.findtext("stoptimeout") or "").removesuffix(" sec")), WHOLE_STOP)
        self.assertEqual(service.findtext("serviceaccount/user"), "LocalService")


class ReadmeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (DEPLOY / "README.md").read_text("utf-8")

    def test_files(self) -> None:
        """Every file of the folder is explained, and what it links to is there."""
        for path in DEPLOY.iterdir():
            self.assertTrue(path.name == "README.md" or path.name in self.text, path.name)
        for link in re.findall(r"\]\(([^)#:]+)\)", self.text):
            self.assertTrue((DEPLOY / link).exists(), link)

    def test_commands(self) -> None:
        """The subcommands in it exist."""
        named = set(re.findall(r"bin/lmgateway (\w+)", self.text))
        self.assertIn("doctor", named)
        self.assertEqual(named - set(main.list_commands(None)), set())  # type: ignore[arg-type]

    def test_paths(self) -> None:
        """It makes the folders that the services use."""
        plist = plistlib.loads(PLIST.read_bytes())
        for path in (plist["WorkingDirectory"], str(Path(plist["StandardOutPath"]).parent), "/opt/lmgateway"):
            self.assertIn(path, self.text)


class UnitTests(SynchronousTestCase):
    """What systemd says of the unit."""

    def analyze(self, *arguments: str) -> str:
        """Ask ``systemd-analyze`` about the unit, with a ``twistd`` that is there."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("there is no systemd-analyze")
        unit = temporaryFolder(self) / UNIT.name
        unit.write_text(UNIT.read_text("utf-8").replace("/opt/lmgateway/bin/twistd", sys.executable), "utf-8")
        done = subprocess.run(  # noqa: S603 - our own commands
            ["systemd-analyze", *arguments, str(unit)],  # noqa: S607 - wherever the system has it
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_sound(self) -> None:
        """It has nothing to complain of."""
        self.assertEqual(self.analyze("verify"), "")

    def test_exposure(self) -> None:
        """It finds little that a break-in could use."""
        self.analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}")


class ConfinedTests(SynchronousTestCase):
    def test_serves(self) -> None:
        """
        The unit leaves the gateway all that it needs: it makes its certificate, tells that it is ready, stores a key, answers over
        TLS, reads its configuration again and ends in good order.
        """
        if (reason := confinement.reason()) is not None:
            raise SkipTest(reason)
        folder, port = temporaryFolder(self), freePort()
        config = folder / "lmgateway.toml"
        config.write_text(f'[listen]\nendpoints = ["tcp:{port}:interface=127.0.0.1"]\ntls = "on"\n')
        (folder / "state").mkdir()
        folder.chmod(0o755)
        if confinement.becomesNobody():
            os.chown(folder / "state", confinement.NOBODY, confinement.NOBODY)
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(str(folder / "notify"))
        (folder / "notify").chmod(0o777)
        manager.settimeout(SECONDS)
        environ = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "GATEWAY_API_KEY": KEY,
            "GATEWAY_STATE_DIR": str(folder / "state"),
            "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{freePort()}",
        }
        command = [sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "lmgateway", "--config", str(config)]
        with Running(confinement.__file__, str(UNIT), *command, environ=environ) as gateway:
            gateway.until("Serving at https")
            self.assertIn(b"READY=1", manager.recv(4096))
            status = Path(f"/proc/{gateway.process.pid}/status").read_text("utf-8")
            self.assertEqual(re.findall(r"^(?:NoNewPrivs|Seccomp):\s+(\d)", status, re.MULTILINE), ["1", "2"])
            self.assertEqual(re.findall(r"^CapEff:\s+(\w+)", status, re.MULTILINE), ["0" * 16])
            authority = TlsFolder(str(folder / "state")).authority()
            assert authority is not None
            context = ssl.create_default_context(cadata=authority.certificatePem.decode())
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
            self.addCleanup(connection.close)
            fields = {"X-API-Key": KEY, "Content-Type": "application/json"}
            for method, path, body, expected in (
                ("POST", "/admin/keys", b'{"name": "alice"}', 201),
                ("GET", "/debug/metrics", None, 200),
                ("GET", "/v1/models", None, 503),
            ):
                connection.request(method, path, body, fields)
                answer = connection.getresponse()
                answer.read()
                self.assertEqual(answer.status, expected, path)
            gateway.process.send_signal(signal.SIGHUP)
            gateway.until("was read again")
            self.assertEqual(gateway.end(signal.SIGTERM)[0], 0)

    def test_confined(self) -> None:
        """What a confined process is refused, so that the test before means something."""
        if (reason := confinement.reason()) is not None:
            raise SkipTest(reason)
        probe = (
            "import os, socket\n"
            "for refused in (lambda: socket.socket(socket.AF_PACKET), lambda: os.chroot('/'), lambda: os.nice(-1)):\n"
            "    try:\n        refused()\n    except PermissionError:\n        print('refused')\n"
            "socket.socket(socket.AF_INET).close()"
        )
        said = run(sys.executable, confinement.__file__, str(UNIT), sys.executable, "-c", probe)
        self.assertEqual(said.split(), ["refused"] * 3)


class WindowsTests(SynchronousTestCase):
    def test_imports(self) -> None:
        """
        Nothing needs what Windows lacks in order to be imported, to own its state folder, to log and to know its limits. This pretends
        to be Windows, in a fresh interpreter; it is no Windows.
        """
        root = Path(loadSettings.__code__.co_filename).parent
        names = [".".join(("lmgateway", *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")]
        modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
        self.assertGreater(len(modules), 100)
        self.assertEqual(runPython(WINDOWS, *modules).split(), ["1", "224"])
