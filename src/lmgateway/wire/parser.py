# -*- test-case-name: tests.wire.test_parser -*-
"""
Bytes from downstream to heads, bodies and refusals.

llhttp finds the parts; :mod:`lmgateway.policy` judges each head before anything else is done with it. After a refusal
nothing is parsed any more, because nothing that follows can be trusted.
"""

from __future__ import annotations

from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from lmgateway.errors import BadRequest, GatewayError, HeadTooLarge
from lmgateway.message import RequestHead
from lmgateway.policy.framing import Framing, checkFraming
from lmgateway.policy.target import checkTarget

NO_HEAD = RequestHead.build(b"-", b"/", ())
"""Stands for a head that could not be read, in logs and refusals."""


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
    """

    def __init__(self, sink: IRequestSink, limits: IHeadLimits, peer: str, *, secure: bool) -> None:
        self.stopped = False
        self._sink = sink
        self._limits = limits
        self._peer = peer
        self._secure = secure
        self._llhttp = HttpRequestParser(self)
        self._refusal: tuple[RequestHead, GatewayError] | None = None
        self._inBody = False
        self._headBytes = 0
        self._target = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._fields: dict[bytes, tuple[bytes, ...]] = {}

    def feed(self, data: bytes) -> None:
        """Parse more. A stopped parser ignores it."""
        if self.stopped:
            return
        if not self._inBody:
            if not self._headBytes:
                self._sink.headBegun()
            self._headBytes += len(data)
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            # "A server MAY ignore a received Upgrade header field" (RFC 9110 section 7.8). What follows the request may
            # be of the other protocol, so it is not read.
            self.stopped = True
        except HttpParserError as error:
            self._refuse(*(self._refusal or (NO_HEAD, BadRequest(_whyMalformed(error), closes=True))))
        else:
            # llhttp sets no limit on a head that never ends, nor on a line of it.
            if self._headBytes > self._limits.maxHead and not self._inBody:
                self._refuse(NO_HEAD, headTooLarge(self._limits.maxHead))

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
        if not self._headBytes:
            self._sink.headBegun()
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
            llhttp.get_method(), self._target, tuple(self._pairs), self._fields, self._peer, self._secure, version
        )
        try:
            framing = self._judge(head)
        except GatewayError as error:
            self._refusal = (head, error)
            raise
        self._headBytes = 0
        self._inBody = True
        self._sink.headReceived(head, framing)

    def _judge(self, head: RequestHead) -> Framing:
        limits = self._limits
        checkTarget(head.target, limits.maxTarget)
        size = len(head.target) + sum([len(name) + len(value) + 4 for name, value in head.headers])
        if size > limits.maxHead:
            raise headTooLarge(limits.maxHead)
        if len(head.headers) > limits.maxFields:
            msg = f"The request has more than the {limits.maxFields} header fields that this gateway accepts."
            raise HeadTooLarge(msg, closes=True)
        framing = checkFraming(head)
        if self._llhttp.should_upgrade() and (framing.chunked or framing.length):
            # llhttp does not read such a body, and whoever parses on would take it for a request.
            msg = "A request with an Upgrade field cannot have a body here: this gateway speaks HTTP/1.1 only."
            raise BadRequest(msg, closes=True)
        return framing

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self.stopped:
            self._sink.bodyReceived(data)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._inBody and not self.stopped:
            self._inBody = False
            self._sink.messageReceived()


def headTooLarge(limit: int) -> HeadTooLarge:
    """Say what the limit is."""
    return HeadTooLarge(f"The request head is larger than the {limit} bytes that this gateway accepts.", closes=True)


def _whyMalformed(error: HttpParserError) -> str:
    reason = str(error.args[0]) if error.args else ""
    return f"This is not HTTP/1.1 as RFC 9112 has it ({reason})." if reason else "This is not HTTP/1.1."
