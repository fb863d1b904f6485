"""What a client can draw out, and for how long; on a clock that only the test moves."""

from __future__ import annotations

from lmgateway.wire.deadlines import LINGER_SECONDS
from twisted.internet.interfaces import IHandshakeListener
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.wire.downstream import TEXT, Downstream, Source, chunked, echo, hello, later, requestBytes
from tests.wire.test_backpressure import BIG, Sink


class HeadTests(SynchronousTestCase):
    def test_unfinished(self) -> None:
        """A head that is not there 10 s after its first byte is answered with 408, and the connection ends."""
        downstream = Downstream()
        client = downstream.connect()
        client.send(b"GET / HTTP/1.1\r\n")
        downstream.wait(9)
        self.assertEqual(client.answers, [])
        downstream.wait(2)
        self.assertEqual(client.statuses, [408])
        self.assertTrue(client.answer.closes)
        self.assertTrue(client.lingering)
        client.send(b"Host: a\r\n\r\n")
        downstream.wait(3)
        self.assertEqual(client.statuses, [408])
        self.assertTrue(client.closed)

    def test_trickled(self) -> None:
        """A byte now and then does not buy time."""
        downstream = Downstream()
        client = downstream.connect()
        wire = requestBytes("GET")
        client.send(wire[:1])
        downstream.wait(9)
        client.send(wire[1:2])
        downstream.wait(2)
        self.assertEqual(client.statuses, [408])

    def test_trickledBehindARequest(self) -> None:
        """Nor does it when the head began in the same packet as the request before it ended."""
        downstream = Downstream()
        client = downstream.connect()
        client.send(requestBytes("GET") + b"G")
        downstream.wait(9)
        client.send(b"E")
        downstream.wait(2)
        self.assertEqual(client.statuses, [200, 408])

    def test_emptyLines(self) -> None:
        """Empty lines are the beginning of a head too."""
        downstream = Downstream()
        client = downstream.connect()
        for _ in range(12):
            client.send(b"\r\n")
            downstream.wait(1)
        self.assertEqual(client.statuses, [408])

    def test_secondHead(self) -> None:
        """A head that waits unread behind an answer that takes long gets its time when the answer is finished."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET") + b"GET / HT")
        downstream.wait(100)
        self.assertEqual(client.answers, [])
        hello(downstream.requests[0])
        downstream.wait(9)
        self.assertEqual(client.statuses, [200])
        downstream.wait(2)
        self.assertEqual(client.statuses, [200, 408])


class IdleTests(SynchronousTestCase):
    def test_first(self) -> None:
        """A connection on which nothing ever comes is closed after 75 s, without an answer to nobody."""
        downstream = Downstream()
        client = downstream.connect()
        downstream.wait(74)
        self.assertFalse(client.closed)
        downstream.wait(2)
        self.assertTrue(client.closed)
        self.assertEqual(client.transport.written, b"")

    def test_between(self) -> None:
        """So is one on which nothing comes any more; the time counts from the last answer."""
        downstream = Downstream()
        client = downstream.connect()
        downstream.wait(70)
        client.ask("GET")
        downstream.wait(70)
        client.ask("GET")
        downstream.wait(74)
        self.assertFalse(client.closed)
        downstream.wait(2)
        self.assertTrue(client.closed)
        self.assertEqual(client.statuses, [200, 200])

    def test_answering(self) -> None:
        """An answer may take as long as it likes: a model thinks."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        downstream.wait(10_000)
        hello(downstream.requests[0])
        self.assertEqual(client.statuses, [200])
        self.assertFalse(client.transport.closing)

    def test_handshake(self) -> None:
        """A TLS handshake has the time of a head; once it is done, that of an idle connection."""
        downstream = Downstream()
        stuck, done = downstream.connectTLS(agreed=False), downstream.connectTLS(agreed=False)
        downstream.wait(8)
        verifyObject(IHandshakeListener, done.channel)
        done.channel.handshakeCompleted()
        downstream.wait(3)
        self.assertTrue(stuck.closed)
        self.assertFalse(done.transport.closing)
        downstream.wait(70)
        self.assertFalse(done.transport.closing)
        downstream.wait(5)
        self.assertTrue(done.transport.closing)


class BodyTests(SynchronousTestCase):
    def test_stopped(self) -> None:
        """A body of which nothing comes for 10 s is answered with 408, and the connection ends."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", Content_Length="10"))
        downstream.wait(9)
        self.assertEqual(client.answers, [])
        downstream.wait(3)
        self.assertEqual(client.statuses, [408])
        self.assertTrue(client.answer.closes)
        self.assertTrue(client.lingering)
        downstream.wait(3)
        self.assertTrue(client.closed)

    def test_trickled(self) -> None:
        """A byte every 9 s does not buy time."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="10"))
        for _ in range(2):
            downstream.wait(9)
            client.send(b"x")
        self.assertEqual(client.statuses, [408])

    def test_chunkExtensions(self) -> None:
        """Framing is no body: chunks of next to nothing, or trailers, do not buy time either."""
        downstream = Downstream(echo)
        clients = [downstream.connect() for _ in range(2)]
        for client in clients:
            client.send(requestBytes("POST", "/", b"", Transfer_Encoding="chunked"))
        clients[1].send(b"3\r\nabc\r\n0\r\n")
        for _ in range(15):
            downstream.wait(1)
            clients[0].send(b"1;" + b"x" * 1500 + b"\r\nx\r\n")
            clients[1].send(b"X: " + b"x" * 100 + b"\r\n")
        self.assertEqual([client.statuses for client in clients], [[408], [408]])

    def test_slowButSteady(self) -> None:
        """A body that keeps up its rate may take as long as it takes."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length=str(1100 * 300)))
        for _ in range(300):
            downstream.wait(1)
            client.send(b"x" * 1100)
        self.assertEqual(client.statuses, [200])

    def test_slackens(self) -> None:
        """One that was fast at first and then stops has used up what it was ahead before long."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"x" * 20_480, Content_Length="100000"))
        downstream.wait(29)
        self.assertEqual(client.answers, [])
        downstream.wait(3)
        self.assertEqual(client.statuses, [408])

    def test_pausedByUs(self) -> None:
        """Time during which the gateway does not read is not the client's."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="100"))
        (request,) = downstream.requests
        stream, sink = request.body.producer(), Sink()
        sink.registerProducer(stream, True)
        failures: list[object] = []
        stream.startProducing(sink).addErrback(failures.append)  # type: ignore[arg-type]
        downstream.wait(5)
        sink.behind = True
        client.send(b"x")
        downstream.wait(100)
        self.assertEqual(failures, [])
        sink.behind = False
        stream.resumeProducing()
        downstream.wait(4)
        self.assertEqual(failures, [])
        downstream.wait(3)
        self.assertEqual(len(failures), 1)

    def test_notAskedFor(self) -> None:
        """A client that waits for a 100 is not slow: the time begins when it is told to go on."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="3", Expect="100-continue"))
        downstream.wait(100)
        echo(downstream.requests[0])
        downstream.wait(9)
        self.assertEqual(client.statuses, [100])
        client.send(b"abc")
        self.assertEqual(client.statuses, [100, 200])
        client.send(requestBytes("POST", "/", Content_Length="3", Expect="100-continue"))
        echo(downstream.requests[1])
        downstream.wait(12)
        self.assertEqual(client.statuses, [100, 200, 100, 408])

    def test_behindAnother(self) -> None:
        """Nor does the time of a body run while the request before it is answered."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET") + requestBytes("POST", "/", b"a", Content_Length="3"))
        downstream.wait(100)
        hello(downstream.requests[0])
        echo(downstream.requests[1])
        downstream.wait(9)
        client.send(b"bc")
        self.assertEqual(client.bodies, [b"hello", b"abc"])

    def test_nextBody(self) -> None:
        """The time of a body does not begin with that of the one before it."""
        downstream = Downstream(echo)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="3"), b"abc")
        downstream.wait(15)
        client.send(requestBytes("POST", "/", Content_Length="3"))
        downstream.wait(9)
        client.send(b"def")
        self.assertEqual(client.bodies, [b"abc", b"def"])

    def test_nobodyReads(self) -> None:
        """An answer that does not care for its body is not disturbed by its being late; the connection ends after it."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"a", Content_Length="3"))
        downstream.wait(20)
        hello(downstream.requests[0])
        self.assertEqual(client.statuses, [200])
        self.assertTrue(client.answer.closes)


class WriteTests(SynchronousTestCase):
    def test_stall(self) -> None:
        """A client that takes nothing for 60 s is cut off at once, and whoever answers it is told."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        client.stall()
        request.registerProducer(source := Source(), True)
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(BIG)
        self.assertTrue(source.paused)
        downstream.wait(59)
        self.assertFalse(client.closed)
        downstream.wait(2)
        self.assertTrue(client.transport.aborted)
        self.assertTrue(request.ended)
        self.assertEqual(downstream.ended, [request])

    def test_takesAgain(self) -> None:
        """One that takes it after all, now and then, is not."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        for _ in range(5):
            client.stall()
            request.sendBody(BIG)
            downstream.wait(50)
            client.take()
        self.assertFalse(client.closed)

    def test_silence(self) -> None:
        """A stream with nothing to say is not taken for a client that takes nothing."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"hello")
        downstream.wait(1000)
        self.assertFalse(client.closed)


class LingerTests(SynchronousTestCase):
    def test_seconds(self) -> None:
        """After an early answer the connection is read for two seconds, sending or not, and then no more."""
        downstream = Downstream(hello)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="10000"))
        for _ in range(2):
            self.assertTrue(client.lingering)
            client.send(b"x")
            downstream.wait(LINGER_SECONDS / 2)
        self.assertTrue(client.closed)

    def test_chunked(self) -> None:
        """A body that is whole does not make it linger."""
        client = Downstream(hello).connect()
        client.send(requestBytes("POST", "/", chunked(b"abc"), Transfer_Encoding="chunked"))
        self.assertFalse(client.answer.closes)
        self.assertFalse(client.transport.halfClosed)
