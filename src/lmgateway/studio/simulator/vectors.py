# -*- test-case-name: tests.studio.simulator.test_vectors -*-
"""Embeddings that mean nothing, but are the same for the same text and of length 1. Pure."""

from __future__ import annotations

import base64
import hashlib
import math
import struct


def vector(text: str, dimensions: int) -> list[float]:
    """
    The embedding of a text.

    :param dimensions: how many numbers, at least 1.
    :return: numbers whose squares sum to 1.
    """
    digest = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions * 2)
    # An odd number is never 0, so that no text has a vector without a length.
    numbers = [word | 1 for word in struct.unpack(f"<{dimensions}h", digest)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def packed(numbers: list[float]) -> str:
    """A vector as OpenAI's ``encoding_format: "base64"`` has it: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode("ascii")
