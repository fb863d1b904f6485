"""
Pipelined requests that are damaged and cut up at random: whatever comes, each gets one well-formed answer or none.

The reader of the answers is strict (:mod:`tests.wire.answers`): to be read by it is part of every property here.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.wire.channel import PARSED_AT_ONCE
from lmgateway.wire.request import GatewayRequest
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import cut
from tests.wire.answers import Answer, readAnswers
from tests.wire.downstream import TEXT, Downstream, Play, chunked, echo, refuse, requestBytes

CHUNKED = {"Transfer_Encoding": "chunked"}

_REQUESTS = (
    requestBytes("GET", "/a"),
    requestBytes("GET", "/b?c=d", Accept="*/*", X_Empty=""),
    requestBytes("HEAD", "/a"),
    requestBytes("DELETE", "/a", b""),
    requestBytes("POST", "/e", b"five!"),
    requestBytes("POST", "/e", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"),
    requestBytes("POST", "/f", chunked(b"one", b"two and more"), **CHUNKED),
    requestBytes("POST", "/f", b'3;a="b";c\r\none\r\n0\r\nX-Trailer: 1\r\n\r\n', **CHUNKED),
    requestBytes("PUT", "/g", b"abc", Expect="100-continue"),
    requestBytes("POST", "/too-large", chunked(b"x" * 60, b"y" * 60), **CHUNKED),
    requestBytes("GET", "/h", version="1.0", Connection="keep-alive"),
    requestBytes("GET", "/h", version="1.0"),
    requestBytes("GET", "/i", Connection="close"),
    requestBytes("GET", "/j", Connection="upgrade", Upgrade="websocket"),
)

REQUESTS = st.sampled_from(_REQUESTS)
"""Sound requests, of every kind that there is."""

_DAMAGE = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b":",
    b"0",
    b"1",
    b"f",
    b";",
    b"\xff",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: b\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.0",
    b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
)


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Something valid from which pieces were cut, replaced or doubled, or into which others were put."""
    wire = draw(valid)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire)))
        end = draw(st.integers(at, min(len(wire), at + 40)))
        new = draw(st.one_of(st.sampled_from(_DAMAGE), st.binary(max_size=3)))
        wire = draw(
            st.sampled_from(
                (
                    wire[:at] + wire[end:],
                    wire[:at] + new + wire[end:],
                    wire[:at] + new + wire[at:],
                    wire[:end] + wire[at:],
                )
            )
        )
    return wire


PIPELINES = st.lists(REQUESTS, min_size=1, max_size=5).map(b"".join)

SIZES = st.sampled_from((0, 1, 3_900, PARSED_AT_ONCE - 1, PARSED_AT_ONCE, PARSED_AT_ONCE + 1, 10_000))

CUTS = st.lists(st.integers(0, 600), max_size=12)


def echoLater(request: GatewayRequest) -> None:
    """Answer with the body, a few turns of the reactor after it came."""

    def answer(body: bytes) -> None:
        request.site.reactor.callLater(0.001, lambda: None if request.ended else request.sendWhole(200, TEXT, body))

    request.body.read().addCallbacks(answer, lambda reason: refuse(request, reason.value))


def stream(request: GatewayRequest) -> None:
    """Answer with the body, in pieces of unknown number."""

    def answer(body: bytes) -> None:
        request.sendHead(200, b"OK", TEXT, None)
        for piece in (body[:3], body[3:]):
            request.sendBody(piece)
        request.finish()

    request.body.read().addCallbacks(answer, lambda reason: refuse(request, reason.value))


class Outcome(Struct, frozen=True):
    """
    All that comes of some bytes.

    :param requests: what was rendered: method, target, and what each field was.
    :param answers: the status and the body of each; interim ones, which depend on whether the body was there, left out.
    :param open: whether the connection goes on.
    """

    requests: tuple[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], ...]
    answers: tuple[tuple[int, bytes, bool], ...]
    open: bool


class FuzzTests(SynchronousTestCase):
    def outcomeOf(self, pieces: list[bytes], play: Play = echo, *, maxBody: int = 100) -> Outcome:
        """What comes of the pieces, and what must hold whatever they are."""
        downstream = Downstream(play, maxBody=maxBody)
        client = downstream.connect()
        for piece in pieces:
            client.send(piece)
        for _ in range(20):
            downstream.clock.advance(0.001)
        wire = client.transport.written
        isOpen = not (client.transport.closing or client.transport.halfClosed or client.closed)
        client.leave()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(downstream.ended), len(set(downstream.ended)))
        self.assertTrue(set(downstream.requests) <= set(downstream.ended))
        methods = [request.head.method.decode() for request in downstream.ended]
        answers = [answer for answer in readAnswers(wire, methods, closed=not isOpen) if answer.status >= 200]
        self.checkAnswers(answers, b"".join(pieces), isOpen=isOpen)
        return Outcome(
            tuple((request.method, request.uri, request.head.headers) for request in downstream.requests),
            tuple((answer.status, answer.body, answer.closes) for answer in answers),
            isOpen,
        )

    def checkAnswers(self, answers: list[Answer], wire: bytes, *, isOpen: bool) -> None:
        """There is no answer too many, none is cut short, and the connection goes on only if the last says so."""
        self.assertLessEqual(len(answers), wire.count(b"HTTP/1.") + 1)
        self.assertTrue(all(answer.complete for answer in answers))
        if answers:
            self.assertEqual(answers[-1].closes, not isOpen)
        else:
            self.assertTrue(isOpen)

    @given(PIPELINES, CUTS)
    def test_sound(self, wire: bytes, places: list[int]) -> None:
        """Sound requests are answered in their order, however they are cut, up to the first that is to be the last."""
        outcome = self.outcomeOf(cut(wire, places))
        self.assertEqual(outcome, self.outcomeOf([wire]))
        self.assertNotIn(400, [status for status, _, _ in outcome.answers[:1]])
        self.assertEqual(outcome.requests[0][1], wire.split(b" ")[1])

    @given(damaged(PIPELINES), CUTS)
    @example(requestBytes("POST", "/f", b"1\r\nxzz", **CHUNKED), [5])
    @example(requestBytes("GET", "/a")[:-2] + b"\r", [])
    @example(requestBytes("GET", "/i", Connection="close") + b"\r\n\r\nGET", [60])
    def test_damaged(self, wire: bytes, places: list[int]) -> None:
        """What comes of damaged ones does not depend on the cutting either, and nothing is raised or logged."""
        pieces = cut(wire, places)
        self.assertEqual(self.outcomeOf(pieces), self.outcomeOf([wire]))

    @given(damaged(PIPELINES), CUTS)
    def test_late(self, wire: bytes, places: list[int]) -> None:
        """Nor does it depend on whether each answer is made at once or later, while the next requests come in."""
        self.assertEqual(self.outcomeOf(cut(wire, places), echoLater), self.outcomeOf([wire]))

    @given(damaged(PIPELINES), CUTS)
    def test_streamed(self, wire: bytes, places: list[int]) -> None:
        """Nor on whether the length of an answer is known, except that HTTP/1.0 then has to close earlier."""
        streamed, whole = self.outcomeOf(cut(wire, places), stream), self.outcomeOf([wire])
        self.assertEqual(streamed.requests, whole.requests[: len(streamed.requests)])
        same = [(status, body) for status, body, _ in whole.answers[: len(streamed.answers)]]
        self.assertEqual([(status, body) for status, body, _ in streamed.answers], same)
        if b"HTTP/1.0" not in wire:
            self.assertEqual(streamed, whole)

    @given(
        st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=4), st.lists(st.integers(0, 40_000), max_size=6)
    )
    def test_large(self, bodies: list[tuple[int, bool]], places: list[int]) -> None:
        """Nor does it depend on how much is parsed at a time."""
        wire = b"".join(
            requestBytes("POST", "/c", chunked(b"x" * 10, b"y" * (size + 1)), **CHUNKED)
            if isChunked
            else requestBytes("POST", "/l", b"z" * size)
            for size, isChunked in bodies
        )
        outcome = self.outcomeOf(cut(wire, places), maxBody=20_000)
        self.assertEqual(outcome, self.outcomeOf([wire], maxBody=20_000))
        lengths = [11 + size if isChunked else size for size, isChunked in bodies]
        self.assertEqual([len(body) for _, body, _ in outcome.answers], lengths)
        self.assertEqual(outcome, self.outcomeOf(cut(wire, places), echoLater, maxBody=20_000))

    @given(st.binary(max_size=200), CUTS)
    def test_rubbish(self, wire: bytes, places: list[int]) -> None:
        """Rubbish is refused, once, or waited for."""
        outcome = self.outcomeOf(cut(wire, places))
        self.assertEqual(outcome.requests, ())
        self.assertIn([status for status, _, _ in outcome.answers], ([], [400]))
