"""
Floods of connections against a gateway, and whether others are served meanwhile.

- 2,000 connections from one address that send half a head: how many are held, and how long clients of that address and of
  another one wait for their answers meanwhile. And the same with nothing that limits them: what each takes of memory.
- 1,000 slowloris connections, a byte a second: when the last one is closed, and what a well-behaved client's p99 becomes.
- 200 TLS connections that never say a word: when the last one is closed.
- 300 well-behaved connections at the same moment: how many are answered.

Run as ``python bench/floods.py``; Linux only, for it uses 127.0.0.2 and ``/proc``. It takes about a minute, and ends with 1
where more is held than should be, or somebody else is not served; times are told, and depend on the machine.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import timed, told
from processes import Process, freePort

KEY = "bench-key-of-floods"
HALF = b"GET /debug/status HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HALF + b"Authorization: Bearer " + KEY.encode() + b"\r\n\r\n"
CROWD, SLOW, STALLED, BURST = 2000, 1000, 200, 300
UNSERVED = 60.0
"""Seconds that a request without an answer is taken to have waited."""


def connect(port: int, source: str = "127.0.0.1") -> socket.socket | None:
    """Connect; None where it was closed in the act."""
    made = socket.socket()
    made.settimeout(5)
    made.bind((source, 0))
    try:
        made.connect(("127.0.0.1", port))
    except OSError:
        made.close()
        return None
    return made


def isOpen(made: socket.socket) -> bool:
    """Whether the other end has not closed a connection."""
    made.setblocking(False)
    try:
        while data := made.recv(65536):
            del data
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EWOULDBLOCK}
    return False


def openOnes(crowd: list[socket.socket]) -> list[socket.socket]:
    """Those that are still open; the others are closed here, too."""
    left = []
    for made in crowd:
        if isOpen(made):
            left.append(made)
        else:
            made.close()
    return left


def send(made: socket.socket | None, data: bytes) -> None:
    """Send, if it is taken."""
    if made is not None:
        with contextlib.suppress(OSError):
            made.send(data)


def ask(port: int, source: str) -> float | None:
    """Seconds from connecting to an answer of 200; None where there is none."""
    begin = time.monotonic()
    made = connect(port, source)
    if made is None:
        return None
    with made, contextlib.suppress(OSError):
        made.sendall(WHOLE)
        if made.recv(65536).startswith(b"HTTP/1.1 200"):
            return time.monotonic() - begin
    return None


def p99(waits: list[float]) -> float:
    """The 99th percentile."""
    return sorted(waits)[int(len(waits) * 0.99)]


def memory(port: int, gateway: Process) -> bool:
    """A crowd that nothing limits, for what it weighs."""
    ask(port, "127.0.0.2")
    before = gateway.rss()
    crowd = [made for made in (connect(port) for _ in range(CROWD)) if made is not None]
    for made in crowd:
        send(made, HALF)
    time.sleep(1)
    left = openOnes(crowd)
    each = (gateway.rss() - before) / 1024 / max(len(left), 1)
    for made in left:
        made.close()
    return told(f"memory of each of {len(left)} half-open connections", each, "KB", 16)


def halfOpen(port: int) -> bool:
    """A crowd that sends half a head."""
    crowd, waits = [], []
    for number in range(CROWD):
        made = connect(port)
        send(made, HALF)
        if made is not None:
            crowd.append(made)
        if number % 20 == 0:
            waits.append(ask(port, "127.0.0.2") or UNSERVED)
    time.sleep(1)
    waits += [ask(port, "127.0.0.2") or UNSERVED for _ in range(50)]
    same = ask(port, "127.0.0.1") or UNSERVED
    left = openOnes(crowd)
    reached = told("half-open connections held", len(left), "connections", 64)
    reached &= told("requests of others that were not served", [*waits, same].count(UNSERVED), "requests", 0)
    timed("longest wait of another address", max(waits) * 1000, "ms", 100)
    timed("wait of a client at the same address", same * 1000, "ms", 100)
    for made in left:
        made.close()
    return reached


def slowloris(port: int) -> bool:
    """A crowd that sends a byte a second."""
    quiet = p99([ask(port, "127.0.0.2") or UNSERVED for _ in range(5000)])
    begin = time.monotonic()
    crowd = [made for made in (connect(port) for _ in range(SLOW)) if made is not None]
    opened = time.monotonic()
    waits: list[float] = []
    sent, due = 0, opened

    def trickle() -> None:
        nonlocal crowd, sent, due
        if time.monotonic() >= due:
            due += 1
            crowd = openOnes(crowd)
            for made in crowd:
                send(made, HALF[sent : sent + 1])
            sent += 1

    while crowd and time.monotonic() < opened + 30:
        waits.append(ask(port, "127.0.0.2") or UNSERVED)
        trickle()
    timed("until the last slowloris is closed", time.monotonic() - begin, "s", 15)
    timed("p99 meanwhile, of that before", p99(waits) / quiet, "times", 2)
    reached = told("slowloris connections that are still open", len(crowd), "connections", 0)
    return reached & told("requests meanwhile that were not served", waits.count(UNSERVED), "requests", 0)


def handshakes(port: int) -> bool:
    """A crowd that never says a word of TLS."""
    begin = time.monotonic()
    crowd = [made for made in (connect(port) for _ in range(STALLED)) if made is not None]
    while crowd and time.monotonic() < begin + 30:
        time.sleep(0.1)
        crowd = openOnes(crowd)
    timed("until the last stalled handshake is closed", time.monotonic() - begin, "s", 12)
    return told("stalled handshakes that are still open", len(crowd), "connections", 0)


def burst(port: int) -> bool:
    """Many well-behaved ones at once: they connect first, and then ask."""
    crowd = [connect(port) for _ in range(BURST)]
    for made in crowd:
        send(made, WHOLE)
    answered = 0
    for made in crowd:
        if made is None:
            continue
        with made, contextlib.suppress(OSError):
            if select.select([made], [], [], 5)[0] and made.recv(65536).startswith(b"HTTP/1.1 200"):
                answered += 1
    return told("answered of a burst", answered, "requests", BURST, BURST)


@contextlib.contextmanager
def running(configuration: str = "") -> Iterator[tuple[int, Process]]:
    """Run a gateway on loopback; give its port and its process."""
    port = freePort()
    argv = [
        sys.executable,
        "-c",
        "from twisted.scripts.twistd import run; run()",
        "-n",
        "lmgateway",
        "--config",
        "flood.toml",
    ]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "GATEWAY_API_KEY": KEY,
            "GATEWAY_STATE_DIR": folder,
            "GATEWAY_PORT": str(port),
        }
        (Path(folder) / "flood.toml").write_text(configuration)
        gateway = Process("gateway", argv, Path(folder), environment=environment)
        try:
            gateway.awaitPort(port)
            yield port, gateway
        finally:
            gateway.stop()


def main() -> int:
    """Start a gateway, flood it, and say whether it stood."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    reached = []
    with running() as (port, _):
        reached += [halfOpen(port), burst(port), slowloris(port)]
    with running("[limits]\nmaxConnectionsPerAddress = 4000\nmaxUnauthenticatedPerAddress = 4000\n") as (port, gateway):
        reached.append(memory(port, gateway))
    with running('[listen]\ntls = "on"\n') as (port, _):
        reached.append(handshakes(port))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
