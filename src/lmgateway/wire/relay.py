# -*- test-case-name: tests.wire.test_relay -*-
"""
Answers on their way from LM Studio to the client.

Each piece goes on as soon as it comes. A client that reads slowly slows LM Studio; a client that leaves makes it stop; an
answer that breaks off upstream is never passed off as whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Structural

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from lmgateway.errors import GatewayError, UpstreamBroken, UpstreamSilent
from lmgateway.message import HeaderPairs
from lmgateway.policy.catchall import UnexpectedEndpoint
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.silence import SilenceTimer

_CONTROLS = bytes(byte for byte in (*range(0x20), 0x7F) if byte != 0x09)


class IAnswerWatch(Structural):
    """Who sees an answer pass, and may take out what was never asked for by the client."""

    def passing(self, data: bytes) -> bytes:
        """See a piece, and give what goes on of it."""

    def passed(self) -> bytes:
        """The answer is whole: give what is still held of it."""


@implementer(IPushProducer)
class ResponseRelay(Protocol):
    """
    Passes one answer on.

    :param request: the downstream request that it answers.
    :param response: the upstream's answer, its body still unread.
    :param headers: the end-to-end fields to send.
    :param errorEvent: makes, of an error, the event that ends a broken stream in the client's dialect.
    :param silence: cuts the answer off when nothing comes for too long.
    :param isStream: whether the answer is an event stream.
    :param watch: sees each piece before it goes on.
    """

    def __init__(
        self,
        request: GatewayRequest,
        response: IResponse,
        headers: HeaderPairs,
        errorEvent: Callable[[GatewayError], bytes],
        silence: SilenceTimer,
        *,
        isStream: bool,
        watch: IAnswerWatch | None = None,
    ) -> None:
        self.done: Deferred[GatewayError | None] = Deferred(lambda _: self._abandon())
        self._request = request
        self._response = response
        self._headers = headers
        self._errorEvent = errorEvent
        self._silence = silence
        self._held: list[bytes] | None = None
        self._tail = b""
        self._isStream = isStream
        self._watch = watch
        self._catchall = UnexpectedEndpoint() if response.code == 200 and not isStream else None

    def connectionMade(self) -> None:
        """Send the head, unless the first bytes of the body decide its status; take the client's pace."""
        self._silence.start(self._abandon)
        if self._catchall is None:
            self._sendHead(self._response.code)
        else:
            self._held = []
        self._request.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Pass a piece on."""
        self._silence.touch()
        if self._watch is not None:
            data = self._watch.passing(data)
            if not data:
                return
        if self._held is not None and self._catchall is not None:
            self._held.append(data)
            verdict = self._catchall.feed(data)
            if verdict is None:
                return
            data = self._release(404 if verdict else 200)
        if self._isStream:
            self._tail = data[-2:] if len(data) > 1 else self._tail[-1:] + data
        self._request.sendBody(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Finish a whole answer; cut a broken one off, honestly."""
        self._silence.stop()
        request = self._request
        if request.ended:
            self._finish(None)
            return
        request.unregisterProducer()
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            if self._held is not None:
                held = self._release(200)
                if held:
                    request.sendBody(held)
            rest = self._watch.passed() if self._watch is not None else b""
            if rest:
                request.sendBody(rest)
            request.finish()
            self._finish(None)
        else:
            self._broke()

    def _broke(self) -> None:
        error: GatewayError
        if self._silence.expired:
            error = UpstreamSilent("LM Studio stopped sending in the midst of its answer; the rest is lost.")
        else:
            error = UpstreamBroken("LM Studio broke off in the midst of its answer; the rest is lost. Try again.")
        request = self._request
        if not request.startedWriting:
            self._finish(error)
            return
        if self._isStream and request.chunked:
            # An event that is half sent must not swallow the one that tells why it is.
            gap = b"" if self._tail in {b"", b"\n\n"} else b"\n\n"
            request.sendBody(gap + self._errorEvent(error))
        request.abort()
        self._finish(error)

    def _sendHead(self, status: int) -> None:
        response = self._response
        # "A server MUST NOT send Content-Length in such a response unless its field value equals the decimal number of octets
        # that would have been sent in the content of a 200 (OK) response to the same request" (of a 304, RFC 9110 section
        # 8.6; the same of HEAD).
        bodiless = self._request.method == b"HEAD" or status == 304
        length: Any = _declaredLength(response) if bodiless else response.length
        # reason-phrase = 1*( HTAB / SP / VCHAR / obs-text ) (RFC 9112 section 4), which upstream's parser does not see to.
        phrase = response.phrase.translate(None, _CONTROLS) if status == response.code else b"Not Found"
        self._request.sendHead(status, phrase, self._headers, None if length is UNKNOWN_LENGTH else length)

    def _release(self, status: int) -> bytes:
        held, self._held = self._held, None
        self._sendHead(status)
        return b"".join(held or ())

    def begun(self) -> None:
        """What came with the head is passed on: a head that came alone goes out alone."""
        if not self._request.ended:
            self._request.flush()

    def pauseProducing(self) -> None:
        """The client is behind: hold LM Studio back, and do not blame it for the silence."""
        self._silence.stop()
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._silence.start(self._abandon)
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone; whoever cancels the exchange says so."""

    def _abandon(self) -> None:
        self._silence.stop()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def _finish(self, error: GatewayError | None) -> None:
        if not self.done.called:
            self.done.callback(error)


def _declaredLength(response: IResponse) -> Any:
    values = response.headers.getRawHeaders(b"content-length", [])
    return int(values[0]) if values else UNKNOWN_LENGTH
