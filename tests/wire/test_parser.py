"""What the parser tells of the bytes it is fed, by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import GatewayError
from lmgateway.message import HeaderPairs, RequestHead
from lmgateway.policy.framing import Framing
from lmgateway.wire.parser import RequestParser
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import HEADER_PAIRS, TARGETS
from tests.wire.downstream import Limits, chunked, requestBytes


class Sink:
    """Remembers what it is told, pieces of one body put together."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.heads: list[RequestHead] = []
        self.framings: list[Framing] = []

    def headBegun(self) -> None:
        self.told.append(("begun", None))

    def headReceived(self, head: RequestHead, framing: Framing) -> None:
        self.heads.append(head)
        self.framings.append(framing)
        self.told.append(("head", head.target))

    def bodyReceived(self, data: bytes) -> None:
        if self.told[-1][0] == "body":
            data = bytes(self.told.pop()[1]) + data  # type: ignore[call-overload]
        self.told.append(("body", data))

    def messageReceived(self) -> None:
        self.told.append(("end", None))

    def refused(self, head: RequestHead, error: GatewayError) -> None:
        self.heads.append(head)
        self.told.append(("refused", error.status))


def parse(*pieces: bytes) -> Sink:
    """What is told of these pieces."""
    sink = Sink()
    parser = RequestParser(sink, Limits(), "192.0.2.7", secure=True)
    for piece in pieces:
        parser.feed(piece)
    return sink


class RequestParserTests(SynchronousTestCase):
    def test_told(self) -> None:
        """Beginning, head, body and end are told in their order, for one request after the other."""
        wire = requestBytes("POST", "/a", b"one") + requestBytes(
            "POST", "/b", chunked(b"t", b"wo"), Transfer_Encoding="chunked"
        )
        self.assertEqual(
            parse(wire + requestBytes("GET", "/c")).told,
            [
                ("begun", None),
                ("head", b"/a"),
                ("body", b"one"),
                ("end", None),
                ("begun", None),
                ("head", b"/b"),
                ("body", b"two"),
                ("end", None),
                ("begun", None),
                ("head", b"/c"),
                ("end", None),
            ],
        )

    def test_begunOnce(self) -> None:
        """The beginning of a head is told once, in however many pieces it comes, with its first byte."""
        first = requestBytes("GET", "/a")
        for pieces in (
            [first[index : index + 1] for index in range(len(first))],
            [b"\r\n", first],
        ):
            self.assertEqual([what for what, _ in parse(*pieces).told], ["begun", "head", "end"])
        told = parse(first + first[:5], first[5:]).told
        self.assertEqual([what for what, _ in told], ["begun", "head", "end", "begun", "head", "end"])

    def test_head(self) -> None:
        """A head tells where it came from, and each field as it was sent, repeated ones in order."""
        (head,) = parse(
            requestBytes("PUT", "/x?y", b"", version="1.0", X_One="a", x_two="b")[:-2] + b"x-one: \t c \t\r\n\r\n"
        ).heads
        self.assertEqual((head.method, head.target, head.version), (b"PUT", b"/x?y", b"HTTP/1.0"))
        self.assertEqual((head.peer, head.secure), ("192.0.2.7", True))
        self.assertEqual(head.headers[1:3], ((b"X-One", b"a"), (b"x-two", b"b")))
        self.assertEqual(head.fields[b"x-one"], (b"a", b"c"))

    def test_trailers(self) -> None:
        """Trailers are neither told nor left over for the next head."""
        wire = requestBytes(
            "POST", "/a", chunked(b"x", trailers=[b"X-Evil: 1", b"Host: evil"]), Transfer_Encoding="chunked"
        )
        first, second = parse(wire + requestBytes("GET", "/b")).heads
        self.assertNotIn(b"x-evil", first.fields | second.fields)
        self.assertEqual(second.fields[b"host"], (b"gateway.test",))

    def test_stopped(self) -> None:
        """Once stopped it tells nothing any more, though the rest were in the same piece."""

        class Stopping(Sink):
            def __init__(self, when: str) -> None:
                super().__init__()
                self.when = when

            def headReceived(self, head: RequestHead, framing: Framing) -> None:
                super().headReceived(head, framing)
                if self.when == "head":
                    parser.stop()

            def messageReceived(self) -> None:
                super().messageReceived()
                parser.stop()

        for when, told in (("head", ["begun", "head"]), ("end", ["begun", "head", "body", "end"])):
            sink = Stopping(when)
            parser = RequestParser(sink, Limits(), "192.0.2.7", secure=False)
            parser.feed(requestBytes("POST", "/a", b"body") + requestBytes("GET", "/b") + b"rubbish\r\n\r\n")
            parser.feed(requestBytes("GET", "/c"))
            self.assertEqual([what for what, _ in sink.told], told)

    def test_refusedOnce(self) -> None:
        """After a refusal nothing is told."""
        sink = parse(b"rubbish\r\n\r\n", requestBytes("GET"), b"\0")
        self.assertEqual(sink.told, [("begun", None), ("refused", 400)])

    def test_refusedHead(self) -> None:
        """A refusal comes with its head where there is one, and with one that says nothing where there is none."""
        sink = parse(requestBytes("GET", "//x"))
        self.assertEqual(sink.heads[0].target, b"//x")
        sink = parse(b"GET /\xff HTTP/1.1\r\n\r\n")
        self.assertEqual((sink.heads[0].method, sink.heads[0].target), (b"-", b"/"))
        self.assertEqual((sink.heads[0].peer, sink.heads[0].secure), ("192.0.2.7", True))

    @given(TARGETS, HEADER_PAIRS, st.binary(max_size=20), st.booleans())
    def test_anyBytes(self, target: bytes, headers: HeaderPairs, body: bytes, isPost: bool) -> None:  # noqa: FBT001
        """Whatever comes is told as requests or refused, never raised; and what is told is in the order of a request."""
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        method = b"POST " if isPost else b"GET "
        sink = parse(method + target + b" HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n" + body)
        allowed = {
            "": {"begun"},
            "begun": {"head", "refused"},
            "head": {"body", "end", "refused"},
            "body": {"end", "refused"},
            "end": {"begun"},
            "refused": set(),
        }
        last = ""
        for what, _ in sink.told:
            self.assertIn(what, allowed[last])
            last = what

    @given(st.binary(max_size=300))
    def test_rubbish(self, data: bytes) -> None:
        """Rubbish makes nothing but a beginning and perhaps a refusal."""
        told = [what for what, _ in parse(data).told]
        self.assertIn(told, ([], ["begun"], ["begun", "refused"]))
