# -*- test-case-name: tests.studio.test_service -*-
"""
LM Studio's models as the gateway knows and changes them: watched, loaded, unloaded, activated, and every change told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lmgateway.errors import GatewayError, NotFound
from lmgateway.exchange import Exchange
from lmgateway.interfaces import IActiveModel, IEventJournal, IExchangeListener, IModelManager
from lmgateway.inventory import NOTHING, Inventory, Management
from lmgateway.message import ActiveModel
from lmgateway.policy.instances import isResident
from lmgateway.policy.loading import CancelRequest, LoadRequest, UnloadRequest, completeOrder
from lmgateway.policy.model_names import KnownModels, meaning
from lmgateway.studio.changes import OutsideChanges
from lmgateway.studio.loads import Loaded, Loads, RunningLoad
from lmgateway.studio.sharing import shared
from lmgateway.studio.unloads import Unloaded, Unloads
from lmgateway.studio.watching import Choice, ModelWatch
from lmgateway.telemetry.upstreams import UpstreamState

CLOSE_SECONDS = 2.0
"""How long a connection to LM Studio may take to close in good order."""

Subscriber = Callable[[Inventory | None, Management | None], None]
"""Is told what LM Studio has and how that is known whenever either changes; None and None where nothing is known any more."""

_log = Logger()


@implementer(IExchangeListener)
class ModelService(Service):
    """
    Watches LM Studio's models, and changes them.

    It listens to inference requests: they tell when to look.

    :param choice: finds who manages LM Studio's models, each time that it was away.
    :param state: is told whether LM Studio answers.
    :param active: holds the active model.
    :param journal: is told of what happens.
    :param exchanges: gives the inference requests in flight.
    :param clock: all waiting is on it.
    :param defaultsFor: gives what a model is loaded with where a load does not say.
    """

    def __init__(
        self,
        choice: Choice,
        state: UpstreamState,
        active: IActiveModel,
        journal: IEventJournal,
        exchanges: Callable[[], Iterable[Exchange]],
        clock: IReactorTime,
        defaultsFor: Callable[[str], Mapping[str, Any]] = lambda _: NOTHING,
    ) -> None:
        self._active = active
        self._journal = journal
        self._clock = clock
        self.defaultsFor = defaultsFor
        self._changes = OutsideChanges()
        self._watch = ModelWatch(choice, state, clock, self._seen, self._letGo)
        self._loads = Loads(journal, clock, self.activate, self._loadBegun, self._loadEnded)
        self._unloads = Unloads(journal, clock, self._changes, self.deactivate, self._unloadEnded, exchanges)
        self._subscribers: list[Subscriber] = []
        self._told: tuple[Inventory | None, Management | None] = (None, None)
        self._seenResident: str | None = None
        self._closing: set[Deferred[None]] = set()

    # what is known

    @property
    def inventory(self) -> Inventory | None:
        """What LM Studio has, as it was last seen; None where it never was."""
        return self._watch.inventory

    @property
    def knownAt(self) -> float | None:
        """The Unix time at which that was seen."""
        return self._watch.knownAt

    @property
    def management(self) -> Management | None:
        """How models are managed; None while that is not known."""
        return self._watch.management

    @property
    def reason(self) -> str | None:
        """Why LM Studio could not be looked at the last time; or where it could, why models are managed as they are."""
        return self._watch.choice.reason if self._watch.error is None else self._watch.error.message

    @property
    def isStale(self) -> bool:
        """Whether what is known is from before LM Studio went down."""
        return self._watch.error is not None

    @property
    def currentLoad(self) -> RunningLoad | None:
        """The load that has been under way the longest."""
        return self._loads.oldest

    def isResident(self, active: ActiveModel | None) -> bool | None:
        """Tell whether a model is loaded; None where nobody knows, or there is none."""
        inventory = self._watch.inventory
        if active is None or inventory is None or self.isStale or self.management == "gateway":
            return None
        return isResident(inventory, active)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have somebody told of what is known, now if anything is, and whenever it changes."""
        self._subscribers.append(subscriber)
        if self._told != (None, None):
            subscriber(*self._told)

    def whyUnknown(self) -> GatewayError:
        """Make an error that says why nothing is known of LM Studio."""
        return self._watch.reason()

    # looking

    def wake(self) -> None:
        """Look soon: at once, unless that was done within the last second."""
        self._watch.wake()

    def look(self) -> Deferred[bool]:
        """
        Look now, for a client that asked for something unknown.

        :return: fires with whether it was looked at anew: not where that was done within the last second, or it is down.
        """
        return succeed(False) if self._watch.isFresh else self._watch.look()

    def refresh(self) -> Deferred[bool]:
        """Look now, for an admin; fires with whether LM Studio answered."""
        return self._watch.look()

    def replaceUpstream(self, choice: Choice, state: UpstreamState) -> None:
        """Manage another LM Studio's models from now on. What the one of before is loading, it loads."""
        self._changes.forget()
        self._seenResident = None
        self._watch.replace(choice, state)
        self._tell()

    # doing

    async def load(self, request: LoadRequest) -> Loaded | None:
        """
        Load a model, and activate it where that is asked for. Cancelling ends the waiting, not the load.

        :return: None where LM Studio offers no model management, and nothing was done.
        :raise GatewayError: it could not be loaded.
        """
        chosen = await self._watch.obtain()
        if chosen.management == "gateway":
            return None
        order = completeOrder(request.order, self.defaultsFor(request.order.modelKey))
        try:
            return await self._loads.load(chosen, order, request.defaultInference if request.activate else None)
        except NotFound as error:
            near = KnownModels(self.inventory or Inventory()).near(order.modelKey)
            raise NotFound(error.message + meaning(near), code=error.code) from None

    def cancelLoad(self, request: CancelRequest) -> int:
        """
        Cancel loads; whoever waits for one is told.

        :return: how many.
        :raise NotFound: none is under way.
        """
        cancelled = self._loads.cancel(request.modelKey, request.instanceId)
        if not cancelled:
            raise NotFound(f'The model "{request.modelKey}" is not being loaded. It may be loaded already.')
        return cancelled

    async def unload(self, request: UnloadRequest) -> Unloaded | None:
        """
        Unload an instance. Cancelling ends the waiting, not the unload.

        :return: None where LM Studio offers no model management, and nothing was done.
        :raise NotFound: there is no such instance.
        :raise Conflict: there are several, or it is answering requests, which are told.
        :raise GatewayError: it could not be unloaded.
        """
        if (await self._watch.obtain()).management == "gateway":
            return None
        await self._watch.look()
        chosen, inventory = self._watch.chosen, self._watch.inventory
        if chosen is None or inventory is None:
            raise self._watch.reason()
        return await self._unloads.unload(chosen, inventory, request, self._active.current())

    def activate(self, model: ActiveModel) -> Deferred[None]:
        """
        Make a model the one that requests without one are given, and tell of it.

        :return: fires once that is stored; fails with :class:`~lmgateway.errors.Unavailable` where it could not be, and nothing
            has changed. Cancelling ends the waiting, nothing else.
        """
        return shared(self._activate(model))

    def deactivate(self) -> Deferred[ActiveModel | None]:
        """Have no active model; fires with the one that was. Otherwise like :meth:`activate`."""
        return shared(self._deactivate())

    @property
    def active(self) -> ActiveModel | None:
        """The active model."""
        return self._active.current()

    # IExchangeListener

    def exchangeBegun(self, exchange: Exchange) -> None:
        """Look more often while requests come."""
        self._watch.asked()

    def firstTokenPassed(self, exchange: Exchange) -> None:
        """Know no more by this than before."""

    def exchangeEnded(self, exchange: Exchange) -> None:
        """Look soon where a request failed, or where one did not though LM Studio was thought to be down."""
        if exchange.ending == "failed" or (exchange.status or 0) >= 400 or self.isStale:
            self._watch.wake()

    # life

    def startService(self) -> None:
        """Watch from now on."""
        super().startService()
        self._watch.start()

    async def _stop(self) -> None:
        self._watch.stop()
        for closing in list(self._closing):
            await closing

    def stopService(self) -> Deferred[None]:
        """Watch no more. A load that is under way is LM Studio's business from now on."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    # what happens

    def _seen(self, inventory: Inventory) -> None:
        if self.management == "gateway":
            # What such an LM Studio lists says nothing of what is loaded.
            self._changes.forget()
            self._seenResident = None
        else:
            changes = self._changes.compare(inventory.loaded)
            if changes:
                self._journal.record("model_state", {"loaded": changes.loaded, "unloaded": changes.unloaded})
            self._followActive()
        self._tell()

    def _followActive(self) -> None:
        """Tell once when the active model is loaded no more."""
        active = self._active.current()
        name = None if active is None else active.modelName
        if self.isResident(active):
            self._seenResident = name
        elif active is not None and self._seenResident == name and not self._unloads.whoUnloads():
            self._seenResident = None
            error = f'The active model "{name}" is no longer loaded in LM Studio. It stays active: the next request for it has LM Studio load it again, unless its "Just-in-time model loading" is off.'
            self._journal.record(
                "error",
                {
                    "operation": "active_model",
                    "modelKey": active.modelKey,
                    "instanceId": active.instanceId,
                    "error": error,
                },
            )

    def _tell(self) -> None:
        known = (self._watch.inventory, self._watch.management)
        if known == self._told:
            return
        self._told = known
        for subscriber in self._subscribers:
            try:
                subscriber(*known)
            except Exception:  # noqa: BLE001 - a defect of one must not end the watching
                _log.failure("Defect in what follows LM Studio's models")

    async def _activate(self, model: ActiveModel) -> None:
        await self._active.activate(model)
        told = {
            "modelKey": model.modelKey,
            "instanceId": model.instanceId,
            "defaultInference": dict(model.defaultInference),
        }
        if model.loadConfig:
            told["loadConfig"] = dict(model.loadConfig)
        self._journal.record("model_activate", told)

    async def _deactivate(self) -> ActiveModel | None:
        before = self._active.current()
        await self._active.deactivate()
        told = {"modelKey": before.modelKey if before else None, "instanceId": before.instanceId if before else None}
        self._journal.record("model_deactivate", {**told, "defaultInference": {}})
        return before

    def _loadBegun(self, load: RunningLoad) -> None:
        self._changes.loading(load.order.modelKey)

    def _loadEnded(self, load: RunningLoad, identifier: str | None) -> None:
        self._changes.loaded(load.order.modelKey, identifier)
        self._letGo(load.chosen)
        self._watch.outdate()

    def _unloadEnded(self, chosen: IModelManager) -> None:
        self._letGo(chosen)
        self._watch.outdate()

    def _letGo(self, chosen: IModelManager) -> None:
        """Close whoever is asked nothing any more, once what they are doing is done."""
        if chosen is self._watch.chosen or chosen in self._loads.whoLoads() or chosen in self._unloads.whoUnloads():
            return
        closing = maybeDeferred(chosen.close).addTimeout(CLOSE_SECONDS, self._clock)
        self._closing.add(closing)
        closing.addErrback(_notClosed).addBoth(lambda _: self._closing.discard(closing))


def _notClosed(reason: Failure) -> None:
    _log.warn("A connection to LM Studio did not close in good order: {reason}", reason=reason.getErrorMessage())
