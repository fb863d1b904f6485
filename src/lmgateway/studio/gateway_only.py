# -*- test-case-name: tests.studio.test_gateway_only -*-
"""
No management at all: servers that offer none. Which model is active is then the gateway's own affair.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from lmgateway.errors import UpstreamFailed
from lmgateway.interfaces import IModelManager, IUpstream
from lmgateway.inventory import DownloadedModel, Inventory, LoadOrder, LoadOutcome, Management
from lmgateway.studio.asking import Asking
from lmgateway.studio.bodies import readNames

NAMES = b"/v1/models"

PATIENCE_SECONDS = 10.0
"""How long the server may take to list its models."""


@implementer(IModelManager)
class GatewayManager:
    """
    Knows the names that ``GET /v1/models`` lists, and does nothing. The names are a hint: such a server may know more, or
    take any name.

    :param upstream: where the server is; not closed with this.
    :param apiToken: its token, or None.
    :param clock: for how long it may be silent.
    """

    management: Management = "gateway"

    def __init__(self, upstream: IUpstream, apiToken: str | None, clock: IReactorTime) -> None:
        self._asking = Asking(upstream, apiToken, clock)

    def inventory(self) -> Deferred[Inventory]:
        """See :class:`~lmgateway.interfaces.IModelManager`. An answer that is no list is an empty one, and is no failure."""
        return Deferred.fromCoroutine(self._inventory())

    def load(self, order: LoadOrder, progress: Callable[[float], None]) -> Deferred[LoadOutcome]:
        """Fail: it cannot be done."""
        return fail(UpstreamFailed(f'The model "{order.modelKey}" cannot be loaded from here. {_BY_HAND}'))

    def unload(self, identifier: str) -> Deferred[None]:
        """Fail: it cannot be done."""
        return fail(UpstreamFailed(f'"{identifier}" cannot be unloaded from here. {_BY_HAND}'))

    def close(self) -> Deferred[None]:
        """Nothing is open."""
        return succeed(None)

    async def _inventory(self) -> Inventory:
        held = await self._asking.ask(NAMES, seconds=PATIENCE_SECONDS)
        return Inventory(tuple(DownloadedModel(name, "llm", name) for name in readNames(held.body)))


_BY_HAND = "The server in front of this gateway offers no model management: do it there."
