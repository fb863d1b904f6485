"""
How fast, how lean and how quick to let go: the gateway beside a bare Klein and treq proxy, measured in turn in one run.

``make bench``, or ``python bench/run.py [--quick | --full]``. docs/performance.md says how it measures. It asserts
nothing and ends with 0 whenever it ran.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import measures
from client import KEY, SMALL_BODY, Peer, ask
from measures import CHAT, Figures, Target
from processes import Process, Unavailable, cores, foreignCpuSeconds, freePort
from table import BARE, COLUMNS, DIRECT, UPSTREAM, Table

HERE = Path(__file__).parent
PROXY_CORE, LOAD_CORE = cores()
USED_CORES = {PROXY_CORE, LOAD_CORE} if PROXY_CORE is not None and LOAD_CORE is not None else {0}
QUIET = 0.05
OPEN_FILES_NEEDED = 4096
ACTIVATION = {"modelKey": "bench/model", "defaultInference": {"temperature": 0.5, "maxTokens": 64}}

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; tcp_nodelay on; default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /v1/chat/completions {{ return 200 '{completion}'; }}
    location = /v1/models {{ return 200 '{models}'; }}
    location / {{ return 200 '{unexpected}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Plan:
    """
    How much to measure.

    :param rounds: of the figures that wrk takes; the median counts.
    :param loadSeconds: of wrk, a round.
    :param streamSeconds: how long streams are read.
    :param streamCounts: how many are open at once.
    :param leavings: how often a client leaves in each window.
    """

    rounds: int
    loadSeconds: int
    streamSeconds: float
    streamCounts: tuple[int, ...]
    leavings: int


PLANS = {
    "quick": Plan(1, 2, 2.0, (100,), 25),
    "default": Plan(1, 5, 5.0, (100,), 100),
    "full": Plan(3, 5, 5.0, (100, 1000), 100),
}


def install(table: Table) -> None:
    """Get wrk and nginx from Debian where they are missing and it may; else note it."""
    packages = {"wrk": "wrk", "nginx": "nginx-light"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    apt = shutil.which("apt-get")
    if missing and apt and os.geteuid() == 0:
        print("installing", *missing, flush=True)
        for words in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run(  # noqa: S603 - fixed arguments
                [apt, "-q", *words],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                timeout=180,
                check=False,
            )
    if shutil.which("wrk") is None:
        table.notes.append("No wrk (Debian: apt-get install wrk): no requests per second, no latency.")
    if shutil.which("nginx") is None:
        table.notes.append("No nginx (Debian: apt-get install nginx-light): the bench's own upstream answers, slower.")


def startUpstream(folder: Path, stack: ExitStack) -> tuple[int, Process]:
    """
    :return: the port of the upstream whose behaviour the query chooses, and the upstream.
    """
    port = freePort()
    argv = [sys.executable, str(HERE / "stream_upstream.py"), str(port)]
    upstream = Process("the upstream", argv, folder, LOAD_CORE, reporting=True)
    stack.callback(upstream.stop)
    upstream.awaitPort(port)
    return port, upstream


def startFastUpstream(folder: Path, stack: ExitStack) -> tuple[int, Process]:
    """
    :return: the same for the upstream of requests per second: nginx, where there is one.
    """
    program = shutil.which("nginx")
    if program is None:
        return startUpstream(folder, stack)
    from stream_upstream import COMPLETION, MODELS, UNEXPECTED

    port = freePort()
    folder.mkdir(parents=True)
    answers = {"completion": COMPLETION.decode(), "models": MODELS.decode(), "unexpected": UNEXPECTED.decode()}
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, **answers))
    nginx = Process("nginx", [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, LOAD_CORE)
    stack.callback(nginx.stop)
    nginx.awaitPort(port)
    return port, nginx


def startBare(folder: Path, port: int, upstreamPort: int, stack: ExitStack) -> Process:
    """
    :return: the bare proxy, listening.
    """
    argv = [sys.executable, str(HERE / "bare_proxy.py"), str(port), f"http://127.0.0.1:{upstreamPort}"]
    proxy = Process("it", argv, folder, PROXY_CORE)
    stack.callback(proxy.stop)
    proxy.awaitPort(port)
    return proxy


def startGateway(column: str, folder: Path, port: int, upstreamPort: int, stack: ExitStack) -> Process:
    """
    :param column: which transport.
    :return: the gateway with an active model and two defaults, so that a request has three members injected.
    """
    folder.mkdir(parents=True)
    argv = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "lmgateway"]
    if column == DIRECT:
        (folder / "lmgateway.toml").write_text('[upstream]\ntransport = "direct"\n')
        argv += ["--config", str(folder / "lmgateway.toml")]
    variables = {
        "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{upstreamPort}",
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "GATEWAY_API_KEY": KEY,
        "GATEWAY_STATE_DIR": str(folder / "state"),
    }
    proxy = Process("the gateway", argv, folder, PROXY_CORE, variables)
    stack.callback(proxy.stop)
    proxy.awaitPort(port)
    ask(Peer(port), "/admin/models/activate", json.dumps(ACTIVATION).encode())
    return proxy


@contextmanager
def fleet(folder: Path, table: Table, *, fast: bool = False) -> Iterator[list[Target]]:
    """
    Fresh processes for one group of figures.

    :param fast: the upstream is there for requests per second.
    :return: the columns that could be started; for the others the table notes why.
    """
    with ExitStack() as stack:
        start = startFastUpstream if fast else startUpstream
        upstreamPort, upstream = start(folder / "upstream", stack)
        targets = [Target(UPSTREAM, Peer(upstreamPort), None, upstream.reports)]
        for column in COLUMNS[1:]:
            port = freePort()
            place = folder / column.replace(" ", "")
            try:
                if column == BARE:
                    proxy = startBare(place, port, upstreamPort, stack)
                else:
                    proxy = startGateway(column, place, port, upstreamPort, stack)
                target = Target(column, Peer(port), proxy, upstream.reports)
                for _ in range(20):
                    ask(target.peer, CHAT, SMALL_BODY)
                targets.append(target)
            except Unavailable as error:
                note = f"{column}: {error}"
                table.notes += [note] if note not in table.notes else []
        time.sleep(0.5)
        yield targets


def attempt(table: Table, target: Target, measure: Callable[..., Figures], *arguments: object) -> None:
    """Take a figure into the table, or note why there is none."""
    print(f"  {measure.__name__}: {target.name}", file=sys.stderr, flush=True)
    try:
        for name, value in measure(target, *arguments).items():
            table.put(name, target.name, value)
    except (Unavailable, OSError, subprocess.TimeoutExpired) as error:
        table.notes.append(f"{target.name}, {measure.__name__}: {error}")


def load(target: Target, seconds: int, rates: list[float], latencies: list[float]) -> Figures:
    """
    One round of wrk.

    :param rates: of earlier rounds; takes this one's.
    :param latencies: likewise.
    :return: the medians so far.
    """
    rates.append(measures.wrk(target, 32, seconds, LOAD_CORE)[0])
    latencies.append(measures.wrk(target, 1, max(1, seconds // 2), LOAD_CORE)[1])
    medians = statistics.median(rates), statistics.median(latencies)
    return dict(zip(("requests/s, 32 connections", "latency p50, 1 connection"), medians, strict=True))


def measureAll(plan: Plan, folder: Path, table: Table) -> None:
    """Every figure, its columns in turn."""
    if shutil.which("wrk") is not None:
        with fleet(folder / "load", table, fast=True) as targets:
            taken: dict[str, tuple[list[float], list[float]]] = {target.name: ([], []) for target in targets}
            for _ in range(plan.rounds):
                for target in targets:
                    attempt(table, target, load, plan.loadSeconds, *taken[target.name])
    for count in plan.streamCounts:
        with fleet(folder / f"streams{count}", table) as targets:
            for target in targets:
                attempt(table, target, measures.streams, count, plan.streamSeconds)
    with fleet(folder / "stalled", table) as targets:
        for target in targets[1:]:
            attempt(table, target, measures.stalledReader)
    with fleet(folder / "body", table) as targets:
        for target in targets[1:]:
            attempt(table, target, measures.largeBody)
    with fleet(folder / "leaving", table) as targets:
        for number, target in enumerate(targets[1:]):
            attempt(table, target, measures.halfJson, plan.leavings, number * 10_000)
            attempt(table, target, measures.cancellations, plan.leavings, number * 10_000 + 5_000)


def machine() -> str:
    """
    :return: what it ran on, one line.
    """
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    pinned = f"proxy on core {PROXY_CORE}, load and upstream on core {LOAD_CORE}"
    where = pinned if PROXY_CORE is not None else "one core for everything: not comparable"
    return (
        f"{cpu[1] if cpu else platform.machine()}; {where}; Linux {platform.release()}; "
        f"Python {platform.python_version()}; Twisted {version('twisted')}; treq {version('treq')}; klein {version('klein')}"
    )


def main() -> int:
    """
    :return: 0 when it ran, whatever it found; 2 where it cannot run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="plan", const="quick", help="about a minute")
    size.add_argument("--full", action="store_const", dest="plan", const="full", help="three rounds, 1,000 streams")
    plan = PLANS[parser.parse_args().plan or "default"]
    if not Path("/proc/self/status").exists():
        print("The bench reads /proc and pins processes to cores: it runs on Linux only.")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else OPEN_FILES_NEEDED, hard))
    if LOAD_CORE is not None:
        os.sched_setaffinity(0, {LOAD_CORE})
    table = Table()
    install(table)
    began, foreign = time.monotonic(), foreignCpuSeconds(USED_CORES)
    with tempfile.TemporaryDirectory(prefix="lmgateway-bench-") as folder:
        measureAll(plan, Path(folder), table)
    took = time.monotonic() - began
    disturbance = max(0.0, foreignCpuSeconds(USED_CORES) - foreign) / took
    print(machine())
    print()
    print(table.text())
    print()
    print("x: multiple of the bare proxy's. !: misses its target.")
    print(f"Took {took:.0f} s. Meanwhile other programs used {disturbance:.0%} of a core.")
    if disturbance > QUIET:
        print("That disturbs: lags and ratios are worse than on a quiet machine.")
    for note in table.notes:
        print("note:", note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
