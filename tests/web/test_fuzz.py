"""A whole gateway between damaged requests, cut up at random, and a strict upstream; and between a client and damaged answers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.web.fuzzing import CUTS, ENDS, PIPELINES, SOUND, checkClient, checkUpstream
from tests.web.support import requestBytes
from tests.wire import test_answer_fuzz


class ClientTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(PIPELINES, CUTS)
    def test_any(self, wire: bytes, places: list[int]) -> None:
        """
        Whatever pipelined requests become: what goes upstream is canonical, each is answered once and in its order, nothing
        follows a refusal that closes, and nothing is raised.
        """
        statuses = checkClient(wire, places)
        self.assertNotIn(500, statuses)
        self.assertNotIn(501, statuses)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_sound(self) -> None:
        """Sound ones are all answered; a refusal among them is the last."""
        first, second = requestBytes("GET", "/v1/a"), requestBytes("GET", "/v1/b")
        self.assertEqual(checkClient(first + second, [3, 90]), [200, 200])
        self.assertEqual(checkClient(first + b"GET /v1/b HTTP/1.1\r\n\r\n" + second, []), [200, 400])


class UpstreamTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(test_answer_fuzz.damaged(), CUTS, ENDS, st.booleans())
    def test_any(self, said: bytes, places: list[int], end: str, isStream: bool) -> None:  # noqa: FBT001 - drawn
        """Whatever LM Studio says, the client gets one well-formed answer at the most, and nothing is raised."""
        checkUpstream(said, places, end, isStream=isStream, isBroken=False)
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=60)
    @given(SOUND, st.data(), CUTS, st.sampled_from(("finish", "reset")), st.booleans())
    def test_cut(self, said: bytes, data: st.DataObject, places: list[int], end: str, isStream: bool) -> None:  # noqa: FBT001 - drawn
        """An answer that ends before its end is never passed off as whole, wherever it breaks off."""
        checkUpstream(said[: data.draw(st.integers(0, len(said) - 3))], places, end, isStream=isStream, isBroken=True)
        self.assertEqual(self.flushLoggedErrors(), [])
