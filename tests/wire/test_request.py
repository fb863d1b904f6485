"""Requests as resources meet them: twisted.web's own, and Klein's, work on the gateway's channel as they do elsewhere."""

from __future__ import annotations

from typing import Any

from klein import Klein
from lmgateway.wire.request import GatewayRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface.verify import verifyObject

from tests.wire.downstream import TEXT, Client, Downstream, Source, failureOf, later, requestBytes


class Small(Resource):
    """A resource as tutorials write it."""

    isLeaf = True

    def render_GET(self, request: GatewayRequest) -> bytes:
        """Tell what was asked."""
        request.setHeader(b"content-type", b"text/plain")
        request.setHeader(b"x-own", b"1")
        segments = b"/".join([*request.prepath, b"|", *request.postpath])
        return b"%b %b" % (segments, b",".join(request.args.get(b"a", [])))

    def render_POST(self, request: GatewayRequest) -> int:
        """Stream in several writes."""
        request.setResponseCode(201)
        request.write(b"one")
        request.write(b"two")
        request.finish()
        return NOT_DONE_YET

    def render_DELETE(self, request: GatewayRequest) -> bytes:
        """Answer without a body."""
        request.setResponseCode(204)
        return b""


class ResourceTests(SynchronousTestCase):
    def connect(self) -> Client:
        """A connection to a tree with a small resource in it."""
        root = Resource()
        root.putChild(b"small", Small())
        return Downstream(resource=root).connect()

    def test_tree(self) -> None:
        """A tree is walked, escapes in segments and arguments read, and header fields of the resource's sent."""
        client = self.connect()
        client.ask("GET", "/small/x%20y?a=1&a=2")
        self.assertEqual(client.answer.body, b"small/|/x y 1,2")
        self.assertEqual(client.answer.field("X-Own"), "1")
        self.assertEqual(client.answer.field("Content-Length"), "15")

    def test_head(self) -> None:
        """HEAD is made of GET."""
        client = self.connect()
        client.ask("HEAD", "/small")
        client.ask("GET", "/small")
        self.assertEqual(client.answers[0].field("Content-Length"), client.answers[1].field("Content-Length"))
        self.assertEqual(client.statuses, [200, 200])

    def test_streamed(self) -> None:
        """Several writes are as many chunks, the head with the first."""
        client = self.connect()
        client.ask("POST", "/small", b"")
        self.assertEqual((client.answer.status, client.answer.chunks), (201, (b"one", b"two")))
        self.assertTrue(client.answer.complete)
        self.assertEqual(len(client.transport.writes), 3)

    def test_streamedToOldClient(self) -> None:
        """On HTTP/1.0 they end with the connection, whether or not the client would keep it."""
        for connection in ("keep-alive", "close"):
            client = self.connect()
            client.ask("POST", "/small", b"", version="1.0", Connection=connection)
            self.assertEqual((client.answer.body, client.answer.complete), (b"onetwo", True))
            self.assertTrue(client.answer.closes)

    def test_knownLengthToOldClient(self) -> None:
        """What has a length is no reason to close."""
        client = self.connect()
        client.ask("GET", "/small", version="1.0", Connection="keep-alive")
        self.assertEqual(client.answer.field("Connection"), "keep-alive")

    def test_noContent(self) -> None:
        """An answer without a body is just its head."""
        client = self.connect()
        client.ask("DELETE", "/small")
        client.ask("GET", "/small")
        self.assertEqual(client.statuses, [204, 200])

    def test_missing(self) -> None:
        """twisted.web's own answers, for a child that is not there and a method that it has not, are framed as well."""
        client = self.connect()
        client.ask("GET", "/nothing")
        client.ask("PUT", "/small", b"")
        self.assertEqual(client.statuses, [404, 501])

    def test_emptyWrite(self) -> None:
        """An empty first write sends the head: an event stream says hello before there is an event."""
        downstream = Downstream(lambda request: request.write(b""))
        client = downstream.connect()
        client.ask("GET")
        self.assertEqual((client.answer.status, client.answer.complete), (200, False))

    def test_producer(self) -> None:
        """A producer is registered through the request, and held back by the client."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        client.stall()
        (request,) = downstream.requests
        source = Source()
        request.registerProducer(source, True)
        request.write(b"x" * 100_000)
        self.assertTrue(source.paused)
        request.unregisterProducer()
        request.finish()

    def test_request(self) -> None:
        """It is an IRequest, and tells header fields, addresses and security as twisted.web's does; its host it does not tell."""
        downstream = Downstream(later)
        downstream.connect("192.0.2.9").ask("GET", "/a?b", X_Thing="1")
        (request,) = downstream.requests
        self.assertTrue(IRequest.implementedBy(GatewayRequest))
        self.assertEqual(request.getHeader("x-thing"), "1")
        self.assertEqual(request.requestHeaders.getRawHeaders(b"X-Thing"), [b"1"])
        self.assertEqual(request.getHeader("x-other"), None)
        self.assertEqual((request.method, request.uri, request.path), (b"GET", b"/a?b", b"/a"))
        self.assertEqual(request.clientproto, b"HTTP/1.1")
        self.assertEqual(request.getClientAddress().host, "192.0.2.9")
        self.assertEqual(request.getHost().port, 8001)
        self.assertEqual(request.getRequestHostname(), b"localhost", "what Host says leads nowhere else")
        self.assertFalse(request.isSecure())
        downstream.connectTLS().ask("GET")
        self.assertTrue(downstream.requests[1].isSecure())
        self.assertTrue(downstream.requests[1].head.secure)

    def test_firstByte(self) -> None:
        """When the head was complete and when its answer began is remembered, for the log."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        began = downstream.clock.seconds()
        (request,) = downstream.requests
        self.assertEqual((request.startedAt, request.firstByteAt), (began, 0.0))
        downstream.wait(5)
        request.sendWhole(200, TEXT, b"hello")
        self.assertEqual((request.firstByteAt, request.sentLength), (began + 5, 5))


class KleinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cancelled: list[str] = []
        self.waiting: Deferred[None] = Deferred()
        self.downstream = Downstream(resource=self.app().resource())

    def app(self) -> Klein:
        """A small app."""
        app = Klein()

        @app.route("/echo", methods=["POST"])
        async def echo(request: Any) -> bytes:
            body: bytes = await request.body.read()
            request.setHeader(b"content-type", b"text/plain")
            return body.upper()

        @app.route("/stream/<name>")
        async def stream(request: Any, name: str) -> None:
            request.write(f"hello {name}\n".encode())
            try:
                await self.waiting
            except CancelledError:
                self.cancelled.append(name)
                raise
            request.write(b"bye\n")

        @app.route("/defect")
        async def defect(_: Any) -> bytes:
            raise ZeroDivisionError("a secret detail")

        @app.route("/half")
        async def half(request: Any) -> bytes:
            request.write(b"half")
            raise ZeroDivisionError("a secret detail")

        return app

    def test_resource(self) -> None:
        """What Klein makes of an app is what the site takes."""
        verifyObject(IResource, self.app().resource())

    def test_body(self) -> None:
        """A route awaits the body, in however many pieces it comes; and the connection goes on."""
        client = self.downstream.connect()
        client.send(requestBytes("POST", "/echo", b"ab", Content_Length="4"), b"cd")
        client.ask("POST", "/echo", b"second")
        self.assertEqual(client.bodies, [b"ABCD", b"SECOND"])

    def test_streams(self) -> None:
        """A route writes now and later, and each write arrives when it is made."""
        client = self.downstream.connect()
        client.ask("GET", "/stream/you")
        self.assertEqual(client.answer.chunks, (b"hello you\n",))
        self.waiting.callback(None)
        self.assertEqual(client.answer.chunks, (b"hello you\n", b"bye\n"))
        self.assertTrue(client.answer.complete)

    def test_cancelled(self) -> None:
        """A client that leaves cancels the route, wherever it waits, and nothing is logged as an error."""
        client = self.downstream.connect()
        client.ask("GET", "/stream/you")
        client.leave()
        self.assertEqual(self.cancelled, ["you"])
        other = self.downstream.connect()
        other.send(requestBytes("POST", "/echo", b"ab", Content_Length="4"))
        other.leave()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(self.downstream.ended), 2)

    def test_notFound(self) -> None:
        """An unknown path and a wrong method are answered by Klein."""
        client = self.downstream.connect()
        client.ask("GET", "/nothing")
        client.ask("GET", "/echo")
        self.assertEqual(client.statuses, [404, 405])

    def test_defect(self) -> None:
        """A mistake in a route is answered as any other: with an error that says no more, or a cut."""
        client = self.downstream.connect()
        client.ask("GET", "/defect")
        self.assertEqual(client.answer.json, {"error": "internal_error"})
        client.ask("GET", "/half")
        self.downstream.clock.advance(0)
        self.assertTrue(client.closed)
        self.assertEqual([answer.complete for answer in client.answers], [True, False])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class NotifyTests(SynchronousTestCase):
    def test_finished(self) -> None:
        """What notifyFinish gives fires when the answer is written."""
        downstream = Downstream(later)
        downstream.connect().ask("GET")
        (request,) = downstream.requests
        finished = request.notifyFinish()
        self.assertNoResult(finished)
        request.sendWhole(200, TEXT, b"")
        self.assertIsNone(self.successResultOf(finished))
        self.assertTrue(request.ended)

    def test_cancelled(self) -> None:
        """Who works on an answer can be told to give up while the client is there; after the answer there is no-one to tell."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.cancel()
        cancelled = failureOf(work := Deferred())
        request.notifyDisconnect(work)
        request.cancel()
        self.assertEqual([failure.type for failure in cancelled], [CancelledError])
        self.assertFalse(client.closed)

    def test_disconnected(self) -> None:
        """It fails when the client leaves first; then there is nothing to finish any more."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        finished = failureOf(request.notifyFinish())
        client.leave()
        self.assertEqual([failure.type for failure in finished], [ConnectionLost])
        self.assertRaises(RuntimeError, request.finish)
