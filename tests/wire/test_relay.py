"""
Whole answers on their way from LM Studio to the client, and the pace of either end; through treq and directly alike.

How both ends are played stands in :mod:`tests.wire.relay_support`; answers that break off in
:mod:`tests.wire.test_relay_broken`.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import cut
from tests.wire.downstream import SEND_BUFFER
from tests.wire.relay_support import EVENT, SENTENCE, SILENCE, STREAM, Proxied, RelayCase, asChunk
from tests.wire.upstream_support import Directly, ThroughTreq


class WholeAnswers:
    """Answers that end as they should."""

    def test_length(self) -> None:
        """An answer with a length goes out with it: the first piece with the head in one write, each other in its own."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 201 Made\r\nX-Kept: Yes\r\nContent-Length: 9\r\n\r\nabc")
        self.assertEqual(proxied.heard(), [b"abc"])
        proxied.say(b"def")
        proxied.say(b"ghi")
        self.assertEqual(proxied.heard(), [b"def", b"ghi"])
        answer = proxied.client.answer
        self.assertEqual((answer.status, answer.body, answer.complete), (201, b"abcdefghi", True))
        self.assertEqual((answer.field("Content-Length"), answer.field("X-Kept")), ("9", "Yes"))
        self.assertTrue(proxied.client.transport.written.startswith(b"HTTP/1.1 201 Made\r\nX-Kept: Yes\r\n"))
        self.assertEqual(proxied.outcomes, [None])

    def test_phrase(self) -> None:
        """A phrase is passed on without what no phrase may have, and nothing else of it is changed."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 Q\x00u\x1b[31mi\xe4t\te\x7f\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(proxied.client.transport.written.startswith(b"HTTP/1.1 200 Qu[31mi\xe4t\te\r\n"))
        self.assertEqual((proxied.client.answer.status, proxied.outcomes), (200, [None]))

    def test_chunked(self) -> None:
        """Each piece of a chunked answer goes out at once as one chunk in one write, and its end as the end."""
        proxied = self.begin()
        proxied.say(STREAM)
        self.assertEqual(proxied.heard(), [b""])
        for number in range(3):
            proxied.say(asChunk(b"%d" % number + EVENT))
            self.assertEqual(proxied.heard(), [asChunk(b"%d" % number + EVENT)])
        proxied.say(b"0\r\n\r\n")
        self.assertEqual(proxied.heard(), [b"0\r\n\r\n"])
        self.assertTrue(proxied.client.answer.complete)
        self.assertEqual(proxied.outcomes, [None])

    def test_headAlone(self) -> None:
        """A head that comes before any of its body goes on before any of it."""
        for answer in (STREAM, b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\n"):
            proxied = self.begin()
            proxied.say(answer)
            self.assertEqual(len(proxied.client.answers), 1)
            self.assertFalse(proxied.client.answer.complete)

    def test_untilClose(self) -> None:
        """An answer that ends with LM Studio's connection ends for the client as an answer does, and its connection lives."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.0 200 OK\r\n\r\n[1]")
        proxied.peer.finish()
        answer = proxied.client.answer
        self.assertEqual((answer.body, answer.complete), (b"[1]", True))
        self.assertEqual(answer.field("Transfer-Encoding"), "chunked")
        self.assertEqual(proxied.outcomes, [None])
        self.assertFalse(proxied.client.closed)

    def test_http10(self) -> None:
        """To a client that knows no chunks an answer without length ends with the connection, and one with a length there."""
        proxied = self.begin(version="1.0")
        proxied.say(STREAM, asChunk(EVENT), asChunk(EVENT), b"0\r\n\r\n")
        proxied.clock.advance(0)
        self.assertEqual(proxied.client.answer.body, EVENT + EVENT)
        self.assertTrue(proxied.client.answer.complete)
        self.assertTrue(proxied.client.closed)
        proxied = self.begin(version="1.0", Connection="keep-alive")
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(proxied.client.answer.body, b"ok")
        self.assertFalse(proxied.client.closed)

    def test_bodiless(self) -> None:
        """An answer without a body has none for the client; a length it tells is that of the body it does not have."""
        for method, said, length in (
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "9"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "9"),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
        ):
            proxied = self.begin(method)
            proxied.say(said)
            answer = proxied.client.answer
            self.assertEqual((answer.body, answer.complete, answer.field("Content-Length")), (b"", True, length), said)
            self.assertEqual(proxied.outcomes, [None])
            self.assertFalse(proxied.client.closed)

    def test_emptyChunked(self) -> None:
        """A chunked answer, or one until the connection's end, may be empty."""
        for said in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", STREAM + b"0\r\n\r\n"):
            proxied = self.begin()
            proxied.say(said)
            self.assertEqual((proxied.client.answer.body, proxied.client.answer.complete), (b"", True))
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\n\r\n")
        proxied.peer.finish()
        self.assertEqual((proxied.client.answer.body, proxied.client.answer.complete), (b"", True))

    def test_connectionsLive(self) -> None:
        """After a whole answer either connection takes the next request."""
        proxied = self.begin()
        for number in range(3):
            proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            proxied.client.ask("GET", "/v1/models")
        self.assertEqual(proxied.client.bodies, [b"0", b"1", b"2"])
        self.assertEqual(len(proxied.bench.peers), 1)

    def test_provides(self) -> None:
        """The relay is the producer that the client's pace pauses."""
        proxied = self.begin()
        proxied.say(STREAM)
        verifyObject(IPushProducer, proxied.relay)
        proxied.relay.stopProducing()


class UnknownPaths:
    """LM Studio's 200 for paths that it does not know."""

    def test_becomes404(self) -> None:
        """The sentence comes as a 404, its body and length as they were, however it is framed."""
        for said in (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SENTENCE) + SENTENCE,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + asChunk(SENTENCE) + b"0\r\n\r\n",
        ):
            proxied = self.begin()
            proxied.say(said)
            answer = proxied.client.answer
            self.assertEqual((answer.status, answer.body, answer.complete), (404, SENTENCE, True))
            self.assertTrue(proxied.client.transport.written.startswith(b"HTTP/1.1 404 Not Found\r\n"))

    def test_othersStay(self) -> None:
        """Every other status stays, with that sentence too; and so does a 200 that says something else."""
        for status, body in (
            (400, SENTENCE),
            (500, SENTENCE),
            (200, b'{"error":"Unexpected'),
            (200, b'{"data":[]}'),
            (200, b""),
        ):
            proxied = self.begin()
            proxied.say(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
            answer = proxied.client.answer
            self.assertEqual((answer.status, answer.body, answer.complete), (status, body, True))

    def test_notHeldLonger(self) -> None:
        """An answer is held back no longer than it may be the sentence."""
        proxied = self.begin()
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b'{"e')
        self.assertEqual(proxied.heard(), [])
        proxied.say(b"m")
        self.assertEqual(proxied.heard(), [b'{"em'])
        proxied.say(b"bedding")
        self.assertEqual(proxied.heard(), [b"bedding"])


class Paces:
    """Ends that are not as fast as each other."""

    def test_slowClient(self) -> None:
        """A client that reads slowly has LM Studio's connection no longer read; when it has caught up, it is."""
        proxied = self.begin()
        proxied.say(STREAM)
        proxied.client.stall()
        piece = asChunk(b"x" * 10_000)
        proxied.say(*[piece] * 20)
        self.assertTrue(proxied.peer.transport.paused)
        self.assertLess(proxied.client.transport.untaken, SEND_BUFFER + 2 * len(piece))
        proxied.client.take()
        self.assertFalse(proxied.peer.transport.paused)
        proxied.say(b"0\r\n\r\n")
        self.assertEqual(len(proxied.client.answer.body), 200_000)
        self.assertTrue(proxied.client.answer.complete)

    def test_stalledBefore(self) -> None:
        """Nor is it read for a client that is behind already when the answer begins, beyond what came with its head."""
        proxied = self.begin()
        proxied.client.stall()
        proxied.client.channel.pauseProducing()
        proxied.say(STREAM + asChunk(EVENT), asChunk(EVENT))
        self.assertTrue(proxied.peer.transport.paused)
        self.assertEqual(proxied.heard(), [asChunk(EVENT)])
        proxied.client.channel.resumeProducing()
        proxied.clock.advance(0)
        self.assertEqual(proxied.heard(), [asChunk(EVENT)])

    def test_slowClientIsNotSilence(self) -> None:
        """While the client is behind, nobody's silence is counted; then it counts from the beginning."""
        proxied = self.begin()
        proxied.say(STREAM)
        proxied.client.stall()
        proxied.say(*[asChunk(b"x" * 10_000)] * 20)
        proxied.downstream.wait(SILENCE * 1.5)
        self.assertFalse(proxied.upstreamClosed)
        proxied.client.take()
        proxied.downstream.wait(SILENCE - 1)
        self.assertFalse(proxied.upstreamClosed)
        proxied.downstream.wait(1)
        self.assertTrue(proxied.upstreamClosed)

    def test_clientLeaves(self) -> None:
        """When the client leaves, LM Studio's connection is closed at once: before the first byte of the body and after."""
        for said in (
            STREAM,
            STREAM + asChunk(EVENT),
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{",
        ):
            proxied = self.begin()
            proxied.say(said)
            proxied.client.leave()
            self.assertTrue(proxied.upstreamClosed)
            proxied.clock.advance(0)
            self.assertEqual([type(outcome) for outcome in proxied.outcomes], [CancelledError])
            self.assertLessEqual(len(proxied.clock.getDelayedCalls()), proxied.before)

    def test_cancelled(self) -> None:
        """Cancelled from elsewhere, both ends are closed, and the client's answer is not passed off as whole."""
        proxied = self.begin()
        proxied.say(STREAM + asChunk(EVENT))
        proxied.relay.done.cancel()
        self.assertTrue(proxied.upstreamClosed)
        proxied.clock.advance(0)
        self.assertFalse(proxied.client.answer.complete)
        self.assertTrue(proxied.client.closed)
        self.assertEqual([type(outcome) for outcome in proxied.outcomes], [CancelledError])


class AnyCuttingTests(SynchronousTestCase):
    @given(
        st.sampled_from(
            (SENTENCE, SENTENCE.replace(b":", b" : "), b'{"error":"Unexpected"}', b'{"data":[]}', b"", b"\x00\xff")
        ),
        st.lists(st.integers(0, 70), max_size=5),
        st.sampled_from((b"Content-Length", b"Transfer-Encoding", b"")),
    )
    def test_anyCutting(self, body: bytes, places: list[int], framing: bytes) -> None:
        """However the answer is framed and cut, the sentence is a 404, all else a 200, and the body is the same."""
        for way in (ThroughTreq, Directly):
            self.checkCut(Proxied(way), body, cut(body, places), framing)

    def checkCut(self, proxied: Proxied, body: bytes, pieces: list[bytes], framing: bytes) -> None:
        """Have it answered so, and look at what the client got."""
        if framing == b"Content-Length":
            proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), *pieces)
        elif framing == b"Transfer-Encoding":
            proxied.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *map(asChunk, pieces), b"0\r\n\r\n")
        else:
            proxied.say(b"HTTP/1.1 200 OK\r\n\r\n", *pieces)
            proxied.peer.finish()
        answer = proxied.client.answer
        self.assertEqual((answer.status, answer.body), (404 if b"endpoint" in body else 200, body))
        self.assertTrue(answer.complete)


class TreqWholeAnswerTests(WholeAnswers, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectWholeAnswerTests(WholeAnswers, RelayCase):
    """Directly."""

    way = Directly


class TreqUnknownPathTests(UnknownPaths, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectUnknownPathTests(UnknownPaths, RelayCase):
    """Directly."""

    way = Directly


class TreqPaceTests(Paces, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectPaceTests(Paces, RelayCase):
    """Directly."""

    way = Directly
