"""
What following LM Studio's log costs: the share of a core at 1,000 lines a second, and the memory for a line without end.

``python bench/logs.py [--seconds S]``. The gateway is a process of its own on a core of its own and follows real files. It
asserts nothing and ends with 0 whenever it ran.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import cycle
from pathlib import Path

from client import KEY, Peer, ask
from lmgateway.studio.simulator.logtext import accumulated, engine, line, received
from processes import Process, cores, foreignCpuSeconds, freePort

RATE = 1000
TICK = 0.05
GATEWAY_CORE, WRITER_CORE = cores()
LONG_LINE_MEGABYTES = 50
NONE_OF_THESE = "connected"


def requestLines() -> list[str]:
    """
    :return: what LM Studio logs of one chat request, as many entries of one line as of several.
    """
    now = datetime.now().astimezone()
    body = json.dumps({"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "How many legs?"}]}).encode()
    said = [("DEBUG", received("POST", "/v1/chat/completions", body), ())]
    said.append(("INFO", "Running chat completion on conversation with 1 messages.", ("qwen/qwen3-8b",)))
    said += [("DEBUG", text, ()) for text in engine(57, 4096, 64)]
    said += [("INFO", f"Prompt processing progress: {part}.0%", ("qwen/qwen3-8b",)) for part in (0, 50, 100)]
    said += [("INFO", accumulated(count, "word " * count), ("qwen/qwen3-8b",)) for count in range(1, 30)]
    said.append(("INFO", "Finished streaming response", ("qwen/qwen3-8b",)))
    return "".join(line(now, level, text, *tags) for level, text, tags in said).splitlines(keepends=True)


def startGateway(folder: Path, logs: Path) -> tuple[Process, Peer]:
    """
    :return: a gateway that follows, listening.
    """
    port = freePort()
    variables = {
        "LMSTUDIO_LOG_DIR": str(logs),
        "ENABLE_LOG_MONITORING": "true",
        "GATEWAY_PORT": str(port),
        "GATEWAY_API_KEY": KEY,
        "GATEWAY_STATE_DIR": str(folder / "state"),
    }
    argv = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "lmgateway"]
    gateway = Process("the gateway", argv, folder, GATEWAY_CORE, variables)
    gateway.awaitPort(port)
    return gateway, Peer(port)


def told(peer: Peer) -> int:
    """
    :return: how many events there have been.
    """
    answer = ask(peer, f"/debug/poll?since=0&timeout=0&types={NONE_OF_THESE}", method="GET")
    return int(json.loads(answer)["next"]) - 1


def write(file: Path, lines: Iterator[str], seconds: float) -> int:
    """
    Append :data:`RATE` lines a second.

    :return: how many it were.
    """
    written, began = 0, time.monotonic()
    with file.open("a") as log:
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(int(passed * RATE) - written):
                log.write(next(lines))
                written += 1
            log.flush()
            time.sleep(TICK)
    return written


def writeLongLine(file: Path) -> None:
    """Append a line that is longer than anybody holds, no faster than it is read."""
    with file.open("ab") as log:
        log.write(b"[2026-11-21 12:00:00][INFO] Accumulated 9 tokens ")
        for _ in range(LONG_LINE_MEGABYTES * 4):
            log.write(b"x" * (1 << 18))
            log.flush()
            time.sleep(TICK)
        log.write(b"\n")


def share(gateway: Process, work: Callable[[], object]) -> float:
    """
    :return: the share of a core that the gateway used meanwhile.
    """
    before, began = gateway.cpuSeconds(), time.monotonic()
    work()
    return (gateway.cpuSeconds() - before) / (time.monotonic() - began)


def measure(folder: Path, seconds: float) -> None:
    """Take each figure and print it."""
    logs = folder / "server-logs"
    today = datetime.now().astimezone()
    file = logs / f"{today:%Y-%m}" / f"{today:%Y-%m-%d}.1.log"
    file.parent.mkdir(parents=True)
    file.touch()
    gateway, peer = startGateway(folder / "gateway", logs)
    try:
        lines = cycle(requestLines())
        write(file, lines, 2)
        time.sleep(2)
        idle = share(gateway, lambda: time.sleep(seconds))
        eventsBefore = told(peer)
        counts: list[int] = []
        busy = share(gateway, lambda: counts.append(write(file, lines, seconds)))
        time.sleep(2)
        events = told(peer) - eventsBefore
        print(f"nothing is written: {idle:.2%} of a core")
        print(
            f"{counts[0] / seconds:.0f} lines a second: {busy:.1%} of a core (target: 5%), {events / seconds:.0f} events a second"
        )
        gateway.forgetPeak()
        before, eventsBefore = gateway.rss(), told(peer)
        busy = share(gateway, lambda: writeLongLine(file))
        time.sleep(2)
        grown, events = (gateway.peakRss() - before) / (1 << 20), told(peer) - eventsBefore
        print(
            f"a line of {LONG_LINE_MEGABYTES} MB: {busy:.1%} of a core, memory grew by {grown:.1f} MB, {events} events"
        )
    finally:
        gateway.stop()


def main() -> int:
    """
    :return: 0 when it ran, whatever it found; 2 where it cannot run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each measurement takes")
    seconds = parser.parse_args().seconds
    if not Path("/proc/self/status").exists():
        print("The bench reads /proc and pins processes to cores: it runs on Linux only.")
        return 2
    if WRITER_CORE is not None:
        os.sched_setaffinity(0, {WRITER_CORE})
    began, foreign = time.monotonic(), foreignCpuSeconds({GATEWAY_CORE or 0})
    with tempfile.TemporaryDirectory(prefix="lmgateway-bench-") as folder:
        measure(Path(folder), seconds)
    disturbance = max(0.0, foreignCpuSeconds({GATEWAY_CORE or 0}) - foreign) / (time.monotonic() - began)
    print(f"Meanwhile other programs used {disturbance:.0%} of the gateway's core.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
