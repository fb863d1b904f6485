# -*- test-case-name: tests.configuration.test_descriptors -*-
"""
How many connections this process can have open: what the operating system says, before a client finds out.
"""

from __future__ import annotations

RESERVED = 64
"""Descriptors that are not for connections: listeners, the state, logs, pipes, and what a library opens for a moment."""

FEWEST = 16
"""Connections that are always tried, however few descriptors there are."""

MOST = 65_536
"""Connections beyond which nobody means it: each takes memory, whatever the descriptor limit says."""

WINDOWS_SOCKETS = 512
"""Sockets that ``select`` takes on Windows, which is what Twisted waits with there; one more, and it fails for all of them."""


def connectionsWithin(descriptors: int | None) -> int:
    """
    Tell how many clients may be connected.

    A request that is answered takes two descriptors, its client's and one to LM Studio; so it is half of what there is.

    :param descriptors: that the process may have open; None where nothing limits them.
    """
    if descriptors is None:
        return MOST
    return min(max((descriptors - RESERVED) // 2, FEWEST), MOST)


def mostConnections() -> int:
    """Tell how many clients may be connected to this process, by its ``RLIMIT_NOFILE``."""
    try:
        import resource
    except ImportError:  # Windows
        return connectionsWithin(WINDOWS_SOCKETS)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connectionsWithin(None if soft == resource.RLIM_INFINITY else soft)
