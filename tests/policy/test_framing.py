"""
Heads whose framing is not in doubt, and those where it is.

The last class holds the verdicts against llhttp, the parser that reads the bodies: where both accept a head, both must see
the same body.
"""

from __future__ import annotations

import httptools
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest, ClientError, ExpectationFailed, UnsupportedMediaType
from lmgateway.message import HeaderPairs, RequestHead
from lmgateway.policy.framing import Framing, checkFraming, checkReadable
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import HEADER_PAIRS

HOST = (b"Host", b"localhost:8001")


def headOf(*headers: tuple[bytes, bytes], method: bytes = b"POST", version: bytes = b"HTTP/1.1") -> RequestHead:
    """A request with these fields."""
    return RequestHead.build(method, b"/v1/models", headers, version=version)


class RefusalTests(SynchronousTestCase):
    def assertRefused(self, head: RequestHead, said: str) -> None:
        """The head is refused with 400 and a sentence, and its connection closed."""
        error = self.assertRaises(BadRequest, checkFraming, head)
        self.assertIn(said, error.message)
        self.assertEqual(error.status, 400)
        self.assertTrue(error.closes)

    def test_host(self) -> None:
        """HTTP/1.1 has one Host, and in it a name or an address and at most a port."""
        self.assertRefused(headOf(), "no Host")
        self.assertRefused(headOf(HOST, HOST), "several Host")
        self.assertRefused(headOf(HOST, (b"host", b"other")), "several Host")
        for value in (
            b"",
            b" ",
            b"user@localhost",
            b"user:pw@localhost:1",
            b"localhost/v1",
            b"http://localhost",
            b"a,b",
            b"a b",
            b"a:b",
            b"a:1:2",
            b":80",
            b"a:123456",
            b"[::1",
            b"::1",
            b"[localhost]",
            b"[::1]x",
            b"[fe80::1%25eth0]",
            b"caf\xc3\xa9",
            b"a?b",
            b"a#b",
        ):
            self.assertRefused(headOf((b"Host", value)), "Host field")
        self.assertRefused(headOf((b"Host", b"a:65536")), "over 65535")
        self.assertRefused(headOf((b"Host", b"[1:2]")), "IPv6")

    def test_hostAccepted(self) -> None:
        """Names, addresses and ports as clients write them are accepted; on HTTP/1.0 none need be there."""
        for value in (
            b"localhost",
            b"a:",
            b"a:0",
            b"LM_Gateway.local:65535",
            b"192.168.1.2:8001",
            b"[::1]",
            b"[fd00::A]:8001",
            b" a\t",
        ):
            checkFraming(headOf((b"Host", value)))
        checkFraming(headOf(version=b"HTTP/1.0"))
        self.assertRefused(headOf(HOST, HOST, version=b"HTTP/1.0"), "several Host")
        self.assertRefused(headOf((b"Host", b"a/b"), version=b"HTTP/1.0"), "Host field")

    def test_length(self) -> None:
        """Content-Length is there once, a plain number in its one spelling."""
        for value in (b"", b"+1", b"-1", b"01", b"00", b"1,1", b"1 1", b"0x1", b"1.0", b"\xb2", b"9" * 19, b"1_0"):
            self.assertRefused(headOf(HOST, (b"Content-Length", value)), "plain decimal number")
        self.assertRefused(headOf(HOST, (b"Content-Length", b"1"), (b"content-length", b"1")), "several Content-Length")

    def test_transferEncoding(self) -> None:
        """Transfer-Encoding says chunked once, on HTTP/1.1, without a length beside it; else 400, not 501."""
        for value in (
            b"",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, chunked",
            b"chunked;x",
            b"xchunked",
            b"chunked\xa0",
        ):
            self.assertRefused(headOf(HOST, (b"Transfer-Encoding", value)), "other than one")
        chunked = (b"Transfer-Encoding", b"chunked")
        self.assertRefused(headOf(HOST, chunked, chunked), "other than one")
        self.assertRefused(headOf(HOST, chunked, (b"Content-Length", b"3")), "both")
        self.assertRefused(headOf(HOST, chunked, version=b"HTTP/1.0"), "HTTP/1.0")

    def test_contentType(self) -> None:
        """Two types for one body are refused."""
        twice = ((b"Content-Type", b"application/json"), (b"content-type", b"text/plain"))
        self.assertRefused(headOf(HOST, *twice), "several Content-Type")

    def test_controls(self) -> None:
        """No control character but the tab passes in a value; bytes beyond ASCII do."""
        for byte in (*range(0x20), 0x7F):
            head = headOf(HOST, (b"X", b"a" + bytes([byte]) + b"b"))
            if byte == 0x09:
                checkFraming(head)
            else:
                self.assertRefused(head, "control character")
        checkFraming(headOf(HOST, (b"X", bytes(range(0x80, 0x100)))))

    def test_names(self) -> None:
        """A name that is no token is refused."""
        for name in (b"", b"a b", b"a:", b"a\0", b"\xe9", b"(a)"):
            self.assertRefused(headOf(HOST, (name, b"1")), "no name may have")

    def test_underscores(self) -> None:
        """A name that can be taken for a field that counts is refused."""
        for name in (
            b"Content_Length",
            b"Transfer_Encoding",
            b"CONTENT_TYPE",
            b"content_encoding",
            b"X_Api_Key",
            b"X_API-Key",
            b"X_Forwarded_For",
            b"Proxy_Authorization",
            b"X_LMGateway_Model",
        ):
            self.assertRefused(headOf(HOST, (name, b"1")), name.lower().decode())
        self.assertRefused(headOf(HOST, (b"X-Tenant", b"1"), (b"X_Tenant", b"2")), "x_tenant")

    def test_underscoresAccepted(self) -> None:
        """A name with an underscore that can be taken for nothing else passes: OpenAI's Codex sends some."""
        checkFraming(headOf(HOST, (b"session_id", b"1"), (b"conversation_id", b"2"), (b"X-Session", b"3")))

    def test_methods(self) -> None:
        """A method is an upper-case word; CONNECT would end HTTP on the connection."""
        self.assertRefused(headOf(HOST, method=b"CONNECT"), "tunnel")
        for method in (b"get", b"Post", b"", b"GET ", b"1GET", b"G\xc9T"):
            self.assertRefused(headOf(HOST, method=method), "upper-case")
        for method in (b"GET", b"DELETE", b"TRACE", b"M-SEARCH", b"PROPFIND"):
            checkFraming(headOf(HOST, method=method))

    def test_version(self) -> None:
        """Versions other than 1.1 and 1.0 are refused."""
        for version in (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b""):
            self.assertRefused(headOf(HOST, version=version), "version")

    def test_expectation(self) -> None:
        """An expectation that the gateway does not know fails with 417 and closes."""
        for value in (b"200-ok", b"100-continue, x", b"100-continue=1"):
            error = self.assertRaises(ExpectationFailed, checkFraming, headOf(HOST, (b"Expect", value)))
            self.assertEqual(error.status, 417)
            self.assertTrue(error.closes)

    @given(HEADER_PAIRS, st.sampled_from((b"HTTP/1.1", b"HTTP/1.0")))
    def test_anyHead(self, headers: HeaderPairs, version: bytes) -> None:
        """Whatever the fields are, a head is framed or refused by an error for the client that closes: nothing else comes of it."""
        try:
            framing = checkFraming(headOf(HOST, *headers, version=version))
        except ClientError as error:
            self.assertIn(error.status, {400, 417})
            self.assertTrue(error.closes)
        else:
            self.assertFalse(framing.chunked and framing.length is not None)


class FramingTests(SynchronousTestCase):
    def framing(self, *headers: tuple[bytes, bytes], version: bytes = b"HTTP/1.1") -> Framing:
        """How a request with these fields is framed."""
        return checkFraming(headOf(HOST, *headers, version=version))

    def test_body(self) -> None:
        """The length is the declared one; with neither length nor chunks there is no body."""
        self.assertEqual(self.framing(), Framing(None, chunked=False, expectsContinue=False, keepAlive=True))
        self.assertEqual(self.framing((b"Content-Length", b"0")).length, 0)
        self.assertEqual(self.framing((b"Content-Length", b" 412\t")).length, 412)
        self.assertTrue(self.framing((b"Transfer-Encoding", b"\tChunked ")).chunked)

    def test_usual(self) -> None:
        """What the OpenAI SDK sends is framed as it says."""
        framing = self.framing(
            (b"Accept-Encoding", b"gzip, deflate"),
            (b"Connection", b"keep-alive"),
            (b"Accept", b"application/json"),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"OpenAI/Python 1.99.1"),
            (b"Authorization", b"Bearer lmg_x"),
            (b"Content-Length", b"412"),
        )
        self.assertEqual(framing, Framing(412, chunked=False, expectsContinue=False, keepAlive=True))

    def test_expectsContinue(self) -> None:
        """A 100 is waited for only before a body, and never on HTTP/1.0."""
        expect = (b"Expect", b" ,\t100-Continue , ")
        body = (b"Content-Length", b"5")
        self.assertTrue(self.framing(expect, body).expectsContinue)
        self.assertTrue(self.framing(expect, (b"Transfer-Encoding", b"chunked")).expectsContinue)
        self.assertFalse(self.framing(expect).expectsContinue)
        self.assertFalse(self.framing(expect, (b"Content-Length", b"0")).expectsContinue)
        self.assertFalse(self.framing(expect, body, version=b"HTTP/1.0").expectsContinue)
        self.assertFalse(self.framing((b"Expect", b""), body).expectsContinue)
        self.assertFalse(self.framing(body).expectsContinue)

    def test_keepAlive(self) -> None:
        """HTTP/1.1 goes on unless one says close; HTTP/1.0 ends unless one says keep-alive; close wins."""
        for value, new, old in (
            (None, True, False),
            (b"keep-alive", True, True),
            (b"Keep-Alive, X-Foo", True, True),
            (b"close", False, False),
            (b"x , CLOSE", False, False),
            (b"keep-alive, close", False, False),
            (b"host, content-length", True, False),
        ):
            headers = () if value is None else ((b"Connection", value),)
            self.assertEqual(self.framing(*headers).keepAlive, new, value)
            self.assertEqual(self.framing(*headers, version=b"HTTP/1.0").keepAlive, old, value)


class CheckReadableTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """A body in no coding, or in the identity, can be read."""
        for values in ((), (b"identity",), (b"",), (b"Identity, identity", b"identity")):
            checkReadable(headOf(HOST, *((b"Content-Encoding", value) for value in values)))

    def test_compressed(self) -> None:
        """A body in any other coding cannot, and the client is told to send it without."""
        for values in ((b"gzip",), (b"identity, br",), (b"identity", b"zstd"), (b"aws-chunked",)):
            head = headOf(HOST, *((b"Content-Encoding", value) for value in values))
            error = self.assertRaises(UnsupportedMediaType, checkReadable, head)
            self.assertIn("Content-Encoding", error.message)


class _Reading:
    """What llhttp makes of the bytes of one request."""

    def __init__(self, wire: bytes) -> None:
        self.body = b""
        self.complete = False
        self.next = False
        self.keepsAlive = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(wire)

    def on_message_begin(self) -> None:
        """Note that another request begins where the first one ended."""
        self.next = self.complete

    def on_headers_complete(self) -> None:
        """Note what the head of the first request says of the connection."""
        self.keepsAlive = self.parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Collect the body of the first request."""
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        """Note that the first request ended."""
        self.complete = True


FRAMING_PAIRS = st.lists(
    st.one_of(
        st.tuples(st.just(b"Content-Length"), st.sampled_from((b"3", b"0", b"03", b"+3", b"3,3", b"3 "))),
        st.tuples(
            st.just(b"Transfer-Encoding"),
            st.sampled_from((b"chunked", b"Chunked", b"identity", b"gzip, chunked", b"chunked ")),
        ),
        st.tuples(st.just(b"Content_Length"), st.just(b"3")),
        st.tuples(
            st.just(b"Connection"), st.sampled_from((b"close", b"keep-alive", b"transfer-encoding, content-length"))
        ),
    ),
    max_size=3,
)


class AgreementTests(SynchronousTestCase):
    @given(FRAMING_PAIRS, st.sampled_from((b"HTTP/1.1", b"HTTP/1.0")))
    def test_llhttp(self, headers: list[tuple[bytes, bytes]], version: bytes) -> None:
        """Where the gateway and llhttp both accept a head, the body that llhttp delivers is the one that the gateway was told of."""
        pairs = (HOST, *headers)
        chunks = b"3\r\nabc\r\n0\r\n\r\n"
        lines = b"".join(b"%s: %s\r\n" % pair for pair in pairs)
        try:
            framing = checkFraming(headOf(*pairs, version=version))
        except BadRequest:
            return
        body = chunks if framing.chunked else b"abc"[: framing.length or 0]
        reading = _Reading(b"POST / " + version + b"\r\n" + lines + b"\r\n" + body)
        self.assertTrue(reading.complete)
        self.assertFalse(reading.next)
        self.assertEqual(reading.body, b"abc" if framing.chunked or framing.length else b"")
        # Of "close" and "keep-alive" in one head llhttp takes either; "close" is the one that cannot do harm.
        self.assertTrue(reading.keepsAlive or not framing.keepAlive)
