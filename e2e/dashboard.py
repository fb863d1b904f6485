"""
The dashboard in a Chromium, before a gateway with the simulator behind it: ``make e2e``, or ``python e2e/dashboard.py``.

Its screenshots are in ``e2e/.cache/shots`` afterwards. Ends with 1 when a check failed; where a registry cannot be reached,
or there is no browser, it says so, and skips.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from run import CACHE, HERE, Server, Skip, findChromium, freePort, install

NODE = CACHE / "dashboard"
SHOTS = CACHE / "shots"
REQUIREMENTS = ("puppeteer-core@^24", "axe-core@^4")
BIN = Path(sys.executable).parent
CONFIG = '[debug]\ncapture = ["*"]\n'


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
    command = [str(BIN / "lmgateway"), "simulate", "--port", str(port), "--load-time", "4"]
    Server("the simulator", command, folder / "simulator.log", {}).awaitAnswer(f"http://127.0.0.1:{port}/v1/models")
    return f"http://127.0.0.1:{port}"


def gatewayStarter(folder: Path, upstream: str, key: str, port: int) -> Callable[[], Server]:
    """
    :return: starts a gateway, each time at the same address and with the same state.
    """
    config = folder / "lmgateway.toml"
    config.write_text(CONFIG)
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


def runChecks(start: Callable[[], Server], environment: Mapping[str, str]) -> bool:
    """
    Run the checks, and stop and start the gateway as they ask.

    :return: whether all of them hold.
    """
    gateway = start()
    node = subprocess.Popen(  # noqa: S603 - our own checks
        [shutil.which("node") or "node", str(HERE / "checks_dashboard.mjs")],
        cwd=NODE,
        env={"PATH": str(BIN), "HOME": str(CACHE), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert node.stdin is not None and node.stdout is not None  # noqa: PT018 - pipes, as ordered
    for line in node.stdout:
        if line.startswith("@"):
            if line.strip() == "@stop":
                gateway.stop()
            else:
                gateway = start()
            node.stdin.write("done\n")
            node.stdin.flush()
        else:
            print(line, end="", flush=True)
    holds = node.wait() == 0
    gateway.stop()
    return holds


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, 1 when something failed.
    """
    try:
        installNode()
        chromium = findChromium()
    except Skip as reason:
        print(f"skip  the dashboard: {reason}")
        return 0
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="lmgateway-e2e-") as name:
        folder, port, key = Path(name), freePort(), "e2e-" + secrets.token_hex(24)
        try:
            start = gatewayStarter(folder, startSimulator(folder), key, port)
            environment = {
                "E2E_BASE": f"http://127.0.0.1:{port}",
                "E2E_KEY": key,
                "E2E_CHROMIUM": chromium,
                "E2E_SHOTS": str(SHOTS),
            }
            holds = runChecks(start, environment)
        except RuntimeError as error:
            print(f"FAIL  {error}")
            holds = False
        if not holds and (log := folder / "gateway.log").exists():
            print("\nThe end of the gateway's log:", *log.read_text(errors="replace").splitlines()[-25:], sep="\n  ")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
