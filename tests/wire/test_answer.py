"""
Answers of LM Studio: where each ends, what is refused, and that nothing depends on how the bytes are cut up.

Through treq and directly alike; how the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from lmgateway.errors import UpstreamBroken
from lmgateway.wire.connection import MAX_HEAD
from twisted.internet.interfaces import IPushProducer
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface.verify import verifyObject

from tests.wire.upstream_support import OK, Directly, Following, ThroughTreq

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;ext=1\r\nhello\r\n1\r\n,\r\n0A;x="y"\r\n everybody\r\n0\r\nTrailer: dropped\r\n\r\n'
)
"""``hello, everybody``, with chunk extensions and a trailer."""

EMPTY_KEEPING = (
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)
"""Answers without a body, after which the connection lives."""

NO_ANSWERS = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x15\x03\x01\x00\x02\x02F",
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + OK,
    b"HTTP/1.1 104 Unheard Of\r\nContent-Length: 2\r\n\r\nok" + OK,
    b"HTTP/1.1 199 Unheard Of\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK,
)
"""What is no answer, or none that can be trusted to end where it seems to."""


class Answers:
    """Where answers end."""

    def test_provides(self) -> None:
        """An answer is a Twisted response, and a producer for whoever takes its body."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        response, collected = self.answered(sent)
        verifyObject(IResponse, response)
        verifyObject(IPushProducer, collected.transport)
        self.assertEqual(response.version, (b"HTTP", 1, 1))
        self.assertIsNone(response.previousResponse)

    def test_length(self) -> None:
        """An answer with a length ends there; the length is told."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", b"hello", b" ", b"world")
        response, collected = self.answered(sent)
        self.assertEqual(response.length, 11)
        self.assertWhole(collected, b"hello world")
        self.assertFalse(self.peer.transport.aborted)

    def test_chunked(self) -> None:
        """A chunked answer ends with its last chunk; extensions and trailers are dropped, the length is unknown."""
        sent = self.send()
        self.peer.say(CHUNKED)
        response, collected = self.answered(sent)
        self.assertIs(response.length, UNKNOWN_LENGTH)
        self.assertFalse(response.headers.hasHeader(b"Trailer"))
        self.assertWhole(collected, b"hello, everybody")
        self.assertFalse(self.peer.transport.aborted)

    def test_takenOnce(self) -> None:
        """A body is not kept for a second time."""
        sent = self.send()
        self.peer.say(OK)
        response, _ = self.answered(sent)
        self.assertWhole(self.taken(response), b"")

    def test_everySplit(self) -> None:
        """Wherever an answer is cut in two, it is the same answer, and the connection lives."""
        for answer, body in (
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", b"hello"),
            (CHUNKED, b"hello, everybody"),
            *((empty, b"") for empty in EMPTY_KEEPING),
        ):
            for cut in range(1, len(answer)):
                sent = self.send()
                self.peer.say(answer[:cut], answer[cut:])
                _, collected = self.answered(sent)
                self.assertWhole(collected, body)
        self.assertEqual(len(self.bench.peers), 1)

    def test_byteByByte(self) -> None:
        """An answer that comes byte by byte passes on each byte of its body as it comes."""
        sent = self.send()
        head, _, rest = CHUNKED.partition(b"\r\n\r\n")
        self.peer.say(head + b"\r\n\r\n")
        _, collected = self.answered(sent)
        for byte in rest:
            self.peer.say(bytes([byte]))
        self.assertWhole(collected, b"hello, everybody")
        self.assertEqual(len(collected.pieces), 16)

    def test_untilClose(self) -> None:
        """An answer without length ends where the connection does: cleanly closed it is as whole as it can be known to be."""
        for version in (b"1.0", b"1.1"):
            sent = self.send()
            self.peer.say(b"HTTP/" + version + b" 200 OK\r\n\r\nhello")
            response, collected = self.answered(sent)
            self.assertIs(response.length, UNKNOWN_LENGTH)
            self.assertIsNone(collected.reason)
            self.peer.finish()
            self.assertEqual(collected.body, b"hello")
            assert collected.reason is not None
            collected.reason.trap(PotentialDataLoss)

    def test_untilReset(self) -> None:
        """An answer without length is broken where the connection is reset."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\n\r\nhello")
        _, collected = self.answered(sent)
        self.peer.reset()
        self.assertBroken(collected)

    def test_untilCloseUnread(self) -> None:
        """What came of an answer before somebody takes its body is not lost when the connection ends meanwhile."""
        for end, kind in (("finish", PotentialDataLoss), ("reset", ResponseFailed)):
            sent = self.send()
            self.peer.say(b"HTTP/1.1 200 OK\r\n\r\nhello")
            getattr(self.peer, end)()
            _, collected = self.answered(sent)
            self.assertEqual(collected.body, b"hello")
            assert collected.reason is not None
            collected.reason.trap(kind)
            self.assertEqual(collected.endings, 1)

    def test_tooShort(self) -> None:
        """An answer that ends before its length, or without its last chunk, is broken, however the connection ends."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        ):
            for end in ("finish", "reset"):
                sent = self.send()
                self.peer.say(answer)
                _, collected = self.answered(sent)
                getattr(self.peer, end)()
                self.assertBroken(collected)

    def test_empty(self) -> None:
        """204, 304 and empty bodies end with their heads, and the connection lives."""
        for answer in EMPTY_KEEPING:
            sent = self.send()
            self.peer.say(answer)
            _, collected = self.answered(sent)
            self.assertWhole(collected, b"")
        self.assertEqual(len(self.bench.peers), 1)

    def test_head(self) -> None:
        """The answer to HEAD has no body, whatever length it tells, and its connection is not used again."""
        for framing in (b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b""):
            sent = self.send(b"HEAD")
            self.peer.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
            response, collected = self.answered(sent)
            self.assertEqual(response.length, 0)
            self.assertWhole(collected, b"")
            self.assertTrue(self.peer.transport.aborted)

    def test_headWithBody(self) -> None:
        """A body that wrongly follows the answer to HEAD is not taken for one."""
        for rest in (b"", b"123456789", b"\r\n\x00", OK):
            sent = self.send(b"HEAD")
            self.peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + rest)
            _, collected = self.answered(sent)
            self.assertWhole(collected, b"")
            self.assertTrue(self.peer.transport.aborted)

    def test_interim(self) -> None:
        """Interim answers are skipped, any number of them, and leave nothing in the final one."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3)
        self.assertNoResult(sent)
        self.peer.say(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok")
        response, collected = self.answered(sent)
        self.assertEqual((response.code, response.phrase), (200, b"Fine"))
        self.assertFalse(response.headers.hasHeader(b"Link"))
        self.assertWhole(collected, b"ok")

    def test_whiteSpace(self) -> None:
        """White space around a value is none of it, be it in front or behind, and is not passed on."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nX-A: \t a b\t \r\nX-B:  \r\nX-C:c\r\nContent-Length: 2 \r\n\r\nok")
        response, collected = self.answered(sent)
        told = {name: response.headers.getRawHeaders(name) for name in (b"x-a", b"x-b", b"x-c", b"content-length")}
        self.assertEqual(told, {b"x-a": [b"a b"], b"x-b": [b""], b"x-c": [b"c"], b"content-length": [b"2"]})
        self.assertWhole(collected, b"ok")

    def test_advertised(self) -> None:
        """An answer that offers another protocol without changing to it is an answer like any other."""
        sent = self.send()
        self.peer.say(b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok")
        _, collected = self.answered(sent)
        self.assertWhole(collected, b"ok")

    def test_refused(self) -> None:
        """What is no answer, or has no certain end, is refused before a byte of it is passed on, however it is cut."""
        for answer in NO_ANSWERS:
            for pieces in ((answer,), tuple(bytes([byte]) for byte in answer)):
                sent = self.send()
                self.peer.say(*pieces)
                self.failureResultOf(sent, UpstreamBroken)
                self.assertTrue(self.peer.transport.aborted, answer)

    def test_whyRefused(self) -> None:
        """The message says what was wrong with it."""
        for answer, why in (
            (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "it switched protocols"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: br, chunked\r\n\r\n", "transfer coding that nobody asked for"),
            (b"HTTP/1.1 007 Bond\r\n\r\n", "its status is none"),
            (b"HTTP/1.1 199 Early\r\nContent-Length: 1\r\n\r\n?", "its interim answer has a body"),
            (b"SSH-2.0-OpenSSH\r\n", "what it spoke is no HTTP (Expected HTTP/"),
        ):
            sent = self.send()
            self.peer.say(answer)
            self.assertIn(why, self.failureResultOf(sent, UpstreamBroken).value.message)

    def test_giganticHead(self) -> None:
        """A head that does not end is refused once it is over the limit, be it one field, many, or many interim answers."""
        for start, endless in (
            (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
            (b"HTTP/1.1 200 OK\r\n", b"X-Many: " + b"y" * 100 + b"\r\n"),
            (b"", b"HTTP/1.1 102 Wait\r\nX: y\r\n\r\n"),
        ):
            sent = self.send()
            self.peer.say(start)
            said = len(start)
            while not self.peer.transport.aborted:
                self.peer.say(endless)
                said += len(endless)
                self.assertLess(said, MAX_HEAD + 2000)
            self.assertGreater(said, MAX_HEAD)
            self.assertIn("head is over", self.failureResultOf(sent, UpstreamBroken).value.message)

    def test_brokenInBody(self) -> None:
        """What came before the framing breaks is passed on; then the body is broken."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello",
        ):
            for pieces in ((answer,), tuple(bytes([byte]) for byte in answer)):
                sent = self.send()
                self.peer.say(pieces[0])
                for piece in pieces[1:]:
                    self.peer.say(piece)
                response = self.successResultOf(sent)
                collected = self.taken(response)
                self.assertEqual(collected.body, b"" if b"5\nh" in answer else b"hello")
                self.assertBroken(collected)
                self.assertTrue(self.peer.transport.aborted)

    def test_severalAnswers(self) -> None:
        """Of two answers in one segment the first is told, complete with its head; the second is nobody's, and closes."""
        first = b"HTTP/1.1 200 First\r\nX-First: 1\r\nContent-Length: 5\r\n\r\nfirst"
        second = b"HTTP/1.1 404 Second\r\nX-Second: 2\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n"
        sent = self.send()
        self.peer.say(first + second)
        response, collected = self.answered(sent)
        self.assertEqual((response.code, response.phrase, response.length), (200, b"First", 5))
        self.assertEqual(response.headers.getRawHeaders(b"x-first"), [b"1"])
        self.assertFalse(response.headers.hasHeader(b"x-second"))
        self.assertWhole(collected, b"first")
        self.assertTrue(self.peer.transport.aborted)

    def test_surplus(self) -> None:
        """Bytes after an answer close the connection at once, without harm to the answer or to the request that follows it."""
        for surplus in (b"x", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n\r\n", b"\x00", b"HTTP/1.1 101 X\r\n\r\n"):
            for answer in (OK, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), CHUNKED):
                sent = self.send()
                before = self.peer
                following = Following(sent, self.send)
                before.say(answer + surplus)
                _, collected = self.answered(sent)
                self.assertWhole(collected, b"ok" if answer is not CHUNKED else b"hello, everybody")
                self.assertTrue(before.transport.aborted)
                self.assertIsNot(self.peer, before)
                self.peer.say(OK)
                self.assertWhole(self.answered(following.sent)[1], b"ok")


class TreqAnswerTests(Answers, ThroughTreq):
    """Through treq."""


class DirectAnswerTests(Answers, Directly):
    """Directly."""
