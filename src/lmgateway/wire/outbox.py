# -*- test-case-name: tests.wire.test_outbox -*-
"""
What goes downstream: a head together with the first piece of its body, everything after that at once.
"""

from __future__ import annotations

from typing import Any

from lmgateway.wire.eager import eagerWriter


class Outbox:
    """
    Writes what is said on one connection, in order.

    :param transport: of a connection that is made.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._write = eagerWriter(transport)
        self._held: list[bytes] = []
        self._isShut = False

    def hold(self, head: bytes) -> None:
        """Hold a head back until there is a body to go with it, or :meth:`flush`: one write instead of two."""
        self._held.append(head)

    def write(self, data: bytes) -> None:
        """Write a piece, with the head before it where that still waits."""
        if self._held:
            self._held.append(data)
            self.flush()
        elif not self._isShut:
            self._write(data)

    def flush(self) -> None:
        """Write what is held back."""
        if self._held:
            held, self._held = self._held, []
            if not self._isShut:
                self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def shut(self) -> None:
        """Write nothing any more: the connection is being closed."""
        self._isShut = True
