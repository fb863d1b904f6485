# -*- test-case-name: tests.studio.simulator.test_exchange -*-
"""One request and the bytes of its answer, with the headers that Express and Node give it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface import implementer

from lmgateway.message import HeaderPairs
from lmgateway.studio.simulator.channel import KEEP_ALIVE, StudioRequest
from lmgateway.studio.simulator.encoding import Reply, entityTag, render


class Died(Exception):
    """The answer was cut off, as the behaviour asks."""


@implementer(IPushProducer)
class Exchange:
    """
    A request and its answer: one JSON document or a stream of chunks.

    :ivar dieAfter: how many chunks go out before the connection is cut, or None. See
        :attr:`~lmgateway.studio.simulator.behaviour.Behaviour.dieAfterChunks`.
    :ivar work: what is being done about the request; cancelled when the client leaves.
    :ivar streaming: whether an answer has begun that is a stream.
    :ivar chunks: how many chunks of it are out.
    :ivar status: the status of the answer, 0 before there is one.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lost = False
        self._holding = False
        self._ended = False
        self._resumed: Deferred[None] | None = None
        self.dieAfter: int | None = None
        self.work: Deferred[None] | None = None
        self.streaming = False
        self.chunks = 0
        self.status = 0
        request.notifyFinish().addErrback(self._ebLost)

    @property
    def headers(self) -> HeaderPairs:
        """The header fields of the request; as they were sent, where the connection is the simulator's own."""
        if isinstance(self._request, StudioRequest):
            return self._request.pairs
        every = self._request.requestHeaders.getAllRawHeaders()
        return tuple((name, value) for name, values in every for value in values)

    def header(self, name: bytes) -> str | None:
        """The first value of a header field."""
        values = self._request.requestHeaders.getRawHeaders(name)
        return values[0].decode("latin-1") if values else None

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._lost or (isinstance(self._request, StudioRequest) and self._request.departed)

    def hold(self) -> None:
        """From now on nothing stops because the client leaves, nor is the connection closed."""
        self._setHolding(True)

    def release(self) -> None:
        """End :meth:`hold`."""
        self._setHolding(False)

    def answer(self, reply: Reply) -> None:
        """
        Answer with JSON.

        :raise Died: half of it is out, and the connection cut.
        """
        body = render(reply.value, reply.indent)
        tag = entityTag(body)
        if self._isFresh(reply.status, tag):
            self._begin(304, {b"ETag": tag})
            self.end()
            return
        if self.dieAfter == 0:
            self.die()
        kind = b"application/json; charset=utf-8"
        self._begin(reply.status, {b"Content-Type": kind, b"Content-Length": b"%d" % len(body), b"ETag": tag})
        if self.dieAfter is not None:
            self._request.write(body[: len(body) // 2])
            self.die()
        self._request.write(body)
        self.end()

    def send(self, chunk: bytes) -> None:
        """
        Send a chunk of a stream, and the head before the first.

        :raise Died: there are as many out as there should be, and the connection is cut.
        """
        if self.dieAfter is not None and self.chunks >= self.dieAfter:
            self.die()
        if not self.streaming:
            self.streaming = True
            self._begin(200, {b"Content-Type": b"text/event-stream", b"Cache-Control": b"no-cache"}, stream=True)
            self._request.registerProducer(self, True)
        self.chunks += 1
        self._request.write(chunk)

    def finish(self) -> None:
        """
        End a stream.

        :raise Died: as :meth:`send`.
        """
        if self.dieAfter is not None and self.chunks >= self.dieAfter:
            self.die()
        self.end()

    def end(self) -> None:
        """End the answer, unless the client has left."""
        if self._ended or self._lost:
            return
        self._ended = True
        if self.streaming:
            self._request.unregisterProducer()
        self._request.finish()

    def die(self) -> None:
        """
        Cut the connection as the death of LM Studio's process does: what was written still arrives, and then nothing.

        :raise Died: always.
        """
        self.close()
        raise Died

    def close(self) -> None:
        """Close the connection without an end of the answer."""
        if self._ended or self._lost:
            return
        self._ended = True
        if self.streaming:
            self._request.unregisterProducer()
        self._request.loseConnection()

    async def room(self) -> None:
        """Wait until the client has taken what was sent; most have."""
        while self._resumed is not None:
            await self._resumed

    def pauseProducing(self) -> None:
        """The client reads too slowly."""
        if self._resumed is None:
            self._resumed = Deferred(self._forget)

    def resumeProducing(self) -> None:
        """The client has caught up."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; that is told by other means."""

    def _forget(self, resumed: Deferred[None]) -> None:
        """Whoever waited for room does so no more."""
        self._resumed = None

    def _setHolding(self, holding: bool) -> None:  # noqa: FBT001 - private, and said by its name
        self._holding = holding
        if isinstance(self._request, StudioRequest):
            self._request.holding = holding

    def _ebLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._lost = True
        if self.work is not None and not self._holding and not self._ended:
            self.work.cancel()

    def _isFresh(self, status: int, tag: bytes) -> bool:
        """Whether the client has this very answer already (Express' ``req.fresh``)."""
        known = self.header(b"If-None-Match") or ""
        same = tag.decode("ascii") in (part.strip() for part in known.split(","))
        return same and status == 200 and self._request.method in {b"GET", b"HEAD"}

    def _begin(self, status: int, fields: dict[bytes, bytes], *, stream: bool = False) -> None:
        """Set the status and the header fields, in Express' order; Twisted's own are dropped."""
        closing = self._request.responseHeaders.getRawHeaders(b"Connection") == [b"close"]
        ending = {b"Connection": b"close" if closing else b"keep-alive"}
        if not closing and not stream:
            ending[b"Keep-Alive"] = b"timeout=%d" % KEEP_ALIVE
        every = {b"X-Powered-By": b"Express", **fields, b"Date": datetimeToString(), **ending}
        self._request.responseHeaders = Headers({name: [value] for name, value in every.items()})
        self._request.setResponseCode(status)
        self.status = status
