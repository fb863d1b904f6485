# -*- test-case-name: tests.studio.simulator.test_site -*-
"""
The simulator's end of a connection: Twisted's own HTTP/1.1, which shares no code with the gateway's, with the three habits
of Node that a gateway meets.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.web.http import HTTPChannel
from twisted.web.server import Request
from zope.interface import implementer

from lmgateway.message import HeaderPairs

KEEP_ALIVE = 5
"""Seconds after which an idle connection is closed (``server.keepAliveTimeout`` of Node)."""

REQUEST = 60
"""Seconds that a connection may be silent in the middle of a request, or before its first (``headersTimeout`` of Node)."""


class StudioRequest(Request):
    """
    A request that knows its header fields as they were sent.

    :ivar pairs: the fields, in order and in their own spelling; trailers are not among them.
    :ivar holding: whether the connection stays open although the client has closed its side.
    :ivar departed: whether the client has closed its side while that was so.
    """

    def __init__(self, channel: Any, *args: Any, **kw: Any) -> None:
        super().__init__(channel, *args, **kw)
        self.pairs: HeaderPairs = ()
        self.holding = False
        self.departed = False


@implementer(IHalfCloseableProtocol)
class StudioChannel(HTTPChannel):
    """An HTTP/1.1 connection with Node's timeouts, that LM Studio does not close while it reads a prompt."""

    requestFactory = StudioRequest
    requests: list[StudioRequest]
    transport: ITCPTransport

    def headerReceived(self, line: bytes) -> bool:
        """Keep the field as it was sent, too."""
        name, colon, value = line.partition(b":")
        if colon:
            request = self.requests[-1]
            request.pairs = (*request.pairs, (name, value.strip(b" \t")))
        return bool(super().headerReceived(line))

    def dataReceived(self, data: bytes) -> None:
        """A request begins, or goes on: the short timeout of an idle connection is over."""
        if self.timeOut == KEEP_ALIVE:
            self.setTimeout(REQUEST)
        super().dataReceived(data)

    def requestDone(self, request: Any) -> None:
        """An answer is out: the connection is idle from now on, unless the next request was sent ahead."""
        super().requestDone(request)
        if self.persistent and not self.requests:
            self.setTimeout(KEEP_ALIVE)

    def readConnectionLost(self) -> None:
        """
        The client has closed its side. Node closes the other then; but LM Studio, while it reads a prompt, neither stops nor
        closes (lmgateway must not wait for it).
        """
        held = [request for request in self.requests if request.holding]
        for request in held:
            request.departed = True
        if self.requests and not held:
            self.transport.abortConnection()
        elif not held:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more to do: this side never closes only its half."""
