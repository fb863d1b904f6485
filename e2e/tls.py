"""
The gateway's TLS, looked at by sslyze and used by real clients: ``python e2e/tls.py [--scan | --clients]``.

A gateway in front of the built-in simulator makes its own certificates. sslyze compares what it speaks with Mozilla's
guideline for servers ("intermediate"), once trusting the gateway's authority and once not. Then the OpenAI libraries for Python
and Node.js, and Chromium, use it with the authority trusted as ``lmgateway tls show`` says. What is needed is installed into
``e2e/.cache``, once. Ends with 1 when something does not hold; what cannot be had is skipped, and said.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from run import (
    CACHE,
    HERE,
    NODE,
    VENV_PYTHON,
    Server,
    Skip,
    findChromium,
    freePort,
    install,
    installNode,
    installPython,
)

SCANNER = CACHE / "sslyze"
SCANNER_REQUIREMENTS = ("sslyze>=6.3",)
SCAN_SECONDS = 300
NSS = ("apt-get", "-qq", "install", "--yes", "--no-install-recommends", "libnss3-tools")


def startSimulator(folder: Path) -> str:
    """
    :return: the address of what takes LM Studio's place.
    """
    port = freePort()
    command = [
        str(Path(sys.executable).with_name("lmgateway")),
        "simulate",
        "--port",
        str(port),
        "--tokens-per-second",
        "0",
    ]
    Server("the simulator", command, folder / "simulator.log", {}).awaitAnswer(f"http://127.0.0.1:{port}/v1/models")
    return f"http://127.0.0.1:{port}"


def startGateway(folder: Path, upstream: str, key: str) -> tuple[str, Path]:
    """
    Start a gateway with TLS on loopback.

    :return: the address with TLS, and the file of the authority.
    """
    secured = freePort()
    config = folder / "lmgateway.toml"
    # Two years, which is what Mozilla's guideline asks for; the gateway sends no such field unless it is told to.
    config.write_text('[tls]\nhsts = "17520h"\n')
    command = [
        str(Path(sys.executable).with_name("twistd")),
        "-n",
        "--pidfile=",
        "lmgateway",
        f"--config={config}",
        f"--listen=tcp:{secured}:interface=127.0.0.1",
        "--tls=on",
    ]
    environment = {
        "LMSTUDIO_BASE_URL": upstream,
        "GATEWAY_API_KEY": key,
        "GATEWAY_STATE_DIR": str(folder / "state"),
    }
    gateway = Server("the gateway", command, folder / "gateway.log", environment)
    authority = folder / "state" / "tls" / "ca.crt"
    os.environ["SSL_CERT_FILE"] = str(authority)
    gateway.awaitAnswer(f"https://127.0.0.1:{secured}/health")
    del os.environ["SSL_CERT_FILE"]
    return f"https://127.0.0.1:{secured}", authority


def scan(base: str, authority: Path) -> bool:
    """
    :return: whether sslyze finds nothing with the authority trusted, and nothing but the authority without.
    """
    python = SCANNER / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *SCANNER_REQUIREMENTS]
    install(SCANNER, SCANNER_REQUIREMENTS, ([sys.executable, "-m", "venv", "."], pip), "PyPI")
    command = [str(python), "-m", "sslyze", "--mozilla_config=intermediate"]
    target = base.removeprefix("https://")
    holds = True
    for trusting, wanted in ((True, set()), (False, {"certificate_path_validation"})):
        trust = [f"--certinfo_ca_file={authority}"] if trusting else []
        done = subprocess.run(  # noqa: S603 - our own scan
            [*command, *trust, target], capture_output=True, text=True, timeout=SCAN_SECONDS, check=False
        )
        verdict = done.stdout[done.stdout.rfind("COMPLIANCE AGAINST") :].strip() or done.stderr
        found = {line.split(":")[0].strip(" *") for line in verdict.splitlines() if line.strip().startswith("* ")}
        good = found == wanted and done.returncode == (0 if trusting else 1)
        sentence = "nothing, with the authority trusted" if trusting else "nothing but that the authority is private"
        print(f"{'ok   ' if good else 'FAIL '} sslyze, Mozilla's intermediate: finds {sentence}", flush=True)
        print("\n".join(f"      {line}" for line in verdict.splitlines()), flush=True)
        holds = holds and good
    return holds


def useFromPython(environment: dict[str, str]) -> bool:
    """
    :return: whether OpenAI's library for Python talks to the gateway, trusting its authority by ``SSL_CERT_FILE``.
    """
    return _clientHolds([str(VENV_PYTHON), str(HERE / "checks_tls.py")], environment)


def useFromNode(environment: dict[str, str]) -> bool:
    """
    :return: whether OpenAI's library for JavaScript does, trusting it by ``NODE_EXTRA_CA_CERTS``.
    """
    installNode()
    return _clientHolds(["node", str(HERE / "checks_tls.mjs")], environment)


def _clientHolds(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run(  # noqa: S603 - our own checks
        command, cwd=NODE if command[0] == "node" else HERE, env={**os.environ, **environment}, timeout=120, check=False
    )
    return done.returncode == 0


def useFromChromium(folder: Path, base: str, authority: Path) -> bool:
    """
    Open a page of the gateway, before and after the authority is put into the user's NSS database.

    :return: whether Chromium shows it only once the authority is trusted.
    """
    chromium = findChromium()
    certutil = shutil.which("certutil")
    if certutil is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(NSS, capture_output=True, check=False)  # noqa: S603 - a fixed command
        certutil = shutil.which("certutil")
    if certutil is None:
        raise Skip("there is no certutil (Debian: apt-get install libnss3-tools)")
    home = folder / "home"
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    # Before Chromium makes one: it is then not asked for a password.
    _certutil(certutil, database, "-N", "--empty-password")
    before = _page(chromium, home, f"{base}/health")
    _certutil(certutil, database, "-A", "-t", "C,,", "-n", "lmgateway", "-i", str(authority))
    after = _page(chromium, home, f"{base}/health")
    good = '"status"' not in before and '"status":"ok"' in after.replace(" ", "")
    print(
        f"{'ok   ' if good else 'FAIL '} Chromium: shows a page once the authority is trusted, and not before",
        flush=True,
    )
    if not good:
        print(f"      before: {before[:300]!r}\n      after: {after[:300]!r}")
    return good


def _certutil(certutil: str, database: Path, *arguments: str) -> None:
    command = [certutil, "-d", f"sql:{database}", *arguments]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)  # noqa: S603


def _page(chromium: str, home: Path, url: str) -> str:
    """What Chromium makes of a page: its document, as text."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(  # noqa: S603 - our own gateway
        [
            chromium,
            "--headless=new",
            *sandbox,
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={home}/profile",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(home)},
    )
    return done.stdout


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, 1 when something failed.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--scan", action="store_true", help="only the scan")
    parser.add_argument("--clients", action="store_true", help="only the clients")
    given = parser.parse_args()
    # An end by a signal, too, must take the servers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    key = "e2e-" + secrets.token_hex(24)
    with tempfile.TemporaryDirectory(prefix="lmgateway-tls-") as name:
        folder = Path(name)
        base, authority = startGateway(folder, startSimulator(folder), key)
        environment = {
            "E2E_BASE": base,
            "E2E_KEY": key,
            "SSL_CERT_FILE": str(authority),
            "NODE_EXTRA_CA_CERTS": str(authority),
        }
        holds = [] if given.clients else [_tried("sslyze", lambda: scan(base, authority))]
        if not given.scan:
            holds.append(_tried("openai (Python)", lambda: installPython() or useFromPython(environment)))
            holds.append(_tried("openai (Node.js)", lambda: useFromNode(environment)))
            holds.append(_tried("Chromium", lambda: useFromChromium(folder, base, authority)))
    return 0 if all(holds) else 1


def _tried(what: str, check: object) -> bool:
    try:
        return bool(check())  # type: ignore[operator]
    except Skip as reason:
        print(f"skip  {what}: {reason}", flush=True)
        return True


if __name__ == "__main__":
    sys.exit(main())
