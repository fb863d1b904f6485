"""The head of an answer by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.message import HeaderPairs
from lmgateway.wire.head import answerHead
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import TOKENS

DATE = b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n"

FIELDS = st.lists(st.tuples(TOKENS | st.just(b"dAtE"), st.binary(max_size=9).map(bytes.hex).map(str.encode))).map(tuple)


class AnswerHeadTests(SynchronousTestCase):
    @given(FIELDS, st.sampled_from((None, b"close", b"keep-alive")))
    def test_spelled(self, headers: HeaderPairs, connection: bytes | None) -> None:
        """Every field stands there as it is given, in order, before what the gateway adds; and one Date at least."""
        wire = answerHead(200, b"OK", headers, DATE, "req_1", connection)
        self.assertTrue(wire.endswith(b"\r\n\r\n"))
        statusLine, *lines = wire[:-4].split(b"\r\n")
        self.assertEqual(statusLine, b"HTTP/1.1 200 OK")
        own = [] if any(name == b"dAtE" for name, _ in headers) else [DATE[:-2]]
        own += [b"X-Request-Id: req_1"] + ([b"Connection: " + connection] if connection else [])
        self.assertEqual(lines, [name + b": " + value for name, value in headers] + own)

    def test_noReason(self) -> None:
        """An empty reason leaves its space."""
        self.assertTrue(answerHead(299, b"", (), DATE, "req_1", None).startswith(b"HTTP/1.1 299 \r\n"))
