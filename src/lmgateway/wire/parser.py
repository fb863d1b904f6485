# -*- test-case-name: tests.wire.test_parser -*-
"""
Bytes from downstream to heads, bodies and refusals.

llhttp finds the parts; :mod:`lmgateway.policy` judges each head before anything else is done with it. After a refusal
nothing is parsed any more, because nothing that follows can be trusted.
"""

from __future__ import annotations

from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec.structs import replace

from lmgateway.errors import BadRequest, GatewayError, HeadTooLarge, TargetTooLong
from lmgateway.message import RequestHead
from lmgateway.policy.framing import Framing, checkFraming
from lmgateway.policy.target import checkTarget


class IHeadLimits(Protocol):
    """What a head may have at the most."""

    @property
    def maxHead(self) -> int:
        """Bytes in all."""

    @property
    def maxFields(self) -> int:
        """Header fields."""

    @property
    def maxTarget(self) -> int:
        """Bytes of the request target."""


class IRequestSink(Protocol):
    """Who is told what was found, in the order of the bytes."""

    def headBegun(self) -> None:
        """The first byte of a head came."""

    def headReceived(self, head: RequestHead, framing: Framing) -> None:
        """A sound head is whole; its body follows."""

    def bodyReceived(self, data: bytes) -> None:
        """A piece of the body, its chunk framing taken off."""

    def messageReceived(self) -> None:
        """The request is whole."""

    def refused(self, head: RequestHead, error: GatewayError) -> None:
        """What came is no request that may be answered. Nothing more will be told."""


class RequestParser:
    """
    Parses what one connection brings.

    :param sink: is told.
    :param limits: what a head may have.
    :param peer: the textual address of the other end.
    :param secure: whether the connection is TLS.
    :ivar noHead: stands for a head that could not be read, in logs and refusals.
    :ivar stopped: whether nothing is parsed any more.
    :ivar identities: what the client's certificate calls it; to be set once that is verified.
    """

    def __init__(self, sink: IRequestSink, limits: IHeadLimits, peer: str, *, secure: bool) -> None:
        self.stopped = False
        self.identities: tuple[str, ...] = ()
        self.noHead = RequestHead.build(b"-", b"/", (), peer=peer, secure=secure)
        self._sink = sink
        self._limits = limits
        self._peer = peer
        self._secure = secure
        self._llhttp = HttpRequestParser(self)
        self._refusal: tuple[RequestHead, GatewayError] | None = None
        self._inHead = False
        self._inBody = False
        self._pending = 0
        self._target = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._fields: dict[bytes, tuple[bytes, ...]] = {}

    def feed(self, data: bytes) -> None:
        """Parse more. A stopped parser ignores it."""
        if self.stopped:
            return
        if not self._inBody:
            self._beginHead()
        self._pending += len(data)
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            # "A server MAY ignore a received Upgrade header field" (RFC 9110 section 7.8). What follows the request may
            # be of the other protocol, so it is not read.
            self.stopped = True
        except HttpParserCallbackError:
            # Raised by a callback of ours: a verdict, or else a defect, which is not the client's.
            if self._refusal is None:
                self.stopped = True
                raise
            self._refuse(*self._refusal)
        except HttpParserError as error:
            self._refuse(self.noHead, BadRequest(_whyMalformed(error), code="bad_http", closes=True))
        else:
            self._checkPending()

    def _beginHead(self) -> None:
        if not self._inHead and not self.stopped:
            self._inHead = True
            self._sink.headBegun()

    def _checkPending(self) -> None:
        """
        Refuse what is held and never ends. llhttp sets no limit on a head, on a line of it, on trailers.

        A body's bytes are handed on as they come; what is pending in one is the extension of a chunk, or trailers.
        """
        limits = self._limits
        if self._pending <= limits.maxHead:
            return
        if self._inBody:
            msg = f"The request's trailers, or what it adds to a chunk, are larger than the {limits.maxHead} bytes that this gateway accepts."
            self._refuse(self.noHead, HeadTooLarge(msg, closes=True))
        elif len(self._target) > limits.maxTarget:
            # "A server that receives a request-target longer than any URI it wishes to parse MUST respond with a 414 (URI
            # Too Long) status code" (RFC 9112 section 3).
            msg = f"The request target is longer than the {limits.maxTarget} bytes that this gateway accepts."
            self._refuse(self.noHead, TargetTooLong(msg, closes=True))
        else:
            self._refuse(self.noHead, _headTooLarge(limits.maxHead))

    def stop(self) -> None:
        """Parse no more: the connection is to be closed."""
        self.stopped = True

    def _refuse(self, head: RequestHead, error: GatewayError) -> None:
        if not self.stopped:
            self.stopped = True
            self._sink.refused(head, error)

    # what llhttp tells

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._beginHead()
        self._target = b""
        self._pairs = []
        self._fields = {}

    def on_url(self, url: bytes) -> None:
        """The request target, perhaps in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; after the body it is a trailer, and dropped (RFC 9110 section 6.5.1)."""
        if self._inBody:
            return
        # "A field parsing implementation MUST exclude such whitespace prior to evaluating the field value" (RFC 9110 section
        # 5.5); llhttp leaves the trailing one.
        value = value.rstrip(b" \t")
        self._pairs.append((name, value))
        lower = name.lower()
        before = self._fields.get(lower)
        self._fields[lower] = (value,) if before is None else (*before, value)

    def on_headers_complete(self) -> None:
        """The head is whole: judge it, and tell."""
        if self.stopped:
            return
        llhttp = self._llhttp
        version = b"HTTP/" + llhttp.get_http_version().encode("ascii")
        head = RequestHead(
            llhttp.get_method(),
            self._target,
            tuple(self._pairs),
            self._fields,
            self._peer,
            self._secure,
            version,
            self.identities,
        )
        try:
            framing = self._judge(head)
        except GatewayError as error:
            self._refusal = (head, error)
            raise
        self._pending = 0
        self._inHead = False
        self._inBody = True
        self._sink.headReceived(head, framing)

    def _judge(self, head: RequestHead) -> Framing:
        limits = self._limits
        checkTarget(head.target, limits.maxTarget)
        if _sizeOf(head) > limits.maxHead:
            raise _headTooLarge(limits.maxHead)
        if len(head.headers) > limits.maxFields:
            msg = f"The request has more than the {limits.maxFields} header fields that this gateway accepts."
            raise HeadTooLarge(msg, closes=True)
        framing = checkFraming(head)
        if self._llhttp.should_upgrade() and (framing.chunked or framing.length):
            # llhttp does not read such a body, and whoever parses on would take it for a request.
            msg = "A request with an Upgrade field cannot have a body here: this gateway speaks HTTP/1.1 only."
            raise BadRequest(msg, closes=True)
        # llhttp reads on only after what it takes for keep-alive, and it takes Proxy-Connection for Connection.
        return (
            framing if self._llhttp.should_keep_alive() or not framing.keepAlive else replace(framing, keepAlive=False)
        )

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._pending = 0
        if not self.stopped:
            self._sink.bodyReceived(data)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._inBody and not self.stopped:
            self._inBody = False
            self._pending = 0
            self._sink.messageReceived()


def _headTooLarge(limit: int) -> HeadTooLarge:
    """Say what the limit is."""
    return HeadTooLarge(f"The request head is larger than the {limit} bytes that this gateway accepts.", closes=True)


def _sizeOf(head: RequestHead) -> int:
    """The bytes of a head, spelled without needless white space."""
    requestLine = len(head.method) + len(head.target) + len(head.version) + 4
    return requestLine + sum([len(name) + len(value) + 4 for name, value in head.headers]) + 2


def _whyMalformed(error: HttpParserError) -> str:
    reason = str(error.args[0]) if error.args else ""
    return f"This is not HTTP/1.1 as RFC 9112 has it ({reason})." if reason else "This is not HTTP/1.1."
