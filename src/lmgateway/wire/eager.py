# -*- test-case-name: tests.wire.test_eager -*-
"""
Writing at once.

``transport.write`` of a TCP connection only remembers the data, asks the reactor to watch for room, and sends when the
reactor has come round: two system calls and one turn more than sending needs. While nothing is waiting, the kernel almost
always has room, so what is to be written is offered to it first; what it does not take goes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def eagerWriter(transport: Any) -> Callable[[bytes], None]:
    """
    Give the fastest way to write to a transport, in order: for plain TCP at once, for all others their own ``write``.

    :param transport: of a connection that is made.
    """
    if not isinstance(transport, Connection) or getattr(transport, "TLS", False):
        return transport.write  # type: ignore[no-any-return]  # of whatever transport it is

    def write(data: bytes) -> None:
        # What waits must go first. A connection that is closing takes nothing any more; its own write knows that.
        if not transport.dataBuffer and not transport._tempDataBuffer and transport.connected:  # noqa: SLF001 - no other way to ask
            sent = transport.writeSomeData(data)
            if isinstance(sent, int):
                if sent == len(data):
                    return
                data = data[sent:]
        transport.write(data)

    return write
