"""
The bench's own client: raw sockets, so that it knows what it sent and when it left.
"""

from __future__ import annotations

import base64
import gc
import http.client
import json
import random
import re
import select
import socket
import time
from dataclasses import dataclass

from processes import Unavailable

KEY = "bench-0123456789abcdef0123456789abcdef"
MESSAGES = [
    {"role": "system", "content": "You answer in one short sentence and never explain what nobody asked you about."},
    {"role": "user", "content": "How many legs do two cats have less four? Say the number only, as a word, please."},
]
SMALL_BODY = json.dumps({"messages": MESSAGES, "top_p": 0.9, "presence_penalty": 0.1, "user": "bench"}).encode()
EVENT_TIME = re.compile(rb'"t":(\d+),')


@dataclass(frozen=True)
class Peer:
    """
    Whom a request goes to.

    :param port: on loopback.
    """

    port: int

    def connect(self) -> socket.socket:
        """
        :return: a connected socket that waits at most 20 s.
        """
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def head(target: str, length: int, contentType: str = "application/json") -> bytes:
    """
    :param length: of the body, in bytes.
    :return: the head of a POST with the key.
    """
    return (
        f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {contentType}\r\nContent-Length: {length}\r\n\r\n"
    ).encode("ascii")


def readHead(connection: socket.socket) -> bytes:
    """
    :return: what came after the head of a 200.
    :raise Unavailable: it is no 200.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise Unavailable("the connection was closed without an answer")
        data += piece
    first, _, rest = data.partition(b"\r\n\r\n")
    status = first.split(b" ", 2)[1]
    if status != b"200":
        raise Unavailable(f"status {status.decode()}: {rest[:150].decode(errors='replace')}")
    return rest


def ask(peer: Peer, target: str, body: bytes = b"", method: str = "POST") -> bytes:
    """
    :return: the body of the 200 that answered.
    :raise Unavailable: another status, or no answer within 20 s.
    """
    connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=20)
    try:
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request(method, target, body or None, fields)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{method} {target}: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Unavailable(f"status {response.status}: {data[:150].decode(errors='replace')}")
    return data


@dataclass
class StreamFigures:
    """
    What a number of streams showed while all were open.

    :param lags: nanoseconds from the upstream's write to this client's read, an event each, sorted.
    """

    lags: list[int]

    def percentile(self, share: float) -> float:
        """
        :return: the lag that this share of the events stayed within, in milliseconds.
        """
        if not self.lags:
            raise Unavailable("no event arrived")
        return self.lags[min(len(self.lags) - 1, int(len(self.lags) * share))] / 1e6


class Streams:
    """
    Open streams, all read by one loop.

    :param peer: whom to ask.
    :param count: how many.
    """

    def __init__(self, peer: Peer, count: int) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._rests: dict[int, bytes] = {}
        self._poll = select.epoll()
        request = head("/v1/chat/completions?bench=stream", len(SMALL_BODY)) + SMALL_BODY
        for _ in range(count):
            connection = peer.connect()
            self._sockets[connection.fileno()] = connection
            connection.sendall(request)
        for number, connection in self._sockets.items():
            self._rests[number] = readHead(connection)[-32:]
            connection.setblocking(False)
            self._poll.register(number, select.EPOLLIN)

    def observe(self, seconds: float) -> StreamFigures:
        """
        :param seconds: how long to read.
        :return: the lag of every event that came.
        :raise Unavailable: a stream ended.
        """
        lags: list[int] = []
        gc.disable()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for number, _ in self._poll.poll(0.05):
                self._read(number, lags)
        gc.enable()
        lags.sort()
        return StreamFigures(lags)

    def _read(self, number: int, lags: list[int]) -> None:
        data = self._sockets[number].recv(65536)
        now = time.monotonic_ns()
        if not data:
            raise Unavailable("a stream ended before its time")
        data = self._rests[number] + data
        end = 0
        for match in EVENT_TIME.finditer(data):
            lags.append(now - int(match[1]))
            end = match.end()
        self._rests[number] = data[end:][-32:]

    def close(self) -> None:
        """Leave them all."""
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()


def bigBody(megabytes: int) -> bytes:
    """
    :return: a chat request with an image of that size in it, as clients send it.
    """
    image = base64.b64encode(random.Random(0).randbytes(megabytes * 750_000)).decode("ascii")  # noqa: S311 - no secret
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}}
    return json.dumps(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, url]}]}
    ).encode()
