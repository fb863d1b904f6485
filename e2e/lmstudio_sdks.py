"""
LM Studio's own libraries against the simulator of LM Studio: ``python e2e/lmstudio_sdks.py``.

What they accept is as near to LM Studio as can be had without it. The libraries, ``lmstudio`` for Python and
``@lmstudio/sdk`` for JavaScript, are installed into ``e2e/.cache``, once. Ends with 1 when a check failed; where a registry
cannot be reached it says so, and skips.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from run import CACHE, HERE, Server, Skip, freePort, install, runChecks

PYTHON = CACHE / "lmstudio-venv" / "bin" / "python"
NODE = CACHE / "lmstudio-node"
PYTHON_REQUIREMENTS = ("lmstudio==1.5.0",)
NODE_REQUIREMENTS = ("@lmstudio/sdk@1.5.0",)
TOKEN = "sk-lm-" + "e2e00000:0123456789abcdefghij"
CAUSE = "no memory left, say the checks"


def installPython() -> None:
    """
    Make the environment of the Python library.

    :raise Skip: no venv module, or PyPI cannot be reached.
    """
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_REQUIREMENTS]
    install(PYTHON.parent.parent, PYTHON_REQUIREMENTS, ([sys.executable, "-m", "venv", "."], pip), "PyPI")


def installNode() -> None:
    """
    Install the JavaScript library.

    :raise Skip: no Node.js, or npm's registry cannot be reached.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Skip("there is no Node.js (Debian: apt-get install nodejs npm)")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text('{"private": true}\n')
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *NODE_REQUIREMENTS]
    install(NODE, NODE_REQUIREMENTS, (command,), "npm's registry")


def startSimulator(folder: Path, name: str, *options: str) -> tuple[Server, str]:
    """
    :param folder: for its log.
    :param name: what tells it from others.
    :return: a simulator and its host and port.
    """
    port = freePort()
    command = [str(Path(sys.executable).with_name("lmgateway")), "simulate", f"--port={port}", *options]
    server = Server(f"the simulator ({name})", command, folder / f"{name}.log", {})
    server.awaitAnswer(f"http://127.0.0.1:{port}/lmstudio-greeting")
    return server, f"127.0.0.1:{port}"


def checkAll(folder: Path) -> bool:
    """
    :param folder: for logs.
    :return: whether everything that could be tried holds.
    """
    _, base = startSimulator(folder, "open", "--load-time=0.6", "--tokens-per-second=200")
    _, locked = startSimulator(folder, "locked", f"--require-token={TOKEN}")
    _, failing = startSimulator(folder, "failing", "--load-time=0.3", f"--fail-load={CAUSE}")
    environment = {
        "E2E_BASE": base,
        "E2E_LOCKED": locked,
        "E2E_FAILING": failing,
        "E2E_CAUSE": CAUSE,
        "E2E_KEY": TOKEN,
        "E2E_UPSTREAM": base,
        "E2E_UPSTREAM_KEY": TOKEN,
        "E2E_GATEWAY": "0",
    }
    holds = []
    for prepare, command, place in (
        (installPython, [str(PYTHON), str(HERE / "checks_lmstudio.py")], folder),
        (installNode, ["node", str(HERE / "checks_lmstudio.mjs")], NODE),
    ):
        try:
            prepare()
        except Skip as reason:
            print(f"skip  {Path(command[-1]).name}: {reason}", flush=True)
        else:
            holds.append(runChecks(command, environment, place))
    return all(holds) and keepsQuiet(folder)


def keepsQuiet(folder: Path, names: Sequence[str] = ("open", "locked", "failing")) -> bool:
    """
    :return: whether no simulator had a defect to tell of.
    """
    told = [name for name in names if b"Traceback" in (folder / f"{name}.log").read_bytes()]
    sentence = "simulator: not one traceback in its output"
    print(f"FAIL  {sentence}\n      {', '.join(told)}" if told else f"ok    {sentence}", flush=True)
    return not told


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, 1 when something failed.
    """
    with tempfile.TemporaryDirectory(prefix="lmgateway-sdks-") as folder:
        try:
            holds = checkAll(Path(folder))
        except RuntimeError as error:
            print(f"FAIL  {error}")
            holds = False
    print("\nEverything holds." if holds else "\nSomething does not hold.")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
