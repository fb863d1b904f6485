"""
The dashboard in a Chromium, before a gateway with the simulator behind it: ``make e2e``, or ``python e2e/dashboard.py``.

Its screenshots are in ``e2e/.cache/shots`` afterwards. Ends with 1 when a check failed; where a registry cannot be reached,
or there is no browser, it says so, and skips.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from run import CACHE, HERE, Server, Skip, findChromium, freePort, install

NODE = CACHE / "dashboard"
SHOTS = CACHE / "shots"
REQUIREMENTS = ("puppeteer-core@^24", "axe-core@^4")
BIN = Path(sys.executable).parent
SCRIPTS = (
    ("checks_dashboard.mjs",),
    ("checks_dashboard_states.mjs", "--no-models"),
    ("checks_dashboard_access.mjs",),
    ("checks_dashboard_modes.mjs", "--no-api-v1", "--no-sdk"),
)
"""The checks, and the options of the simulator that they begin with."""
CONFIG = '[upstream]\nstrictModels = false\n[debug]\ncapture = ["*"]\n'


def installNode() -> None:
    """
    Install what drives the browser, and axe-core.

    :raise Skip: no Node.js, or npm's registry cannot be reached.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Skip("there is no Node.js (Debian: apt-get install nodejs npm)")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text('{"private": true}\n')
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *REQUIREMENTS]
    install(NODE, REQUIREMENTS, (command,), "npm's registry")


def startSimulator(folder: Path) -> str:
    """
    :return: the address of a simulator that takes its time to load models.
    """
    port = freePort()
    simulator(folder, port)
    return f"http://127.0.0.1:{port}"


def simulator(folder: Path, port: int, *options: str) -> Server:
    """
    :return: a simulator that answers.
    """
    command = [str(BIN / "lmgateway"), "simulate", "--port", str(port), "--load-time", "4", *options]
    server = Server("the simulator", command, folder / "simulator.log", {})
    server.awaitAnswer(f"http://127.0.0.1:{port}/v1/models")
    return server


def gatewayStarter(folder: Path, upstream: str, key: str, port: int, settings: str = "") -> Callable[[], Server]:
    """
    :param settings: lines of its configuration, beside the usual ones.
    :return: starts a gateway, each time at the same address and with the same state.
    """
    config = folder / "lmgateway.toml"
    config.write_text(CONFIG + settings)
    environment = {
        "LMSTUDIO_BASE_URL": upstream,
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "GATEWAY_API_KEY": key,
        "GATEWAY_STATE_DIR": str(folder / "state"),
    }

    def start() -> Server:
        command = [str(BIN / "twistd"), "-n", "--pidfile=", "lmgateway", "--config", str(config)]
        server = Server("the gateway", command, folder / "gateway.log", environment)
        server.awaitAnswer(f"http://127.0.0.1:{port}/health")
        return server

    return start


class Stage:
    """
    The servers of the checks, stopped and started as these ask.

    :param folder: for logs and state.
    :param options: of the simulator.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.port, self.key = freePort(), "e2e-" + secrets.token_hex(24)
        self._studioPort = freePort()
        self._studio: Server | None = simulator(folder, self._studioPort, *options)
        self._start = gatewayStarter(folder, f"http://127.0.0.1:{self._studioPort}", self.key, self.port)
        self._gateway: Server | None = self._start()

    def do(self, asked: str) -> None:
        """
        Do what the checks ask: ``stop`` and ``start`` the gateway, have LM Studio ``studio down`` and ``studio full`` of models.
        """
        if asked == "start":
            self._gateway = self._start()
        elif asked == "stop":
            self._gateway = self._end(self._gateway)
        else:
            self._studio = self._end(self._studio)
            if asked == "studio full":
                self._studio = simulator(self.folder, self._studioPort)

    def stop(self) -> None:
        """End all of it."""
        self._gateway, self._studio = self._end(self._gateway), self._end(self._studio)

    @staticmethod
    def _end(server: Server | None) -> None:
        if server is not None:
            server.stop()


def runChecks(stage: Stage, script: str, chromium: str) -> bool:
    """
    :return: whether all checks of a script hold.
    """
    environment = {
        "PATH": str(BIN),
        "HOME": str(CACHE),
        "E2E_BASE": f"http://127.0.0.1:{stage.port}",
        "E2E_KEY": stage.key,
        "E2E_CHROMIUM": chromium,
        "E2E_SHOTS": str(SHOTS),
    }
    node = subprocess.Popen(  # noqa: S603 - our own checks
        [shutil.which("node") or "node", str(HERE / script)],
        cwd=NODE,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdin is not None and node.stdout is not None  # noqa: PT018 - pipes, as ordered
    for line in node.stdout:
        if line.startswith("@"):
            stage.do(line[1:].strip())
            node.stdin.write("done\n")
            node.stdin.flush()
        else:
            print(line, end="", flush=True)
    return node.wait() == 0


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, 1 when something failed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="WORD", help="only the scripts whose names have this word")
    arguments = parser.parse_args()
    try:
        installNode()
        chromium = findChromium()
    except Skip as reason:
        print(f"skip  the dashboard: {reason}")
        return 0
    if not arguments.only:
        shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True, exist_ok=True)
    holds = True
    with tempfile.TemporaryDirectory(prefix="lmgateway-e2e-") as name:
        for script, *options in SCRIPTS:
            if arguments.only and arguments.only not in script:
                continue
            folder = Path(name) / script
            try:
                stage = Stage(folder, *options)
                isGood = runChecks(stage, script, chromium)
                stage.stop()
            except RuntimeError as error:
                print(f"FAIL  {error}")
                isGood = False
            if not isGood and (log := folder / "gateway.log").exists():
                print(
                    "\nThe end of the gateway's log:", *log.read_text(errors="replace").splitlines()[-25:], sep="\n  "
                )
            holds = holds and isGood
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
