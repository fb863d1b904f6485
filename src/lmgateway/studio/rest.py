# -*- test-case-name: tests.studio.test_rest -*-
"""
LM Studio's models by its REST API, which came with LM Studio 0.4 (https://lmstudio.ai/docs/developer/rest).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from lmgateway.errors import GatewayError
from lmgateway.interfaces import IModelManager, IUpstream
from lmgateway.inventory import NOTHING, Inventory, LoadOrder, LoadOutcome, Management
from lmgateway.studio.asking import Asking
from lmgateway.studio.loadconfig import notApplied, toRest
from lmgateway.studio.rest_answers import Json, RestLoad, decodeAnswer, readInventory, readLoad, readUnload

MODELS = b"/api/v1/models"
LOAD = b"/api/v1/models/load"
UNLOAD = b"/api/v1/models/unload"

PATIENCE_SECONDS = 30.0
"""How long LM Studio may take over anything but a load, which takes as long as it takes."""


@implementer(IModelManager)
class RestManager:
    """
    Manages models by REST. It can set a part of the configuration only, no instance's name and no TTL.

    :param upstream: where LM Studio is; not closed with this.
    :param apiToken: LM Studio's own token, or None.
    :param clock: for how long LM Studio may be silent.
    """

    management: Management = "rest"

    def __init__(self, upstream: IUpstream, apiToken: str | None, clock: IReactorTime) -> None:
        self._asking = Asking(upstream, apiToken, clock)
        self._secrets = () if apiToken is None else (apiToken,)
        self._last: tuple[bytes, Inventory] | None = None

    def inventory(self) -> Deferred[Inventory]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return Deferred.fromCoroutine(self._inventory())

    def load(self, order: LoadOrder, progress: Callable[[float], None]) -> Deferred[LoadOutcome]:
        """See :class:`~lmgateway.interfaces.IModelManager`. REST tells of no progress."""
        return Deferred.fromCoroutine(self._load(order))

    def unload(self, identifier: str) -> Deferred[None]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return Deferred.fromCoroutine(self._unload(identifier))

    def close(self) -> Deferred[None]:
        """Nothing is open."""
        return succeed(None)

    async def _inventory(self) -> Inventory:
        held = await self._asking.ask(MODELS, seconds=PATIENCE_SECONDS)
        # Reading ten thousand models takes a tenth of a second, and mostly nothing has changed between two looks.
        if self._last is not None and self._last[0] == held.body:
            return self._last[1]
        inventory = readInventory(decodeAnswer(held.code, held.body, *self._secrets))
        self._last = held.body, inventory
        return inventory

    async def _load(self, order: LoadOrder) -> LoadOutcome:
        members, _ = toRest(order.loadConfig)
        body = {"model": order.modelKey, **members, "echo_load_config": True}
        loaded = readLoad(await self._post(LOAD, body, seconds=None))
        applied = loaded.loadConfig
        if applied is None:
            applied = await self._readBack(loaded)
        lacking = list(notApplied(order.loadConfig, applied))
        if order.instanceId is not None and order.instanceId != loaded.identifier:
            lacking.append("instanceId")
        if order.ttlSeconds is not None:
            lacking.append("ttlSeconds")
        return LoadOutcome(loaded.identifier, applied, tuple(lacking))

    async def _readBack(self, loaded: RestLoad) -> Json:
        """Find out what an instance was loaded with; it is loaded even where that cannot be found out."""
        try:
            inventory = await self._inventory()
        except GatewayError:
            return NOTHING
        found = (model.loadConfig for model in inventory.loaded if model.identifier == loaded.identifier)
        return next(found, NOTHING)

    async def _unload(self, identifier: str) -> None:
        readUnload(await self._post(UNLOAD, {"instance_id": identifier}, seconds=PATIENCE_SECONDS))

    async def _post(self, target: bytes, body: dict[str, Any], *, seconds: float | None) -> Json:
        held = await self._asking.ask(target, msgspec.json.encode(body), seconds=seconds)
        return decodeAnswer(held.code, held.body, *self._secrets)
