"""Nobody's slowness fills the gateway's memory: whoever is ahead is held back, on both sides of a request."""

from __future__ import annotations

from typing import Any

from lmgateway.wire.body import HIGH_WATER
from lmgateway.wire.channel import PARSED_AT_ONCE, STASH_LIMIT
from lmgateway.wire.request import GatewayRequest
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import (
    TEXT,
    Client,
    Downstream,
    Source,
    chunked,
    echo,
    hello,
    later,
    refuse,
    requestBytes,
)

BIG = b"x" * 100_000


class SlowClientTests(SynchronousTestCase):
    def begin(self) -> tuple[Downstream, Client, GatewayRequest]:
        """A client that takes nothing, and the request whose answer it does not take."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        client.stall()
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        return downstream, client, request

    def test_pausesSource(self) -> None:
        """An answer's source is paused while the client takes nothing, and resumed when it has taken all."""
        _, client, request = self.begin()
        source = Source()
        request.registerProducer(source, True)
        request.sendBody(b"small")
        self.assertFalse(source.paused)
        request.sendBody(BIG)
        self.assertTrue(source.paused)
        client.take()
        self.assertFalse(source.paused)
        request.unregisterProducer()
        request.finish()
        self.assertEqual(client.answer.body, b"small" + BIG)

    def test_registeredWhileStalled(self) -> None:
        """A source that comes when the client is already behind is paused at once."""
        _, client, request = self.begin()
        request.sendBody(BIG)
        source = Source()
        request.registerProducer(source, True)
        self.assertTrue(source.paused)
        client.take()
        self.assertFalse(source.paused)

    def test_pullProducer(self) -> None:
        """A producer that wants to be asked for each piece is refused: it would never be asked."""
        _, _, request = self.begin()
        self.assertRaises(ValueError, request.registerProducer, Source(), False)

    def test_formerSource(self) -> None:
        """A source whose answer is finished is left alone."""
        _, client, request = self.begin()
        source = Source()
        request.registerProducer(source, True)
        request.unregisterProducer()
        request.sendBody(BIG)
        request.finish()
        self.assertFalse(source.paused)
        client.take()

    def test_pipelined(self) -> None:
        """A client that pipelines and takes no answer does not have answer upon answer made for it."""
        downstream = Downstream(lambda request: request.sendWhole(200, TEXT, BIG))
        client = downstream.connect()
        client.stall()
        client.send(requestBytes("GET") * 100)
        self.assertEqual(len(downstream.requests), 1)
        for taken in range(2, 11):
            client.takeOnce()
            self.assertEqual(len(downstream.requests), taken)
        client.take()
        downstream.wait(1)
        self.assertEqual(len(client.answers), 100)

    def test_disconnectWhileStalled(self) -> None:
        """A client that leaves without having taken its answers ends what waits for their being taken."""
        downstream = Downstream(lambda request: request.sendWhole(200, TEXT, BIG))
        client = downstream.connect()
        client.stall()
        client.send(requestBytes("GET") * 3)
        client.leave()
        self.assertEqual(len(downstream.requests), 1)
        self.assertEqual(len(downstream.ended), 3)


class PipelineTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """While an answer is made no more is read than may wait, and all of it is answered later."""
        downstream = Downstream(later)
        client = downstream.connect()
        wire = requestBytes("POST", "/", b"x" * 900)
        pieces = [wire * 16] * 64
        client.send(wire, *pieces)
        self.assertFalse(client.transport.reading)
        unread = sum(map(len, client.transport.inbox))
        self.assertLessEqual(len(wire) * 1024 - unread, STASH_LIMIT + len(pieces[0]))
        downstream.stage.play = hello
        hello(downstream.requests[0])
        downstream.wait(1)
        self.assertTrue(client.transport.reading)
        self.assertEqual(len(client.answers), 1025)

    def test_boundedWhenAnsweredOneByOne(self) -> None:
        """Each answer that is finished does not let more in while enough still waits."""
        downstream = Downstream(later)
        client = downstream.connect()
        wire = requestBytes("GET")
        total = 40_000
        client.send(*[wire * 1000] * (total // 1000))
        highest = 0
        for turn in range(3000):
            hello(downstream.requests[turn])
            downstream.clock.advance(0)
            read = total * len(wire) - sum(map(len, client.transport.inbox))
            highest = max(highest, read - turn * len(wire))
        self.assertLess(highest, 3 * (STASH_LIMIT + 1000 * len(wire)))

    def test_boundedInRequests(self) -> None:
        """The smallest requests take many times their bytes to wait; so few of them are made of what has come."""
        downstream = Downstream(later)
        client = downstream.connect()
        wire = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
        client.send(wire * (60_000 // len(wire)), wire * 100)
        self.assertLess(len(client.channel._queue), 2 * PARSED_AT_ONCE // len(wire))
        downstream.stage.play = hello
        hello(downstream.requests[0])
        self.assertEqual(len(client.answers), 60_000 // len(wire) + 100)

    def test_disconnectNoticed(self) -> None:
        """Reading goes on while little waits: that is how a client's leaving is noticed at once."""
        client = Downstream(later).connect()
        client.send(requestBytes("GET"), requestBytes("GET"))
        self.assertTrue(client.transport.reading)


class Sink:
    """A consumer that can be behind."""

    def __init__(self) -> None:
        self.data = b""
        self.producer: Any = None
        self.behind = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001 - IConsumer
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.data += data
        if self.behind:
            self.producer.pauseProducing()


class SlowUpstreamTests(SynchronousTestCase):
    def begin(self, body: bytes = b"") -> tuple[Downstream, Client, GatewayRequest]:
        """A client in the midst of a large upload."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", body, Content_Length="1000000"))
        return downstream, client, downstream.requests[0]

    def test_unasked(self) -> None:
        """A body that nobody asks for is read no further than the high-water mark."""
        _, client, request = self.begin()
        client.send(*[b"x" * 10_000] * 100)
        self.assertFalse(client.transport.reading)
        self.assertLessEqual(request.body.received, HIGH_WATER + 10_000)

    def test_askedLater(self) -> None:
        """Once somebody asks it is read on, and nothing is lost."""
        downstream, client, request = self.begin()
        client.send(*[b"x" * 10_000] * 100)
        echo(request)
        downstream.clock.advance(0)
        self.assertEqual(len(client.answer.body), 1_000_000)
        self.assertTrue(client.transport.reading)

    def test_consumerBehind(self) -> None:
        """A consumer that is behind stops the reading; when it has caught up, reading goes on."""
        downstream, client, request = self.begin()
        stream, sink = request.body.producer(), Sink()
        sink.registerProducer(stream, True)
        stream.startProducing(sink)  # type: ignore[arg-type]
        sink.behind = True
        client.send(b"a", b"b", b"c")
        self.assertFalse(client.transport.reading)
        self.assertEqual(sink.data, b"a")
        sink.behind = False
        stream.resumeProducing()
        downstream.clock.advance(0)
        self.assertEqual(sink.data, b"abc")

    def test_consumerBehindAtOnce(self) -> None:
        """A consumer that is behind with what had come before it was there is not run over either."""
        _, client, request = self.begin(b"already here")
        stream, sink = request.body.producer(), Sink()
        sink.registerProducer(stream, True)
        sink.behind = True
        stream.startProducing(sink)  # type: ignore[arg-type]
        self.assertFalse(client.transport.reading)

    def test_notStarted(self) -> None:
        """While the way upstream is still being made, no more is read than the high-water mark."""
        _, client, request = self.begin()
        request.body.producer()
        client.send(*[b"x" * 10_000] * 100)
        self.assertFalse(client.transport.reading)
        self.assertLessEqual(request.body.received, HIGH_WATER + 20_000)

    def test_nextRequest(self) -> None:
        """A reading that was paused for one request's body is not left paused for the next."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"x" * 100_000))
        (request,) = downstream.requests
        self.assertFalse(client.transport.reading)
        hello(request)
        downstream.clock.advance(0)
        client.send(requestBytes("GET"))
        self.assertEqual(len(downstream.requests), 2)

    def test_abandonedUpstream(self) -> None:
        """When upstream wants no more of a body the rest is read and dropped, so that the connection can go on."""
        downstream, client, request = self.begin()
        stream, sink = request.body.producer(), Sink()
        sink.registerProducer(stream, True)
        stream.startProducing(sink)  # type: ignore[arg-type]
        sink.behind = True
        client.send(*[b"x" * 10_000] * 100)
        self.assertFalse(client.transport.reading)
        stream.stopProducing()
        downstream.clock.advance(0)
        self.assertEqual(client.transport.inbox, [])
        self.assertEqual(len(sink.data), 10_000)
        hello(request)
        self.assertFalse(client.answer.closes)
        client.send(requestBytes("GET"))
        self.assertEqual(len(downstream.requests), 2)

    def test_refusedWhilePaused(self) -> None:
        """A refusal that comes while the reading is paused still leaves time for it to arrive."""
        _, client, request = self.begin()
        client.send(*[b"x" * 10_000] * 100)
        refuse(request, _tooLarge(request))
        self.assertTrue(client.lingering)

    def test_chunkedBody(self) -> None:
        """The same holds for chunks: what waits is the content, not the framing."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"", Transfer_Encoding="chunked"))
        client.send(*[chunked(b"x" * 10_000)[:-5]] * 20, b"0\r\n\r\n")
        self.assertFalse(client.transport.reading)
        echo(downstream.requests[0])
        downstream.clock.advance(0)
        self.assertEqual(client.answer.body, b"x" * 200_000)


def _tooLarge(request: GatewayRequest) -> Exception:
    request.body.limit = 5
    try:
        request.body.check()
    except Exception as error:  # noqa: BLE001 - whichever it is
        return error
    raise AssertionError("it was not too large")
