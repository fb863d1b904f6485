"""How a connection ends: by the client, by an early answer, by a defect; and that everybody is told, once."""

from __future__ import annotations

from typing import Any

from httptools import HttpParserCallbackError
from lmgateway.errors import GatewayError, PayloadTooLarge
from lmgateway.wire.channel import LINGER_BYTES
from lmgateway.wire.request import GatewayRequest
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import (
    TEXT,
    Downstream,
    chunked,
    hello,
    later,
    refuse,
    requestBytes,
)

UPLOAD = {"Content_Length": "100000"}


def tooLarge(request: GatewayRequest) -> None:
    """Refuse the body."""
    refuse(request, PayloadTooLarge("Too large.", closes=True))


class EarlyAnswerTests(SynchronousTestCase):
    """The answer comes before the end of its request."""

    def test_lingers(self) -> None:
        """It says close; then only the writing ends, so that the answer is not lost to a reset; then all ends."""
        downstream = Downstream(tooLarge)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        self.assertEqual(client.statuses, [413])
        self.assertTrue(client.answer.closes)
        self.assertTrue(client.lingering)
        client.send(b"x" * 50_000)
        self.assertTrue(client.lingering)
        downstream.wait(3)
        self.assertTrue(client.closed)
        self.assertEqual(client.statuses, [413])

    def test_clientCloses(self) -> None:
        """A client that has understood, and closes, ends it at once."""
        downstream = Downstream(tooLarge)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        client.leave()
        self.assertEqual(downstream.site.channels, set())
        self.assertEqual(len(downstream.ended), 1)

    def test_restIsNoRequest(self) -> None:
        """What still comes is thrown away: a request in it is none."""
        downstream = Downstream(tooLarge)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD), requestBytes("GET"), b"rubbish\r\n\r\n")
        self.assertEqual(client.statuses, [413])
        self.assertEqual(len(downstream.requests), 1)

    def test_bounded(self) -> None:
        """A client that sends on and on is not listened to without end."""
        downstream = Downstream(tooLarge)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="999999999"), *[b"x" * 65_536] * 1000)
        read = 1000 - len(client.transport.inbox)
        self.assertLessEqual(read * 65_536, LINGER_BYTES + 65_536)
        downstream.wait(3)
        self.assertTrue(client.closed)

    def test_notYetTaken(self) -> None:
        """An answer that the client has not yet taken is not cut short by the end of the lingering."""
        downstream = Downstream(lambda request: request.sendWhole(200, TEXT, b"x" * 100_000))
        client = downstream.connect()
        client.stall()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        downstream.wait(30)
        self.assertFalse(client.transport.aborted)
        downstream.wait(40)
        self.assertTrue(client.transport.aborted)

    def test_complete(self) -> None:
        """An answer that is finished after its request was complete does not end the connection."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"", Content_Length="3"))
        client.send(b"abc")
        hello(downstream.requests[0])
        self.assertFalse(client.answer.closes)
        client.ask("GET")
        self.assertEqual(len(downstream.requests), 2)

    def test_overTLS(self) -> None:
        """TLS has no half-close: the gateway says goodbye, reads on until the client does, and gives up in time."""
        downstream = Downstream(tooLarge)
        for leaves in (True, False):
            client = downstream.connectTLS()
            client.send(requestBytes("POST", "/", b"abc", **UPLOAD), b"x" * 50_000, requestBytes("GET"))
            self.assertEqual(client.statuses, [413])
            self.assertTrue(client.transport.closing)
            if leaves:
                client.leave()
            else:
                downstream.wait(3)
            self.assertTrue(client.closed)
        self.assertEqual(len(downstream.requests), 2)

    def test_boundedOverTLS(self) -> None:
        """There too a client that sends on and on is not listened to without end."""
        downstream = Downstream(tooLarge)
        client = downstream.connectTLS()
        client.send(requestBytes("POST", "/", Content_Length="999999999"), *[b"x" * 65_536] * 1000)
        self.assertLessEqual((1000 - len(client.transport.inbox)) * 65_536, LINGER_BYTES + 65_536)


class ClosedTests(SynchronousTestCase):
    """After the gateway has closed, what still comes is nothing."""

    def test_afterIdle(self) -> None:
        """A request that crosses the end of an idle connection is not worked on: its answer could not be sent."""
        downstream = Downstream()
        client = downstream.connectTLS()
        downstream.wait(80)
        self.assertTrue(client.transport.closing)
        client.send(requestBytes("POST", "/", b"work"))
        self.assertEqual(downstream.requests, [])

    def test_afterCut(self) -> None:
        """Nor is one that crosses an answer's being cut off."""
        downstream = Downstream(later)
        client = downstream.connectTLS()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"half")
        request.abort()
        client.send(requestBytes("GET"))
        client.leave()
        self.assertEqual(len(downstream.requests), 1)
        self.assertEqual(downstream.ended, [request])

    def test_notTaken(self) -> None:
        """A client that does not take the rest is not waited for without end."""
        downstream = Downstream(lambda request: request.sendWhole(200, TEXT, b"x" * 10_000))
        client = downstream.connect()
        client.stall()
        client.send(requestBytes("GET", Connection="close"))
        downstream.wait(50)
        self.assertFalse(client.closed)
        downstream.wait(15)
        self.assertTrue(client.closed)

    def test_noGoodbye(self) -> None:
        """Nor is one that does not say goodbye over TLS."""
        downstream = Downstream()
        client = downstream.connectTLS()
        client.send(requestBytes("GET", Connection="close"))
        downstream.wait(65)
        self.assertTrue(client.closed)

    def test_gone(self) -> None:
        """To close what is gone asks nothing of its transport."""
        client = Downstream().connect()
        client.leave()
        client.channel.loseConnection()
        client.channel.abortConnection()
        self.assertEqual((client.transport.closing, client.transport.aborted), (False, False))

    def test_goodbyeIsRead(self) -> None:
        """Over TLS the connection is read again when it closes, or the client's goodbye would never be."""
        downstream = Downstream(later)
        client = downstream.connectTLS()
        client.send(requestBytes("GET", Connection="close"), *[b"x" * 50_000] * 3)
        self.assertFalse(client.transport.reading)
        hello(downstream.requests[0])
        self.assertTrue(client.transport.reading)


class CutTests(SynchronousTestCase):
    def test_delivered(self) -> None:
        """What was written before an answer is cut off is still delivered, an error event among it; the end is missing."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"data: error\n\n")
        request.abort()
        downstream.clock.advance(0)
        self.assertTrue(client.closed)
        self.assertFalse(client.transport.aborted)
        self.assertEqual(client.answer.body, b"data: error\n\n")
        self.assertFalse(client.answer.complete)

    def test_nothingAfter(self) -> None:
        """What is written after that is dropped, and to finish it does not make it whole."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"half")
        request.abort()
        request.sendBody(b"more")
        request.finish()
        downstream.clock.advance(0)
        self.assertEqual((client.answer.body, client.answer.complete), (b"half", False))
        self.assertEqual(downstream.ended, [request])

    def test_declared(self) -> None:
        """An answer of declared length that is cut off ends before it."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, 10)
        request.sendBody(b"half")
        request.abort()
        downstream.clock.advance(0)
        self.assertEqual((client.answer.body, client.answer.complete), (b"half", False))

    def test_twice(self) -> None:
        """To cut off what is cut off, finished or gone changes nothing."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.abort()
        request.abort()
        downstream.clock.advance(0)
        request.abort()
        request.closeAfter()
        self.assertEqual(downstream.ended, [request])
        downstream.stage.play = hello
        other = downstream.connect()
        other.ask("GET")
        downstream.requests[1].abort()
        downstream.requests[1].closeAfter()
        other.ask("GET")
        self.assertEqual(other.statuses, [200, 200])


class DefectTests(SynchronousTestCase):
    """A resource makes a mistake."""

    def defective(self, request: GatewayRequest) -> None:
        """Make one."""
        raise ZeroDivisionError("a secret detail")

    def test_beforeTheAnswer(self) -> None:
        """The client is told that the gateway made a mistake, and no more; the log has the rest; the connection goes on."""
        downstream = Downstream(self.defective)
        client = downstream.connect()
        client.ask("GET")
        self.assertEqual(client.answer.status, 500)
        self.assertEqual(client.answer.json, {"error": "internal_error"})
        self.assertNotIn(b"secret", client.transport.written)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        downstream.stage.play = hello
        client.ask("GET")
        self.assertEqual(client.statuses, [500, 200])

    def test_inTheAnswer(self) -> None:
        """Once the answer has begun it is cut off, so that it cannot pass for whole."""

        def play(request: GatewayRequest) -> None:
            request.sendHead(200, b"OK", TEXT, None)
            request.sendBody(b"half")
            self.defective(request)

        downstream = Downstream(play)
        client = downstream.connect()
        client.ask("GET")
        downstream.clock.advance(0)
        self.assertFalse(client.answer.complete)
        self.assertTrue(client.closed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(downstream.ended, downstream.requests)

    def test_afterTheAnswer(self) -> None:
        """A mistake after the answer is logged and changes nothing of it."""

        def play(request: GatewayRequest) -> None:
            hello(request)
            self.defective(request)

        client = Downstream(play).connect()
        client.ask("GET")
        client.ask("GET")
        self.assertEqual(client.statuses, [200, 200])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_inABody(self) -> None:
        """A mistake of what consumes a body is not told the client as one of its own, but raised, to be logged."""

        class Defective:
            def write(self, data: bytes) -> None:
                raise ZeroDivisionError("a secret detail")

        def play(request: GatewayRequest) -> None:
            consumer: Any = Defective()
            request.body.producer().startProducing(consumer)

        client = Downstream(play).connect()
        client.send(requestBytes("POST", "/", **UPLOAD))
        error = self.assertRaises(HttpParserCallbackError, client.send, b"abc")
        self.assertIsInstance(error.__context__, ZeroDivisionError)
        self.assertEqual(client.answers, [])

    def test_refusalAfterStart(self) -> None:
        """A body that turns out bad after the answer has begun cuts it off."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"", Transfer_Encoding="chunked"))
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"half")
        errors: list[GatewayError] = []
        request.body.read().addErrback(lambda reason: (errors.append(reason.value), refuse(request, reason.value)))
        client.send(chunked(b"abc")[:-5] + b"zz\r\n")
        downstream.clock.advance(0)
        self.assertEqual([error.status for error in errors], [400])
        self.assertFalse(client.answer.complete)
        self.assertTrue(client.closed)
