"""
What must hold of a whole gateway, whatever bytes its clients and LM Studio send.

:func:`checkClient` and :func:`checkUpstream` play one exchange each and raise :class:`AssertionError` where it does not hold; what they
draw their bytes from stands here too, so that ``bench/faults/fuzz.py`` can go on drawing for as long as anybody likes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st
from lmgateway.telemetry.accesslog import formatJson, formatText
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.strategies import cut
from tests.web.support import KEY, UPSTREAM, Client, MemoryGateway, ScriptedUpstreams, requestBytes
from tests.wire.answers import Answer, readAnswers
from tests.wire.downstream import chunked
from tests.wire.test_channel_fuzz import damaged

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
    b"authorization",
    b"x-api-key",
    b"x-forwarded-for",
}
"""What never goes upstream; LM Studio's token, the one credential that does, is not set here."""

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_-]*) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)")

_CHUNKED = {"Transfer-Encoding": "chunked"}
_CHAT = {"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "hello"}]}
_SMUGGLED = requestBytes("GET", "/v1/smuggled")

_REQUESTS = (
    requestBytes("GET", "/v1/a"),
    requestBytes("HEAD", "/v1/b?c=d"),
    requestBytes("GET", "/v1/c", headers={"Connection": "X-Secret, keep-alive", "X-Secret": "1", "TE": "trailers"}),
    requestBytes("POST", "/v1/d", b"plain", headers={"Content-Type": "text/plain"}),
    requestBytes("POST", "/v1/e", _SMUGGLED, headers={"Content-Type": "text/plain"}),
    requestBytes("POST", "/v1/f", headers={**_CHUNKED, "Content-Type": "text/plain"}) + chunked(b"one", _SMUGGLED),
    requestBytes("PUT", "/v1/g", b"abc", headers={"Expect": "100-continue", "X-Forwarded-For": "10.0.0.1"}),
    requestBytes("POST", "/v1/chat/completions", _CHAT),
    requestBytes("POST", "/v1/chat/completions", headers={**_CHUNKED, "Content-Type": "application/json"})
    + chunked(json.dumps(_CHAT).encode()),
    requestBytes("GET", "/health"),
    requestBytes("GET", "/nothing"),
    requestBytes("GET", "/v1/h", key="wrong"),
    requestBytes("GET", "/v1/i", headers={"Connection": "close"}),
    requestBytes("GET", "/v1/j", headers={"Connection": "upgrade", "Upgrade": "websocket"}),
)

PIPELINES = damaged(st.lists(st.sampled_from(_REQUESTS), min_size=1, max_size=5).map(b"".join))
"""Several requests in a row, of which some are damaged."""

CUTS = st.lists(st.integers(0, 1500), max_size=12)
"""Where bytes are cut into pieces."""

_EVENTS = (b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n', b"data: [DONE]\n\n")
_JSON = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
_STREAM_TYPE, _JSON_TYPE = b"Content-Type: text/event-stream\r\n", b"Content-Type: application/json\r\n"


def _framed(kind: bytes, body: tuple[bytes, ...], *, isChunked: bool) -> bytes:
    if isChunked:
        return b"HTTP/1.1 200 OK\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*body)
    whole = b"".join(body)
    return b"HTTP/1.1 200 OK\r\n" + kind + b"Content-Length: %d\r\n\r\n" % len(whole) + whole


SOUND = st.sampled_from(
    tuple(
        _framed(kind, body, isChunked=isChunked)
        for kind, body in ((_STREAM_TYPE, _EVENTS), (_JSON_TYPE, (_JSON[:20], _JSON[20:])))
        for isChunked in (True, False)
    )
)
"""Sound answers to a chat, whose end can be told."""

ENDS = st.sampled_from(("finish", "reset", "stay"))
"""What the other end does after its last byte."""


class StrictUpstream(Protocol):
    """
    An LM Studio that reads as strictly as can be, and answers each request with its target.

    :ivar targets: what was asked, by whole requests.
    """

    def __init__(self, targets: list[bytes]) -> None:
        self.targets = targets
        self.left = b""
        self.isLost = False

    def dataReceived(self, data: bytes) -> None:
        """Read every request that is whole."""
        self.left += data
        while (end := self._wholeAt()) is not None:
            self.left = self.left[end:]
            isHead = self._method == b"HEAD"
            of = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-Of: " + self.targets[-1]
            assert self.transport is not None
            self.transport.write(of + b"\r\n\r\n" + (b"" if isHead else b"ok"))

    def _wholeAt(self) -> int | None:
        """Where the first request ends, once it is whole; its head is judged as soon as that is there."""
        head, blank, rest = self.left.partition(b"\r\n\r\n")
        if not blank:
            return None
        line, *lines = head.split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        assert match, f"no request line: {line!r}"
        fields = judgedFields(lines)
        start = len(head) + 4
        if b"transfer-encoding" in fields:
            assert fields[b"transfer-encoding"] == [b"chunked"], fields
            length = _chunksLength(rest)
        else:
            length = int(fields.get(b"content-length", [b"0"])[0])
        if length is None or len(rest) < length:
            return None
        self._method = match[1]
        self.targets.append(match[2])
        return start + length

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember it."""
        self.isLost = True


def judgedFields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    """The fields of a forwarded request, each of which must be what the gateway would write."""
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match, f"no field line: {line!r}"
        fields.setdefault(match[1].lower(), []).append(match[2])
    assert fields.get(b"host") == [UPSTREAM.removeprefix("http://").encode()], fields.get(b"host")
    assert not HOP_BY_HOP & fields.keys(), fields.keys()
    assert len(fields.get(b"content-length", ())) <= 1
    assert not (b"content-length" in fields and b"transfer-encoding" in fields), "framed twice"
    assert len(fields.get(b"content-type", ())) <= 1
    return fields


def _chunksLength(rest: bytes) -> int | None:
    """Bytes of a chunked body, once it is whole."""
    place = 0
    while (end := rest.find(b"\r\n", place)) >= 0:
        assert re.fullmatch(rb"[0-9a-f]+", rest[place:end]), f"no chunk size: {rest[place:end]!r}"
        size = int(rest[place:end], 16)
        place = end + 2 + size + 2
        if len(rest) < place:
            return None
        assert rest[place - 2 : place] == b"\r\n", "a chunk that is longer than it says"
        if size == 0:
            return place
    return None


def checkClient(wire: bytes, places: list[int]) -> list[int]:
    """
    Have a client send these bytes, cut up, over one connection.

    Whatever they are: each request that goes upstream is canonical, each is answered once and in its order, after an answer that is
    said to be the last there is none, and every line of the log is one line.

    :return: the statuses of the answers.
    """
    targets: list[bytes] = []
    upstreams: list[StrictUpstream] = []

    def listen() -> StrictUpstream:
        upstreams.append(StrictUpstream(targets))
        return upstreams[-1]

    gateway = MemoryGateway(listen=listen)
    client = gateway.connect()
    for piece in cut(wire, places):
        client.send(piece)
    gateway.network.advance(2)
    isOpen = not (client.downstream.closing or client.downstream.lost)
    written = client.protocol.data
    inFlight = len(gateway.exchanges.inFlight)
    assert not inFlight or isOpen, "a request outlives its connection"
    if client.transport in gateway.network.transports:
        client.leave()
    gateway.network.flush()
    answers = _finalAnswers(gateway, written, closed=not isOpen)
    assert all(answer.complete for answer in answers), "an answer that is cut short"
    told = [answer.field("X-Of") for answer in answers if answer.field("X-Of") is not None]
    assert told == [target.decode() for target in targets], f"asked {targets}, answered {told}"
    ids = [answer.field("X-Request-Id") for answer in answers]
    assert len(set(ids)) == len(ids), "one request is answered twice"
    assert set(ids) <= {record.requestId for record in gateway.records}
    assert all(each.isLost or not each.left for each in upstreams), "half a request is left upstream"
    _checkRecords(gateway)
    return [answer.status for answer in answers]


def _finalAnswers(gateway: MemoryGateway, written: bytes, *, closed: bool) -> list[Answer]:
    methods = [record.method for record in gateway.records]
    return [answer for answer in readAnswers(written, methods, closed=closed) if answer.status >= 200]


def _checkRecords(gateway: MemoryGateway) -> None:
    ids = [record.requestId for record in gateway.records]
    assert len(ids) == len(set(ids)), "a request ended twice"
    assert not gateway.exchanges.inFlight, "a request that never ends"
    for record in gateway.records:
        assert json.loads(formatJson(record))["requestId"] == record.requestId
        assert formatText(record).isprintable()


def checkUpstream(said: bytes, places: list[int], end: str, *, isStream: bool, isBroken: bool) -> None:
    """
    Have LM Studio answer a chat with these bytes, cut up.

    Whatever they are, the client gets at most one answer, which is well-formed; and it does not look whole if the other one was broken.

    :param end: what LM Studio does then: ``finish``, ``reset`` or ``stay``.
    :param isBroken: whether it is known not to be a whole answer.
    """
    made = ScriptedUpstreams()
    gateway = MemoryGateway(listen=made)
    client = gateway.connect()
    client.send(requestBytes("POST", "/v1/chat/completions", {**_CHAT, "stream": isStream}))
    (upstream,) = made.made
    transport: Any = upstream.transport
    for piece in cut(said, places):
        if not upstream.ended:
            transport.write(piece)
            gateway.network.flush()
    if end != "stay" and not upstream.ended:
        (transport.loseConnection if end == "finish" else transport.abortConnection)()
    gateway.network.advance(2)
    _checkAnswered(client, isBroken=isBroken and end != "stay")
    if client.transport in gateway.network.transports:
        client.leave()
    gateway.network.flush()
    _checkRecords(gateway)


def _checkAnswered(client: Client, *, isBroken: bool) -> None:
    """The client has one answer at the most, and none that looks whole but is not."""
    isClosed = client.downstream.closing or client.downstream.lost
    wasCut = client.downstream.aborted
    written = client.protocol.data
    answers = [each for each in readAnswers(written, ["POST"], closed=isClosed and not wasCut) if each.status >= 200]
    assert len(answers) <= 1, "two answers to one request"
    if isBroken:
        assert answers or wasCut, "no answer"
        for answer in answers:
            isWhole = answer.status < 400 and answer.complete and not wasCut and b'"error"' not in answer.body
            assert not isWhole, f"a broken answer passes for a whole one: {written!r}"
    assert KEY.encode() not in written
