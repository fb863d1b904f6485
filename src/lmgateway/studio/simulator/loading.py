# -*- test-case-name: tests.studio.simulator.test_loading -*-
"""Waiting for a model to be loaded, as somebody does who asked for that and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from lmgateway.studio.simulator.errors import MODEL_UNLOADED
from lmgateway.studio.simulator.shelf import Instance, Shelf

STEPS = 20
"""How many times the progress of a load is told after its beginning."""


class LoadError(Exception):
    """
    A model was not loaded.

    :param cause: why not.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Loading:
    """
    One load.

    :param instance: what is being loaded, and stands on the shelf already.
    """

    def __init__(self, clock: IReactorTime, shelf: Shelf, instance: Instance) -> None:
        self._clock = clock
        self._shelf = shelf
        self._instance = instance
        self._began = clock.seconds()
        self._step: Deferred[None] | None = None
        self._evicted = False

    def evict(self) -> None:
        """The instance was unloaded before it was there."""
        self._evicted = True
        if self._step is not None:
            self._step.cancel()

    async def run(self, progress: Callable[[float], object]) -> None:
        """
        Wait for the end. Cancelling takes the instance off the shelf, unless somebody else is waiting for it, too.

        :param progress: is called with numbers that grow from 0 to 1.
        :raise LoadError: the load failed, or somebody unloaded the instance.
        """
        self._instance.users.add(self)
        try:
            await self._wait(progress)
        except CancelledError:
            if self._evicted:
                raise LoadError(MODEL_UNLOADED) from None
            self._instance.users.discard(self)
            if not self._instance.users:
                self._shelf.unload(self._instance)
            raise
        finally:
            self._instance.users.discard(self)
            self._instance.lastUsed = self._clock.seconds()

    async def _wait(self, progress: Callable[[float], object]) -> None:
        """Through all steps; a load that takes no time has but the first and the last."""
        seconds = self._instance.readyAt - self._began
        progress(0.0)
        for step in range(1, STEPS + 1) if seconds > 0 else (STEPS,):
            await self._sleep(self._began + seconds * step / STEPS - self._clock.seconds())
            if step == STEPS and self._instance.failure is not None:
                raise LoadError(self._instance.failure)
            progress(step / STEPS)

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._step = deferLater(self._clock, seconds)
            await self._step
