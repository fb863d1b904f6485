"""The reader that judges the gateway's answers must itself be strict, or tests that lean on it show nothing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.answers import readAnswers

OWN = b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\nX-Request-Id: r\r\n"


class ReadAnswersTests(SynchronousTestCase):
    def test_pipelined(self) -> None:
        """Answers follow each other where their framing says that they end, interim ones included."""
        wire = (
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 200 OK\r\n" + OWN + b"Content-Length: 2\r\n\r\nhi"
            b"HTTP/1.1 200 OK\r\n"
            + OWN
            + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n10\r\n"
            + b"b" * 16
            + b"\r\n0\r\n\r\n"
            b"HTTP/1.1 200 OK\r\n" + OWN + b"Content-Length: 2\r\n\r\n"
            b"HTTP/1.1 304 Not Modified\r\n" + OWN + b"Content-Length: 2\r\n\r\n"
            b"HTTP/1.1 200 OK\r\n" + OWN + b"Connection: close\r\n\r\nto the end"
        )
        answers = readAnswers(wire, ["GET", "GET", "HEAD"], closed=True)
        self.assertEqual([answer.status for answer in answers], [100, 200, 200, 200, 304, 200])
        self.assertEqual(answers[2].chunks, (b"a", b"b" * 16))
        self.assertEqual(answers[5].body, b"to the end")
        self.assertTrue(all(answer.complete for answer in answers))

    def test_incomplete(self) -> None:
        """A body that stops short of its announced end is told from one that is all there."""
        for body in (
            b"Content-Length: 5\r\n\r\nfour",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"Connection: close\r\n\r\nwho knows",
        ):
            (answer,) = readAnswers(b"HTTP/1.1 200 OK\r\n" + OWN + body)
            self.assertFalse(answer.complete, body)

    def test_refused(self) -> None:
        """What a lenient client might take for an answer is none here."""
        ok = b"HTTP/1.1 200 OK\r\n"
        empty = b"Content-Length: 0\r\n\r\n"
        for wire in (
            b"HTTP/1.0 200 OK\r\n" + OWN + empty,
            b"HTTP/1.1 200 OK\n" + OWN + empty,
            ok + b"X-Request-Id: r\r\n" + empty,
            ok + OWN + OWN + empty,
            ok + OWN + b"\r\nno framing",
            ok + OWN + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
            ok + OWN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ok + OWN + b"Transfer-Encoding: chunked\r\n\r\n01\r\na\r\n0\r\n\r\n",
            ok + OWN + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            ok + OWN + b"Bad Name: 1\r\n" + empty,
            ok + OWN + b"Bad: 1\x00\r\n" + empty,
            ok + OWN + b"Connection: close\r\n" + empty + ok + OWN + empty,
            b"HTTP/1.1 204 No Content\r\n" + OWN + empty,
            b"HTTP/1.1 304 Not Modified\r\n" + OWN + b"Transfer-Encoding: chunked\r\n\r\n",
            ok + OWN + empty + b"stray",
        ):
            self.assertRaises(AssertionError, readAnswers, wire)
