# -*- test-case-name: tests.studio.test_loads -*-
"""
Loading models: each order once, however many ask for it, and to its end, whoever leaves meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from lmgateway.errors import Conflict, GatewayError, Unavailable
from lmgateway.interfaces import IEventJournal, IModelManager
from lmgateway.inventory import LoadOrder, LoadOutcome
from lmgateway.message import ActiveModel
from lmgateway.studio.sharing import Shared

PROGRESS_SECONDS = 0.25
"""Between two events that tell how far a load is. It is told each whole percent once at most."""

LoadKey = tuple[str, str | None, str, int | None]
"""What makes two orders the same: the model, the instance, the configuration and the TTL."""


Activate = Callable[[ActiveModel], "Deferred[None]"]
"""Makes a model the active one; fails with :class:`~lmgateway.errors.Unavailable` where that could not be stored."""


class Loaded(Struct, frozen=True):
    """
    What came of a load.

    :param order: what was ordered, the defaults of the settings included.
    :param outcome: what LM Studio made of it.
    :param activated: whether requests that name no model go to it now.
    :param totalTimeMs: how long it took.
    :param trouble: why it could not be activated; None where it was, or was not to be.
    """

    order: LoadOrder
    outcome: LoadOutcome
    activated: bool
    totalTimeMs: float
    trouble: str | None


class RunningLoad:
    """
    A load that is under way.

    :param order: what is being loaded.
    :param chosen: who loads it.
    :param startedAt: Unix time.
    :ivar percent: how far it is, to one decimal; None while nobody has told.
    :ivar defaultInference: the default parameters to activate it with; None where it is not to be activated. Of several
        who ask for the same load the last one decides, as if each had activated it in turn.
    """

    def __init__(self, order: LoadOrder, chosen: IModelManager, startedAt: float) -> None:
        self.order = order
        self.chosen = chosen
        self.startedAt = startedAt
        self.percent: float | None = None
        self.defaultInference: Mapping[str, Any] | None = None
        self.shared: Shared[Loaded] = Shared()
        self.loading: Deferred[LoadOutcome] | None = None
        self.toldAt = 0.0
        self.toldPercent = -1


class Loads:
    """
    Every load that is under way.

    :param journal: is told of each step.
    :param clock: tells the time.
    :param activate: makes a model active.
    :param begun: told of each load as it begins.
    :param ended: told of each as it ends, and of the instance where there is one.
    """

    def __init__(
        self,
        journal: IEventJournal,
        clock: IReactorTime,
        activate: Activate,
        begun: Callable[[RunningLoad], None],
        ended: Callable[[RunningLoad, str | None], None],
    ) -> None:
        self.running: dict[LoadKey, RunningLoad] = {}
        self._journal = journal
        self._clock = clock
        self._activate = activate
        self._begun = begun
        self._ended = ended

    @property
    def oldest(self) -> RunningLoad | None:
        """The load that has been under way the longest."""
        return next(iter(self.running.values()), None)

    def whoLoads(self) -> list[IModelManager]:
        """Those who are loading something."""
        return [load.chosen for load in self.running.values()]

    def load(
        self, chosen: IModelManager, order: LoadOrder, defaultInference: Mapping[str, Any] | None
    ) -> Deferred[Loaded]:
        """
        Load a model, or wait for the same load that is under way.

        :param defaultInference: the default parameters to activate it with; None where it is not to be activated.
        :return: fires once it is loaded, and active where it is to be. Cancelling ends the waiting, not the load. Fails as
            :meth:`IModelManager.load <lmgateway.interfaces.IModelManager.load>` does, and with
            :class:`~lmgateway.errors.Conflict` when somebody cancels it.
        """
        key = keyOf(order)
        running = self.running.get(key)
        if running is None:
            running = RunningLoad(order, chosen, self._clock.seconds())
            self.running[key] = running
            self._begun(running)
            running.defaultInference = defaultInference
            running.shared.run(self._load(key, running))
        elif defaultInference is not None:
            running.defaultInference = defaultInference
        return running.shared.wait()

    def cancel(self, modelKey: str, instanceId: str | None) -> int:
        """
        Cancel loads.

        :param instanceId: what the instance was to be called; None for a load that did not say, or else for all of the model.
        :return: how many.
        """
        loads = [load for load in self.running.values() if load.order.modelKey == modelKey]
        meant = [load for load in loads if load.order.instanceId == instanceId]
        if instanceId is None and not meant:
            meant = loads
        # What is loaded, and being activated, is no longer to be cancelled.
        waiting = [load.loading for load in meant if load.loading is not None]
        for loading in waiting:
            loading.cancel()
        return len(waiting)

    async def _load(self, key: LoadKey, running: RunningLoad) -> Loaded:
        order = running.order
        told = {"modelKey": order.modelKey, "instanceId": order.instanceId}
        self._journal.record("model_load_start", {**told, "loadConfig": dict(order.loadConfig)})
        identifier: str | None = None
        try:
            outcome = await self._outcomeOf(running)
            identifier = outcome.instanceId
            return await self._complete(running, outcome)
        except GatewayError as error:
            self._journal.record("error", {"operation": "model_load", **told, "error": error.message})
            raise
        finally:
            del self.running[key]
            self._ended(running, identifier)

    async def _outcomeOf(self, running: RunningLoad) -> LoadOutcome:
        """
        Have it loaded.

        :raise GatewayError: it was not.
        """
        loading = running.loading = running.chosen.load(running.order, partial(self._progressed, running))
        try:
            return await loading
        except CancelledError:
            msg = f'The load of the model "{running.order.modelKey}" was cancelled.'
            raise Conflict(msg, code="load_cancelled") from None
        finally:
            running.loading = None

    def _progressed(self, running: RunningLoad, fraction: float) -> None:
        if running.shared.isOver or not 0 <= fraction <= 1:
            return
        percent = running.percent = round(fraction * 100, 1)
        now = self._clock.seconds()
        if int(percent) == running.toldPercent or now - running.toldAt < PROGRESS_SECONDS:
            return
        running.toldAt, running.toldPercent = now, int(percent)
        order = running.order
        told = {"modelKey": order.modelKey, "instanceId": order.instanceId}
        self._journal.record("model_load_progress", {**told, "progress": percent, "progressRaw": fraction})

    async def _complete(self, running: RunningLoad, outcome: LoadOutcome) -> Loaded:
        """Activate what is loaded, where somebody wants that, and tell."""
        order = running.order
        trouble = None
        inference = running.defaultInference
        if inference is not None:
            try:
                await self._activate(ActiveModel(order.modelKey, outcome.instanceId, inference))
            except Unavailable as error:
                trouble = error.message
        activated = inference is not None and trouble is None
        totalTimeMs = round((self._clock.seconds() - running.startedAt) * 1000, 1)
        self._journal.record(
            "model_load_complete",
            {
                "modelKey": order.modelKey,
                "instanceId": outcome.instanceId,
                "loadConfig": dict(outcome.loadConfig),
                "activated": activated,
                "totalTimeMs": totalTimeMs,
            },
        )
        return Loaded(order, outcome, activated, totalTimeMs, trouble)


def keyOf(order: LoadOrder) -> LoadKey:
    """Give what an order has in common with those that ask for the same."""
    return order.modelKey, order.instanceId, json.dumps(order.loadConfig, sort_keys=True), order.ttlSeconds
