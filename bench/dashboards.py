"""
What ten open dashboards cost the gateway beside ten event streams, under the same load.

The load: eight streams of 20 events a second each, and five small requests a second, each of which is three events. Beside it
there is nobody, or ten bare event streams with a key, or ten dashboards that are looked at, in turn; what counts is the
gateway's processor time while they are open. A dashboard is the calls that its page makes, as its view "Now" does: it signs
in, loads its files, and asks for what was before; then it follows one event stream, with the progress of answers in it.

Run as ``python bench/dashboards.py``; Linux only, for it reads ``/proc``. It takes about two minutes, and ends with 1 where
the dashboards cost more than a tenth more than the streams.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from client import KEY, SMALL_BODY, Peer, ask, head, readHead
from lmgateway.dashboard.assets import FOLDER
from measures import CHAT
from processes import Process, freePort
from run import LOAD_CORE, startGateway, startUpstream
from table import TREQ

STREAMS, FOLLOWERS, ROUNDS = 8, 10, 5
SECONDS = 6.0
REQUEST_SECONDS = 0.2
MOST = 1.1


class Dashboard:
    """
    One browser's page.

    :param peer: the gateway.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._own = {
            "X-LMGateway-Dashboard": "1",
            "Origin": f"http://127.0.0.1:{peer.port}",
            "Sec-Fetch-Site": "same-origin",
        }
        self._connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=20)

    def open(self) -> socket.socket:
        """
        Load the page, sign in, ask for what was, and follow.

        :return: the stream.
        """
        page = self._call("GET", "/dashboard").decode()
        folder = page.partition('href="')[2].partition("icon.svg")[0]
        for path in FOLDER.glob("*.[cjs]*"):
            self._call("GET", folder + path.name)
        self._call("POST", "/dashboard/session", json.dumps({"key": KEY}))
        self._call("GET", "/dashboard/session")
        stream = follow(self._peer, "?progress=1", self._own)
        self._call("GET", "/debug/poll?since=0&timeout=0&limit=300")
        for _ in range(2):
            self._call("GET", "/debug/status")
            self._call("GET", "/debug/requests?ended=20")
        self._connection.close()
        return stream

    def _call(self, method: str, target: str, body: str | None = None) -> bytes:
        fields = {**self._own, **({"Content-Type": "application/json"} if body else {})}
        self._connection.request(method, target, body, fields)
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {target}: {response.status} {data[:200]!r}")
        cookie = response.getheader("Set-Cookie")
        if cookie:
            self._own["Cookie"] = cookie.partition(";")[0]
        return data


def follow(peer: Peer, query: str, fields: dict[str, str]) -> socket.socket:
    """
    :return: an event stream whose head has come.
    """
    lines = [f"GET /debug/stream{query} HTTP/1.1", f"Host: 127.0.0.1:{peer.port}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    connection = peer.connect()
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    readHead(connection)
    return connection


def bare(peer: Peer) -> socket.socket:
    """
    :return: an event stream as ``curl`` opens one.
    """
    return follow(peer, "", {"Authorization": f"Bearer {KEY}"})


OPENERS: dict[str, Callable[[Peer], socket.socket] | None] = {
    "nobody": None,
    "ten event streams": bare,
    "ten dashboards": lambda peer: Dashboard(peer).open(),
}


def drain(peer: Peer, sockets: list[socket.socket], seconds: float) -> int:
    """
    Read all of them for a while, and ask small requests meanwhile.

    :return: how many bytes came.
    """
    poll = select.epoll()
    for each in sockets:
        each.setblocking(False)
        poll.register(each.fileno(), select.EPOLLIN)
    known = {each.fileno(): each for each in sockets}
    received = 0
    begin = time.monotonic()
    due = begin
    while time.monotonic() < begin + seconds:
        if time.monotonic() >= due:
            due += REQUEST_SECONDS
            ask(peer, CHAT, SMALL_BODY)
        for number, _ in poll.poll(0.01):
            data = known[number].recv(65536)
            if not data:
                raise RuntimeError("a stream ended before its time")
            received += len(data)
    poll.close()
    return received


def beside(peer: Peer, gateway: Process, streams: list[socket.socket], name: str) -> tuple[float, float]:
    """
    :param name: who is there beside the load.
    :return: the gateway's processor time, in milliseconds: in a second while they are there, and to open one of them.
    """
    opener = OPENERS[name]
    begun = gateway.cpuSeconds()
    followers = [opener(peer) for _ in range(FOLLOWERS)] if opener else []
    opening = (gateway.cpuSeconds() - begun) / FOLLOWERS
    drain(peer, streams + followers, 1.5)
    begun = gateway.cpuSeconds()
    drain(peer, streams + followers, SECONDS)
    spent = gateway.cpuSeconds() - begun
    for each in followers:
        each.close()
    drain(peer, streams, 0.5)
    return spent * 1e3 / SECONDS, opening * 1e3


def measure(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """
    :return: what :func:`beside` gave for each, in all rounds.
    """
    with ExitStack() as stack:
        upstreamPort, _ = startUpstream(folder / "upstream", stack)
        port = freePort()
        gateway = startGateway(TREQ, folder / "gateway", port, upstreamPort, stack)
        peer = Peer(port)
        streams = []
        for _ in range(STREAMS):
            connection = peer.connect()
            connection.sendall(head(CHAT + "?bench=stream", len(SMALL_BODY)) + SMALL_BODY)
            readHead(connection)
            streams.append(connection)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in OPENERS}
        drain(peer, streams, 1)
        for _ in range(ROUNDS):
            for name in OPENERS:
                taken[name].append(beside(peer, gateway, streams, name))
        return taken


def main() -> int:
    """
    :return: 1 where dashboards cost more than they may.
    """
    if LOAD_CORE is not None:
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="lmgateway-bench-") as name:
        taken = measure(Path(name))
    steady = {name: [each[0] for each in rounds] for name, rounds in taken.items()}
    for name, values in steady.items():
        told = ", ".join(f"{value:.1f}" for value in values)
        opening = statistics.median(each[1] for each in taken[name])
        print(f"{name:18} {statistics.median(values):6.1f} ms of CPU a second ({told}); to open one {opening:.1f} ms")
    pairs = list(zip(steady["ten dashboards"], steady["ten event streams"], strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    alone = [(one - nobody) / (other - nobody) for (one, other), nobody in zip(pairs, steady["nobody"], strict=True)]
    print(
        f"dashboards to streams, with the load: {ratio:.3f}x (each round: {', '.join(f'{a / b:.3f}' for a, b in pairs)})"
    )
    print(
        f"dashboards to streams, without it: {statistics.median(alone):.2f}x ({', '.join(f'{a:.2f}' for a in alone)})"
    )
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
