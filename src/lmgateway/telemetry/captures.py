# -*- test-case-name: tests.telemetry.test_captures -*-
"""
What a request and its answer said, kept in memory to be looked at. Off unless the settings name the key.

Keys and tokens are never in it: credentials are taken out of the header fields, and what is shaped like a key is masked in
the bodies. Bodies are cut at a size, and only the last :data:`KEPT` requests are kept.
"""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from lmgateway.exchange import Exchange
from lmgateway.message import HeaderPairs

KEPT = 100
"""Requests whose contents are kept."""

MASK = "***"
_SECRET_FIELDS = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"cookie", b"set-cookie", b"proxy-authorization"}
)
_SECRET_SHAPES = re.compile(rb"\b(?:lmg_[\w-]{8,}|sk-[\w:-]{8,})|(?<=[Bb]earer )[^\s\"',]+")


class Capture:
    """
    One request and its answer.

    :param method: of the request.
    :param target: its target, without the query, which may hold secrets.
    :param headers: its header fields; credentials are masked.
    :param size: bytes of each body that are kept.
    """

    def __init__(self, method: str, target: str, headers: HeaderPairs, size: int) -> None:
        self.method = method
        self.target = target
        self.headers = redactedFields(headers)
        self.requestBody = b""
        self.sentBody = b""
        self.status: int | None = None
        self.answerHeaders: list[tuple[str, str]] = []
        self.answerBody = bytearray()
        self.answerBytes = 0
        self._size = size

    def sent(self, body: bytes, completed: bytes) -> None:
        """
        Keep what the client sent and what went upstream.

        :param body: the client's body.
        :param completed: the same, with what was injected.
        """
        self.requestBody = body[: self._size]
        self.sentBody = completed[: self._size]

    def answered(self, status: int, headers: HeaderPairs) -> None:
        """Keep the head of the answer."""
        self.status = status
        self.answerHeaders = redactedFields(headers)

    def passing(self, data: bytes) -> None:
        """Keep a piece of the answer, while there is room."""
        self.answerBytes += len(data)
        room = self._size - len(self.answerBody)
        if room > 0:
            self.answerBody += data[:room]

    def show(self) -> dict[str, Any]:
        """Give all of it as JSON has it, redacted."""
        return {
            "request": {
                "method": self.method,
                "path": self.target,
                "headers": self.headers,
                "body": shown(self.requestBody),
            },
            "sentBody": shown(self.sentBody),
            "answer": {
                "status": self.status,
                "headers": self.answerHeaders,
                "body": shown(bytes(self.answerBody)),
                "bytes": self.answerBytes,
                "truncated": self.answerBytes > len(self.answerBody),
            },
        }


class Captures:
    """
    The captures of the last requests.

    :param keys: names of the keys whose requests are captured; ``*`` is all.
    :param size: bytes of each body.
    """

    def __init__(self, keys: tuple[str, ...], size: int) -> None:
        self._held: OrderedDict[str, Capture] = OrderedDict()
        self.configure(keys, size)

    def configure(self, keys: tuple[str, ...], size: int) -> None:
        """Capture for other keys from now on."""
        self._keys = frozenset(keys)
        self._size = size

    def begin(
        self,
        key: str,
        requestId: str,
        method: str,
        target: str,
        headers: HeaderPairs,
        *,
        isWanted: bool | None = None,
    ) -> Capture | None:
        """
        Begin to capture a request, if its key is one of those.

        :param isWanted: what the key itself says; None where it says nothing.
        """
        if isWanted is None:
            isWanted = bool(self._keys) and ("*" in self._keys or key in self._keys)
        if not isWanted:
            return None
        capture = self._held[requestId] = Capture(method, target, headers, self._size)
        while len(self._held) > KEPT:
            self._held.popitem(last=False)
        return capture

    def find(self, requestId: str) -> Capture | None:
        """Give what was captured of a request."""
        return self._held.get(requestId)


def redactedFields(headers: HeaderPairs) -> list[tuple[str, str]]:
    """Give header fields as text, credentials masked."""
    return [
        (
            name.decode("latin-1"),
            MASK if name.lower() in _SECRET_FIELDS else shown(value),
        )
        for name, value in headers
    ]


def shown(data: bytes) -> str:
    """Give bytes as text, what is shaped like a key masked."""
    return _SECRET_SHAPES.sub(MASK.encode(), data).decode("utf-8", "replace")


def curlOf(capture: Capture, url: str) -> str:
    """
    Write a captured request as a curl command.

    :param url: the gateway's.
    """
    said: list[str] = []
    for name, value in capture.headers:
        if name.lower() in {"content-type", "accept", "anthropic-version"}:
            said += ["-H", f"{name}: {value}"]
    if capture.requestBody:
        said += ["--data-raw", shown(capture.requestBody)]
    begin = shlex.join(["curl", "-sS", "-X", capture.method, url + capture.target])
    # Only this is the shell's to fill in. What the client wrote is quoted, whatever it is, or it would be the shell's as well.
    return f'{begin} -H "Authorization: Bearer $LMGATEWAY_KEY" {shlex.join(said)}'.rstrip(" ")


def harOf(capture: Capture, exchange: Exchange, url: str) -> dict[str, Any]:
    """
    Write a captured request as a HAR log of one entry (HTTP Archive 1.2).

    :param url: the gateway's.
    """
    total = exchange.totalTimeMs(exchange.endedAt or exchange.startedAt)
    wait = max(0.0, ((exchange.answeredAt or exchange.endedAt or exchange.startedAt) - exchange.startedAt) * 1000)
    fields = [{"name": name, "value": value} for name, value in capture.headers]
    answerFields = [{"name": name, "value": value} for name, value in capture.answerHeaders]
    mime = next((value for name, value in capture.answerHeaders if name.lower() == "content-type"), "")
    entry = {
        "startedDateTime": datetime.fromtimestamp(exchange.startedAt, UTC).isoformat(),
        "time": total,
        "request": {
            "method": capture.method,
            "url": url + capture.target,
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": fields,
            "queryString": [],
            "postData": {"mimeType": "application/json", "text": shown(capture.requestBody)},
            "headersSize": -1,
            "bodySize": exchange.bytesIn,
        },
        "response": {
            "status": capture.status or 0,
            "statusText": "",
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": answerFields,
            "content": {"size": capture.answerBytes, "mimeType": mime, "text": shown(bytes(capture.answerBody))},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": exchange.bytesOut,
        },
        "cache": {},
        "timings": {"send": 0, "wait": round(wait, 1), "receive": round(max(0.0, total - wait), 1)},
    }
    return {"log": {"version": "1.2", "creator": {"name": "lmgateway", "version": "1"}, "entries": [entry]}}
