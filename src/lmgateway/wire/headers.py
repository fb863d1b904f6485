# -*- test-case-name: tests.wire.test_headers -*-
"""
Header fields that stay as they are, in the shape that Twisted's HTTP client API takes.

treq and the agents that it stacks up add fields of their own (``Accept-Encoding: gzip``), decode what they recognise, and
spell names their way. A proxy must do none of that, so the fields that cross it are handed around in a
:class:`VerbatimHeaders`, which tells but does not take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, AnyStr

from twisted.web.http_headers import Headers

from lmgateway.message import HeaderPairs


class VerbatimHeaders(Headers):
    """
    Header fields as they stand on the wire: order, spelling and repetition kept, and never changed.

    Additions and removals are ignored on purpose: what an agent between us and the wire would like to say on its own
    account is not sent. ``Content-Encoding`` is not told by name, so that nothing on the way decodes a body that is only
    passing through; it is in :attr:`pairs` like every other field.
    """

    def __init__(self, pairs: HeaderPairs) -> None:  # what the base class would keep them in is never asked for
        self.pairs = pairs

    def copy(self) -> VerbatimHeaders:
        """Return itself, since it never changes."""
        return self

    def hasHeader(self, name: AnyStr) -> bool:
        """Whether there is a field of this name."""
        return bool(self._values(name))

    def getRawHeaders(self, name: AnyStr, default: Any = None) -> Any:
        """Every value of a field, in order, or ``default``; ``Content-Encoding`` is not told."""
        values = self._values(name)
        if not values:
            return default
        return [value.decode("utf-8", "replace") for value in values] if isinstance(name, str) else values

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Each pair in its own right."""
        return ((name, [value]) for name, value in self.pairs)

    def addRawHeader(self, name: str | bytes, value: str | bytes) -> None:
        """Change nothing."""

    def setRawHeaders(self, name: str | bytes, values: Sequence[str | bytes]) -> None:
        """Change nothing."""

    def removeHeader(self, name: AnyStr) -> None:
        """Change nothing."""

    def _values(self, name: str | bytes) -> list[bytes]:
        wanted = (name.encode("latin-1") if isinstance(name, str) else name).lower()
        if wanted == b"content-encoding":
            return []
        return [value for spelled, value in self.pairs if spelled.lower() == wanted]
