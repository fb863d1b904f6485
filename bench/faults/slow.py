"""
Clients that are slow on purpose: those that send their body a byte at a time, and those that do not read their answer.

- 400 slow bodies: when the last one is closed.
- 100 stalled readers of a large answer: what the gateway's memory grows by, and when the last of them is cut off.

Run as ``python bench/faults/slow.py``; Linux only, for it reads ``/proc``. It takes about two minutes, and ends with 1 where
somebody is not closed, or more memory is taken; times are told, and depend on the machine.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from figures import timed, told
from floods import KEY, openOnes, running

BODIES, READERS = 400, 100
DEADLINE = 60
"""Seconds."""
LARGE = 256 * 1024 * 1024
PIECE = b"x" * 65_536
FIELDS = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/octet-stream\r\n".encode()
UPLOAD = b"POST /v1/files HTTP/1.1\r\n" + FIELDS + b"Content-Length: 1000000\r\n\r\n"
DOWNLOAD = b"GET /v1/files/large HTTP/1.1\r\n" + FIELDS + b"\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % LARGE


class LargeUpstream:
    """An LM Studio that answers every request with a large body, as fast as it is taken."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.ended = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(made,), daemon=True).start()

    def _answer(self, made: socket.socket) -> None:
        with made, contextlib.suppress(OSError):
            if not made.recv(65_536).startswith(b"GET /v1/files/large"):
                while made.recv(65_536):
                    pass
                return
            try:
                made.sendall(HEAD)
                for _ in range(LARGE // len(PIECE)):
                    made.sendall(PIECE)
            finally:
                self.ended += 1

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def connected(port: int, count: int, request: bytes, receive: int | None = None) -> list[socket.socket]:
    """Connect, and ask."""
    crowd = []
    for _ in range(count):
        made = socket.socket()
        if receive is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        made.settimeout(5)
        made.connect(("127.0.0.1", port))
        made.sendall(request)
        crowd.append(made)
    return crowd


def slowBodies(port: int) -> bool:
    """A crowd that sends a byte of its bodies every second."""
    begin = time.monotonic()
    crowd = connected(port, BODIES, UPLOAD)
    while crowd and time.monotonic() < begin + 90:
        time.sleep(1)
        crowd = openOnes(crowd)
        for made in crowd:
            with contextlib.suppress(OSError):
                made.send(b"x")
    timed("until the last slow body is closed", time.monotonic() - begin, "s", 60)
    return told("slow bodies that are still open", len(crowd), "connections", 0)


def stalledReaders(port: int, upstream: LargeUpstream, rss: Callable[[], int]) -> bool:
    """A crowd that asks for much and reads nothing."""
    before = rss()
    begin = time.monotonic()
    crowd = connected(port, READERS, DOWNLOAD)
    most = before
    while upstream.ended < READERS and time.monotonic() < begin + 120:
        time.sleep(0.5)
        most = max(most, rss())
    elapsed = time.monotonic() - begin
    reached = told("memory that the stalled readers take in all", (most - before) / 1024 / 1024, "MB", 32)
    reached &= told("stalled readers whose request upstream ended", upstream.ended, "requests", READERS, READERS)
    reached &= told("stalled readers all cut off before their deadline", elapsed < DEADLINE, "times", 0)
    timed("until the last stalled reader is cut off", elapsed, "s", DEADLINE + 15)
    left = sum(not _isReset(made) for made in crowd)
    return reached & told("stalled readers that believe to have a whole answer", left, "clients", 0)


def _isReset(made: socket.socket) -> bool:
    """Whether what is left to read ends before the answer does."""
    got = 0
    with made, contextlib.suppress(OSError):
        made.settimeout(5)
        while data := made.recv(1 << 20):
            got += len(data)
    return got < LARGE


def main() -> int:
    """Start a gateway, and be slow."""
    upstream = LargeUpstream()
    with running(f'[upstream]\nbaseUrl = "http://127.0.0.1:{upstream.port}"\n') as (port, gateway):
        connected(port, 1, DOWNLOAD)[0].close()  # what the first request makes is not a reader's
        time.sleep(2)
        upstream.ended = 0
        reached = stalledReaders(port, upstream, gateway.rss)
        reached &= slowBodies(port)
    upstream.close()
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
