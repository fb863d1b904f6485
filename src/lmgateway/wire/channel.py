# -*- test-case-name: tests.wire.test_channel -*-
"""
Connections from downstream: llhttp parses, ``twisted.web`` Requests answer.

Unlike ``twisted.web``'s own channel this one renders a request when its head is complete, refuses heads that must be refused, never
buffers a body that nobody reads, and puts a deadline on all that a client can draw out. Pipelined requests wait their turn.

:mod:`lmgateway.wire.parser` finds the requests, :mod:`lmgateway.wire.body` holds what arrives of a body,
:mod:`lmgateway.wire.outbox` writes the answers, :mod:`lmgateway.wire.deadlines` knows what took too long,
:mod:`lmgateway.wire.site` makes channels and drains them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from lmgateway.errors import GatewayError, RequestTimeout
from lmgateway.message import HeaderPairs, RequestHead
from lmgateway.policy.addresses import LOCAL
from lmgateway.policy.framing import Framing
from lmgateway.wire.body import IncomingBody
from lmgateway.wire.deadlines import Deadlines, Overdue
from lmgateway.wire.head import answerHead
from lmgateway.wire.outbox import Outbox
from lmgateway.wire.parser import RequestParser
from lmgateway.wire.request import GatewayRequest

if TYPE_CHECKING:
    from lmgateway.wire.site import GatewaySite

STASH_LIMIT = 64 * 1024
"""Bytes of pipelined requests that may wait unparsed before the socket is no longer read."""

PARSED_AT_ONCE = 4 * 1024
"""Bytes that are parsed at a time where they may hold many requests: the smallest takes fifty times its bytes to wait."""

LINGER_BYTES = 1024 * 1024
"""
How much is still read and thrown away when a connection ends before what the client sends does. A connection that is closed
with unread bytes is reset, and a reset takes the answer away from a client that is still sending.
"""

NO_BODY = Framing(length=0, chunked=False, expectsContinue=False, keepAlive=False)


@implementer(IPushProducer, IHandshakeListener)
class GatewayChannel(Protocol):
    """
    One connection from downstream.

    :param site: settings, resources and the other connections.
    """

    transport: Any
    _parser: RequestParser
    _outbox: Outbox

    def __init__(self, site: GatewaySite) -> None:
        self.site = site
        self._deadlines = Deadlines(site.now())
        self._queue: deque[GatewayRequest] = deque()
        self._current: GatewayRequest | None = None
        self._receiving: GatewayRequest | None = None
        self._stash: list[bytes] = []
        self._stashed = 0
        self._producer: Any = None
        self._advancing = False
        self._pausedReading = False
        self._closeAfter = False
        self._toDiscard: int | None = None
        self._closed = False

    # what the transport tells

    def connectionMade(self) -> None:
        """Begin to count, and to send small writes at once."""
        self._outbox = Outbox(self.transport)
        getattr(self.transport, "setTcpNoDelay", lambda _: None)(True)
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        if secure := self.isSecure():
            self._deadlines.handshakeBegun(self.site.now())
        self._parser = RequestParser(self, self.site.limits, getattr(self._peer, "host", LOCAL), secure=secure)
        self.transport.registerProducer(self, True)
        self.site.opened(self)

    def handshakeCompleted(self) -> None:
        """TLS is agreed upon; from now on requests can come."""
        self._deadlines.handshakeEnded(self.site.now())
        self._parser.identities = self.site.identitiesOf(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Parse, unless a request is still to be answered; answer what is complete."""
        if self._toDiscard is not None:
            self._toDiscard -= len(data)
            if self._toDiscard < 0:
                self.pauseBody()
        elif self._queue or self._stash or (self._current is not None and self._receiving is None):
            self._putAside(data)
        else:
            self._parse(data)
            self._advance()

    def _parse(self, data: bytes) -> None:
        """Parse as far as the end of a request, and somewhat beyond; put the rest aside."""
        while data and not (self._queue and self._receiving is None):
            size = PARSED_AT_ONCE if self._receiving is None else max(PARSED_AT_ONCE, self._receiving.body.left)
            piece, data = data[:size], data[size:]
            self._parser.feed(piece)
        if data and not self._parser.stopped:
            self._putAside(data)

    def _putAside(self, data: bytes) -> None:
        self._stash.append(data)
        self._stashed += len(data)
        if self._stashed > STASH_LIMIT:
            self.pauseBody()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell every request of this connection that nobody waits for it."""
        self._closed = True
        self._toDiscard = 0
        self._parser.stop()
        self._stash.clear()
        requests = [*([self._current] if self._current is not None else []), *self._queue]
        self._current = self._receiving = self._producer = None
        self._queue.clear()
        for request in requests:
            request.connectionLost(Failure(ConnectionLost("the client closed the connection")))
            self.site.ended(request)
        self.site.closed(self)

    # what the parser tells

    def headBegun(self) -> None:
        """The first byte of a head came."""
        self._deadlines.headBegun(self.site.now())

    def headReceived(self, head: RequestHead, framing: Framing) -> None:
        """Queue the request; it is answered once the parser has returned."""
        self._receiving = self._enqueue(head, framing)

    def bodyReceived(self, data: bytes) -> None:
        """A piece of the body."""
        if self._receiving is not None:
            self._receiving.body.dataReceived(data)

    def messageReceived(self) -> None:
        """The request is whole."""
        receiving, self._receiving = self._receiving, None
        self._deadlines.bodyEnded()
        if receiving is not None:
            receiving.body.messageComplete()

    def refused(self, head: RequestHead, error: GatewayError) -> None:
        """Answer once, in its turn, and close. Inside a body it is the request of that body that fails."""
        receiving, self._receiving = self._receiving, None
        self._deadlines.headEnded()
        if receiving is not None:
            self._closeAfter = self._closeAfter or receiving is self._current
            receiving.body.fail(Failure(error))
        else:
            self._enqueue(head, NO_BODY, error)

    # answering, in order

    def _enqueue(self, head: RequestHead, framing: Framing, refusal: GatewayError | None = None) -> GatewayRequest:
        site = self.site
        self._deadlines.headEnded()
        length = None if framing.chunked else framing.length or 0
        body = IncomingBody(self, length, site.limits.maxBody, expectsContinue=framing.expectsContinue)
        request = GatewayRequest(self, head, body, site.nextRequestId(), site.now(), refusal)
        request.keepsAlive = framing.keepAlive
        self._queue.append(request)
        return request

    def _advance(self) -> None:
        """Answer what is queued; then parse what is stashed. Never from within itself."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._toDiscard is None:
                # A client that does not take its answers is made no further ones.
                if self._current is None and self._queue and not self._deadlines.isStalled:
                    self._answerNext()
                elif self._stash and not self._queue and (self._current is None or self._receiving is not None):
                    stash, self._stash, self._stashed = b"".join(self._stash), [], 0
                    self.resumeBody()
                    self._parse(stash)
                else:
                    break
        finally:
            self._advancing = False
        receiving = self._receiving
        if receiving is not None and receiving is self._current and receiving.body.isDue:
            self._deadlines.bodyBegun(self.site.now())

    def _answerNext(self) -> None:
        self._current = request = self._queue.popleft()
        # A parser that has stopped after this request has read something that it must not read on from.
        if not request.keepsAlive or (self._parser.stopped and not self._queue):
            self._closeAfter = True
        request.process()

    def requestDone(self, request: GatewayRequest) -> None:
        """The answer is written (``twisted.web`` calls this): go on with the next request, or close."""
        self.flush()
        self._current = None
        self._producer = None
        self.site.ended(request)
        if self._toDiscard is not None:
            return
        if self._closeAfter or self.site.draining:
            self._close()
            return
        self._deadlines.answered(self.site.now(), idle=not self._queue)
        self.resumeBody()
        self._advance()

    # what a request asks of its channel (the shape is twisted.web's, as of its H2Stream)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Write the head of an answer made of ``twisted.web`` Headers."""
        pairs = tuple((name, value) for name, values in headers.getAllRawHeaders() for value in values)
        if self._current is not None:
            self.writeHead(int(code), reason, pairs, self._current)

    def writeHead(self, status: int, reason: bytes, headers: HeaderPairs, request: GatewayRequest) -> None:
        """Write a head, which waits for the first piece of its body, or for :meth:`flush`."""
        request.firstByteAt = self.site.now()
        connection = b"keep-alive" if request.clientproto == b"HTTP/1.0" else None
        if self._closeAfter or self.site.draining or self._receiving is request:
            # "A server that sends a 'close' connection option MUST initiate closure of the connection after it sends the
            # final response containing the 'close' connection option" (RFC 9112 section 9.6).
            self._closeAfter = True
            connection = b"close"
        pairs = headers + request.added
        if self.site.strictTransport and self.isSecure():
            pairs += self.site.strictTransport
        self._outbox.hold(answerHead(status, reason, pairs, self.site.dateLine(), request.requestId, connection))

    def write(self, data: bytes) -> None:
        """Write a piece of an answer, with the head before it where that still waits."""
        self._outbox.write(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        """Write several pieces in one."""
        self.write(b"".join(pieces))

    def flush(self) -> None:
        """Write what is held back."""
        self._outbox.flush()

    def closeAfter(self) -> None:
        """Close when the current answer is finished."""
        self._closeAfter = True

    def cut(self, *, reset: bool) -> None:
        """End the connection in the midst of an answer: after what was written, or at once."""
        if self._current is not None:
            self._current.cut = True
        self.flush()
        if reset:
            self.abortConnection()
        else:
            self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - IConsumer
        """Let the current answer's source be held back while the client does not read."""
        if not streaming:
            msg = "only push producers: there is nothing here that would pull"
            raise ValueError(msg)
        self._producer = producer
        if self._deadlines.isStalled:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The current answer's source has nothing more to give."""
        self._producer = None

    def getPeer(self) -> Any:
        """Tell the address of the other end."""
        return self._peer

    def getHost(self) -> Any:
        """Tell the address of this end."""
        return self._host

    def isSecure(self) -> bool:
        """Whether the connection is TLS."""
        return hasattr(self.transport, "getPeerCertificate")

    # backpressure from downstream: the transport tells

    def pauseProducing(self) -> None:
        """The client does not take what is written."""
        self._deadlines.stalled(self.site.now())
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client took all of it."""
        self._deadlines.flowing()
        if self._producer is not None:
            self._producer.resumeProducing()
        self._advance()

    def stopProducing(self) -> None:
        """The connection is going; ``connectionLost`` tells the rest."""

    # backpressure from upstream: the body tells

    def pauseBody(self) -> None:
        """Read no more of the socket: the body's consumer is behind."""
        if not self._pausedReading and not self._closed:
            self._pausedReading = True
            self._deadlines.readingPaused(self.site.now())
            self.transport.pauseProducing()

    def resumeBody(self) -> None:
        """Read on, unless too much waits already."""
        if self._pausedReading and not self._closed and self._stashed <= STASH_LIMIT:
            self._pausedReading = False
            self._deadlines.readingResumed(self.site.now())
            self.transport.resumeProducing()

    def sendContinue(self) -> None:
        """Have the client send its body."""
        if self._toDiscard is None and self._current is not None and not self._current.startedWriting:
            self._deadlines.bodyBegun(self.site.now())
            self._outbox.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # closing

    def closeWhenIdle(self) -> None:
        """Close now if nothing is being answered, else after the answer (the site is draining)."""
        if self._toDiscard is None and self._current is None and not self._queue:
            self.loseConnection()
            if self.isSecure():  # Twisted waits for a goodbye that pools do not send (RFC 5246 section 7.2.1: needless)
                self.transport.transport.loseConnection()

    def loseConnection(self) -> None:
        """Close, after what is written. What still comes is thrown away."""
        if not self._closed:
            self._end(lingers=False)
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        if not self._closed:
            self.transport.abortConnection()

    def _close(self) -> None:
        """Close after the last answer: only for writing where the client may still be sending (RFC 9112 section 9.6)."""
        lingers = self._receiving is not None or self._parser.stopped or bool(self._stash)
        self._end(lingers=lingers)
        closeWriting = getattr(self.transport, "loseWriteConnection", None)
        if lingers and closeWriting is not None and not self.isSecure():
            closeWriting()
        else:
            self.transport.loseConnection()

    def _end(self, *, lingers: bool) -> None:
        self._parser.stop()
        self._stash.clear()
        self._stashed = 0
        self._toDiscard = LINGER_BYTES
        self._outbox.shut()
        self._deadlines.closing(self.site.now(), lingers=lingers)
        # TLS ends when the client's goodbye has been read, and says its own only while no producer is registered.
        self.resumeBody()
        self.transport.unregisterProducer()

    def checkDeadlines(self, now: float) -> None:
        """Do what is due. The site calls this once a second."""
        receiving = self._receiving
        received = receiving.body.received if receiving is not None else 0
        answering = self._current is not None
        overdue = self._deadlines.overdue(now, self.site.limits, bodyBytes=received, answering=answering)
        if overdue in {Overdue.CLOSING, Overdue.WRITE, Overdue.HANDSHAKE}:
            self.abortConnection()
        elif overdue is Overdue.IDLE:
            self.loseConnection()
        elif overdue is Overdue.HEAD:
            self._parser.stop()
            self.refused(self._parser.noHead, RequestTimeout("The request head did not arrive in time.", closes=True))
            self._advance()
        elif overdue is Overdue.BODY and receiving is not None:
            self._closeAfter = True
            self._deadlines.bodyEnded()
            msg = f"The request body came more slowly than {self.site.limits.bodyRate} bytes a second."
            receiving.body.fail(Failure(RequestTimeout(msg, closes=True)))
