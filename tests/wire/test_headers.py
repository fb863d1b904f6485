"""Header fields that nobody on the way may touch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.message import HeaderPairs
from lmgateway.wire.headers import VerbatimHeaders
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from tests.strategies import HEADER_NAMES, HEADER_PAIRS, HEADER_VALUES


class VerbatimHeadersTests(SynchronousTestCase):
    @given(HEADER_PAIRS)
    def test_asTheyStand(self, pairs: HeaderPairs) -> None:
        """Order, spelling and repetition are kept, and every field is told once."""
        told = tuple((name, value) for name, values in VerbatimHeaders(pairs).getAllRawHeaders() for value in values)
        self.assertEqual(told, pairs)

    @given(HEADER_PAIRS, HEADER_NAMES, HEADER_VALUES)
    def test_nobodyChanges(self, pairs: HeaderPairs, name: bytes, value: bytes) -> None:
        """Whatever an agent adds, sets or removes, nothing changes."""
        headers = VerbatimHeaders(pairs)
        headers.addRawHeader(name, value)
        headers.setRawHeaders(name, [value])
        headers.removeHeader(name)
        for spelled, _ in pairs:
            headers.removeHeader(spelled)
        self.assertEqual(headers.pairs, pairs)
        self.assertIs(headers.copy(), headers)

    @given(HEADER_PAIRS, HEADER_NAMES)
    def test_lookedUp(self, pairs: HeaderPairs, name: bytes) -> None:
        """A look-up by name, in any case, gives every value in order; but Content-Encoding is not told."""
        headers = VerbatimHeaders(pairs)
        wanted = [value for spelled, value in pairs if spelled.lower() == name.lower()]
        if name.lower() == b"content-encoding":
            wanted = []
        self.assertEqual(headers.getRawHeaders(name.swapcase(), []), wanted)
        self.assertEqual(headers.hasHeader(name), bool(wanted))
        if not wanted:
            self.assertIsNone(headers.getRawHeaders(name))

    @given(st.lists(st.tuples(st.sampled_from((b"X", b"Y", b"Z")), HEADER_VALUES)).map(tuple))
    def test_text(self, pairs: HeaderPairs) -> None:
        """A look-up by text gives text, and never fails over bytes that are not UTF-8."""
        texts = VerbatimHeaders(pairs).getRawHeaders("x", [])
        values = [value for name, value in pairs if name == b"X"]
        self.assertEqual(len(texts), len(values))
        for text, value in zip(texts, values, strict=True):
            self.assertIsInstance(text, str)
            try:
                self.assertEqual(text, value.decode())
            except UnicodeDecodeError:
                self.assertIn("\N{REPLACEMENT CHARACTER}", text)

    def test_contentEncoding(self) -> None:
        """A coding is on the wire, yet nobody on the way is told of it, so nobody undoes it."""
        headers = VerbatimHeaders(((b"Content-Encoding", b"gzip"),))
        self.assertFalse(headers.hasHeader(b"content-encoding"))
        self.assertEqual(headers.getRawHeaders("Content-Encoding", "none"), "none")
        self.assertEqual(list(headers.getAllRawHeaders()), [(b"Content-Encoding", [b"gzip"])])

    def test_headers(self) -> None:
        """It can stand where Twisted's client takes Headers."""
        self.assertIsInstance(VerbatimHeaders(()), Headers)
