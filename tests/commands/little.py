"""A little gateway over a real socket: it says what the test says, and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

JSON = "application/json"
EVENTS = "text/event-stream"

NO_SETTINGS = dict.fromkeys(("LMGATEWAY_URL", "LMGATEWAY_KEY", "GATEWAY_API_KEY"), "")
"""Variables as somebody has them who has said nothing, whoever runs the tests."""


class Said(Struct, frozen=True):
    """
    One answer.

    :param pieces: of its body; a chunk each where it is a stream.
    :param isCut: whether the connection is cut after them.
    :param isHeld: whether it is left open after them, and nothing more is said.
    :param after: must be set before anything is said.
    """

    status: int = 200
    pieces: tuple[bytes, ...] = ()
    contentType: str = JSON
    isCut: bool = False
    isHeld: bool = False
    after: threading.Event | None = None


def json200(value: object, after: threading.Event | None = None) -> Said:
    """A JSON answer."""
    return Said(pieces=(json.dumps(value).encode(),), after=after)


def error(status: int, value: object) -> Said:
    """An answer that is an error."""
    return Said(status, (json.dumps(value).encode(),))


def events(*pieces: bytes, isCut: bool = False, isHeld: bool = False) -> Said:
    """An event stream, which is never long without a connection."""
    return Said(200, (b"retry: 1\n\n", *pieces), EVENTS, isCut, isHeld)


class LittleGateway:
    """
    :param case: when it ends, so does this.
    :param answers: by path; the last of several is given again and again.
    :param tls: what to serve https with.
    :ivar asked: the target and the header fields of each request.
    :ivar methods: the method of each.
    :ivar told: the target and the JSON of each request that has a body; a test may wait for them.
    """

    def __init__(
        self, case: SynchronousTestCase, answers: Mapping[str, list[Said]], tls: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.methods: list[str] = []
        self.told: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.over = threading.Event()
        self._answers = answers
        gateway = self

        class Asked(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer as the test says."""
                gateway.answer(self)

            def do_POST(self) -> None:
                """Answer as the test says, once the body was read."""
                length = int(self.headers["Content-Length"])
                gateway.told.put((self.path, json.loads(self.rfile.read(length))))
                gateway.answer(self)

            do_PATCH = do_POST
            do_DELETE = do_GET

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self._server = _Server(("127.0.0.1", 0), Asked)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._server.server_close)
        case.addCleanup(self._server.shutdown)
        case.addCleanup(self.over.set)

    @property
    def targets(self) -> list[str]:
        """What was asked for."""
        return [target for target, _ in self.asked]

    def orders(self) -> list[tuple[str, Any]]:
        """What has been told and not yet been looked at."""
        return [self.told.get() for _ in range(self.told.qsize())]

    def answer(self, request: Any) -> None:
        """Say the next answer of a path."""
        self.asked.append((request.path, dict(request.headers.items())))
        self.methods.append(request.command)
        answers = self._answers.get(request.path.partition("?")[0], [error(404, {"error": "There is nothing."})])
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        if said.after is not None:
            said.after.wait(60)
        isStream = said.contentType == EVENTS
        request.send_response(said.status)
        request.send_header("Content-Type", said.contentType)
        if isStream:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(sum(map(len, said.pieces)) + said.isCut))
        request.end_headers()
        for piece in said.pieces:
            request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if isStream else piece)
        if said.isHeld:
            self.over.wait(60)
        if isStream and not said.isCut:
            request.wfile.write(b"0\r\n\r\n")
        request.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that leave are what some tests are about."""
