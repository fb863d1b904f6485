"""
Request bodies on their way up: pace, failures, and answers that do not wait for them.

Through treq and directly alike; how the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from lmgateway.errors import PayloadTooLarge, UpstreamBroken
from lmgateway.wire.body import HIGH_WATER, BodyError, BytesBodyProducer, IncomingBody, clientLeft, tooLarge
from lmgateway.wire.connection import JOINED_BODY
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.wire.upstream_support import OK, Directly, SteeredBody, ThroughTreq

EARLY = b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno"


class Source:
    """The downstream connection of a body, which notes what is asked of it."""

    def __init__(self) -> None:
        self.paused = False
        self.continued = 0

    def pauseBody(self) -> None:
        self.paused = True

    def resumeBody(self) -> None:
        self.paused = False

    def sendContinue(self) -> None:
        self.continued += 1


class Uploads:
    """How a body goes up."""

    def test_paused(self) -> None:
        """When LM Studio takes no more, the producer is paused; when it does, it is resumed."""
        body = SteeredBody(100)
        self.send(b"POST", b"/", (), body)
        self.peer.take(10)
        body.consumer.write(b"x" * 9)
        self.assertFalse(body.paused)
        body.consumer.write(b"x" * 9)
        self.assertTrue(body.paused)
        self.peer.take(100)
        self.assertFalse(body.paused)

    def test_downstreamPaused(self) -> None:
        """A body that streams through pauses the client while LM Studio takes no more."""
        source = Source()
        incoming = IncomingBody(source, None, 1000)
        self.send(b"POST", b"/", (), incoming.producer())
        self.peer.take(4)
        incoming.dataReceived(b"hello")
        self.assertTrue(source.paused)
        self.peer.take()
        self.assertFalse(source.paused)
        incoming.dataReceived(b"again")
        incoming.messageComplete()
        self.assertTrue(self.peer.received.endswith(b"\r\n\r\n5\r\nhello\r\n5\r\nagain\r\n0\r\n\r\n"))

    def test_whileConnecting(self) -> None:
        """What comes of a body while the connection is made waits, within bounds, and goes out in order."""
        self.endpoints.waiting = []
        source = Source()
        incoming = IncomingBody(source, None, 10 * HIGH_WATER)
        self.send(b"POST", b"/", (), incoming.producer())
        incoming.dataReceived(b"a" * HIGH_WATER)
        self.assertFalse(source.paused)
        incoming.dataReceived(b"b")
        self.assertTrue(source.paused)
        self.endpoints.waiting[0].callback(None)
        self.assertFalse(source.paused)
        self.assertTrue(self.peer.received.endswith(b"\r\n10001\r\n" + b"a" * HIGH_WATER + b"b\r\n"))

    def test_large(self) -> None:
        """A large body in memory goes out in slices, as LM Studio takes them, and all of it."""
        large = bytes(range(256)) * 4096
        self.assertGreater(len(large), JOINED_BODY)
        self.endpoints.waiting = []
        sent = self.send(b"POST", b"/", (), BytesBodyProducer(large))
        self.endpoints.waiting[0].callback(None)
        self.endpoints.waiting = None
        _, _, first = self.peer.received.partition(b"\r\n\r\n")
        self.assertEqual(first, large)
        self.peer.say(OK)
        self.assertWhole(self.answered(sent)[1], b"ok")
        self.send(b"POST", b"/", (), BytesBodyProducer(large))
        self.assertEqual(len(self.bench.peers), 1)

    def test_largePaced(self) -> None:
        """Of a large body no more than a slice is written beyond what LM Studio takes."""
        large = b"x" * 1_000_000
        body = BytesBodyProducer(large)
        first = self.send()
        self.peer.say(OK)
        self.answered(first)
        self.peer.heard()
        self.peer.transport.room = 1
        self.send(b"POST", b"/", (), body)
        total = len(self.peer.heard())
        self.assertLess(total, 300_000)
        for _ in range(20):
            self.peer.take(1)
            piece = len(self.peer.heard())
            self.assertLess(piece, 300_000)
            total += piece
        self.assertGreater(total, 1_000_000)
        self.assertIsNone(self.peer.transport.producer)

    def test_pooledAfterwards(self) -> None:
        """A connection over which a body went up whole is used again."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        assert body.done is not None
        body.done.callback(None)
        self.assertIsNone(self.peer.transport.producer)
        self.peer.say(OK)
        self.assertWhole(self.answered(sent)[1], b"ok")
        self.send()
        self.assertEqual(len(self.bench.peers), 1)


class BrokenUploads:
    """Bodies that do not come whole."""

    def test_clientLeft(self) -> None:
        """When the client leaves, the request fails with that, and the connection is closed at once, unfinished."""
        for received in (b"", b"hello"):
            incoming = IncomingBody(Source(), None, 1000)
            sent = self.send(b"POST", b"/", (), incoming.producer())
            incoming.dataReceived(received)
            incoming.fail(clientLeft())
            self.failureResultOf(sent, ConnectionLost)
            self.assertTrue(self.peer.transport.aborted)
            self.assertFalse(self.peer.received.endswith(b"0\r\n\r\n"))

    def test_tooLarge(self) -> None:
        """A body that grows over the limit fails with its own error, a 413."""
        incoming = IncomingBody(Source(), None, 4)
        sent = self.send(b"POST", b"/", (), incoming.producer())
        incoming.dataReceived(b"hello")
        error = self.failureResultOf(sent, PayloadTooLarge).value
        self.assertEqual(error.status, 413)
        self.assertTrue(self.peer.transport.aborted)

    def test_tooLargeWhileConnecting(self) -> None:
        """A body that fails while the connection is made fails the request as soon as it is made."""
        self.endpoints.waiting = []
        incoming = IncomingBody(Source(), None, 4)
        sent = self.send(b"POST", b"/", (), incoming.producer())
        incoming.dataReceived(b"hello")
        self.endpoints.waiting[0].callback(None)
        self.failureResultOf(sent, PayloadTooLarge)
        self.assertTrue(self.peer.transport.aborted)

    def test_defect(self) -> None:
        """What a producer fails with in any other way reaches whoever asked, as it is."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        assert body.done is not None
        body.done.errback(Failure(ZeroDivisionError("a defect")))
        self.failureResultOf(sent, ZeroDivisionError)
        self.assertTrue(self.peer.transport.aborted)

    def test_cancelsItself(self) -> None:
        """A producer that gives up as if it were cancelled leaves no request waiting."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        assert body.done is not None
        body.done.errback(Failure(CancelledError()))
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(self.peer.transport.aborted)

    def test_cancelled(self) -> None:
        """Cancelled in the midst of an upload, the connection is closed and the producer stopped."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        body.consumer.write(b"hello")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.assertTrue(self.peer.transport.aborted)
        before = self.peer.received
        body.consumer.write(b"in the same turn")
        self.turn()
        self.assertTrue(body.stopped)
        body.consumer.write(b"later")
        self.assertEqual(self.peer.received, before)

    def test_upstreamGone(self) -> None:
        """When LM Studio breaks off in the midst of an upload, the producer is stopped, and that is the failure."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        self.peer.reset()
        self.failureResultOf(sent, UpstreamBroken)
        self.assertTrue(body.stopped)
        assert body.done is not None
        self.assertTrue(body.done.called)

    def test_bodyError(self) -> None:
        """The cause within a BodyError is what is told."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        assert body.done is not None
        body.done.errback(Failure(BodyError(Failure(tooLarge(1)))))
        self.failureResultOf(sent, PayloadTooLarge)


class EarlyAnswers:
    """Answers that come before the request is whole."""

    def test_told(self) -> None:
        """An answer during the upload is told at once; the connection is closed behind it, since half a request is on it."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        body.consumer.write(b"hello")
        self.peer.say(EARLY)
        response, collected = self.answered(sent)
        self.assertEqual(response.code, 413)
        self.assertWhole(collected, b"no")
        self.assertTrue(self.peer.transport.aborted)
        self.assertTrue(body.stopped)

    def test_streamed(self) -> None:
        """An answer that streams while the body still goes up passes on its pieces; the upload goes on."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        _, collected = self.answered(sent)
        self.assertEqual(collected.body, b"ab")
        body.consumer.write(b"hello")
        self.assertTrue(self.peer.received.endswith(b"5\r\nhello\r\n"))
        assert body.done is not None
        body.done.callback(None)
        self.peer.say(b"cd")
        self.assertWhole(collected, b"abcd")
        self.send()
        self.assertEqual(len(self.bench.peers), 1)

    def test_uploadFailsThen(self) -> None:
        """When the upload fails after an answer has begun, the answer is broken."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        _, collected = self.answered(sent)
        assert body.done is not None
        body.done.errback(Failure(BodyError(clientLeft())))
        self.assertTrue(self.peer.transport.aborted)
        self.turn()
        self.assertBroken(collected)

    def test_uploadFailsUnheard(self) -> None:
        """A producer that fails after its answer is whole fails nobody."""
        body = SteeredBody()
        sent = self.send(b"POST", b"/", (), body)
        self.peer.say(EARLY)
        assert body.done is not None
        body.done.errback(Failure(BodyError(clientLeft())))
        self.assertWhole(self.answered(sent)[1], b"no")


class TreqUploadTests(Uploads, ThroughTreq):
    """Through treq."""


class DirectUploadTests(Uploads, Directly):
    """Directly."""


class TreqBrokenUploadTests(BrokenUploads, ThroughTreq):
    """Through treq."""


class DirectBrokenUploadTests(BrokenUploads, Directly):
    """Directly."""


class TreqEarlyAnswerTests(EarlyAnswers, ThroughTreq):
    """Through treq."""


class DirectEarlyAnswerTests(EarlyAnswers, Directly):
    """Directly."""
