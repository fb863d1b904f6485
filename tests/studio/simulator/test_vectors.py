"""Embeddings: of length 1, the same for the same text, different for different ones."""

from __future__ import annotations

import base64
import struct

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.vectors import packed, vector
from twisted.trial.unittest import SynchronousTestCase


class VectorTests(SynchronousTestCase):
    @given(st.text(st.characters()), st.integers(1, 800))
    def test_length(self, text: str, dimensions: int) -> None:
        """Whatever the text, lone surrogates included, its vector has as many numbers as wanted and the length 1."""
        numbers = vector(text, dimensions)
        self.assertEqual(len(numbers), dimensions)
        self.assertAlmostEqual(sum(number * number for number in numbers), 1.0)

    @given(st.text(), st.text())
    def test_identity(self, one: str, other: str) -> None:
        """Two vectors are the same exactly if their texts are."""
        self.assertEqual(vector(one, 16) == vector(other, 16), one == other)

    def test_packed(self) -> None:
        """In base64 a vector is 32-bit floats, little-endian."""
        numbers = vector("x", 8)
        unpacked = struct.unpack("<8f", base64.b64decode(packed(numbers)))
        for number, other in zip(numbers, unpacked, strict=True):
            self.assertAlmostEqual(number, other, places=6)
