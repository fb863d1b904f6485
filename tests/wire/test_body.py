"""Bodies by themselves: on their way in, read whole or passed on, and on their way out of memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import PayloadTooLarge, RequestTimeout
from lmgateway.interfaces import IReplayable
from lmgateway.wire.body import HIGH_WATER, SLICE, BodyError, BytesBodyProducer, IncomingBody, StreamedBody
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface.verify import verifyObject


class Connection:
    """What a body arrives on: remembers what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseBody(self) -> None:
        self.asked.append("pause")

    def resumeBody(self) -> None:
        self.asked.append("resume")

    def sendContinue(self) -> None:
        self.asked.append("continue")


class Consumer:
    """Takes what a body is written to; pauses its producer after each of the first writes, or stops it."""

    def __init__(self, pauses: int = 0, *, stopsAfter: int | None = None) -> None:
        self.pieces: list[bytes] = []
        self.producer: Any = None
        self._pauses = pauses
        self._stopsAfter = stopsAfter

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        if self._stopsAfter is not None and len(self.pieces) >= self._stopsAfter:
            self.producer.stopProducing()
        elif self._pauses:
            self._pauses -= 1
            self.producer.pauseProducing()

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def timeout() -> Failure:
    """A reason for a body to fail."""
    return Failure(RequestTimeout("Too slow."))


def bodyOf(
    length: int | None = None, limit: int = 1000, *, expectsContinue: bool = False
) -> tuple[Connection, IncomingBody]:
    """A body, and what it arrives on."""
    connection = Connection()
    return connection, IncomingBody(connection, length, limit, expectsContinue=expectsContinue)


class IncomingBodyTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=10), max_size=6), st.integers(0, 6))
    def test_read(self, pieces: list[bytes], askedAfter: int) -> None:
        """Whenever one asks for it, before, amid or after its pieces, a body is all of its pieces in order."""
        _, body = bodyOf()
        results: list[bytes] = []
        for index, piece in enumerate([*pieces, None]):
            if index == min(askedAfter, len(pieces)):
                body.read().addCallback(results.append)
            if piece is not None:
                body.dataReceived(piece)
        self.assertEqual(results, [])
        body.messageComplete()
        self.assertEqual(results, [b"".join(pieces)])
        self.assertEqual(body.received, len(b"".join(pieces)))

    @given(st.lists(st.binary(min_size=1, max_size=10), max_size=6), st.integers(0, 7), st.integers(0, 3))
    def test_streamed(self, pieces: list[bytes], startedAfter: int, pauses: int) -> None:
        """Whenever its way upstream is ready, what is passed on is all of its pieces in order, and then it is done."""
        _, body = bodyOf()
        stream = body.producer()
        consumer = Consumer(pauses)
        consumer.producer = stream
        done: list[object] = []
        steps: list[Callable[[], object]] = [
            *(partial(body.dataReceived, piece) for piece in pieces),
            body.messageComplete,
        ]
        start = partial(stream.startProducing, consumer)  # type: ignore[arg-type]
        steps.insert(startedAfter, lambda: start().addCallback(done.append))
        for step in steps:
            step()
        self.assertEqual(consumer.data, b"".join(pieces))
        self.assertEqual(done, [None])

    def test_none(self) -> None:
        """A request without a body has an empty one, at once."""
        connection, body = bodyOf(0)
        self.assertEqual(self.successResultOf(body.read()), b"")
        self.assertEqual(connection.asked, [])

    def test_whole(self) -> None:
        """A body that is all there is given without a Deferred; one that is not, or has failed, is not."""
        _, body = bodyOf(6)
        body.dataReceived(b"abc")
        self.assertIsNone(body.whole())
        body.dataReceived(b"def")
        body.messageComplete()
        self.assertEqual(body.whole(), b"abcdef")
        _, failed = bodyOf(6)
        failed.fail(timeout())
        self.assertIsNone(failed.whole())

    def test_once(self) -> None:
        """A body is consumed once, whichever way: a second consumer would get part of it."""
        for first in (IncomingBody.read, IncomingBody.producer):
            for second in (IncomingBody.read, IncomingBody.producer):
                _, body = bodyOf()
                first(body)
                self.assertRaises(RuntimeError, second, body)

    def test_check(self) -> None:
        """A declared length is checked against the limit before anything is read; the message names the limit."""
        _, body = bodyOf(1001)
        error = self.assertRaises(PayloadTooLarge, body.check)
        self.assertIn("1000 bytes", error.message)
        self.assertTrue(error.closes)
        for length in (1000, None):
            bodyOf(length)[1].check()

    def test_limitLowered(self) -> None:
        """The limit can be lowered for what is still to come."""
        _, body = bodyOf()
        reading = body.read()
        body.limit = 5
        body.dataReceived(b"abcdef")
        self.failureResultOf(reading, PayloadTooLarge)

    def test_tooLarge(self) -> None:
        """Past the limit a body fails, however it is consumed, and nothing of it is kept or passed on any more."""
        for consume in ("read", "stream", "nobody"):
            _, body = bodyOf(limit=5)
            consumer = Consumer()
            if consume == "read":
                waiting = body.read()
            elif consume == "stream":
                waiting = body.producer().startProducing(consumer)  # type: ignore[arg-type]
            body.dataReceived(b"abcde")
            body.dataReceived(b"f")
            body.dataReceived(b"g")
            if consume == "nobody":
                waiting = body.read()
            failure = self.failureResultOf(waiting)
            if consume == "stream":
                self.assertIsInstance(failure.value, BodyError)
                failure = failure.value.reason
            self.assertIsInstance(failure.value, PayloadTooLarge)
            self.assertEqual(consumer.data, b"abcde" if consume == "stream" else b"")
            self.assertEqual(body.received, 7)

    def test_failsOnce(self) -> None:
        """The first reason counts; and what is complete does not fail."""
        _, body = bodyOf()
        reading = body.read()
        body.fail(timeout())
        body.fail(Failure(PayloadTooLarge("Too large.")))
        self.failureResultOf(reading, RequestTimeout)
        _, complete = bodyOf(3)
        complete.dataReceived(b"abc")
        complete.messageComplete()
        complete.fail(timeout())
        self.assertEqual(self.successResultOf(complete.read()), b"abc")

    def test_failedKeepsNothing(self) -> None:
        """What had come of a body that fails is not kept."""
        _, body = bodyOf()
        body.dataReceived(b"abc")
        body.fail(timeout())
        body.dataReceived(b"def")
        self.assertEqual(body._buffer, [])

    def test_cancelled(self) -> None:
        """Whoever no longer waits is left alone by what comes after."""
        for end in (IncomingBody.messageComplete, lambda body: body.fail(timeout())):
            _, body = bodyOf()
            reading = body.read()
            reading.cancel()
            self.failureResultOf(reading, CancelledError)
            body.dataReceived(b"abc")
            end(body)

    def test_cancelledKeepsNothing(self) -> None:
        """What comes after whoever read it no longer waits is not kept."""
        _, body = bodyOf(limit=10_000_000)
        reading = body.read()
        body.dataReceived(b"x" * 1000)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        body.dataReceived(b"x" * 1000)
        self.assertEqual(body._consumer._bytes.getvalue(), b"")  # type: ignore[union-attr]

    def test_continue(self) -> None:
        """A client that waits is told to go on when somebody wants the body, once; one that did not wait is not."""
        connection, body = bodyOf(3, expectsContinue=True)
        self.assertFalse(body.isDue)
        body.read()
        self.assertEqual(connection.asked, ["continue", "resume"])
        self.assertTrue(body.isDue)
        connection, body = bodyOf(3, expectsContinue=True)
        body.dataReceived(b"a")
        self.assertTrue(body.isDue)
        body.read()
        self.assertEqual(connection.asked, ["resume"])
        self.assertTrue(bodyOf(3)[1].isDue)

    def test_highWater(self) -> None:
        """A body that nobody takes pauses its connection past the high-water mark; to take it resumes it."""
        connection, body = bodyOf(limit=1_000_000)
        body.dataReceived(b"x" * HIGH_WATER)
        self.assertEqual(connection.asked, [])
        body.dataReceived(b"x")
        self.assertEqual(connection.asked, ["pause"])
        body.read()
        self.assertEqual(connection.asked, ["pause", "resume"])


class StreamedBodyTests(SynchronousTestCase):
    def begin(self, consumer: Consumer, length: int | None = None) -> tuple[Connection, IncomingBody, StreamedBody]:
        """A body that is being passed on."""
        connection, body = bodyOf(length, 1_000_000)
        stream = body.producer()
        consumer.producer = stream
        return connection, body, stream

    def test_interface(self) -> None:
        """It is what Twisted's client takes for a body, its length known or not."""
        _, _, stream = self.begin(Consumer())
        verifyObject(IBodyProducer, stream)
        self.assertIs(stream.length, UNKNOWN_LENGTH)
        self.assertEqual(self.begin(Consumer(), 7)[2].length, 7)

    def test_backpressure(self) -> None:
        """A consumer's pause is the connection's, also in the midst of what was there before it."""
        consumer = Consumer(1)
        connection, body, stream = self.begin(consumer)
        body.dataReceived(b"abc")
        stream.startProducing(consumer)  # type: ignore[arg-type]
        self.assertEqual(connection.asked[-1], "pause")
        stream.resumeProducing()
        self.assertEqual(connection.asked[-1], "resume")

    def test_notStarted(self) -> None:
        """Before it is started the connection is paused past the high-water mark."""
        connection, body, _ = self.begin(Consumer())
        body.dataReceived(b"x" * HIGH_WATER)
        self.assertEqual(connection.asked, [])
        body.dataReceived(b"x")
        self.assertEqual(connection.asked, ["pause"])

    def test_notStartedSmall(self) -> None:
        """Each piece is measured a fixed number of times, however many wait: chunks of a byte would stop the reactor else."""
        measured: list[int] = []

        class Piece(bytes):
            def __len__(self) -> int:
                measured.append(1)
                return super().__len__()

        _, body, _ = self.begin(Consumer())
        pieces = 500
        for _ in range(pieces):
            body.dataReceived(Piece(b"x"))
        self.assertLessEqual(len(measured), 4 * pieces)

    def test_progress(self) -> None:
        """Whoever waits for an answer is told of each piece, because the answer is not due before the last."""
        _, body, stream = self.begin(Consumer())
        told: list[int] = []
        stream.progressed = lambda: told.append(body.received)
        stream.startProducing(Consumer())  # type: ignore[arg-type]
        body.dataReceived(b"abc")
        body.dataReceived(b"d")
        self.assertEqual(told, [3, 4])

    def test_stopped(self) -> None:
        """When nobody wants the rest it is read and dropped: in the midst of it, of what was there before, or at the end."""
        consumer = Consumer(stopsAfter=1)
        connection, body, stream = self.begin(consumer)
        body.dataReceived(b"abc")
        done = stream.startProducing(consumer)  # type: ignore[arg-type]
        self.assertEqual(connection.asked[-1], "resume")
        body.dataReceived(b"def")
        body.messageComplete()
        self.assertEqual(consumer.data, b"abc")
        self.successResultOf(done)

    def test_cancelled(self) -> None:
        """To cancel it is to stop it."""
        consumer = Consumer()
        connection, body, stream = self.begin(consumer)
        done = stream.startProducing(consumer)  # type: ignore[arg-type]
        done.cancel()
        self.failureResultOf(done, CancelledError)
        body.dataReceived(b"abc")
        body.messageComplete()
        self.assertEqual(consumer.data, b"")
        self.assertEqual(connection.asked[-1], "resume")

    def test_failedBefore(self) -> None:
        """A body that failed before it was started fails when it is, and sends nothing of itself."""
        consumer = Consumer()
        _, body, stream = self.begin(consumer)
        body.dataReceived(b"abc")
        body.fail(timeout())
        failure = self.failureResultOf(stream.startProducing(consumer), BodyError)  # type: ignore[arg-type]
        self.assertIsInstance(failure.value.reason.value, RequestTimeout)
        self.assertEqual(str(failure.value), "Too slow.")
        self.assertEqual(consumer.data, b"")

    def test_failed(self) -> None:
        """One that fails on the way tells why."""
        consumer = Consumer()
        _, body, stream = self.begin(consumer)
        done = stream.startProducing(consumer)  # type: ignore[arg-type]
        body.dataReceived(b"abc")
        body.fail(timeout())
        self.assertIsInstance(self.failureResultOf(done, BodyError).value.reason.value, RequestTimeout)


class BytesBodyProducerTests(SynchronousTestCase):
    def produce(self, body: bytes, consumer: Consumer) -> tuple[BytesBodyProducer, Any]:
        """Begin to send a body."""
        consumer.producer = producer = BytesBodyProducer(body)
        return producer, producer.startProducing(consumer)  # type: ignore[arg-type]

    def test_interface(self) -> None:
        """It is a body that can be sent again."""
        verifyObject(IReplayable, BytesBodyProducer(b"abc"))
        self.assertEqual(BytesBodyProducer(b"abc").length, 3)

    @given(st.sampled_from((0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 7)), st.integers(0, 5))
    def test_all(self, size: int, pauses: int) -> None:
        """Paused however often, it sends all of itself, a slice at a time, and is done only then."""
        body = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
        consumer = Consumer(pauses)
        producer, done = self.produce(body, consumer)
        for _ in range(pauses):
            producer.resumeProducing()
        self.assertEqual(consumer.data, body)
        self.assertLessEqual(max(map(len, consumer.pieces), default=0), SLICE)
        self.successResultOf(done)

    def test_paused(self) -> None:
        """While it is paused nothing is sent, and a second resume sends nothing twice."""
        consumer = Consumer(1)
        producer, done = self.produce(b"x" * 3 * SLICE, consumer)
        self.assertEqual(len(consumer.data), SLICE)
        self.assertNoResult(done)
        producer.resumeProducing()
        producer.resumeProducing()
        self.assertEqual(len(consumer.data), 3 * SLICE)

    def test_resumedWhileWriting(self) -> None:
        """A consumer that resumes from within a write gets each piece once, in order."""

        class Eager(Consumer):
            def write(self, data: bytes) -> None:
                super().write(data)
                self.producer.resumeProducing()

        body = b"a" * SLICE + b"b" * SLICE + b"c"
        consumer = Eager()
        _, done = self.produce(body, consumer)
        self.assertEqual(consumer.data, body)
        self.successResultOf(done)

    def test_again(self) -> None:
        """It can be sent a second time, from its beginning, even if the first was broken off."""
        consumer = Consumer(stopsAfter=1)
        producer, _ = self.produce(b"x" * 3 * SLICE, consumer)
        self.assertEqual(len(consumer.data), SLICE)
        other = Consumer()
        self.successResultOf(producer.startProducing(other))  # type: ignore[arg-type]
        self.assertEqual(len(other.data), 3 * SLICE)

    def test_cancelled(self) -> None:
        """To cancel it is to stop it."""
        consumer = Consumer(1)
        producer, done = self.produce(b"x" * 3 * SLICE, consumer)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        producer.resumeProducing()
        self.assertEqual(len(consumer.data), SLICE)
