"""
A browser follows the gateway's events: the EventSource of a real Chromium, which loses its connection and resumes.

An EventSource cannot send a key, and the page must come from where its events do. So a relay on loopback serves the page,
passes the stream through with the key, byte for byte, and can cut it; what the page sees it reports to the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from report import PLACE, ask, check, expect, run

PATIENCE = 30.0
KINDS = (
    "connected", "gap", "inference_start", "inference_first_token", "inference_complete", "auth_failure",
    "upstream_up", "upstream_down",
)  # fmt: skip

PAGE = """<!doctype html><meta charset="utf-8"><title>Follows the events</title><script>
"use strict";
let last = Promise.resolve();
function report(seen) {
  last = last.then(() => fetch("/report", {method: "POST", body: JSON.stringify(seen)}));
}
const source = new EventSource("/debug/stream");
source.onopen = () => report({state: "open"});
source.onerror = () => report({state: source.readyState === EventSource.CLOSED ? "given up" : "lost"});
for (const kind of %s) {
  source.addEventListener(kind, (event) => report({kind, id: Number(event.lastEventId), data: JSON.parse(event.data)}));
}
</script>
"""


class Visit(BaseHTTPRequestHandler):
    """One request of the page."""

    protocol_version = "HTTP/1.1"
    server: Relay

    def do_GET(self) -> None:
        """Give the page, or the stream."""
        self.close_connection = True
        if self.path == "/debug/stream":
            self.server.relay(self.connection, self.headers.get("Last-Event-ID"))
        else:
            self._answer(200 if self.path == "/" else 404, (PAGE % json.dumps(KINDS)).encode())

    def do_POST(self) -> None:
        """Take what the page reports."""
        self.server.report(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


class Relay(ThreadingHTTPServer):
    """
    Stands between the browser and the gateway.

    :ivar seen: what the page reported, in order.
    :ivar cutInside: whether the next event is cut in two, and with it the connection.
    :ivar resumed: the ``Last-Event-ID`` of each stream that was asked for, None where there was none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.seen: list[dict[str, Any]] = []
        self.resumed: list[str | None] = []
        self.cutInside = False
        self._news = threading.Condition()
        self._upstream: socket.socket | None = None

    def report(self, seen: dict[str, Any]) -> None:
        """Note what the page saw."""
        with self._news:
            self.seen.append(seen)
            self._news.notify_all()

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what was reported."""
        with self._news:
            assert self._news.wait_for(holds, PATIENCE), f"{what}: not after {PATIENCE:g} s; seen: {self.seen[-5:]}"

    def relay(self, browser: socket.socket, lastEventId: str | None) -> None:
        """Pass a stream through, until either end is cut."""
        self.resumed.append(lastEventId)
        place = urlsplit(PLACE.base)
        fields = [f"Host: {place.netloc}", f"Authorization: Bearer {PLACE.key}", "Accept: text/event-stream"]
        if lastEventId is not None:
            fields.append(f"Last-Event-ID: {lastEventId}")
        head = "\r\n".join(["GET /debug/stream HTTP/1.1", *fields, "", ""])
        with socket.create_connection((place.hostname, place.port)) as upstream, contextlib.suppress(OSError):
            self._upstream = upstream
            upstream.sendall(head.encode("latin-1"))
            while data := upstream.recv(65536):
                if self.cutInside and b"event: auth_failure" in data:
                    self.cutInside = False
                    browser.sendall(data[: data.index(b"event: auth_failure") + 40])
                    break
                browser.sendall(data)

    def cut(self) -> None:
        """Cut the stream."""
        if self._upstream is not None:
            self._upstream.shutdown(socket.SHUT_RDWR)

    @property
    def ids(self) -> list[int]:
        """The ids of the events that the page saw, without those that greet it."""
        return [each["id"] for each in self.seen if each.get("kind", "connected") != "connected"]

    def kindsOf(self, requestId: str) -> list[str]:
        """What the page saw of a request."""
        return [each["kind"] for each in self.seen if each.get("data", {}).get("requestId") == requestId]


RELAY = Relay()


def startBrowser(folder: str) -> subprocess.Popen[bytes]:
    """Open the page."""
    options = [
        "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
        "--disable-component-update", "--no-first-run", f"--user-data-dir={folder}",
    ]  # fmt: skip
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox does not work for root.
    return subprocess.Popen(  # noqa: S603 - the browser that run.py found
        [os.environ["E2E_CHROMIUM"], *options, f"http://127.0.0.1:{RELAY.server_port}/"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def failToEnter() -> None:
    """Make an event that needs no model: ``auth_failure``."""
    error = expect(urllib.error.HTTPError, lambda: ask(f"{PLACE.base}/v1/models", "wrong"))
    assert "401" in str(error), error


def awaitEvents(count: int) -> None:
    """Wait until the page has seen so many events, and make sure that none is missing or came twice."""
    RELAY.wait(f"{count} events", lambda: len(RELAY.ids) >= count)
    first = RELAY.ids[0]
    assert RELAY.ids == list(range(first, first + count)), RELAY.ids


@check("an EventSource is greeted, and sees a chat from its start to its end", gatewayOnly=True)
def _follows() -> None:
    RELAY.wait("connected", lambda: any(each.get("kind") == "connected" for each in RELAY.seen))
    listed: Any = ask(f"{PLACE.base}/v1/models", PLACE.key)
    model = listed["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
    ask(f"{PLACE.base}/v1/chat/completions", PLACE.key, body)
    RELAY.wait("the chat", lambda: any(each.get("kind") == "inference_complete" for each in RELAY.seen))
    (start,) = [each["data"] for each in RELAY.seen if each.get("kind") == "inference_start"]
    assert start["model"] == model, start
    kinds = RELAY.kindsOf(start["requestId"])
    assert (kinds[0], kinds[-1]) == ("inference_start", "inference_complete"), kinds


@check("its connection lost, it comes back by itself with Last-Event-ID, and has missed nothing", gatewayOnly=True)
def _resumes() -> None:
    before = len(RELAY.ids)
    RELAY.cut()
    RELAY.wait("the loss", lambda: RELAY.seen[-1] == {"state": "lost"})
    for _ in range(5):
        failToEnter()
    awaitEvents(before + 5)
    assert RELAY.resumed == [None, str(RELAY.ids[before - 1])], RELAY.resumed
    assert not [each for each in RELAY.seen if each.get("kind") == "gap"], RELAY.seen


@check("cut in the midst of an event, it gets that event whole, and once", gatewayOnly=True)
def _resumesInside() -> None:
    before = len(RELAY.ids)
    RELAY.cutInside = True
    failToEnter()
    RELAY.wait("the loss", lambda: RELAY.seen[-1] == {"state": "lost"})
    failToEnter()
    awaitEvents(before + 2)
    assert RELAY.resumed[-1] == str(RELAY.ids[before - 1]), RELAY.resumed


def main() -> int:
    """
    :return: the exit code: 0 when everything holds.
    """
    threading.Thread(target=RELAY.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="lmgateway-chromium-", ignore_cleanup_errors=True) as folder:
        browser = startBrowser(folder)
        try:
            return asyncio.run(run("EventSource (Chromium)"))
        finally:
            browser.terminate()
            browser.wait(timeout=20)


if __name__ == "__main__":
    sys.exit(main())
