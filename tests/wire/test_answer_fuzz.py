"""
Answers that are damaged and cut up at random: whatever comes, it is an answer, or it is told to be broken.

Through treq and directly alike; how the other end is played stands in :mod:`tests.wire.memory_peer`.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.errors import UpstreamBroken
from lmgateway.wire.headers import VerbatimHeaders
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

from tests.strategies import cut
from tests.wire.upstream_support import OK, Bench, Collected, Directly, ThroughTreq

_LINES = (
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: CHUNKED\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Content-Type: text/event-stream\r\n",
    b"X-\xe9: y\r\n",
)

_BODIES = (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n", b"data: x\n\n")

_DAMAGE = (b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"0", b"HTTP/1.1 ", b"101", b"\xff", OK, b"\r\n\r\n", b"chunked")

HEADS = st.tuples(
    st.sampled_from((b"HTTP/1.1 ", b"HTTP/1.1 ", b"HTTP/1.0 ")),
    st.sampled_from(
        (b"200 OK", b"200 ", b"404 Not Found", b"204 No Content", b"304 Not Modified", b"100 Continue", b"101 X")
    ),
    st.just(b"\r\n"),
    st.lists(st.sampled_from(_LINES), max_size=3).map(b"".join),
    st.just(b"\r\n"),
).map(b"".join)
"""Heads of answers, interim ones among them, many of whose fields contradict each other."""

WIRE = st.lists(st.tuples(HEADS, st.sampled_from(_BODIES)).map(b"".join), min_size=1, max_size=2).map(b"".join)
"""An answer, or two, whose bodies may or may not fit their heads."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """What an upstream might say, with a few bytes put in, taken out or both."""
    text = draw(WIRE)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        new = draw(st.one_of(st.sampled_from(_DAMAGE), st.binary(max_size=2)))
        text = text[:at] + new + text[at + draw(st.integers(0, 3)) :]
    return text


CUTS = st.lists(st.integers(0, 400), max_size=12)

ENDS = st.sampled_from(("finish", "reset", "stay"))


class Told(Struct, frozen=True):
    """
    All that an exchange tells.

    :param status: of the answer, or None where there is none.
    :param ending: the kind of the failure that there is no answer for, or that its body ended with; None for none yet.
    :param pooled: whether the next request goes over the same connection.
    """

    status: int | None
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    ending: type[BaseException] | None
    pooled: bool


def tell(bench: Bench, method: bytes, pieces: list[bytes], end: str) -> Told:
    """Have one request answered in these pieces, and look whether its connection is used again."""
    bench.endpoints.refusal = None
    responses: list[IResponse] = []
    failures: list[BaseException] = []
    collected = Collected()
    sent = bench.send(method)
    sent.addCallbacks(responses.append, lambda reason: failures.append(reason.value))
    peer = bench.peers[-1]
    for piece in pieces:
        peer.say(piece)
        if responses and collected.transport is None:
            responses[0].deliverBody(collected)
            bench.turn()
    if end != "stay":
        getattr(peer, end)()
    bench.turn()
    ending = type(failures[0]) if failures else type(collected.reason.value) if collected.reason is not None else None
    bench.send()
    pooled = bench.peers[-1] is peer
    headers = responses[0].headers if responses else None
    pairs = headers.pairs if isinstance(headers, VerbatimHeaders) else ()
    return Told(responses[0].code if responses else None, pairs, collected.body, ending, pooled)


class FuzzTests(SynchronousTestCase):
    ways: ClassVar = (ThroughTreq, Directly)

    @given(st.sampled_from((b"GET", b"POST", b"HEAD")), damaged(), CUTS, ENDS)
    @example(b"GET", OK + b"\r\n\r\n", [], "stay")
    def test_total(self, method: bytes, said: bytes, places: list[int], end: str) -> None:
        """
        Whatever is said, and however it is cut, nothing is raised or logged, and the request ends in an answer or in
        :class:`~lmgateway.errors.UpstreamBroken`; the same ones through treq and directly, and in any other cutting.
        """
        told = []
        for way in self.ways:
            for pieces in (cut(said, places), [said], [bytes([byte]) for byte in said]):
                bench = Bench(way.make)
                told.append(tell(bench, method, pieces, end))
                self.assertEqual(bench.leftovers(), [])
        first = told[0]
        if first.status is None:
            self.assertIn(first.ending, {UpstreamBroken, None})
        for other in told[1:]:
            self.assertEqual(
                (other.status, other.headers, other.body, other.ending),
                (
                    first.status,
                    first.headers,
                    first.body,
                    first.ending,
                ),
            )
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(st.sampled_from((b"GET", b"HEAD")), damaged(), CUTS)
    def test_pool(self, method: bytes, said: bytes, places: list[int]) -> None:
        """
        A connection is used again only after an answer to GET that was told to be whole and lets it live; and then nothing
        is left over on it that could pass for an answer to the next request.
        """
        for way in self.ways:
            bench = Bench(way.make)
            told = tell(bench, method, cut(said, places), "stay")
            if told.pooled:
                self.assertEqual((method, told.ending), (b"GET", ResponseDone))
                self.assertNotIn((b"Connection", b"close"), told.headers)
                self.assertEqual(bench.peers[0].received.count(b" HTTP/1.1\r\n"), 2)
                bench.peers[0].say(b"HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n")
                self.assertEqual([self.successResultOf(bench.last).code], [299])
            self.assertEqual(bench.leftovers(), [])
