"""The bytes of an answer: Express' headers, cut-off answers, clients that read slowly or leave."""

from __future__ import annotations

from lmgateway.studio.simulator.encoding import Reply, entityTag
from lmgateway.studio.simulator.exchange import Died, Exchange
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel
from twisted.web.server import Request
from zope.interface.verify import verifyObject

from tests.studio.simulator.wire import Studio, chat

REPLY = Reply(200, {"a": 1})


class Exchanges(SynchronousTestCase):
    """With a request over a string transport, and no site."""

    def setUp(self) -> None:
        self.channel = HTTPChannel()
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)
        self.addCleanup(self.channel.setTimeout, None)
        self.request = Request(self.channel, parsePOSTFormSubmission=False)
        self.request.gotLength(0)
        self.request.method = b"GET"
        self.request.clientproto = b"HTTP/1.1"
        self.channel.requests.append(self.request)
        self.channel.persistent = True
        self.exchange = Exchange(self.request)

    @property
    def sent(self) -> bytes:
        """All the bytes that went out."""
        return self.transport.value()


class AnswerTests(Exchanges):
    def test_interface(self) -> None:
        """An exchange can be told that the client reads slowly."""
        verifyObject(IPushProducer, self.exchange)

    def test_json(self) -> None:
        """The body, once, and then the end."""
        self.exchange.answer(REPLY)
        self.assertTrue(self.sent.endswith(b'\r\n\r\n{"a":1}'))
        self.assertTrue(self.request.finished)
        self.assertEqual(self.exchange.status, 200)

    def test_cut(self) -> None:
        """An answer that dies does so in the middle of its body, whatever the number of chunks."""
        self.exchange.dieAfter = 3
        self.assertRaises(Died, self.exchange.answer, REPLY)
        self.assertIn(b"Content-Length: 7\r\n", self.sent)
        self.assertTrue(self.sent.endswith(b'\r\n\r\n{"a'))
        self.assertTrue(self.transport.disconnecting)

    def test_cutBeforeAll(self) -> None:
        """Or before the first byte."""
        self.exchange.dieAfter = 0
        self.assertRaises(Died, self.exchange.answer, REPLY)
        self.assertEqual(self.sent, b"")
        self.assertTrue(self.transport.disconnecting)

    def test_fresh(self) -> None:
        """A client that has this very answer is told so, as Express does it."""
        self.request.requestHeaders.setRawHeaders(b"If-None-Match", [b'"x", %s' % entityTag(b'{"a":1}')])
        self.exchange.answer(REPLY)
        self.assertTrue(self.sent.startswith(b"HTTP/1.1 304 Not Modified\r\nX-Powered-By: Express\r\nETag: W/"))
        self.assertTrue(self.sent.endswith(b"\r\n\r\n"))

    def test_notFresh(self) -> None:
        """Not for an error, and not for another answer."""
        self.request.requestHeaders.setRawHeaders(b"If-None-Match", [entityTag(b"{}")])
        self.exchange.answer(REPLY)
        self.assertTrue(self.sent.startswith(b"HTTP/1.1 200 OK\r\n"))


class StreamTests(Exchanges):
    def test_chunks(self) -> None:
        """The head goes out with the first chunk, and each chunk on its own."""
        self.assertEqual(self.sent, b"")
        self.exchange.send(b"one")
        self.assertTrue(self.sent.endswith(b"\r\n\r\n3\r\none\r\n"))
        self.exchange.send(b"three")
        self.exchange.finish()
        self.assertTrue(self.sent.endswith(b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"))
        self.assertEqual(self.exchange.chunks, 2)

    def test_cut(self) -> None:
        """A stream that dies after two chunks has two whole ones, and no end."""
        self.exchange.dieAfter = 2
        self.exchange.send(b"one")
        self.exchange.send(b"two")
        self.assertRaises(Died, self.exchange.send, b"three")
        self.assertTrue(self.sent.endswith(b"3\r\none\r\n3\r\ntwo\r\n"))
        self.assertTrue(self.transport.disconnecting)

    def test_cutAtTheEnd(self) -> None:
        """Even if there are only two: then its end is missing."""
        self.exchange.dieAfter = 1
        self.exchange.send(b"one")
        self.assertRaises(Died, self.exchange.finish)
        self.assertFalse(self.sent.endswith(b"0\r\n\r\n"))

    def test_slowClient(self) -> None:
        """While the client does not read there is no room."""
        self.exchange.send(b"one")
        self.channel.pauseProducing()
        self.exchange.pauseProducing()
        waiting = self.waiting()
        self.assertNoResult(waiting)
        self.channel.resumeProducing()
        self.successResultOf(waiting)
        self.successResultOf(self.waiting())

    def test_cancelledWaiting(self) -> None:
        """Whoever waits for room can be cancelled, and the client catching up later is no fault."""
        self.exchange.send(b"one")
        self.channel.pauseProducing()
        waiting = self.waiting()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.channel.resumeProducing()

    def waiting(self) -> Deferred[None]:
        """What fires when there is room."""
        return Deferred.fromCoroutine(self.exchange.room())


class LeavingTests(Exchanges):
    def setUp(self) -> None:
        super().setUp()
        self.cancelled = 0
        self.exchange.work = Deferred(self.cancel)
        self.exchange.work.addErrback(lambda failure: failure.trap(CancelledError))

    def cancel(self, work: Deferred[None]) -> None:
        """Note that the work was cancelled."""
        self.cancelled += 1

    def leave(self) -> None:
        """The client leaves."""
        self.channel.connectionLost(Failure(ConnectionLost()))

    def test_leaves(self) -> None:
        """When the client leaves the work is cancelled."""
        self.exchange.send(b"one")
        self.leave()
        self.assertEqual((self.cancelled, self.exchange.gone), (1, True))

    def test_held(self) -> None:
        """Not while that is held; but it is known."""
        self.exchange.hold()
        self.leave()
        self.assertEqual((self.cancelled, self.exchange.gone), (0, True))

    def test_afterTheEnd(self) -> None:
        """Nor after the end, be it a proper one or a death."""
        self.exchange.answer(REPLY)
        self.leave()
        self.assertEqual(self.cancelled, 0)

    def test_endAfterLeaving(self) -> None:
        """Ending an answer that nobody waits for does nothing."""
        self.exchange.send(b"one")
        self.leave()
        self.exchange.end()
        self.exchange.close()
        self.assertFalse(self.request.finished)


class HeaderTests(SynchronousTestCase):
    def test_json(self) -> None:
        """The fields of a recorded answer, in their order."""
        answer = Studio().ask("/lmstudio-greeting")
        self.assertEqual(answer.body, b'{"lmstudio":true}')
        self.assertEqual(
            [name for name, _ in answer.headers],
            ["X-Powered-By", "Content-Type", "Content-Length", "ETag", "Date", "Connection", "Keep-Alive"],
        )
        self.assertEqual(answer.field("X-Powered-By"), "Express")
        self.assertEqual(answer.field("Content-Type"), "application/json; charset=utf-8")
        self.assertEqual(answer.field("ETag"), entityTag(answer.body).decode())
        self.assertEqual((answer.field("Connection"), answer.field("Keep-Alive")), ("keep-alive", "timeout=5"))

    def test_stream(self) -> None:
        """Those of a recorded stream."""
        answer = Studio().ask("/v1/chat/completions", chat("hi", stream=True))
        self.assertEqual(
            [name for name, _ in answer.headers],
            ["X-Powered-By", "Content-Type", "Cache-Control", "Date", "Connection", "Transfer-Encoding"],
        )
        self.assertEqual(
            (answer.field("Content-Type"), answer.field("Cache-Control")), ("text/event-stream", "no-cache")
        )

    def test_close(self) -> None:
        """A client that asks for it gets its connection closed."""
        connection = Studio().connect()
        answer = connection.ask("/lmstudio-greeting", Connection="close")
        self.assertEqual((answer.field("Connection"), answer.field("Keep-Alive")), ("close", None))
        self.assertTrue(connection.closed)

    def test_head(self) -> None:
        """HEAD has the fields of GET and no body."""
        connection = Studio().connect()
        connection.send("/v1/models", method="HEAD")
        self.assertIn(b"Content-Length: ", connection.received)
        self.assertTrue(connection.received.endswith(b"\r\n\r\n"))
