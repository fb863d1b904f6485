"""
The figures, each a function from one proxy to a number or a sentence.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from client import KEY, SMALL_BODY, Peer, Streams, ask, bigBody, head, readHead
from processes import Process, Reports, Unavailable

MEGABYTE = 1_000_000
BODY_MEGABYTES = 30
CHAT = "/v1/chat/completions"
STALL_SECONDS = 3.0
CANCELLATION_DEADLINE_MS = 50
Figures = dict[str, float | str]

MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Target:
    """
    One column of the table: a way to the upstream.

    :param name: its heading.
    :param peer: whom to ask.
    :param proxy: what stands between; None when nothing does.
    :param reports: of the upstream behind it.
    """

    name: str
    peer: Peer
    proxy: Process | None = None
    reports: Reports | None = None


def wrk(target: Target, connections: int, seconds: int, core: int | None) -> tuple[float, float]:
    """
    Load it with small chat requests from one thread.

    :return: requests per second, and the median latency in milliseconds.
    :raise Unavailable: no wrk, or an answer that was no success.
    """
    program = shutil.which("wrk")
    if program is None:
        raise Unavailable("no wrk")
    script = Path(__file__).with_name("post.lua")
    argv = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    if core is not None:
        argv = ["taskset", "-c", str(core), *argv]
    said = subprocess.run(  # noqa: S603 - wrk, with arguments of our own
        [*argv, f"http://127.0.0.1:{target.peer.port}{CHAT}"],
        env={**os.environ, "BENCH_BODY": SMALL_BODY.decode(), "BENCH_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    if rate is None or median is None:
        raise Unavailable("wrk reported nothing")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if bad is not None:
        raise Unavailable(f"{bad[1]} answers were errors")
    return float(rate[1]), float(median[1]) * MILLISECONDS[median[2]]


def streams(target: Target, count: int, seconds: float) -> Figures:
    """
    Hold streams open and read them.

    :param count: how many at once.
    :param seconds: how long, once all are open.
    """
    warm = Streams(target.peer, 5)
    warm.observe(0.3)
    warm.close()
    time.sleep(0.2)
    before = target.proxy.rss() if target.proxy else 0
    opened = Streams(target.peer, count)
    opened.observe(1.0)
    begun = target.proxy.cpuSeconds() if target.proxy else 0.0
    seen = opened.observe(seconds)
    prefix = f"{count} streams: "
    figures: Figures = {prefix + "lag p50": seen.percentile(0.5), prefix + "lag p99": seen.percentile(0.99)}
    if target.proxy:
        spent = target.proxy.cpuSeconds() - begun
        figures[prefix + "CPU per chunk"] = spent * 1e6 / len(seen.lags)
        figures[prefix + "memory each"] = (target.proxy.rss() - before) / count / 1e3
    opened.close()
    return figures


def stalledReader(target: Target) -> Figures:
    """Ask for 400 MB, read the beginning, then nothing more: how much does the proxy grow?"""
    assert target.proxy
    with target.peer.connect() as connection:
        connection.sendall(head(CHAT + "?bench=flood", len(SMALL_BODY)) + SMALL_BODY)
        before = most = target.proxy.rss()
        readHead(connection)
        until = time.monotonic() + STALL_SECONDS
        while time.monotonic() < until:
            most = max(most, target.proxy.rss())
            time.sleep(0.05)
    return {"stalled reader: growth": (most - before) / MEGABYTE}


def largeBody(target: Target) -> Figures:
    """Send 30 MB of JSON that three members are injected into: how much memory while it passes, how much stays?"""
    assert target.proxy
    body = bigBody(BODY_MEGABYTES)
    before = target.proxy.rss()
    target.proxy.forgetPeak()
    began = time.monotonic()
    received = json.loads(ask(target.peer, CHAT + "?bench=sink", body))["received"]
    took = time.monotonic() - began
    if received <= len(body):
        raise Unavailable("nothing was injected")
    grown = target.proxy.peakRss() - before
    time.sleep(1)
    return {
        "30 MB body: growth": grown / MEGABYTE,
        "30 MB body: stays": (target.proxy.rss() - before) / MEGABYTE,
        "30 MB body: time": took * 1e3,
    }


WINDOWS = {
    "in a half-sent upload": (
        head("/v1/audio/transcriptions?bench=sink&id=0", MEGABYTE, "application/octet-stream") + bytes(100_000),
        False,
    ),
    "before the first byte": (head(CHAT + "?bench=hold&id=0", len(SMALL_BODY)) + SMALL_BODY, False),
    "mid-stream": (head(CHAT + "?bench=stream&id=0", len(SMALL_BODY)) + SMALL_BODY, True),
}


def cancel(target: Target, window: str, ident: int) -> float | None:
    """
    Leave once, with a FIN.

    :param window: when: a name of :data:`WINDOWS`.
    :return: milliseconds until the upstream saw its connection end; infinite when it did not within a second;
        None when it never had a connection.
    """
    assert target.reports
    request, answered = WINDOWS[window]
    with target.peer.connect() as connection:
        connection.sendall(request.replace(b"&id=0", b"&id=%d" % ident))
        if target.reports.wait("began", ident, 0.2) is None:
            connection.close()
            return None if target.reports.wait("began", ident, 0.1) is None else float("inf")
        if answered:
            connection.settimeout(5)
            readHead(connection)
        left = time.monotonic_ns()
        connection.shutdown(socket.SHUT_RDWR)
    lost = target.reports.wait("lost", ident, 1.0)
    return float("inf") if lost is None else max(0, lost - left) / 1e6


def cancellations(target: Target, times: int, firstIdent: int) -> Figures:
    """
    Leave so many times in each window; three failures in a row end a window early.

    :param firstIdent: the first of ``3 * times`` numbers that no other request has.
    """
    figures: Figures = {}
    ident = firstIdent
    for window in WINDOWS:
        outcomes: list[float | None] = []
        while len(outcomes) < times and outcomes[-3:] not in ([None] * 3, [float("inf")] * 3):
            outcomes.append(cancel(target, window, ident))
            ident += 1
        figures["leave " + window] = summary(outcomes)
    return figures


def summary(outcomes: list[float | None]) -> str:
    """
    :return: outcomes of :func:`cancel` as the table shows them.
    """
    if None in outcomes:
        return "never sent on"
    delays = sorted(delay for delay in outcomes if delay is not None)
    within = sum(delay <= CANCELLATION_DEADLINE_MS for delay in delays)
    if not within:
        return f"never ({len(delays)} tries)"
    return f"{within}/{len(delays)}  {delays[len(delays) // 2]:.1f} / {delays[-1]:.1f} ms"


def halfJson(target: Target, times: int, firstIdent: int) -> Figures:
    """Leave in the middle of a JSON body so many times: the upstream ought never to hear of it."""
    assert target.reports
    for ident in range(firstIdent, firstIdent + times):
        with target.peer.connect() as connection:
            connection.sendall(head(f"{CHAT}?bench=hold&id={ident}", len(SMALL_BODY)) + SMALL_BODY[:100])
            target.reports.read(0.002)
    target.reports.read(0.2)
    begun = sum(("began", ident) in target.reports.times for ident in range(firstIdent, firstIdent + times))
    return {"leave in half-sent JSON": f"{times - begun}/{times}  nothing sent on"}
