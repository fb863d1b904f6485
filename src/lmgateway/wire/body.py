# -*- test-case-name: tests.wire.test_body -*-
"""
Request bodies: how they come in from downstream, and how they go out upstream.

A body is consumed once: read whole (:meth:`IncomingBody.read`) where the gateway must look into it, or passed on as it
comes (:meth:`IncomingBody.producer`). Either way it is bounded, and a consumer that is behind stops the reading of the
socket, so that nothing piles up here.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from lmgateway.errors import PayloadTooLarge
from lmgateway.interfaces import IReplayable

HIGH_WATER = 64 * 1024
"""Bytes of a body that may wait for a consumer before the socket is no longer read."""

SLICE = 128 * 1024
"""Bytes of a body that are handed to a transport at a time; a transport copies what it is given."""


class BodyError(Exception):
    """The request body could not be had; ``reason`` is the failure that the client's side gave."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.getErrorMessage())
        self.reason = reason


class IBodySource(Protocol):
    """What a body asks of the connection that it arrives on."""

    def pauseBody(self) -> None:
        """Read no more of the socket for now."""

    def resumeBody(self) -> None:
        """Read on."""

    def sendContinue(self) -> None:
        """Tell a client that waits for it to go on (RFC 9110 section 10.1.1)."""


class IncomingBody:
    """
    The body of one downstream request while it arrives.

    :param source: the connection it comes on.
    :param length: its declared length in bytes, or None where it is chunked.
    :param limit: the bytes it may have at the most.
    :param expectsContinue: whether the client waits for ``100 Continue`` before it sends it.
    """

    def __init__(self, source: IBodySource, length: int | None, limit: int, *, expectsContinue: bool = False) -> None:
        self.length = length
        self.limit = limit
        self.received = 0
        self.complete = length == 0
        self.source = source
        self._expectsContinue = expectsContinue
        self._buffer: list[bytes] = []
        self._buffered = 0
        self.failure: Failure | None = None
        self._consumer: _WholeBody | StreamedBody | None = None
        self._taken = False

    # what the connection tells

    def dataReceived(self, data: bytes) -> None:
        """More of the body. Past the limit it fails with :class:`~lmgateway.errors.PayloadTooLarge`."""
        self.received += len(data)
        if self.failure is not None:
            return
        if self.received > self.limit:
            self.fail(Failure(tooLarge(self.limit)))
        elif self._consumer is not None:
            self._consumer.bodyReceived(data)
        else:
            self._buffer.append(data)
            self._buffered += len(data)
            if self._buffered > HIGH_WATER:
                self.source.pauseBody()

    def messageComplete(self) -> None:
        """That was all of it."""
        self.complete = True
        if self._consumer is not None:
            self._consumer.bodyComplete()

    def fail(self, reason: Failure) -> None:
        """It will never be complete: the client left, was too slow, or sent too much."""
        if self.failure is None and not self.complete:
            self.failure = reason
            self._buffer.clear()
            if self._consumer is not None:
                self._consumer.bodyFailed(reason)

    # what a consumer asks

    def check(self) -> None:
        """
        Refuse a body before it is read, where its declared length says enough.

        :raise PayloadTooLarge: it is declared to be over the limit.
        """
        if self.length is not None and self.length > self.limit:
            raise tooLarge(self.limit)

    def whole(self) -> bytes | None:
        """Give the body if all of it is here already, as that of most requests is. Then it is consumed."""
        if not self.complete or self.failure is not None:
            return None
        buffered = self._take()
        return buffered[0] if len(buffered) == 1 else b"".join(buffered)

    def read(self) -> Deferred[bytes]:
        """
        Read the body whole, into memory. Once.

        :return: fires with all of it; fails with what :meth:`fail` was told.
        """
        if (whole := self.whole()) is not None:
            return succeed(whole)
        buffered = self._take()
        if self.failure is not None:
            return fail(self.failure)
        self._consumer = collected = _WholeBody(buffered)
        self.start()
        return collected.done

    def producer(self) -> StreamedBody:
        """Pass the body on as it arrives. Once."""
        self._consumer = stream = StreamedBody(self, self._take())
        return stream

    def _take(self) -> list[bytes]:
        if self._taken:
            msg = "a request body can be consumed only once"
            raise RuntimeError(msg)
        self._taken = True
        buffered, self._buffer = self._buffer, []
        return buffered

    def start(self) -> None:
        """Have the rest of it sent and read."""
        asks = self._expectsContinue and not self.isDue
        self._expectsContinue = False
        if asks:
            self.source.sendContinue()
        self.source.resumeBody()

    @property
    def left(self) -> int:
        """The bytes that are declared and have not come; 0 where none are declared."""
        return 0 if self.length is None else self.length - self.received

    @property
    def isDue(self) -> bool:
        """Whether the client is to send it now: it need not be told to, has been, or has not waited for it."""
        return not self._expectsContinue or bool(self.received)


class _WholeBody:
    """Collects a body. A BytesIO grows in place and gives up its bytes without a copy, which 30 MB of pieces do not."""

    def __init__(self, buffered: list[bytes]) -> None:
        self.done: Deferred[bytes] = Deferred(self._abandon)
        self._bytes = BytesIO()
        self._bytes.writelines(buffered)

    def bodyReceived(self, data: bytes) -> None:
        # The reader may have been cancelled meanwhile.
        if not self.done.called:
            self._bytes.write(data)

    def bodyComplete(self) -> None:
        value = self._release()
        if not self.done.called:
            self.done.callback(value)

    def bodyFailed(self, reason: Failure) -> None:
        self._release()
        if not self.done.called:
            self.done.errback(reason)

    def _abandon(self, _: Deferred[bytes]) -> None:
        self._release()

    def _release(self) -> bytes:
        value = self._bytes.getvalue()
        self._bytes = BytesIO()
        return value


@implementer(IBodyProducer)
class StreamedBody:
    """
    A request body on its way upstream, produced as it arrives downstream.

    ``startProducing``'s Deferred fails with :class:`BodyError` when the client does not deliver all of it.

    :ivar progressed: called with each piece, so that whoever waits for an answer knows that it is not due yet.
    """

    progressed: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, body: IncomingBody, buffered: list[bytes]) -> None:
        self.length: Any = UNKNOWN_LENGTH if body.length is None else body.length
        self._body = body
        self._buffered = buffered
        self._size = sum(map(len, buffered))
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all that has come and will come to ``consumer``."""
        self._consumer = consumer
        done: Deferred[None]
        self._done = done = Deferred(lambda _: self.stopProducing())
        body = self._body
        if body.failure is not None:
            self.bodyFailed(body.failure)
            return done
        if not body.complete:
            # Before the first write: a consumer that is behind with that pauses what is begun here.
            body.start()
        buffered, self._buffered = self._buffered, []
        if buffered:
            consumer.write(b"".join(buffered))
        if body.complete:
            self.bodyComplete()
        return done

    def pauseProducing(self) -> None:
        """Upstream is behind: read no more from downstream."""
        self._body.source.pauseBody()

    def resumeProducing(self) -> None:
        """Upstream has caught up."""
        self._body.source.resumeBody()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._consumer = None
        self._body.source.resumeBody()

    def bodyReceived(self, data: bytes) -> None:
        """More of the body came."""
        self.progressed()
        if self._consumer is not None:
            self._consumer.write(data)
        elif self._done is None:
            # Not started yet: a connection to the upstream is still being made.
            self._buffered.append(data)
            self._size += len(data)
            if self._size > HIGH_WATER:
                self._body.source.pauseBody()

    def bodyComplete(self) -> None:
        """All of it came."""
        if self._done is not None and not self._done.called:
            self._done.callback(None)

    def bodyFailed(self, reason: Failure) -> None:
        """The rest will not come."""
        if self._done is not None and not self._done.called:
            self._done.errback(Failure(BodyError(reason)))


@implementer(IReplayable)
class BytesBodyProducer:
    """
    A body that is in memory. It can be sent again.

    It is handed over a slice at a time, because a transport copies what it is given: a body of 30 MB would otherwise
    stand in memory twice.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.length: Any = len(body)
        self._consumer: IConsumer | None = None
        self._position = 0
        self._paused = False
        self._writing = False
        self._done: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body to ``consumer``, from its beginning."""
        self._consumer = consumer
        self._position = 0
        self._paused = False
        done: Deferred[None]
        self._done = done = Deferred(lambda _: self.stopProducing())
        self._write()
        return done

    def pauseProducing(self) -> None:
        """The consumer has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The consumer wants more."""
        self._paused = False
        self._write()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._consumer = None

    def _write(self) -> None:
        if self._writing:
            return
        self._writing = True
        while self._consumer is not None and not self._paused and self._position < len(self.body):
            end = self._position + SLICE
            piece = self.body if self._position == 0 and end >= len(self.body) else self.body[self._position : end]
            self._position = end
            self._consumer.write(piece)
        self._writing = False
        if self._consumer is not None and self._position >= len(self.body):
            self._consumer = None
            if self._done is not None and not self._done.called:
                self._done.callback(None)


def tooLarge(limit: int) -> PayloadTooLarge:
    """Say what the limit is, and whose it is."""
    return PayloadTooLarge(
        f"The request body is larger than the {limit} bytes that this gateway accepts (limits.maxBody).", closes=True
    )


def clientLeft() -> Failure:
    """Give the reason for a body that ends because its connection did."""
    return Failure(ConnectionLost("the client closed the connection before its request was complete"))
