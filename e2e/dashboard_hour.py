"""
The dashboard in a Chromium, open for an hour: ``python e2e/dashboard_hour.py [--minutes 60]``.

Two requests a second go through the gateway meanwhile, half of them streamed; the page shows Events, Charts and Now in turn.
Prints each minute what the page and the gateway hold, and at the end by how much that grows in an hour. Ends with 1 where it
grows by more than a tenth.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from dashboard import NODE, gatewayStarter, installNode, startSimulator
from run import CACHE, HERE, Skip, findChromium, freePort

FILLS_SOON = 'journalSize = "256KB"\n'
"""The journal holds 8 MB unless it is told otherwise, and would fill all the time."""


def watch(folder: Path, chromium: str, minutes: int) -> bool:
    """
    :param folder: for logs and state.
    :return: whether everything stays as large as it is.
    """
    port, key = freePort(), "e2e-" + secrets.token_hex(24)
    gateway = gatewayStarter(folder, startSimulator(folder), key, port, FILLS_SOON)()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE),
        "E2E_BASE": f"http://127.0.0.1:{port}",
        "E2E_KEY": key,
        "E2E_CHROMIUM": chromium,
        "E2E_PID": str(gateway.pid),
        "E2E_MINUTES": str(minutes),
    }
    done = subprocess.run(["node", str(HERE / "checks_dashboard_hour.mjs")], cwd=NODE, env=environment, check=False)  # noqa: S603, S607 - our own checks
    gateway.stop()
    return done.returncode == 0


def main() -> int:
    """
    :return: 0 when everything is steady or could not be tried, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="how long (default: 60)")
    minutes = parser.parse_args().minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        installNode()
        chromium = findChromium()
    except Skip as reason:
        print(f"skip  the dashboard: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="lmgateway-e2e-") as folder:
        isSteady = watch(Path(folder), chromium, minutes)
    print("Steady." if isSteady else "Not steady.")
    return 0 if isSteady else 1


if __name__ == "__main__":
    sys.exit(main())
