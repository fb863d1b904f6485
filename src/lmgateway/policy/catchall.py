# -*- test-case-name: tests.policy.test_catchall -*-
"""
LM Studio's way to say that it does not know a path.

It answers ``200`` with ``{"error": "Unexpected endpoint or method. (GET /path)"}``
(lmstudio-bug-tracker#1323). Clients believe the status, so the gateway makes it a 404; the body stays as it is.
"""

from __future__ import annotations

_START = b'{"error":"Unexpectedendpointormethod.'

LOOK_AT = 256
"""Bytes of an answer that decide, white space included."""


class UnexpectedEndpoint:
    """Tells, from the first bytes of a JSON answer, whether it is that sentence."""

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: bytes) -> bool | None:
        """
        Look at more of the answer.

        :return: True or False once that is certain, None while it is not.
        """
        # Never more than that, or the verdict would depend on how the answer was cut.
        self._seen = (self._seen + data[:LOOK_AT])[:LOOK_AT]
        squeezed = b"".join(self._seen.split())
        if squeezed.startswith(_START):
            return True
        if _START.startswith(squeezed) and len(self._seen) < LOOK_AT:
            return None
        return False
