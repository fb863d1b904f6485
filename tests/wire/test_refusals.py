"""
What is refused before anything is done with it: one answer, then the end of the connection.

The table is the list of what ``twisted.web`` accepts on the wire and must not, and what the published conformance and
smuggling suites ask besides; each goes through the real parser and the real policy.
"""

from __future__ import annotations

from lmgateway.errors import GatewayError
from lmgateway.wire.request import GatewayRequest
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import Client, Downstream, chunked, echo, hello, refuse, requestBytes

START = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: gateway.test\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
CHUNKED = START + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

BAD_HEADS = {
    # the list of what twisted.web accepts
    "a folded line": START + HOST + b"X: a\r\n b\r\n\r\n",
    "a folded first line": START + b" X: a\r\n" + HOST + b"\r\n",
    "no Host": START + b"\r\n",
    "two Hosts": START + HOST + HOST + b"\r\n",
    "two different Hosts": START + HOST + b"host: other\r\n\r\n",
    "a Host with a user": START + b"Host: user@gateway.test\r\n\r\n",
    "a Host with a path": START + b"Host: gateway.test/v1\r\n\r\n",
    "an empty Host": START + b"Host:\r\n\r\n",
    "several hosts in one": START + b"Host: a, b\r\n\r\n",
    "asterisk with GET": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk with OPTIONS": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT other:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a whole URL": b"GET http://gateway.test/v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "identity with a length": START + HOST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    "identity": START + HOST + b"Transfer-Encoding: identity\r\n\r\n",
    "an unknown coding": START + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a bell in a value": START + HOST + b"X: a\x07b\r\n\r\n",
    "a NUL in a value": START + HOST + b"X: a\x00b\r\n\r\n",
    "a DEL in a value": START + HOST + b"X: a\x7fb\r\n\r\n",
    "a CR in a value": START + HOST + b"X: a\rb\r\n\r\n",
    "a LF in a value": START + HOST + b"X: a\nb\r\n\r\n",
    "a length with leading zeros": START + HOST + b"Content-Length: 03\r\n\r\nabc",
    "two Content-Types": START + HOST + b"Content-Type: a/b\r\nContent-Type: a/c\r\n\r\n",
    "a back slash in the path": b"GET /v1\\x HTTP/1.1\r\n" + HOST + b"\r\n",
    "an escaped line break in the path": b"GET /v1/%0d%0ax HTTP/1.1\r\n" + HOST + b"\r\n",
    "a lower-case method": b"get /v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
    # lengths and codings that two readers could read differently
    "a length and chunks": START + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    "chunks and a length": START + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunked(b"abc"),
    "two lengths": START + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": START + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": START + HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": START + HOST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": START + HOST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": START + HOST + b"Content-Length: 0x3\r\n\r\nabc",
    "a length beyond all": START + HOST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "an empty length": START + HOST + b"Content-Length:\r\n\r\nabc",
    "chunked twice": START + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked, chunked": START + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked misspelled": START + HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked with a control": START + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "chunked on HTTP/1.0": b"POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    "an underscore for a hyphen": START + HOST + b"Content_Length: 3\r\n\r\nabc",
    "a space before the colon": START + HOST + b"Transfer-Encoding : chunked\r\n\r\n",
    "a name with a space": START + HOST + b"X Y: a\r\n\r\n",
    "an empty name": START + HOST + b": a\r\n\r\n",
    "a line without a colon": START + HOST + b"nothing\r\n\r\n",
    # request lines
    "a bare LF after the request line": b"GET /v1/x HTTP/1.1\n" + HOST + b"\r\n",
    "bare LFs": b"GET /v1/x HTTP/1.1\nHost: gateway.test\n\n",
    "a bare LF after a field": START + b"Host: gateway.test\nX: y\r\n\r\n",
    "a CR that ends the head": START + HOST + b"\rX: y\r\n\r\n",
    "HTTP/0.9": b"GET /v1/x\r\n\r\n",
    "HTTP/2.0": b"GET /v1/x HTTP/2.0\r\n" + HOST + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /v1/x HTTP/1.2\r\n" + HOST + b"\r\n",
    "a version in lower case": b"GET /v1/x http/1.1\r\n" + HOST + b"\r\n",
    "another protocol": b"GET /v1/x SIP/2.0\r\n" + HOST + b"\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /v1/x y HTTP/1.1\r\n" + HOST + b"\r\n",
    "a byte beyond ASCII": b"GET /v1/\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /v1/x#y HTTP/1.1\r\n" + HOST + b"\r\n",
    "dot segments": b"GET /v1/../admin HTTP/1.1\r\n" + HOST + b"\r\n",
    "escaped dot segments": b"GET /v1/%2e%2e/admin HTTP/1.1\r\n" + HOST + b"\r\n",
    "an escaped slash": b"GET /v1%2fx HTTP/1.1\r\n" + HOST + b"\r\n",
    "an empty segment": b"GET //v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path parameter": b"GET /v1/x;y HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "rubbish": b"\x00\x01\x02\x03\r\n\r\n",
}
"""What is wrong, and the bytes that have it."""

BAD_BODIES = {
    "a bare semicolon after a chunk's size": b"3;\r\nabc\r\n0\r\n\r\n",
    "an extension that is no token": b"3;a b\r\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk's size": b"3\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk": b"3\r\nabc\n0\r\n\r\n",
    "a bare LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a bare LF that ends the trailers": b"3\r\nabc\r\n0\r\n\n",
    "a bare LF after a trailer": b"3\r\nabc\r\n0\r\nX: y\n\r\n",
    "a size in C's notation": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a size beyond all": b"ffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
    "a size too small": b"2\r\nabc\r\n0\r\n\r\n",
    "a size too large": b"4\r\nabc\r\n0\r\n\r\n",
    "a length among the trailers": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n",
}
"""The same of chunked bodies."""


class RefusalTests(SynchronousTestCase):
    def assertRefused(self, client: Client, status: int, what: str) -> None:
        """There is one answer, it is a refusal, and the connection ends."""
        self.assertEqual(client.statuses, [status], what)
        self.assertTrue(client.answer.closes, what)
        self.assertTrue(client.answer.complete, what)
        self.assertTrue(client.lingering or client.closed, what)

    def test_heads(self) -> None:
        """Each of them is refused once with 400, nothing is rendered, what follows is not read, and the connection ends."""
        for what, wire in BAD_HEADS.items():
            downstream = Downstream()
            client = downstream.connect()
            client.send(wire + EVIL)
            client.send(EVIL)
            self.assertRefused(client, 400, what)
            self.assertEqual(downstream.requests, [], what)
            self.assertEqual(len(downstream.ended), 1, what)
            downstream.wait(3)
            self.assertTrue(client.closed, what)

    def test_headsByteByByte(self) -> None:
        """None of them gets through because it comes a byte at a time."""
        for what, wire in BAD_HEADS.items():
            downstream = Downstream()
            client = downstream.connect()
            client.send(*((wire + EVIL)[index : index + 1] for index in range(len(wire + EVIL))))
            self.assertRefused(client, 400, what)
            self.assertEqual(downstream.requests, [], what)

    def test_bodies(self) -> None:
        """A chunked body that is not what it should be is refused with 400 where it is read, and what follows is not."""
        for what, body in BAD_BODIES.items():
            for pieces in (
                [CHUNKED + body + EVIL],
                [CHUNKED, *(body[index : index + 1] for index in range(len(body))), EVIL],
            ):
                downstream = Downstream(echo)
                client = downstream.connect()
                client.send(*pieces)
                self.assertRefused(client, 400, what)
                self.assertEqual(len(downstream.requests), 1, what)

    def test_bodyLingers(self) -> None:
        """The refusal of a body reaches a client that is still sending it."""
        client = Downstream(echo).connect()
        client.send(CHUNKED + BAD_BODIES["no size"])
        self.assertTrue(client.lingering)

    def test_address(self) -> None:
        """Whoever refuses learns the address that it refuses, even where there is no head to speak of."""
        downstream = Downstream()
        downstream.connect("192.0.2.99").send(b"rubbish\r\n\r\n")
        slow = downstream.connect("192.0.2.98")
        slow.send(b"GET /")
        downstream.wait(11)
        self.assertEqual([request.head.peer for request in downstream.ended], ["192.0.2.99", "192.0.2.98"])

    def test_reason(self) -> None:
        """What is no HTTP is refused with the same code as what is HTTP in doubt, so that programs need know but one."""
        downstream = Downstream()
        for wire in (b"rubbish\r\n\r\n", START + b"\r\n"):
            downstream.connect().send(wire)
        codes = [error.code for error in self.errorsOf(downstream)]
        self.assertEqual(codes, ["bad_http", "bad_http"])

    def errorsOf(self, downstream: Downstream) -> list[GatewayError]:
        """What was wrong with each request."""
        return [request.error for request in downstream.ended if request.error is not None]


class SizeTests(SynchronousTestCase):
    def statusOf(self, *pieces: bytes, **limits: int) -> int:
        """The status of the one answer to what is sent in these pieces."""
        downstream = Downstream(**limits)
        client = downstream.connect()
        client.send(*pieces)
        self.assertTrue(client.answer.status == 200 or client.answer.closes)
        return client.answer.status

    def test_endlessLine(self) -> None:
        """A line that never ends is refused with 431 once it is over the limit, and not before."""
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        downstream = Downstream()
        client = downstream.connect()
        client.send(head, *[b"x" * 1000] * 16)
        self.assertEqual(client.answers, [])
        client.send(b"x" * 1000)
        self.assertEqual(client.statuses, [431])
        self.assertEqual(self.statusOf(head + b"x" * 1_000_000), 431)

    def test_endlessName(self) -> None:
        """So is a name that never ends, and a head of empty lines."""
        self.assertEqual(self.statusOf(b"GET / HTTP/1.1\r\n", *[b"x" * 1000] * 20), 431)
        self.assertEqual(self.statusOf(*[b"\r\n" * 500] * 20), 431)

    def test_manyFields(self) -> None:
        """More fields than may be are refused with 431, however small; as many as may be are accepted."""
        fields = {f"X{index}": "1" for index in range(100)}
        self.assertEqual(self.statusOf(requestBytes("GET", **fields)), 431)
        del fields["X0"]
        self.assertEqual(self.statusOf(requestBytes("GET", **fields)), 200)

    def test_headLimit(self) -> None:
        """A head is accepted up to the limit to the byte, whole or in pieces, and refused one byte beyond."""
        for size, status in ((16_384, 200), (16_385, 431)):
            empty = len(requestBytes("GET", X=""))
            wire = requestBytes("GET", X="x" * (size - empty))
            self.assertEqual(len(wire), size)
            self.assertEqual(self.statusOf(wire), status)
            self.assertEqual(self.statusOf(*(wire[index : index + 1] for index in range(size))), status)
            self.assertEqual(self.statusOf(wire[:-1], wire[-1:]), status)

    def test_headLimitWhenPipelined(self) -> None:
        """What came before a head does not count against it."""
        client = Downstream().connect()
        wire = requestBytes("GET", X="x" * 16_000)
        client.send(wire[:10_000], wire[10_000:] + wire[:10_000], wire[10_000:] + wire)
        self.assertEqual(client.statuses, [200, 200, 200])

    def test_target(self) -> None:
        """
        A target over the limit gets 414, whether or not its head ever ends.

        "A server that receives a request-target longer than any URI it wishes to parse MUST respond with a 414 (URI Too
        Long) status code" (RFC 9112 section 3).
        """
        self.assertEqual(self.statusOf(requestBytes("GET", "/" + "x" * 8_191)), 200)
        self.assertEqual(self.statusOf(requestBytes("GET", "/" + "x" * 8_192)), 414)
        self.assertEqual(self.statusOf(requestBytes("GET", "/" + "x" * 100_000)), 414)
        self.assertEqual(self.statusOf(b"GET /", *[b"x" * 1000] * 20), 414)

    def test_declared(self) -> None:
        """A body that is declared too large is refused with 413 before a byte of it is read."""
        downstream = Downstream(checkFirst)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="1000001"))
        self.assertEqual(client.statuses, [413])
        self.assertTrue(client.lingering)
        self.assertEqual(downstream.requests[0].body.received, 0)

    def test_declaredAndExpecting(self) -> None:
        """It is not asked for either."""
        client = Downstream(checkFirst).connect()
        client.send(requestBytes("POST", "/", Content_Length="1000001", Expect="100-continue"))
        self.assertEqual(client.statuses, [413])

    def test_overflow(self) -> None:
        """A chunked body is refused with 413 once it is over the limit, read whole or passed on, and no more of it kept."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(CHUNKED)
        for _ in range(10):
            client.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        self.assertEqual(client.answers, [])
        client.send(b"1\r\nx\r\n")
        self.assertEqual(client.statuses, [413])
        self.assertTrue(client.answer.closes)
        self.assertTrue(client.lingering)

    def test_overflowInOnePiece(self) -> None:
        """It is refused even where all of it came at once."""
        client = Downstream(echo, maxBody=5).connect()
        client.send(CHUNKED + chunked(b"abcdef"))
        self.assertEqual(client.statuses, [413])

    def test_limit(self) -> None:
        """A body of just the limit is accepted."""
        client = Downstream(echo, maxBody=5).connect()
        client.send(CHUNKED + chunked(b"abcde") + requestBytes("POST", "/", b"12345"))
        self.assertEqual(client.bodies, [b"abcde", b"12345"])

    def test_endlessTrailers(self) -> None:
        """Trailers that never end, in one line or in many, are refused: they are read to be dropped, but held till then."""
        for piece in (b"x" * 1000, b"X: y\r\n" * 200):
            client = Downstream(echo).connect()
            client.send(CHUNKED + b"3\r\nabc\r\n0\r\n", *[piece] * 30)
            self.assertEqual(client.statuses, [431])

    def test_endlessExtension(self) -> None:
        """So is the extension of a chunk."""
        client = Downstream(echo).connect()
        client.send(CHUNKED + b"3;a=", *[b"x" * 1000] * 30)
        self.assertEqual(client.statuses, [431])

    def test_smallChunks(self) -> None:
        """A body in the smallest of chunks is not mistaken for that."""
        client = Downstream(echo).connect()
        client.send(CHUNKED, *[b"1\r\nx\r\n"] * 30_000, b"0\r\n\r\n")
        self.assertEqual(client.answer.body, b"x" * 30_000)


def checkFirst(request: GatewayRequest) -> None:
    """Answer as the web layer does: the declared length is looked at before anything else."""
    try:
        request.body.check()
    except GatewayError as error:
        refuse(request, error)
    else:
        hello(request)
