# -*- test-case-name: tests.wire.test_connection -*-
"""
One connection to LM Studio, on llhttp. It carries one request at a time.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Structural

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from lmgateway.policy.headers import connectionOptions
from lmgateway.wire.answer import AgentResponse, AnswerBroken, Exchange, noAnswer
from lmgateway.wire.body import BodyError, BytesBodyProducer
from lmgateway.wire.eager import eagerWriter
from lmgateway.wire.headers import VerbatimHeaders

MAX_HEAD = 256 * 1024
"""Bytes of an answer's head at the most."""

JOINED_BODY = 64 * 1024
"""A body up to this size goes out in one write with the head."""


_DONE = Failure(ResponseDone())
"""How every whole answer ends. It is the same for all, and making one each time is not free."""


class IConnectionPool(Structural):
    """Where a connection goes when its answer is whole."""

    def retry(self, origin: bytes, exchange: Exchange) -> None:
        """Send ``exchange`` over a fresh connection, if the one that it was sent over can have been closed before."""

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""

    def forget(self, connection: UpstreamConnection) -> None:
        """Know no longer a connection that is closed."""


class UpstreamConnection(Protocol):
    """
    One connection to the upstream.

    :param agent: whose pool it goes back to.
    :param origin: ``scheme://host:port``, the key of the pool.
    :ivar idleSince: since when it waits in the pool.
    :ivar reused: whether an answer came over it before.
    :ivar aborted: whether it was closed from here; it is gone by the next turn of the reactor.
    """

    transport: Any

    def __init__(self, agent: IConnectionPool, origin: bytes) -> None:
        self.idleSince = 0.0
        self.reused = False
        self.aborted = False
        self.origin = origin
        self._agent = agent
        self._exchange: Exchange | None = None
        self._response: AgentResponse | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._upload: Deferred[None] | None = None
        self._paused = False
        self._lost = False
        self._reset()

    def _reset(self) -> None:
        self._pairs: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._length: int | None = None
        self._chunked = False
        self._status = 0
        self._headSize = 0
        self._pieces: list[bytes] = []
        self._headComplete = False
        self._messageComplete = False
        self._surplus = False
        self._closes = False
        self._keepAlive = False

    # sending

    def connectionMade(self) -> None:
        """Send small writes at once: a stream is made of them."""
        self._write = eagerWriter(self.transport)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)

    def start(self, exchange: Exchange) -> None:
        """Send a request. The answer goes to ``exchange``."""
        self._exchange = exchange
        exchange.abandon = self.abort
        body = exchange.body
        if body is None:
            self.transport.write(exchange.head)
        elif isinstance(body, BytesBodyProducer) and len(body.body) <= JOINED_BODY:
            self.transport.write(exchange.head + body.body)
        else:
            self.transport.write(exchange.head)
            self._startUpload(body)

    def _startUpload(self, body: IBodyProducer) -> None:
        consumer = self if body.length is not UNKNOWN_LENGTH else _ChunkedUpload(self)
        self.transport.registerProducer(body, True)
        self._upload = upload = body.startProducing(consumer)
        upload.addCallbacks(self._uploaded, self._uploadFailed, callbackArgs=(consumer,))

    def write(self, data: bytes) -> None:
        """Take a piece of the request body."""
        if not self._lost and not self.aborted:
            self._write(data)

    def _uploaded(self, _: None, consumer: object) -> None:
        self._upload = None
        if not self._lost:
            if isinstance(consumer, _ChunkedUpload):
                self._write(b"0\r\n\r\n")
            self.transport.unregisterProducer()

    def _uploadFailed(self, reason: Failure) -> None:
        self._upload = None
        if self._exchange is not None:
            self._exchange.fail(reason.value.reason if isinstance(reason.value, BodyError) else reason)
        self.abort()

    # receiving: what the transport tells

    def dataReceived(self, data: bytes) -> None:
        """Feed the parser, then tell what it found: head, body, end, in this order."""
        if self._exchange is None or self._parser is None:
            # An answer to nothing: whatever it is, this connection can no longer be trusted.
            self.abort()
            return
        if not self._headComplete:
            self._headSize += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            # What came before is told as it is.
            self._tell()
            self._break(_whyRefused(error))
            return
        if not self._headComplete and self._headSize > MAX_HEAD:
            self._break(f"its answer's head is over {MAX_HEAD} bytes")
            return
        self._tell()

    def _tell(self) -> None:
        """Tell what was parsed: the head last, so that whoever takes the answer finds all that came with it."""
        exchange, response = self._exchange, self._response
        if exchange is None or not self._headComplete:
            return
        isNew = response is None
        if response is None:
            self._response = response = self._makeResponse(exchange)
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            response.bodyReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._messageComplete and self._response is response:
            self._answered(response)
        if isNew:
            exchange.succeed(response)
        if self._response is response and not response.isAwaited:
            self.pauseReading()

    def _makeResponse(self, exchange: Exchange) -> AgentResponse:
        response = AgentResponse(self, self._status, self._reason, VerbatimHeaders(tuple(self._pairs)))
        if exchange.method == b"HEAD" or self._status in {204, 304}:
            response.length = 0
        elif self._length is not None and not self._chunked:
            response.length = self._length
        return response

    def _answered(self, response: AgentResponse) -> None:
        self._exchange = self._response = None
        if self._keepAlive and not self._surplus and self._upload is None and not self.aborted and not self._lost:
            self.resumeReading()
            self._reset()
            self.reused = True
            self._agent.release(self)
        else:
            self.abort()
        response.bodyEnded(_DONE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits. An answer without length ends cleanly where the connection does, and only there."""
        self._lost = True
        self._parser = None
        self._agent.forget(self)
        exchange, response = self._exchange, self._response
        self._exchange = self._response = None
        if self._upload is not None:
            self._upload.cancel()
        if exchange is None:
            return
        if response is not None:
            whole = self._length is None and not self._chunked and reason.check(ConnectionDone)
            response.bodyEnded(Failure(PotentialDataLoss()) if whole else Failure(ResponseFailed([reason])))
        elif self.reused and not self._headSize and exchange.replayable and not exchange.fired:
            self._agent.retry(self.origin, exchange)
        else:
            exchange.fail(Failure(noAnswer()))

    def _break(self, why: str) -> None:
        exchange, response = self._exchange, self._response
        self._exchange = self._response = None
        self.abort()
        if response is not None:
            response.bodyEnded(Failure(ResponseFailed([Failure(AnswerBroken(why))])))
        elif exchange is not None:
            exchange.fail(Failure(AnswerBroken(why)))

    # what an answer asks

    def pauseReading(self) -> None:
        """Stop reading the socket; the kernel then holds LM Studio back."""
        if not self._paused and not self._lost and self.transport is not None:
            self._paused = True
            self.transport.pauseProducing()

    def resumeReading(self) -> None:
        """Read on."""
        if self._paused and not self._lost and self.transport is not None:
            self._paused = False
            self.transport.resumeProducing()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent or read."""
        if not self._lost and self.transport is not None:
            self.aborted = True
            self.transport.abortConnection()

    # receiving: what the parser tells

    def on_message_begin(self) -> None:
        """Expect the head; a second answer to one request is nobody's, and changes nothing about the first."""
        if self._messageComplete:
            self._surplus = True
            return
        self._pairs = []
        self._reason = b""
        self._length = None
        self._chunked = False
        self._closes = False

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, perhaps in pieces."""
        if not self._surplus:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; after the body it is a trailer, and dropped (RFC 9110 section 6.5.1)."""
        if self._headComplete:
            return
        # "A field parsing implementation MUST exclude such whitespace prior to evaluating the field value" (RFC 9110 section
        # 5.5); llhttp leaves the trailing one.
        value = value.rstrip(b" \t")
        self._pairs.append((name, value))
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._length = int(value)
        elif size == 10 and name.lower() == b"connection":
            # "If the 'close' connection option is present, the connection will not persist after the current response" (RFC
            # 9112 section 9.3). Of HTTP/1.0, llhttp believes a "keep-alive" beside it.
            self._closes = self._closes or b"close" in connectionOptions((value,))
        elif size == 17 and name.lower() == b"transfer-encoding":
            # "If the TE field value is empty or if no TE field is present, the only acceptable transfer coding is chunked"
            # (RFC 9112 section 7.4). Any other would reach the client as if it were the content.
            if self._chunked or value.strip().lower() != b"chunked":
                raise AnswerBroken("its body is in a transfer coding that nobody asked for")
            self._chunked = True

    def on_headers_complete(self) -> None:
        """The head is whole, unless it was that of an interim answer (1xx)."""
        if self._surplus or self._parser is None:
            return
        self._status = self._parser.get_status_code()
        if self._status < 100:
            raise AnswerBroken("its status is none")
        if self._status == 101:
            raise AnswerBroken("it switched protocols, which nobody asked it to")
        if self._status >= 200:
            self._headComplete = True
            if self._exchange is not None and self._exchange.method == b"HEAD":
                # llhttp is not told what was asked, and would wait for the body that the length announces. If one comes
                # all the same, it is surplus.
                self._messageComplete = self._surplus = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._headComplete:
            # "A 1xx response is terminated by the end of the header section; it cannot contain content or trailers"
            # (RFC 9110 section 15.2).
            raise AnswerBroken("its interim answer has a body")
        if not self._surplus:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The end of an answer."""
        if self._headComplete and self._parser is not None:
            self._messageComplete = True
            self._keepAlive = self._parser.should_keep_alive() and not self._closes


class _ChunkedUpload:
    """Writes pieces of a body of unknown length as chunks (RFC 9112 section 7.1)."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        if data:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))


def _whyRefused(error: Exception) -> str:
    cause = error.__context__
    if isinstance(cause, AnswerBroken):
        return str(cause)
    return f"what it spoke is no HTTP ({error.args[0] if error.args else type(error).__name__})"
