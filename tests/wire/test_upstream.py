"""
What goes up to LM Studio, byte for byte, and what its failures are called; through treq and directly alike.

How the other end is played stands in :mod:`tests.wire.memory_peer`; answers, pooling and uploads have modules of their
own.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import UpstreamBroken, UpstreamUnavailable
from lmgateway.interfaces import IUpstream
from lmgateway.message import HeaderPairs
from lmgateway.wire.body import BytesBodyProducer
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.upstream import TreqUpstream
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, readBody
from twisted.web.iweb import IResponse
from zope.interface.verify import verifyObject

from tests.strategies import TOKENS
from tests.wire.upstream_support import BASE_URL, OK, Bench, Collected, Directly, SteeredBody, ThroughTreq

HEAD = b"HTTP/1.1\r\nHost: studio.lan:1234\r\n"

TARGETS = (
    b"/v1/models?",
    b"/v1/models?a=|&b=[c]&d={e}^`",
    b"/v1/%zz/%2F/%6d?%",
    b"/v1/models?q=a+b%20c&q=",
    b"/v1/mo'del;s!$&()*+,=:@~\"<>\\",
    b"/v1//models/../x/./?a?b",
    b"/",
)


class RequestHeads:
    """What a request looks like on the wire."""

    def test_provides(self) -> None:
        """The upstream provides what it says."""
        verifyObject(IUpstream, self.upstream)

    def test_target(self) -> None:
        """The request target goes out as it is, however odd: nothing on the way respells it."""
        for target in TARGETS:
            self.send(b"GET", target)
            self.assertEqual(self.peer.heard(), b"GET " + target + b" " + HEAD + b"\r\n")
            self.peer.say(OK)
            self.turn()

    def test_headers(self) -> None:
        """Fields keep their order, spelling and repetition; Host is the configured one; no field is added."""
        pairs = ((b"X-bB", b"2"), (b"accept", b"*/*"), (b"x-BB", b"1"), (b"COOKIE", b"a=b"), (b"Empty", b""))
        self.send(b"GET", b"/v1/models", pairs)
        self.assertEqual(
            self.peer.received,
            b"GET /v1/models " + HEAD + b"X-bB: 2\r\naccept: */*\r\nx-BB: 1\r\nCOOKIE: a=b\r\nEmpty: \r\n\r\n",
        )

    def test_encodings(self) -> None:
        """The client's Accept-Encoding goes up alone; where it sent none, there is none."""
        self.send(b"GET", b"/", ((b"Accept-Encoding", b"identity"),))
        self.assertEqual(self.peer.received.lower().count(b"accept-encoding"), 1)
        self.send(b"GET", b"/")
        self.assertNotIn(b"accept-encoding", self.peer.received.lower())

    def test_wholeBody(self) -> None:
        """A body that is in memory has a Content-Length, and goes out in one write with its head."""
        self.send(b"POST", b"/v1/x", ((b"Content-Type", b"application/json"),), BytesBodyProducer(b'{"a":1}'))
        self.assertEqual(
            self.peer.transport.writes,
            [b"POST /v1/x " + HEAD + b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'],
        )

    def test_streamedBody(self) -> None:
        """A streamed body of known length has a Content-Length and is not chunked."""
        body = SteeredBody(5)
        self.send(b"PUT", b"/v1/x", (), body)
        body.consumer.write(b"he")
        body.consumer.write(b"llo")
        self.assertEqual(
            self.peer.transport.writes, [b"PUT /v1/x " + HEAD + b"Content-Length: 5\r\n\r\n", b"he", b"llo"]
        )

    def test_chunkedBody(self) -> None:
        """A streamed body of unknown length is chunked; an empty piece does not end it, its end does."""
        body = SteeredBody()
        self.send(b"POST", b"/v1/x", (), body)
        for piece in (b"hello", b"", b"x" * 26):
            body.consumer.write(piece)
        assert body.done is not None
        body.done.callback(None)
        self.assertEqual(
            self.peer.received,
            b"POST /v1/x " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n",
        )

    def test_noBody(self) -> None:
        """A POST without a body says so; a GET, HEAD, DELETE or OPTIONS says nothing."""
        for method, framing in (
            (b"POST", b"Content-Length: 0\r\n"),
            (b"PUT", b"Content-Length: 0\r\n"),
            (b"PATCH", b"Content-Length: 0\r\n"),
            (b"GET", b""),
            (b"HEAD", b""),
            (b"DELETE", b""),
            (b"OPTIONS", b""),
        ):
            self.send(method, b"/v1/x")
            self.assertEqual(self.peer.received, method + b" /v1/x " + HEAD + framing + b"\r\n")

    def test_emptyBody(self) -> None:
        """An empty body of known length is declared, and nothing else is sent."""
        self.send(b"POST", b"/v1/x", (), BytesBodyProducer(b""))
        self.assertEqual(self.peer.received, b"POST /v1/x " + HEAD + b"Content-Length: 0\r\n\r\n")

    def test_noDelay(self) -> None:
        """Small writes are sent at once."""
        self.send()
        self.assertTrue(self.peer.transport.noDelay)

    def test_origin(self) -> None:
        """Connections go to the configured scheme, host and port, whatever the target and the fields say."""
        self.send(b"GET", b"//evil.example:80/x@y?http://evil.example/", ((b"X-Forwarded-Host", b"evil.example"),))
        self.assertEqual(
            [(uri.scheme, uri.host, uri.port) for uri in self.endpoints.uris], [(b"http", b"studio.lan", 1234)]
        )
        self.assertIn(HEAD, self.peer.received)


class AsItCame:
    """What comes back as it was sent."""

    def test_noCookies(self) -> None:
        """A cookie that LM Studio sets goes to the client, and never up again with another request."""
        first = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=alice; Path=/\r\nContent-Length: 0\r\n\r\n")
        response, _ = self.answered(first)
        self.assertEqual(response.headers.getRawHeaders(b"set-cookie"), [b"who=alice; Path=/"])
        self.send()
        self.assertEqual(len(self.bench.peers), 1)
        self.assertNotIn(b"cookie", self.peer.received.lower())

    def test_noRedirects(self) -> None:
        """A redirect is an answer like any other: nobody goes there."""
        for status in (301, 302, 303, 307, 308):
            sent = self.send(b"POST", b"/v1/x", (), BytesBodyProducer(b"{}"))
            self.peer.say(b"HTTP/1.1 %d Go\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n" % status)
            response, _ = self.answered(sent)
            self.assertEqual(response.code, status)
        self.assertEqual({uri.host for uri in self.endpoints.uris}, {b"studio.lan"})
        self.assertEqual(self.peer.received.count(b"POST "), 5)

    def test_encoded(self) -> None:
        """An encoded body stays encoded, and its encoding is told among the pairs."""
        packed = bytes.fromhex("1f8b0800000000000003cb48cdc9c907008 6a610360500 0000".replace(" ", ""))
        sent = self.send(b"GET", b"/", ((b"Accept-Encoding", b"gzip"),))
        pairs = ((b"content-ENCODING", b"gzip"), (b"Content-Length", b"%d" % len(packed)))
        self.peer.say(b"HTTP/1.1 200 OK\r\n" + rendered(pairs) + b"\r\n" + packed)
        response, collected = self.answered(sent)
        self.assertEqual(pairsOf(response), pairs)
        self.assertEqual(response.length, len(packed))
        self.assertWhole(collected, packed)

    def test_head(self) -> None:
        """Status, phrase and fields are told as sent: order, spelling, repetition, bytes beyond ASCII."""
        pairs = ((b"x-B", b"\xe9\xff"), (b"Vary", b"a"), (b"VARY", b"b"), (b"Content-Length", b"0"), (b"X-b", b""))
        sent = self.send()
        self.peer.say(b"HTTP/1.1 418 Short \xe4nd stout\r\n" + rendered(pairs) + b"\r\n")
        response, _ = self.answered(sent)
        self.assertEqual((response.code, response.phrase), (418, b"Short \xe4nd stout"))
        self.assertEqual(pairsOf(response), pairs)

    def test_noPhrase(self) -> None:
        """A status line may have no phrase."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n")
        response, _ = self.answered(sent)
        self.assertEqual((response.code, response.phrase), (200, b""))


CONNECT_FAILURES = (
    (
        error.ConnectionRefusedError(),
        "refused the connection. Is its server started? (Developer tab, or `lms server start`)",
    ),
    (error.TimeoutError(), "did not answer in time."),
    (error.DNSLookupError(), "could not be found. Is its name spelled right"),
    (SSL.Error([("SSL routines", "", "certificate verify failed")]), "failed the TLS handshake."),
    (VerificationError(errors=[]), "failed the TLS handshake."),
    (error.ConnectionLost(), "closed the connection at once."),
    (error.ConnectionDone(), "closed the connection at once."),
    (error.ConnectBindError(), "could not be reached."),
)


class Failures:
    """What a request fails with."""

    def test_connect(self) -> None:
        """Each way to find nobody has its own sentence, with the address and what to do, and is a 503."""
        for failure, sentence in CONNECT_FAILURES:
            self.endpoints.refusal = failure
            unavailable = self.failureResultOf(self.send(), UpstreamUnavailable).value
            self.assertTrue(unavailable.message.startswith(f"LM Studio at {BASE_URL} {sentence}"), unavailable.message)
            self.assertEqual(unavailable.status, 503)

    def test_connectKeepsBody(self) -> None:
        """Where no connection is made, a streamed body is not begun."""
        self.endpoints.refusal = error.ConnectionRefusedError()
        body = SteeredBody(5)
        self.failureResultOf(self.send(b"POST", b"/", (), body), UpstreamUnavailable)
        self.assertIsNone(body.done)

    def test_closedBeforeHead(self) -> None:
        """A connection that ends before an answer, in whatever way, or within its head, is a broken upstream: a 502."""
        for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Le"):
            for end in ("finish", "reset"):
                sent = self.send()
                self.peer.say(said)
                getattr(self.peer, end)()
                broken = self.failureResultOf(sent, UpstreamBroken).value
                self.assertIn(f"LM Studio at {BASE_URL} broke off", broken.message)
                self.assertEqual(broken.status, 502)

    def test_cancelledWhileConnecting(self) -> None:
        """Cancelled while it connects, an attempt is given up."""
        self.endpoints.waiting = []
        sent = self.send()
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        (connecting,) = self.endpoints.waiting
        self.assertTrue(connecting.called)
        self.assertEqual(self.bench.peers, [])

    def test_cancelledBeforeHead(self) -> None:
        """Cancelled while LM Studio is silent, the connection is closed at once."""
        sent = self.send()
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(self.peer.transport.aborted)

    def test_cancelledInHead(self) -> None:
        """Cancelled within the head of an answer, the connection is closed at once."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(self.peer.transport.aborted)

    def test_abandonedInBody(self) -> None:
        """Whoever loses interest in a body closes its connection at once, by either name, and is told the end once."""
        for close in ("loseConnection", "abortConnection", "stopProducing"):
            sent = self.send()
            self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            _, collected = self.answered(sent)
            getattr(collected.transport, close)()
            self.assertTrue(self.peer.transport.aborted)
            self.turn()
            self.assertBroken(collected)
            getattr(collected.transport, close)()

    def test_abandonedAtOnce(self) -> None:
        """A consumer that closes as soon as it is given the body, or a piece of it, is told the end, once, and nothing after."""
        for close in ("loseConnection", "abortConnection"):
            for moment in ("connectionMade", "dataReceived"):
                sent = self.send()
                self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                closing = _Closing(moment, close)
                self.successResultOf(sent).deliverBody(closing)
                self.assertTrue(self.peer.transport.aborted)
                self.turn()
                self.assertBroken(closing)

    def test_readBodyCancelled(self) -> None:
        """Whoever reads a body with Twisted's readBody may cancel it: the connection is closed, and nothing is logged."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        reading = readBody(self.successResultOf(sent))
        reading.cancel()
        self.failureResultOf(reading, ResponseFailed)
        self.assertTrue(self.peer.transport.aborted)
        self.turn()


class _Closing(Collected):
    def __init__(self, moment: str, close: str) -> None:
        super().__init__()
        self._moment = moment
        self._close = close

    def connectionMade(self) -> None:
        self._now("connectionMade")

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._now("dataReceived")

    def _now(self, moment: str) -> None:
        if moment == self._moment:
            getattr(self.transport, self._close)()


class TreqRequestHeadTests(RequestHeads, ThroughTreq):
    """Through treq."""


class DirectRequestHeadTests(RequestHeads, Directly):
    """Directly."""


class TreqAsItCameTests(AsItCame, ThroughTreq):
    """Through treq."""

    def test_noCookieKept(self) -> None:
        """Treq's jar stays empty, whatever is set."""
        for _ in range(3):
            sent = self.send()
            self.peer.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=alice; Path=/\r\nContent-Length: 0\r\n\r\n")
            self.answered(sent)
        assert isinstance(self.upstream, TreqUpstream)
        self.assertEqual(list(self.upstream._cookies), [])


class DirectAsItCameTests(AsItCame, Directly):
    """Directly."""


class TreqFailureTests(Failures, ThroughTreq):
    """Through treq."""


class DirectFailureTests(Failures, Directly):
    """Directly."""


class BothWaysTests(SynchronousTestCase):
    @given(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map(
            lambda text: b"/" + text.encode()
        ),
        st.lists(st.tuples(TOKENS, st.binary(max_size=8)), max_size=4).map(tuple),
    )
    def test_same(self, target: bytes, headers: HeaderPairs) -> None:
        """Whatever the target and the fields, what treq sends is what the agent sends, and holds both as they are."""
        heads = []
        for way in (ThroughTreq, Directly):
            bench = Bench(way.make)
            bench.send(b"GET", target, headers)
            heads.append(bench.peers[0].received)
            self.assertEqual(bench.leftovers(), [])
        self.assertEqual(heads, [b"GET " + target + b" " + HEAD + rendered(headers) + b"\r\n"] * 2)


def rendered(pairs: HeaderPairs) -> bytes:
    """Fields as they stand on the wire."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in pairs)


def pairsOf(response: IResponse) -> HeaderPairs:
    """An answer's fields as they came."""
    assert isinstance(response.headers, VerbatimHeaders)
    return response.headers.pairs
