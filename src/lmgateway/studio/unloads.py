# -*- test-case-name: tests.studio.test_unloads -*-
"""
Unloading instances: not while they answer, unless that is wanted, and to the end, whoever leaves meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from lmgateway.errors import Conflict, GatewayError, Unavailable
from lmgateway.exchange import Exchange
from lmgateway.interfaces import IEventJournal, IModelManager
from lmgateway.inventory import Inventory, LoadedModel
from lmgateway.message import ActiveModel
from lmgateway.policy.instances import answering, instanceOf, isResident, without
from lmgateway.policy.loading import UnloadRequest
from lmgateway.studio.changes import OutsideChanges
from lmgateway.studio.sharing import Shared
from lmgateway.telemetry.journal import isoTime

Deactivate = Callable[[], "Deferred[ActiveModel | None]"]
"""Has no model active any more; fails with :class:`~lmgateway.errors.Unavailable` where that could not be stored."""


class Unloaded(Struct, frozen=True):
    """
    What came of an unload.

    :param instance: what was unloaded.
    :param deactivated: whether it was the active model, and is no more.
    :param totalTimeMs: how long it took.
    :param trouble: why it is active still; None where it is not.
    """

    instance: LoadedModel
    deactivated: bool
    totalTimeMs: float
    trouble: str | None


class Unloads:
    """
    Every unload that is under way.

    :param journal: is told of each step.
    :param clock: tells the time.
    :param changes: is told what is the gateway's own doing.
    :param deactivate: has no model active any more.
    :param ended: told of each as it ends.
    :param exchanges: gives the inference requests in flight.
    """

    def __init__(
        self,
        journal: IEventJournal,
        clock: IReactorTime,
        changes: OutsideChanges,
        deactivate: Deactivate,
        ended: Callable[[IModelManager], None],
        exchanges: Callable[[], Iterable[Exchange]],
    ) -> None:
        self._running: dict[str, tuple[IModelManager, Shared[Unloaded]]] = {}
        self._journal = journal
        self._clock = clock
        self._changes = changes
        self._deactivate = deactivate
        self._ended = ended
        self._exchanges = exchanges

    def whoUnloads(self) -> list[IModelManager]:
        """Those who are unloading something."""
        return [chosen for chosen, _ in self._running.values()]

    def unload(
        self, chosen: IModelManager, inventory: Inventory, request: UnloadRequest, active: ActiveModel | None
    ) -> Deferred[Unloaded]:
        """
        Unload an instance, or wait for that which is under way.

        :param inventory: what is loaded, as it was seen just now.
        :param active: the active model, which is deactivated when nothing is left of it.
        :return: fires once it is gone. Cancelling ends the waiting, not the unload. Fails as
            :meth:`IModelManager.unload <lmgateway.interfaces.IModelManager.unload>` does.
        :raise NotFound: there is no such instance.
        :raise Conflict: it could be several, or it is answering requests.
        """
        instance = instanceOf(inventory, request.modelKey, request.instanceId)
        if not request.force:
            self._refuseWhileAnswering(inventory, instance)
        running = self._running.get(instance.identifier)
        if running is not None:
            return running[1].wait()
        isActive = active is not None and isResident(inventory, active)
        isLast = active is not None and not isResident(without(inventory, instance.identifier), active)
        shared: Shared[Unloaded] = Shared()
        self._running[instance.identifier] = chosen, shared
        shared.run(self._unload(chosen, instance, deactivates=isActive and isLast))
        return shared.wait()

    def _refuseWhileAnswering(self, inventory: Inventory, instance: LoadedModel) -> None:
        busy = answering(inventory, instance, self._exchanges())
        if busy:
            many = f"{len(busy)} requests" if len(busy) > 1 else "a request"
            raise Conflict(
                f'"{instance.identifier}" is answering {many}, which would be broken off. Wait, or say "force": true.',
                code="instance_busy",
                details=[
                    {
                        "requestId": each.requestId,
                        "key": each.key,
                        "startedAt": isoTime(each.startedAt),
                        "model": each.model,
                    }
                    for each in busy
                ],
            )

    async def _unload(self, chosen: IModelManager, instance: LoadedModel, *, deactivates: bool) -> Unloaded:
        startedAt = self._clock.seconds()
        told = {"modelKey": instance.modelKey, "instanceId": instance.identifier}
        self._journal.record("model_unload_start", told)
        self._changes.unloading(instance.identifier)
        isGone = False
        try:
            await chosen.unload(instance.identifier)
            isGone = True
            return await self._complete(instance, startedAt, deactivates=deactivates)
        except GatewayError as error:
            self._journal.record("error", {"operation": "model_unload", **told, "error": error.message})
            raise
        finally:
            del self._running[instance.identifier]
            self._changes.unloaded(instance.identifier, isGone=isGone)
            self._ended(chosen)

    async def _complete(self, instance: LoadedModel, startedAt: float, *, deactivates: bool) -> Unloaded:
        """Tell that it is gone, and have it active no more."""
        totalTimeMs = round((self._clock.seconds() - startedAt) * 1000, 1)
        told = {"modelKey": instance.modelKey, "instanceId": instance.identifier, "totalTimeMs": totalTimeMs}
        self._journal.record("model_unload_complete", told)
        trouble = None
        if deactivates:
            try:
                await self._deactivate()
            except Unavailable as error:
                trouble = error.message
        return Unloaded(instance, deactivates and trouble is None, totalTimeMs, trouble)
