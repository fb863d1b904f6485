"""Tests for :mod:`lmgateway.studio.sdk.link`: everything that a server can do to a WebSocket."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, GatewayError, UpstreamBroken, UpstreamSilent, UpstreamUnavailable
from lmgateway.studio.sdk.link import CLOSE_SECONDS, MOST, UPGRADE_SECONDS, Link
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tests.strategies import cut
from tests.studio.sdk.support import URL, PlayedCase

_PIECES = st.lists(st.integers(1, 400), max_size=4)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Never:
    """
    Never connects.

    :ivar isCancelled: whether nobody wants that any more.
    """

    def __init__(self) -> None:
        self.isCancelled = False

    def endpointForURI(self, uri: object) -> Never:
        return self

    def connect(self, protocolFactory: object) -> Deferred[Any]:
        def cancel(_: Deferred[Any]) -> None:
            self.isCancelled = True

        return Deferred(cancel)


class LinkCase(PlayedCase):
    """With a link."""

    def setUp(self) -> None:
        super().setUp()
        self.received: list[str] = []
        self.lost: list[GatewayError] = []
        self.link = Link(self.endpoints, URL, "/llm", self.clock, self.received.append, self.lost.append)

    def open(self) -> Deferred[None]:
        """Begin to open it."""
        opening = self.link.open()
        self.network.flush()
        return opening

    def opened(self) -> None:  # type: ignore[override]
        """Have it open."""
        self.successResultOf(self.open())

    def assertGone(self) -> None:
        """Neither a connection nor a timer is left."""
        self.network.flush()
        self.assertEqual([], self.network.transports)
        self.assertStill()


class OpenTests(LinkCase):
    """Opening."""

    def test_opens(self) -> None:
        """It asks for its path and for nothing else, and messages go both ways."""
        self.opened()
        self.assertTrue(self.server.request.startswith(b"GET /llm HTTP/1.1\r\n"))
        self.assertNotIn(b"authorization", self.server.request.lower())
        self.link.send('{"a":1}')
        self.server.say("b")
        self.network.flush()
        self.assertEqual([{"a": 1}], self.server.packets)
        self.assertEqual(["b"], self.received)
        self.assertStill()

    def test_nobody(self) -> None:
        """Where nobody listens, the sentence is that of every request."""
        self.endpoints.listen = None
        error = self.failure(self.open(), UpstreamUnavailable)
        self.assertIn("http://studio.lan:1234 refused the connection. Is its server started?", error.message)
        self.assertGone()

    def test_noWebSocket(self) -> None:
        """Any answer but the WebSocket's tells that there is none, with its status, and the connection is closed."""
        for status in (b"200 OK", b"404 Not Found", b"500 No", b"302 Found"):
            self.upgrade = b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nhello"
            self.setUpLink()
            error = self.failure(self.open(), UpstreamBroken)
            self.assertIn(
                f"offers no WebSocket at /llm: it answered with the status {status[:3].decode()}.", error.message
            )
            self.assertGone()

    def test_forbidden(self) -> None:
        """A server in front that wants credentials is told as such."""
        self.upgrade = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        self.assertIn("LMSTUDIO_API_TOKEN", self.failure(self.open(), Forbidden).message)

    def test_silence(self) -> None:
        """A server that never answers the request is given up."""
        self.upgrade = b""
        opening = self.open()
        self.network.advance(UPGRADE_SECONDS)
        self.failure(opening, UpstreamSilent)
        self.assertGone()

    def test_brokenOff(self) -> None:
        """A server that breaks off before the WebSocket is there is not waited for, as Twisted's client would."""
        self.upgrade = b""
        opening = self.open()
        self.server.transport.abortConnection()
        self.failure(opening, UpstreamBroken)
        self.assertGone()

    def test_wrongKey(self) -> None:
        """An answer without the proof that it is for this request is none (RFC 6455 section 4.1)."""
        self.upgrade = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
        )
        self.assertIn("makes no sense", self.failure(self.open(), UpstreamBroken).message)
        self.assertGone()

    def test_cancelled(self) -> None:
        """Cancelling closes the connection at once."""
        self.upgrade = b""
        opening = self.open()
        opening.cancel()
        self.failure(opening, CancelledError)
        self.assertGone()
        self.assertEqual([], self.lost)

    def test_cancelledWhileConnecting(self) -> None:
        """Cancelling, like closing, gives up a connection that is not there yet."""
        ends: tuple[Any, ...] = (lambda opening, _: opening.cancel(), lambda _, link: link.close())
        for end in ends:
            never = Never()
            link = Link(never, URL, "/llm", self.clock, self.received.append, self.lost.append)
            opening = link.open()
            end(opening, link)
            self.failure(opening, Exception)
            self.assertTrue(never.isCancelled)
            self.assertStill()

    @given(st.binary() | st.binary().map(b"HTTP/1.1 ".__add__) | st.binary().map(b"HTTP/1.1 101 S\r\n".__add__))
    def test_garbage(self, answer: bytes) -> None:
        """Whatever is answered, it fails as it may or goes on waiting, and breaks off in the end."""
        self.setUp()
        self.upgrade = answer
        opening = self.open()
        self.network.advance(UPGRADE_SECONDS)
        self.failure(opening)
        self.assertGone()

    def setUpLink(self) -> None:
        """Have a fresh one."""
        self.link = Link(self.endpoints, URL, "/llm", self.clock, self.received.append, self.lost.append)


class LossTests(LinkCase):
    """What ends a WebSocket."""

    def test_brokenOff(self) -> None:
        """A loss is told once; nothing is sent after it."""
        self.opened()
        self.server.transport.abortConnection()
        self.network.flush()
        self.link.send("a")
        (error,) = self.lost
        self.assertIsInstance(error, UpstreamBroken)
        self.assertGone()

    def test_goodBye(self) -> None:
        """A server that says good-bye is answered, and lost as well."""
        self.opened()
        self.server.bye()
        self.network.flush()
        self.assertEqual([UpstreamBroken], [type(error) for error in self.lost])
        self.assertGone()

    def test_close(self) -> None:
        """It says good-bye itself."""
        self.opened()
        closing = self.link.close()
        self.network.flush()
        self.successResultOf(closing)
        self.assertEqual(1, self.server.closings)
        self.assertGone()

    def test_closeUnread(self) -> None:
        """A server that reads no good-bye is cut off."""
        self.opened()
        self.server.transport.pauseProducing()
        closing = self.link.close()
        self.network.advance(CLOSE_SECONDS / 2)
        self.assertNoResult(closing)
        self.network.advance(CLOSE_SECONDS)
        self.successResultOf(closing)
        self.assertGone()

    def test_closeWhileOpening(self) -> None:
        """One that is not open yet is closed as well, and opening it fails."""
        self.upgrade = b""
        opening = self.open()
        self.successResultOf(self.link.close())
        self.failure(opening, UpstreamUnavailable)
        self.assertGone()

    def test_endless(self) -> None:
        """A message without end is not kept."""
        self.opened()
        # The first frame of a message of 2^40 bytes.
        self.server.transport.write(b"\x81\x7f" + (1 << 40).to_bytes(8, "big"))
        for _ in range(MOST // (1 << 20) + 1):
            self.server.transport.write(b"x" * (1 << 20))
            self.network.flush()
        (error,) = self.lost
        self.assertIn("more than 16 MiB", error.message)
        self.assertGone()

    def test_large(self) -> None:
        """Any number of large messages in turn are read: the limit is that of one."""
        self.opened()
        for _ in range(5):
            self.server.say('"' + "x" * (MOST // 4) + '"')
            self.network.flush()
        self.assertEqual(5, len(self.received))

    def test_ping(self) -> None:
        """A ping is answered."""
        self.opened()
        before = len(self.server.request)
        self.server.ping()
        self.network.flush()
        self.assertGreater(len(self.server.request), before)

    @given(st.lists(st.text(max_size=200), min_size=1, max_size=5), _PIECES)
    def test_pieces(self, texts: list[str], places: list[int]) -> None:
        """However its bytes are cut, each message comes whole and in order."""
        self.setUp()
        self.opened()
        for piece in cut(b"".join(map(self.server.frame, texts)), places):
            self.server.transport.write(piece)
            self.network.flush()
        self.assertEqual(texts, self.received)

    @given(st.binary(min_size=1, max_size=64), _PIECES, st.booleans())
    def test_garbage(self, data: bytes, places: list[int], cutOff: bool) -> None:  # noqa: FBT001
        """Whatever bytes come, nothing is raised, and the loss is told once."""
        self.setUp()
        self.opened()
        for piece in cut(data, places):
            self.server.transport.write(piece)
            self.network.flush()
        if cutOff:
            self.server.transport.abortConnection()
        else:
            self.link.close()
        self.network.advance(CLOSE_SECONDS)
        self.assertEqual(1, len(self.lost))
        self.assertGone()
