"""The client leaves, in each phase; and whatever ends a request, everybody is told, once."""

from __future__ import annotations

from collections.abc import Callable

from lmgateway.errors import PayloadTooLarge
from lmgateway.wire.body import BodyError
from lmgateway.wire.request import GatewayRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import TEXT, Client, Downstream, echo, failureOf, hello, later, refuse, requestBytes

UPLOAD = {"Content_Length": "100000"}


def tooLarge(request: GatewayRequest) -> None:
    """Refuse the body."""
    refuse(request, PayloadTooLarge("Too large.", closes=True))


class DisconnectTests(SynchronousTestCase):
    """The client leaves, in each phase of a request."""

    def phases(self) -> dict[str, Callable[[Client], None]]:
        """How to bring a connection into each phase in which a request is begun but not answered."""
        return {
            "waiting": lambda client: client.ask("GET"),
            "its body arriving": lambda client: client.send(requestBytes("POST", "/", b"abc", **UPLOAD)),
            "its body unread": lambda client: client.send(requestBytes("POST", "/", b"x" * 90_000, **UPLOAD)),
            "waiting for a 100": lambda client: client.send(
                requestBytes("POST", "/", Content_Length="3", Expect="100-continue")
            ),
            "another waiting behind": lambda client: client.send(requestBytes("GET") + requestBytes("GET")),
        }

    def test_told(self) -> None:
        """In each phase the request's Deferreds fail, what works for it is cancelled, and the site is told once."""
        for phase, enter in self.phases().items():
            downstream = Downstream(later)
            client = downstream.connect()
            enter(client)
            request = downstream.requests[0]
            finished = failureOf(request.notifyFinish())
            cancelled = failureOf(work := Deferred())
            request.notifyDisconnect(work)
            client.leave()
            self.assertTrue(request.ended, phase)
            self.assertEqual([failure.type for failure in finished], [ConnectionLost], phase)
            self.assertEqual([failure.type for failure in cancelled], [CancelledError], phase)
            self.assertEqual(downstream.ended.count(request), 1, phase)
            self.assertEqual(len(downstream.ended), len(set(downstream.ended)), phase)
            self.assertEqual(downstream.site.channels, set(), phase)

    def test_inStream(self) -> None:
        """In the midst of the answer too; and what is still written is dropped without a word."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        finished = failureOf(request.notifyFinish())
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"one")
        client.leave()
        request.sendBody(b"two")
        self.assertEqual(len(finished), 1)
        self.assertEqual(client.answer.chunks, (b"one",))
        self.assertEqual(downstream.ended, [request])
        self.assertFalse(request.finished)

    def test_headUnwritten(self) -> None:
        """A head that still waits for its body when the client leaves is not written to nobody."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        client.leave()
        self.assertEqual(client.transport.written, b"")
        self.assertEqual(downstream.ended, [request])

    def test_bodyRead(self) -> None:
        """Whoever waits for the whole body is told that it will not come."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        reading = failureOf(downstream.requests[0].body.read())
        client.leave()
        self.assertEqual([failure.type for failure in reading], [ConnectionLost])

    def test_bodyStreamed(self) -> None:
        """Whoever passes the body on is told that not all of it came."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        streaming = failureOf(downstream.requests[0].body.producer().startProducing(client.transport))  # type: ignore[arg-type]
        client.leave()
        self.assertEqual([failure.type for failure in streaming], [BodyError])

    def test_readAfterwards(self) -> None:
        """A body that is asked for only then fails as well."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", b"abc", **UPLOAD))
        client.leave()
        body = downstream.requests[0].body
        self.failureResultOf(body.read(), ConnectionLost)

    def test_idle(self) -> None:
        """A client that leaves between two requests troubles nobody."""
        downstream = Downstream()
        client = downstream.connect()
        client.ask("GET")
        client.leave()
        self.assertEqual(downstream.ended, downstream.requests)
        self.assertEqual(downstream.site.channels, set())

    def test_inHead(self) -> None:
        """Nor does one that leaves in the midst of a head."""
        downstream = Downstream()
        client = downstream.connect()
        client.send(b"GET / HT")
        client.leave()
        self.assertEqual(downstream.ended, [])
        self.assertEqual(client.transport.written, b"")

    def test_queued(self) -> None:
        """Requests that waited for their turn are told too, though nothing of them was begun."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET", "/1") + requestBytes("GET", "/2") + requestBytes("GET", "/3"))
        client.leave()
        self.assertEqual([request.head.target for request in downstream.ended], [b"/1", b"/2", b"/3"])
        self.assertEqual(len(downstream.requests), 1)


class EndedTests(SynchronousTestCase):
    """The site is told the end of each request exactly once."""

    def assertEnded(self, downstream: Downstream, count: int = 1) -> None:
        """However long one waits, and whatever becomes of the connection, it is told this often."""
        downstream.wait(200)
        for channel in list(downstream.site.channels):
            channel.abortConnection()
        downstream.clock.advance(0)
        self.assertEqual(downstream.site.channels, set())
        self.assertEqual(len(downstream.ended), count)
        self.assertEqual(len(set(downstream.ended)), count)

    def test_answered(self) -> None:
        """After an answer; whether the connection goes on, closes or lingers."""
        for play, wire in (
            (hello, requestBytes("GET")),
            (hello, requestBytes("GET", Connection="close")),
            (hello, requestBytes("POST", "/", b"abc", **UPLOAD)),
            (echo, requestBytes("POST", "/", b"abc")),
            (tooLarge, requestBytes("POST", "/", b"abc", **UPLOAD)),
        ):
            downstream = Downstream(play)
            downstream.connect().send(wire)
            self.assertEnded(downstream)

    def test_refused(self) -> None:
        """After a refusal."""
        downstream = Downstream()
        downstream.connect().send(b"rubbish\r\n\r\n")
        self.assertEnded(downstream)

    def test_cut(self) -> None:
        """After an answer that was cut off, and it says so."""
        for version in ("1.0", "1.1"):
            downstream = Downstream(later)
            downstream.connect().ask("GET", version=version)
            (request,) = downstream.requests
            request.sendHead(200, b"OK", TEXT, None)
            request.sendBody(b"half")
            request.abort()
            self.assertTrue(request.cut)
            self.assertEnded(downstream)

    def test_overdue(self) -> None:
        """After a deadline: of the head, of the body, of the answer."""
        downstream = Downstream(echo)
        downstream.connect().send(b"GET / HTTP/1.1\r\n")
        downstream.connect().send(requestBytes("POST", "/", b"abc", **UPLOAD))
        self.assertEnded(downstream, 2)

    def test_behindTheLast(self) -> None:
        """Requests behind one that turned out to be the last are told as well, though never begun."""
        downstream = Downstream(tooLarge)
        client = downstream.connect()
        client.send(requestBytes("GET") * 3)
        self.assertEqual(client.statuses, [413])
        self.assertEnded(downstream, 3)
        self.assertEqual(len(downstream.requests), 1)
