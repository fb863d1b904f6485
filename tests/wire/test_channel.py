"""What one connection answers: how many, in which order, framed how, and what becomes of the connection."""

from __future__ import annotations

from lmgateway.wire.channel import GatewayChannel
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.wire.downstream import TEXT, Downstream, chunked, echo, hello, later, requestBytes, target


class AnswerTests(SynchronousTestCase):
    def test_one(self) -> None:
        """A request gets one answer, in one write, and the connection goes on."""
        client = Downstream().connect()
        client.ask("GET")
        answer = client.answer
        self.assertEqual((answer.status, answer.body), (200, b"hello"))
        self.assertEqual(answer.field("Content-Length"), "5")
        self.assertIsNone(answer.field("Connection"))
        self.assertEqual(len(client.transport.writes), 1)
        client.ask("GET")
        self.assertEqual(client.statuses, [200, 200])
        self.assertFalse(client.transport.closing)

    def test_named(self) -> None:
        """Every answer, refusals included, has a Date and a request id of its own."""
        downstream = Downstream(target)
        client = downstream.connect()
        client.send(requestBytes("GET", "/a") + requestBytes("GET", "/b") + b"nonsense\r\n\r\n")
        self.assertEqual(client.statuses, [200, 200, 400])
        ids = [answer.field("X-Request-Id") for answer in client.answers]
        self.assertEqual(len(set(ids)), 3)
        self.assertEqual(ids, [request.requestId for request in downstream.ended])
        self.assertEqual({answer.field("Date") for answer in client.answers}, {"Fri, 15 Jan 2027 08:00:00 GMT"})

    def test_date(self) -> None:
        """The Date is that of the answer; one that the answer brings along is not doubled."""
        downstream = Downstream()
        client = downstream.connect()
        client.ask("GET")
        downstream.clock.advance(61)
        client.ask("GET")
        downstream.stage.play = lambda request: request.sendWhole(200, ((b"date", b"Yesterday"),), b"")
        client.ask("GET")
        dates = [answer.field("Date") for answer in client.answers]
        self.assertEqual(dates, ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:01:01 GMT", "Yesterday"])

    def test_everySplit(self) -> None:
        """A request is the same wherever the network cuts it, byte by byte included."""
        whole = requestBytes("POST", "/v1/x?y", b"body") + requestBytes(
            "POST", "/v1/z", chunked(b"chunk", b"ed"), Transfer_Encoding="chunked"
        )
        for index in range(1, len(whole)):
            client = Downstream(echo).connect()
            client.send(whole[:index], whole[index:])
            self.assertEqual(client.bodies, [b"body", b"chunked"], index)
        client = Downstream(echo).connect()
        client.send(*(whole[index : index + 1] for index in range(len(whole))))
        self.assertEqual(client.bodies, [b"body", b"chunked"])

    def test_leadingLines(self) -> None:
        """
        Empty lines before a request are passed over.

        "A server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line (CRLF)
        received prior to the request-line" (RFC 9112 section 2.2).
        """
        client = Downstream().connect()
        client.send(b"\r\n", b"\r\n" + requestBytes("GET") + b"\r\n", requestBytes("GET"))
        self.assertEqual(client.statuses, [200, 200])

    def test_body(self) -> None:
        """A request is rendered when its head is complete; its body comes later, and ends where it says."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"", Content_Length="6"))
        self.assertEqual(len(downstream.requests), 1)
        self.assertEqual(client.answers, [])
        client.send(b"abc")
        self.assertEqual(client.answers, [])
        client.send(b"def" + requestBytes("POST", "/", b"next"))
        self.assertEqual(client.bodies, [b"abcdef", b"next"])

    def test_bodyInOnePiece(self) -> None:
        """A declared body that comes in one piece is handed on in hardly more, and is there when its request is rendered."""
        downstream = Downstream(later)
        downstream.connect().send(requestBytes("POST", "/", b"x" * 50_000))
        body = downstream.requests[0].body
        self.assertLessEqual(len(body._buffer), 2)
        self.assertEqual(body.whole(), b"x" * 50_000)

    def test_trailers(self) -> None:
        """Trailers are dropped: none gets among the header fields, and none counts."""
        downstream = Downstream(echo)
        client = downstream.connect()
        trailers = (b"X-Api-Key: stolen", b"Host: elsewhere", b"Expires: 0")
        client.ask("POST", "/", chunked(b"abc", trailers=trailers), Transfer_Encoding="chunked")
        client.ask("GET", "/next")
        self.assertEqual(client.statuses, [200, 200])
        self.assertEqual(client.bodies[0], b"abc")
        self.assertEqual(downstream.requests[0].head.fields.keys(), {b"host", b"transfer-encoding"})
        self.assertEqual(downstream.requests[1].head.fields.keys(), {b"host"})

    def test_producer(self) -> None:
        """The channel is what its transport takes it for."""
        verifyObject(IPushProducer, Downstream().connect().channel)
        self.assertTrue(IPushProducer.implementedBy(GatewayChannel))


class OrderTests(SynchronousTestCase):
    def test_pipelined(self) -> None:
        """Requests that come at once are answered one by one, in their order."""
        client = Downstream(target).connect()
        client.send(b"".join(requestBytes("GET", f"/{index}") for index in range(50)))
        self.assertEqual(client.bodies, [b"/%d" % index for index in range(50)])

    def test_firstIsLate(self) -> None:
        """The second is not even rendered before the first is answered, however late that is."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET", "/1") + requestBytes("GET", "/2"), requestBytes("GET", "/3"))
        self.assertEqual([request.head.target for request in downstream.requests], [b"/1"])
        downstream.wait(300)
        self.assertEqual(client.answers, [])
        for index in range(3):
            downstream.requests[index].sendWhole(200, TEXT, b"%d" % index)
        self.assertEqual(client.bodies, [b"0", b"1", b"2"])
        self.assertEqual(downstream.ended, downstream.requests)

    def test_bodiesBehind(self) -> None:
        """The body of a request that waits for its turn waits with it, wherever it is cut."""
        pipeline = requestBytes("POST", "/", b"first") + requestBytes("POST", "/", b"second") + requestBytes("GET")
        for index in range(1, len(pipeline)):
            downstream = Downstream(later)
            client = downstream.connect()
            client.send(pipeline[:index], pipeline[index:])
            for turn in range(3):
                echo(downstream.requests[turn])
            self.assertEqual(client.bodies, [b"first", b"second", b""], index)

    def test_answeredWhileReceiving(self) -> None:
        """An answer that is made the moment its body ends does not disturb the requests behind it."""
        client = Downstream(echo).connect()
        client.send(requestBytes("POST", "/", b"", Content_Length="3"))
        client.send(b"abc" + requestBytes("POST", "/", b"x") + requestBytes("POST", "/", b"y" * 100)[:-50], b"y" * 50)
        self.assertEqual(client.bodies, [b"abc", b"x", b"y" * 100])

    def test_refusalInTurn(self) -> None:
        """A request that must be refused is refused in its turn, after those before it; what follows it is not read."""
        downstream = Downstream(later)
        client = downstream.connect()
        bad = requestBytes("GET", "/", Content_Length="01")
        client.send(requestBytes("GET", "/1") + bad + requestBytes("GET", "/3"))
        self.assertEqual(client.answers, [])
        hello(downstream.requests[0])
        self.assertEqual(client.statuses, [200, 400])
        self.assertEqual([answer.closes for answer in client.answers], [False, True])
        self.assertEqual(len(downstream.requests), 1)

    def test_badBodyInTurn(self) -> None:
        """A request whose body breaks off badly while it waits for its turn still gets its answer, and the one before too."""
        downstream = Downstream(later)
        client = downstream.connect()
        bad = requestBytes("POST", "/2", b"zz\r\n", Transfer_Encoding="chunked")
        client.send(requestBytes("GET", "/1") + bad)
        hello(downstream.requests[0])
        echo(downstream.requests[1])
        self.assertEqual(client.statuses, [200, 400])
        self.assertEqual([answer.closes for answer in client.answers], [False, True])


class FramingTests(SynchronousTestCase):
    def test_head(self) -> None:
        """HEAD gets the head of a GET's answer, its length included, and nothing after it."""
        client = Downstream().connect()
        client.ask("HEAD")
        client.ask("GET")
        self.assertEqual([answer.field("Content-Length") for answer in client.answers], ["5", "5"])
        self.assertEqual(client.bodies, [b"", b"hello"])

    def test_headOfStream(self) -> None:
        """HEAD of an answer without a known length announces neither length nor chunks, and the connection goes on."""
        downstream = Downstream(lambda request: (request.sendHead(200, b"OK", TEXT, None), request.finish()))
        client = downstream.connect()
        client.ask("HEAD")
        client.ask("HEAD")
        self.assertEqual(client.statuses, [200, 200])
        self.assertNotIn("transfer-encoding", client.answers[0].fields)

    def test_noContent(self) -> None:
        """
        204 has no body and no length; 304 no body, but perhaps the length of what it stands for.

        "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204" (RFC 9110
        section 8.6).
        """
        client = Downstream(lambda request: request.sendWhole(204, (), b"")).connect()
        client.ask("GET")
        client.ask("GET")
        self.assertEqual(client.statuses, [204, 204])
        client = Downstream(lambda request: (request.sendHead(304, b"Not Modified", (), 7), request.finish())).connect()
        client.ask("GET")
        client.ask("GET")
        self.assertEqual([answer.field("Content-Length") for answer in client.answers], ["7", "7"])

    def test_stream(self) -> None:
        """An answer of unknown length goes out chunk by chunk, the head with the first; an empty piece does not end it."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        self.assertEqual(client.answers, [])
        for piece in (b"one", b"", b"two"):
            request.sendBody(piece)
        self.assertEqual(client.answer.chunks, (b"one", b"two"))
        self.assertFalse(client.answer.complete)
        self.assertEqual(len(client.transport.writes), 2)
        request.finish()
        self.assertTrue(client.answer.complete)
        client.ask("GET")
        self.assertEqual(len(downstream.requests), 2)

    def test_flush(self) -> None:
        """A head can be sent before there is any of its body."""
        downstream = Downstream(lambda request: (request.sendHead(200, b"OK", TEXT, None), request.flush()))
        client = downstream.connect()
        client.ask("GET")
        self.assertEqual((client.answer.status, client.answer.body), (200, b""))

    def test_emptyBody(self) -> None:
        """An answer with an empty body says so."""
        client = Downstream(lambda request: request.sendWhole(200, TEXT, b"")).connect()
        client.ask("GET")
        self.assertEqual(client.answer.field("Content-Length"), "0")
        self.assertTrue(client.answer.complete)
