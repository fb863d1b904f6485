"""LM Studio's sentence for paths that it does not know: found in any cutting, and nothing else taken for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.catchall import LOOK_AT, UnexpectedEndpoint
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES, cut

SENTENCE = b'{"error":"Unexpected endpoint or method. (GET /v1/nonsense)"}'

SPELLINGS = (
    SENTENCE,
    b'{"error": "Unexpected endpoint or method. (GET /v1/nonsense). Returning 200 anyway"}',
    b'{\n  "error": "Unexpected endpoint or method. (POST /)"\n}',
    b'\r\n\t { "error" :\n "Unexpected endpoint or method. (',
)

OTHERS = (
    b"",
    b"{}",
    b"[]",
    b'{"error":"Unexpected',
    b'{"error":"unexpected endpoint or method. (GET /)"}',
    b'{"error":{"message":"Unexpected endpoint or method."}}',
    b'{"object":"list","error":"Unexpected endpoint or method."}',
    b'x{"error":"Unexpected endpoint or method."}',
    b"data: " + SENTENCE,
    b"RIFF\x00\x00\x00\x00WAVE",
    b" " * (LOOK_AT + 1) + SENTENCE,
)


def verdict(pieces: list[bytes]) -> bool:
    """What is found, an answer that ends before it is certain being none of it."""
    endpoint = UnexpectedEndpoint()
    for piece in pieces:
        found = endpoint.feed(piece)
        if found is not None:
            return found
    return False


class UnexpectedEndpointTests(SynchronousTestCase):
    def test_found(self) -> None:
        """The sentence is found in each spelling, with the first piece that holds all of it."""
        for spelling in SPELLINGS:
            self.assertIs(UnexpectedEndpoint().feed(spelling), True, spelling)

    def test_others(self) -> None:
        """No other answer is taken for it."""
        for other in OTHERS:
            self.assertIs(verdict([other]), False, other)

    def test_certain(self) -> None:
        """What cannot be the sentence any more is told with its first byte that says so; what still can waits."""
        self.assertIs(UnexpectedEndpoint().feed(b"["), False)
        self.assertIs(UnexpectedEndpoint().feed(b'{"er'), None)
        self.assertIs(UnexpectedEndpoint().feed(b'{"ero'), False)

    def test_bounded(self) -> None:
        """White space, however much, is not waited for without end."""
        endpoint = UnexpectedEndpoint()
        self.assertEqual([endpoint.feed(b" ") for _ in range(LOOK_AT)], [None] * (LOOK_AT - 1) + [False])

    @given(st.one_of(st.sampled_from(SPELLINGS + OTHERS), st.binary()), st.lists(st.integers(0, 600), max_size=6))
    def test_cutting(self, body: bytes, places: list[int]) -> None:
        """The verdict is the same wherever the answer is cut."""
        self.assertIs(verdict(cut(body, places)), verdict([body]))

    @given(st.integers(0, LOOK_AT * 2), st.lists(st.integers(0, 600), max_size=6))
    def test_cuttingSpace(self, spaces: int, places: list[int]) -> None:
        """Nor does it depend on where white space before the sentence is cut."""
        body = b" " * spaces + SENTENCE
        self.assertIs(verdict(cut(body, places)), verdict([body]))

    @given(JSON_VALUES)
    def test_json(self, value: str) -> None:
        """No other JSON is taken for it, whatever it says after a first member that is something else."""
        body = value.encode("utf-8", "surrogatepass")
        self.assertIs(verdict([body]), False)
        self.assertIs(verdict([b'{"id":' + body + b"," + SENTENCE[1:]]), False)
