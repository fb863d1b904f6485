"""
What a request says of its version, its connection and its body, and what the gateway makes of that: HTTP/1.0, Expect,
Connection, Upgrade.
"""

from __future__ import annotations

from lmgateway.wire.request import GatewayRequest
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import TEXT, Downstream, chunked, echo, hello, later, requestBytes


class OldVersionTests(SynchronousTestCase):
    def test_closes(self) -> None:
        """HTTP/1.0 gets its answer and the end of the connection."""
        client = Downstream().connect()
        client.ask("GET", version="1.0")
        self.assertEqual((client.answer.body, client.answer.closes), (b"hello", True))
        self.assertTrue(client.closed)

    def test_keepAlive(self) -> None:
        """HTTP/1.0 with keep-alive is told that the connection goes on, and it does."""
        client = Downstream().connect()
        for _ in range(2):
            client.ask("GET", version="1.0", Connection="keep-alive")
        self.assertEqual([answer.field("Connection") for answer in client.answers], ["keep-alive", "keep-alive"])
        self.assertFalse(client.transport.closing)

    def test_unknownLength(self) -> None:
        """HTTP/1.0 knows no chunks: an answer of unknown length ends with the connection, keep-alive or not."""
        for connection in ("keep-alive", "close"):
            downstream = Downstream(later)
            client = downstream.connect()
            client.ask("GET", version="1.0", Connection=connection)
            (request,) = downstream.requests
            request.sendHead(200, b"OK", TEXT, None)
            request.sendBody(b"one")
            request.sendBody(b"two")
            self.assertFalse(client.answer.complete)
            request.finish()
            downstream.clock.advance(0)
            self.assertEqual((client.answer.body, client.answer.complete), (b"onetwo", True))
            self.assertTrue(client.answer.closes)

    def test_cutOff(self) -> None:
        """An answer whose only end is that of the connection is cut off by a reset: a clean end would pass for whole."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET", version="1.0")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"one")
        request.abort()
        downstream.clock.advance(0)
        self.assertTrue(client.transport.aborted)
        self.assertFalse(client.answer.complete)
        self.assertEqual(downstream.ended, [request])

    def test_expectation(self) -> None:
        """
        HTTP/1.0 is never sent a 100.

        "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that expectation" (RFC 9110
        section 10.1.1).
        """
        client = Downstream(echo).connect()
        client.ask("POST", "/", b"abc", version="1.0", Expect="100-continue")
        self.assertEqual(client.statuses, [200])


class ContinueTests(SynchronousTestCase):
    FIELDS = {"Expect": "100-continue", "Content_Length": "3"}

    def test_wanted(self) -> None:
        """A client that waits for it is told to go on when its body is wanted, once."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", **self.FIELDS))
        self.assertEqual(client.answers, [])
        echo(downstream.requests[0])
        self.assertEqual(client.statuses, [100])
        client.send(b"abc")
        self.assertEqual(client.statuses, [100, 200])
        self.assertEqual(client.bodies[1], b"abc")

    def test_streamed(self) -> None:
        """A body that is passed on is asked for when there is somewhere to pass it."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", **self.FIELDS))
        (request,) = downstream.requests
        stream = request.body.producer()
        self.assertEqual(client.answers, [])
        stream.startProducing(client.transport)  # type: ignore[arg-type]  # any consumer will do
        self.assertEqual(client.statuses, [100])

    def test_refused(self) -> None:
        """A request that is refused is sent no 100, and its connection closes, because its body may still come."""
        client = Downstream(lambda request: request.sendWhole(401, TEXT, b"who?")).connect()
        client.send(requestBytes("POST", "/", **self.FIELDS))
        self.assertEqual(client.statuses, [401])
        self.assertTrue(client.answer.closes)
        self.assertTrue(client.lingering)

    def test_notNeeded(self) -> None:
        """A client that has begun to send its body needs no 100."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"a", **self.FIELDS))
        echo(downstream.requests[0])
        client.send(b"bc")
        self.assertEqual(client.statuses, [200])

    def test_answerBegun(self) -> None:
        """Once the answer has begun there is no 100 any more: it would stand in the midst of it."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", **self.FIELDS))
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"early")
        request.body.read()
        self.assertEqual(client.statuses, [200])

    def test_unknown(self) -> None:
        """Any other expectation fails with 417."""
        client = Downstream().connect()
        client.send(requestBytes("POST", "/", b"abc", Expect="a-miracle"))
        self.assertEqual(client.statuses, [417])


class ConnectionFieldTests(SynchronousTestCase):
    def test_close(self) -> None:
        """
        A client that says close gets its answer, is told close, and what it sends after that is no request.

        "The server MUST NOT process any further requests received on that connection" (RFC 9112 section 9.6).
        """
        for extra in (b"", requestBytes("GET", "/evil"), b"\r\n", b"nonsense"):
            downstream = Downstream()
            client = downstream.connect()
            client.send(requestBytes("GET", "/", Connection="close") + extra)
            self.assertEqual(client.statuses, [200])
            self.assertTrue(client.answer.closes)
            downstream.wait(3)
            self.assertTrue(client.closed)
            self.assertEqual(len(downstream.requests), 1)

    def test_closeWhileAnswering(self) -> None:
        """What comes after a request that says close is not processed either when it comes during the answer."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET", "/", Connection="close"))
        client.send(requestBytes("GET", "/evil"))
        hello(downstream.requests[0])
        self.assertTrue(client.lingering)
        client.send(requestBytes("GET", "/evil"))
        self.assertEqual(client.statuses, [200])
        self.assertEqual(len(downstream.requests), 1)

    def test_closedByUs(self) -> None:
        """What follows an answer that the gateway makes the last one is no request either, be it in the same packet."""

        def last(request: GatewayRequest) -> None:
            request.closeAfter()
            echo(request)

        downstream = Downstream(last)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="3"), b"abc" + requestBytes("GET", "/evil") * 3)
        self.assertEqual(client.statuses, [200])
        self.assertTrue(client.answer.closes)
        client.leave()
        self.assertEqual(len(downstream.ended), 1)

    def test_proxyConnection(self) -> None:
        """A field that the parser takes for Connection, though it is none, does not make a promise that is not kept."""
        client = Downstream().connect()
        client.send(requestBytes("GET", "/", Proxy_Connection="close"))
        self.assertTrue(client.answer.closes)

    def test_promiseKept(self) -> None:
        """
        An answer that says close is the last one, even if its reason has passed by then.

        "A server that sends a 'close' connection option MUST initiate closure of the connection after it sends the final
        response containing the 'close' connection option" (RFC 9112 section 9.6).
        """
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="3"))
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"early")
        self.assertTrue(client.answer.closes)
        client.send(b"abc" + requestBytes("GET", "/next"))
        request.finish()
        downstream.wait(3)
        self.assertTrue(client.answer.complete)
        self.assertTrue(client.closed)
        self.assertEqual(len(downstream.requests), 1)


class UpgradeTests(SynchronousTestCase):
    FIELDS = {"Connection": "upgrade", "Upgrade": "websocket"}

    def test_ignored(self) -> None:
        """An upgrade is not made: the answer is a plain one, and what follows, which may be anything, is not read."""
        downstream = Downstream()
        client = downstream.connect()
        client.send(requestBytes("GET", "/", **self.FIELDS) + requestBytes("GET", "/evil"))
        self.assertEqual(client.statuses, [200])
        self.assertTrue(client.answer.closes)
        self.assertEqual(len(downstream.requests), 1)
        downstream.wait(3)
        self.assertTrue(client.closed)

    def test_body(self) -> None:
        """A body with an upgrade is refused: llhttp does not read it, so it could be taken for a request."""
        smuggled = requestBytes("GET", "/evil")
        for wire in (
            requestBytes("POST", "/", smuggled, **self.FIELDS),
            requestBytes("POST", "/", chunked(smuggled), Transfer_Encoding="chunked", **self.FIELDS),
        ):
            downstream = Downstream()
            client = downstream.connect()
            client.send(wire)
            self.assertEqual(client.statuses, [400])
            self.assertEqual(downstream.requests, [])

    def test_named(self) -> None:
        """An Upgrade field that Connection does not name means nothing, body or not."""
        client = Downstream(echo).connect()
        client.ask("POST", "/", b"abc", Upgrade="h2c")
        client.ask("GET")
        self.assertEqual(client.bodies, [b"abc", b""])
