"""
An upstream whose behaviour the query chooses, so that it is the same through any proxy.

=================  =====================================================================================
``?bench=stream``  Server-Sent Events at 20 per second until the client goes, each with its time of sending
``?bench=hold``    never answers
``?bench=flood``   400 MB of events, as fast as they are taken
``?bench=sink``    reads the body and answers how long it was
(none)             a small canned completion; on other paths what LM Studio says to an unknown path
=================  =====================================================================================

A request with ``&id=N`` is reported on standard output, a line each: ``began N NANOSECONDS`` when its head is there,
``lost N NANOSECONDS`` when its connection ends before its answer did. Times are of ``CLOCK_MONOTONIC``, which all
processes of a machine share.

Run as ``python bench/stream_upstream.py PORT``. asyncio rather than Twisted: the other end shares no code with what is
measured.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import sys
import time

import httptools

INTERVAL = 1 / 20
FLOOD_BYTES = 400_000_000
PIECE_BYTES = 64 * 1024
BATCH = 4
GOLDEN_RATIO = 0.618033988749895

EVENT = (
    b'data: {"t":%d,"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1785472762,"model":"bench/model",'
    b'"system_fingerprint":"bench/model","choices":[{"index":0,"delta":{"role":"assistant","content":" token"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
COMPLETION = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1785472762,"model":"bench/model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Four.","tool_calls":[]},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":14,"completion_tokens":2,"total_tokens":16},"stats":{},'
    b'"system_fingerprint":"bench/model"}'
)
MODELS = b'{"data":[{"id":"bench/model","object":"model","owned_by":"organization_owner"}],"object":"list"}'
UNEXPECTED = b'{"error":"Unexpected endpoint or method. (GET /)"}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
QUERY = re.compile(rb"[?&](bench|id)=(\w+)")


def whole(body: bytes) -> bytes:
    """
    :return: a complete answer with this JSON body.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def chunk(data: bytes) -> bytes:
    """
    :return: the data as one chunk (RFC 9112 section 7.1).
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """
    One connection, one request at a time.
    """

    opened = itertools.count()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to read requests."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.target = b""
        self.behaviour = b""
        self.ident = b""
        self.received = 0
        self.unsent = 0
        self.timer: asyncio.TimerHandle | None = None
        self.writable = True

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self.parser.feed_data(data)

    def eof_received(self) -> None:
        """The proxy has closed its side."""
        self.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has gone, by reset or otherwise."""
        self.ended()

    def ended(self) -> None:
        """Report an unfinished request, once, and stop answering it."""
        self.report(b"lost")
        self.ident = b""
        self.unsent = 0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def report(self, what: bytes) -> None:
        """Tell the bench, when it asked for this request."""
        if self.ident:
            sys.stdout.buffer.write(b"%b %b %d\n" % (what, self.ident, time.monotonic_ns()))
            sys.stdout.buffer.flush()

    def on_url(self, url: bytes) -> None:
        """Collect the request target, which may come in pieces."""
        self.target += url

    def on_headers_complete(self) -> None:
        """Learn what is asked."""
        asked = dict(QUERY.findall(self.target))
        self.behaviour = asked.get(b"bench", b"")
        self.ident = asked.get(b"id", b"")
        self.report(b"began")

    def on_body(self, body: bytes) -> None:
        """Count the body."""
        self.received += len(body)

    def on_message_complete(self) -> None:
        """Answer."""
        if self.behaviour == b"stream":
            self.beginStream()
        elif self.behaviour == b"flood":
            self.transport.write(STREAM_HEAD)
            self.unsent = FLOOD_BYTES
            self.flood()
        elif self.behaviour == b"sink":
            self.answer(b'{"received":%d}' % self.received)
        elif self.behaviour != b"hold":
            self.answer(self.canned())

    def canned(self) -> bytes:
        """
        :return: what LM Studio would say on this path.
        """
        path = self.target.partition(b"?")[0]
        return {b"/v1/chat/completions": COMPLETION, b"/v1/models": MODELS}.get(path, UNEXPECTED)

    def answer(self, body: bytes) -> None:
        """Send a complete answer and be ready for the next request."""
        self.transport.write(whole(body))
        self.target = self.ident = b""
        self.received = 0

    def beginStream(self) -> None:
        """
        Send the head and the first event; then tick. Streams tick in step by fours, as LM Studio decodes its parallel
        requests in one batch; the fours are spread evenly over the interval, whenever their requests came.
        """
        self.transport.write(STREAM_HEAD + chunk(EVENT % time.monotonic_ns()))
        phase = (next(self.opened) // BATCH * GOLDEN_RATIO) % 1
        loop = asyncio.get_running_loop()
        interval = int(loop.time() / INTERVAL) + 1
        self.tick(loop, (interval + phase) * INTERVAL)

    def tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Send an event each interval, by an absolute schedule."""
        self.timer = loop.call_at(due, self.sendEvent, loop, due)

    def sendEvent(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Send one event that carries the time."""
        self.tick(loop, due + INTERVAL)
        self.transport.write(chunk(EVENT % time.monotonic_ns()))

    def pause_writing(self) -> None:
        """The proxy reads slowly."""
        self.writable = False

    def resume_writing(self) -> None:
        """The proxy reads again."""
        self.writable = True
        self.flood()

    def flood(self) -> None:
        """Write while the proxy takes it."""
        event = EVENT % 0
        piece = chunk(event * (PIECE_BYTES // len(event)))
        while self.unsent > 0 and self.writable:
            self.transport.write(piece)
            self.unsent -= len(piece)
            if self.unsent <= 0:
                self.transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    """
    :param port: where to listen, on loopback.
    """
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=2048)
    gc.freeze()
    gc.disable()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
