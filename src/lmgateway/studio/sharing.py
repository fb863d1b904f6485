# -*- test-case-name: tests.studio.test_sharing -*-
"""
Something that is done once, for all who wait for it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.errors import GatewayError

T = TypeVar("T")

_log = Logger()


class Shared(Generic[T]):
    """
    The result of something, to be waited for by any number. Who leaves takes it from nobody else, and does not undo it.

    :ivar isOver: whether there is a result.
    """

    def __init__(self) -> None:
        self.isOver = False
        self._result: T | Failure | None = None
        self._waiting: list[Deferred[T]] = []

    def run(self, doing: Coroutine[Any, Any, T]) -> None:
        """Do it. To be called once."""
        Deferred.fromCoroutine(doing).addBoth(self._tell)

    def wait(self) -> Deferred[T]:
        """Wait for the result, or have it at once. Cancelling ends the waiting, and nothing else."""
        if self.isOver:
            # What is over has a result, though its type does not know.
            return fail(self._result) if isinstance(self._result, Failure) else succeed(self._result)  # type: ignore[arg-type]
        waiter: Deferred[T] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def _tell(self, result: T | Failure) -> None:
        self.isOver = True
        self._result = result
        waiting, self._waiting = self._waiting, []
        if not waiting and isinstance(result, Failure) and not result.check(GatewayError, CancelledError):
            _log.failure("Defect in what nobody waits for any more", result)
        for waiter in waiting:
            waiter.callback(result)


def shared(doing: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Do something to its end, whether or not whoever wants it waits for that."""
    whole: Shared[T] = Shared()
    whole.run(doing)
    return whole.wait()
