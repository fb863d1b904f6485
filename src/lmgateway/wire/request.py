# -*- test-case-name: tests.wire.test_request -*-
"""
One downstream request: a ``twisted.web`` Request, so that Klein and any Resource work, on a channel of our own.

It is rendered when its **head** is complete; :attr:`GatewayRequest.body` is still arriving then. What ``twisted.web``
computes for each request, and a proxied one never asks for, is computed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.resource import getChildForRequest
from twisted.web.server import Request

from lmgateway.errors import GatewayError, InternalError
from lmgateway.message import HeaderPairs, Principal, RequestHead
from lmgateway.policy.acts import ActDetails
from lmgateway.policy.routes import Route
from lmgateway.wire.body import IncomingBody, clientLeft

if TYPE_CHECKING:
    from lmgateway.wire.channel import GatewayChannel
    from lmgateway.wire.site import GatewaySite


PHRASES = {int(status): status.phrase.encode("ascii") for status in HTTPStatus}
"""The reason phrase of each status code (RFC 9110 section 15)."""


class GatewayRequest(Request):
    """
    A request between the channel and the resources.

    :ivar head: what decides look at.
    :ivar body: what is still to come.
    :ivar requestId: for the answer, the log and the events.
    :ivar startedAt: Unix time at which the head was complete.
    :ivar firstByteAt: Unix time of the answer's first byte, or 0.
    :ivar refusal: what is wrong with the head, where anything is; then there is nothing to render.
    :ivar principal: who asked, once that is known.
    :ivar route: the row of the route table, once it is known.
    :ivar error: what the answer says went wrong, if anything did.
    :ivar added: header fields that the answer carries, whoever writes it.
    :ivar cut: whether the answer was cut off by us.
    :ivar keepsAlive: whether the client lets the connection go on after this request.
    :ivar model: the model that the request goes to, where it goes to one.
    :ivar hold: given the status of a whole answer and what sends it, has it sent when its time has come; None for at once.
    :ivar audited: what the request was about, where it is an administrative act.
    """

    channel: GatewayChannel  # type: ignore[assignment]  # twisted.web means its own
    site: GatewaySite
    defaultContentType = None
    principal: Principal | None = None
    model: str | None = None
    route: Route | None = None
    error: GatewayError | None = None
    added: HeaderPairs = ()
    cut = False
    keepsAlive = True
    firstByteAt = 0.0
    hold: Callable[[GatewayRequest, int, Callable[[], None]], None] | None = None
    audited: ActDetails | None = None
    _isHeld = False
    _headerIndex: Headers | None = None
    _answerHeaders: Headers | None = None
    _exchange: Deferred[Any] | None = None

    def __init__(
        self,
        channel: GatewayChannel,
        head: RequestHead,
        body: IncomingBody,
        requestId: str,
        startedAt: float,
        refusal: GatewayError | None = None,
    ) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.head = head
        self.body = body
        self.requestId = requestId
        self.startedAt = startedAt
        self.refusal = refusal
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.clientproto = head.version

    @property
    def requestHeaders(self) -> Headers:
        """The header fields, as Klein and other resources look at them."""
        if self._headerIndex is None:
            self._headerIndex = Headers()
            for name, value in self.head.headers:
                self._headerIndex.addRawHeader(name, value)
        return self._headerIndex

    @requestHeaders.setter
    def requestHeaders(self, value: Headers) -> None:
        """Ignore the empty ones that ``twisted.web`` starts with."""

    @property
    def responseHeaders(self) -> Headers:
        """The header fields of an answer that ``twisted.web`` writes; the proxy's has none."""
        if self._answerHeaders is None:
            self._answerHeaders = Headers()
        return self._answerHeaders

    @responseHeaders.setter
    def responseHeaders(self, value: Headers) -> None:
        """Ignore the empty ones that ``twisted.web`` starts with."""

    @property
    def asker(self) -> Principal:
        """
        Who asks.

        :raise InternalError: nobody knows: it came past the gate.
        """
        if self.principal is None:
            raise InternalError("A request of nobody's was not turned away.")
        return self.principal

    @property
    def ended(self) -> bool:
        """Whether nothing more can be written: the answer is finished, or the connection gone."""
        return bool(self.finished or self._disconnected)

    def process(self) -> None:
        """Render the site's resource, or answer the refusal."""
        self.site = site = self.channel.site
        try:
            if self.refusal is not None:
                site.refuse(self, self.refusal)
            elif site.resource.isLeaf:
                self.render(site.resource)
            else:
                self.render(getChildForRequest(site.resource, self))
        except Exception:  # noqa: BLE001 - whatever a resource raises, the client gets an answer and the log the reason
            self.processingFailed(Failure())

    @cached_property
    def prepath(self) -> list[bytes]:  # type: ignore[override]  # it can be assigned to
        """The segments of the path that resources have walked."""
        return []

    @cached_property
    def postpath(self) -> list[bytes]:  # type: ignore[override]  # likewise
        """The segments of the path that are still to be walked, unescaped."""
        return [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]  # likewise
        """The arguments in the query."""
        arguments: dict[bytes, list[bytes]] = parse_qs(self.uri.partition(b"?")[2], True)
        return arguments

    def getRequestHostname(self) -> bytes:
        """
        Give Klein, which binds its routes to a host and alone asks for it, always the same one.

        A path leads to the same wherever a request says that it goes; and a ``Host`` that is no name in DNS is no defect.
        """
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer a defect of ours: with an error where nothing was sent yet, else by cutting the answer off."""
        self._log.failure("Defect while answering {request.requestId}", reason, request=self)
        if not self.ended:
            if self.startedWriting:
                self.abort()
            else:
                self.site.refuse(self, InternalError("The gateway made a mistake; its log has the details."))
        return reason

    # an answer whose head and body are somebody else's: the proxy's way

    def sendHead(self, status: int, reason: bytes, headers: HeaderPairs, length: int | None) -> None:
        """
        Begin the answer.

        :param headers: end-to-end fields; framing, ``Date`` and ``X-Request-Id`` are added.
        :param length: the bytes that will follow, or None: then they are chunked, or (HTTP/1.0) end with the
            connection. Of an answer that has no body by its nature, the length it would have.
        """
        self.startedWriting = 1
        self.setResponseCode(status, reason)
        framing: HeaderPairs = ()
        bodiless = status in NO_BODY_CODES
        if length is not None:
            # "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204"
            # (RFC 9110 section 8.6).
            if status != 204:
                framing = ((b"Content-Length", b"%d" % length),)
        elif self.clientproto == b"HTTP/1.1" and self.method != b"HEAD" and not bodiless:
            framing = ((b"Transfer-Encoding", b"chunked"),)
            self.chunked = 1
        elif not bodiless and self.method != b"HEAD":
            self.channel.closeAfter()
        self.channel.writeHead(status, reason, headers + framing, self)

    def sendBody(self, data: bytes) -> None:
        """Send a piece of the body at once. An empty one is nothing: as a chunk it would be the end."""
        if self._disconnected or not data:
            return
        self.sentLength += len(data)
        if self.chunked:
            self.channel.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.channel.write(data)

    def sendWhole(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Send an answer that is all there; or, where it is held back, have it sent later. Then the first one counts."""
        if self._isHeld:
            return
        hold, self.hold = self.hold, None
        if hold is not None:
            self._isHeld = True
            hold(self, status, lambda: self._sendHeld(status, headers, body))
            return
        self.sendHead(status, PHRASES.get(status, b""), headers, len(body))
        if self.method != b"HEAD" and status not in NO_BODY_CODES:
            self.sendBody(body)
        self.finish()

    def _sendHeld(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        self.release()
        if not self.ended:
            self.sendWhole(status, headers, body)

    def release(self) -> None:
        """Hold back nothing any more; what was held back is forgotten."""
        self._isHeld = False

    def finish(self) -> None:
        """Finish the answer. Klein does that for whoever has not, and must not while an answer is held back."""
        if not self._isHeld:
            super().finish()

    def closeAfter(self) -> None:
        """Have the connection closed when this request is answered."""
        if not self.ended:
            self.channel.closeAfter()

    def abort(self) -> None:
        """
        Cut the answer off, so that nobody can take it for whole.

        What was written before is still delivered: a reset would take an error event along. Only where the end of the
        connection would pass for the end of the answer (HTTP/1.0 without a length) it is reset.
        """
        if not self.ended:
            unframed = not self.chunked and self.clientproto == b"HTTP/1.0"
            self.channel.cut(reset=unframed)

    # what twisted.web does, and ours does besides

    def write(self, data: bytes) -> None:
        """Write as ``twisted.web`` does; an empty write flushes the head, which is how an event stream says hello."""
        if not self.startedWriting:
            self._mendFraming()
        super().write(data)
        if not data and not self.ended:
            self.flush()

    def _mendFraming(self) -> None:
        headers = self.responseHeaders
        if self.code == 204:
            # "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204"
            # (RFC 9110 section 8.6).
            headers.removeHeader(b"Content-Length")
        elif self.clientproto == b"HTTP/1.0" and not headers.hasHeader(b"Content-Length"):
            # It knows no chunks: the answer ends with the connection.
            self.closeAfter()

    def flush(self) -> None:
        """Send a head that waits for the first piece of its body."""
        self.channel.flush()

    def cancel(self) -> None:
        """End the answer as if the client had left, but tell the client."""
        if self._exchange is not None:
            self._exchange.cancel()

    def notifyDisconnect(self, cancel: Deferred[Any]) -> None:
        """Cancel a Deferred when the client leaves before the answer is finished."""
        self._exchange = cancel

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever works on the answer that nobody waits for it."""
        super().connectionLost(reason)
        if self._exchange is not None:
            self._exchange.cancel()
        self.body.fail(clientLeft())
