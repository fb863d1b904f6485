"""
What an open dashboard costs a gateway under load: ``python e2e/dashboard_load.py [--seconds 10]``.

Requests go through the gateway in stretches, in turn without a dashboard and with one in a Chromium on the same machine:
250 a second, of which 500 events come, and then as many as there can be. The upstream is that of the bench, which answers at once.
Printed are the rates, the gateway's processor time per request, and the longest frames and the memory of the page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dashboard import NODE, gatewayStarter, installNode
from run import CACHE, HERE, Server, Skip, findChromium, freePort

UPSTREAM = HERE.parent / "bench" / "stream_upstream.py"
CONNECTIONS = 8
BODY = json.dumps({"model": "bench/model", "messages": [{"role": "user", "content": "Hello"}]}).encode()


def cpuSeconds(pid: int) -> float:
    """
    :return: processor time that a process has used, all threads.
    """
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


class Load:
    """
    Requests to a gateway.

    :param port: of the gateway.
    :param key: that it accepts.
    :param pid: the gateway's process.
    """

    def __init__(self, port: int, key: str, pid: int) -> None:
        self._port, self._pid = port, pid
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        fields = f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        self._request = (head + fields).encode() + BODY
        self._done = 0

    async def run(self, seconds: float, perSecond: float) -> dict[str, float]:
        """
        :param perSecond: how many requests; 0 is as many as there can be.
        :return: how many there were, in how long, and the gateway's processor time meanwhile.
        """
        self._done = 0
        begin, before = time.monotonic(), cpuSeconds(self._pid)
        pause = CONNECTIONS / perSecond if perSecond else 0.0
        asking = (
            self._ask(begin + number * pause / CONNECTIONS, begin + seconds, pause) for number in range(CONNECTIONS)
        )
        await asyncio.gather(*asking)
        passed = time.monotonic() - begin
        return {"requests": self._done, "seconds": passed, "cpu": cpuSeconds(self._pid) - before}

    async def _ask(self, due: float, end: float, pause: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while due < end and time.monotonic() < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += pause
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the gateway answered {head[:40]!r}")
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            self._done += 1
        writer.close()


def measure(folder: Path, chromium: str, seconds: int) -> bool:
    """
    :param folder: for logs and state.
    :return: whether all checks hold.
    """
    port, upstreamPort, key = freePort(), freePort(), "e2e-" + secrets.token_hex(24)
    upstream = f"http://127.0.0.1:{upstreamPort}"
    Server("the upstream", [sys.executable, str(UPSTREAM), str(upstreamPort)], folder / "upstream.log", {}).awaitAnswer(
        f"{upstream}/v1/models"
    )
    gateway = gatewayStarter(folder, upstream, key, port)()
    load = Load(port, key, gateway.pid)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE),
        "E2E_BASE": f"http://127.0.0.1:{port}",
        "E2E_KEY": key,
        "E2E_CHROMIUM": chromium,
        "E2E_SECONDS": str(seconds),
    }
    command = ["node", str(HERE / "checks_dashboard_load.mjs")]
    pipe = subprocess.PIPE
    node = subprocess.Popen(command, cwd=NODE, env=environment, stdin=pipe, stdout=pipe, text=True)  # noqa: S603 - our own checks
    assert node.stdin is not None and node.stdout is not None  # noqa: PT018 - pipes, as ordered
    for line in node.stdout:
        if line.startswith("@window"):
            _, length, rate = line.split()
            node.stdin.write(json.dumps(asyncio.run(load.run(float(length), float(rate)))) + "\n")
            node.stdin.flush()
        else:
            print(line, end="", flush=True)
    holds = node.wait() == 0
    gateway.stop()
    return holds


def main() -> int:
    """
    :return: 0 when everything held or could not be tried, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="how long each of 24 stretches is (default: 10)")
    seconds = parser.parse_args().seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        installNode()
        chromium = findChromium()
    except Skip as reason:
        print(f"skip  the dashboard: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="lmgateway-e2e-") as folder:
        return 0 if measure(Path(folder), chromium, seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
