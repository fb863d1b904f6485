# -*- test-case-name: tests.wire.test_silence -*-
"""How long an upstream may say nothing."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class SilenceTimer:
    """
    Calls back once nothing came for too long.

    :param clock: whose seconds count.
    :param seconds: the silence that is allowed; 0 is any.
    :ivar expired: whether it did.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._call: IDelayedCall | None = None
        self.expired = False

    def allow(self, seconds: float) -> None:
        """Allow another silence from the next :meth:`start` on."""
        self._seconds = seconds

    def start(self, expired: Callable[[], None]) -> None:
        """Count from now on; ``expired`` is called at most once."""
        self.stop()
        if self._seconds:
            self._call = self._clock.callLater(self._seconds, self._expire, expired)

    def touch(self) -> None:
        """Something came: count from now again."""
        if self._call is not None:
            self._call.reset(self._seconds)

    def stop(self) -> None:
        """Count no more."""
        if self._call is not None:
            call, self._call = self._call, None
            call.cancel()

    def _expire(self, expired: Callable[[], None]) -> None:
        self._call = None
        self.expired = True
        expired()
