"""Someone who manages LM Studio's models as the test says, and a model service that stands on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmgateway.errors import GatewayError, UpstreamUnavailable
from lmgateway.exchange import Exchange
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import DownloadedModel, Inventory, LoadedModel, LoadOrder, LoadOutcome, Management
from lmgateway.studio.service import ModelService
from lmgateway.telemetry.upstreams import UpstreamState
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.web.support import MemoryActiveModel, MemoryJournal


def instance(identifier: str, modelKey: str | None = None, **more: Any) -> LoadedModel:
    """An instance of a language model."""
    key = modelKey or identifier
    return LoadedModel(identifier, key, "llm", key, **more)


def inventoryOf(*loaded: str | LoadedModel, downloaded: tuple[str, ...] = ()) -> Inventory:
    """What LM Studio has."""
    return Inventory(
        tuple(DownloadedModel(key, "llm", key) for key in downloaded),
        tuple(instance(each) if isinstance(each, str) else each for each in loaded),
    )


class Load:
    """A load that a test ends."""

    def __init__(self, scripted: ScriptedStudio, order: LoadOrder, progress: Callable[[float], None]) -> None:
        self.order = order
        self.progress = progress
        self.isCancelled = False
        self.deferred: Deferred[LoadOutcome] = Deferred(self._cancel)
        self._scripted = scripted

    def _cancel(self, _: Deferred[LoadOutcome]) -> None:
        self.isCancelled = True

    def succeed(self, identifier: str | None = None, notApplied: tuple[str, ...] = ()) -> None:
        """It is loaded."""
        name = identifier or self.order.instanceId or self.order.modelKey
        self._scripted.has(*self._scripted.answer.loaded, instance(name, self.order.modelKey))
        self.deferred.callback(LoadOutcome(name, {"contextLength": 4096, **self.order.loadConfig}, notApplied))

    def fail(self, error: GatewayError) -> None:
        """It is not."""
        self.deferred.errback(error)


@implementer(IModelManager)
class ScriptedStudio:
    """
    Says what the test says.

    :ivar answer: what LM Studio has; or why it does not say; or None, and it is silent.
    """

    def __init__(self, *loaded: str | LoadedModel, management: Management = "rest") -> None:
        self.management: Management = management
        self.answer: Any = inventoryOf(*loaded)
        self.asked = 0
        self.silent: list[Deferred[Inventory]] = []
        self.loads: list[Load] = []
        self.unloading: list[tuple[str, Deferred[None]]] = []
        self.closed = 0

    def has(self, *loaded: str | LoadedModel) -> None:
        """This is what is loaded now."""
        self.answer = inventoryOf(*loaded)

    def inventory(self) -> Deferred[Inventory]:
        self.asked += 1
        if self.answer is None:
            self.silent.append(Deferred())
            return self.silent[-1]
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

    def load(self, order: LoadOrder, progress: Callable[[float], None]) -> Deferred[LoadOutcome]:
        self.loads.append(Load(self, order, progress))
        return self.loads[-1].deferred

    def unload(self, identifier: str) -> Deferred[None]:
        self.unloading.append((identifier, Deferred()))
        return self.unloading[-1][1]

    def gone(self) -> None:
        """What is to be unloaded is gone."""
        identifier, unloading = self.unloading.pop()
        self.has(*(each for each in self.answer.loaded if each.identifier != identifier))
        unloading.callback(None)

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


DOWN = UpstreamUnavailable("LM Studio refused the connection. Is its server started?")


class ScriptedChoice:
    """
    Chooses what the test says.

    :ivar choice: who is there; or why nobody is.
    """

    reason: str | None = None

    def __init__(self, choice: ScriptedStudio | Exception) -> None:
        self.choice: ScriptedStudio | Exception = choice
        self.asked = 0

    def choose(self) -> Deferred[Any]:
        self.asked += 1
        if isinstance(self.choice, Exception):
            return fail(self.choice)
        return succeed(self.choice)


class ServiceTestCase(SynchronousTestCase):
    """A model service, what it stands on, and a clock that only the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_800_000_000.0
        self.journal = MemoryJournal()
        self.active = MemoryActiveModel()
        self.exchanges: list[Exchange] = []
        self.defaults: dict[str, Mapping[str, Any]] = {}
        self.studio = ScriptedStudio()
        self.choice = ScriptedChoice(self.studio)
        self.state = UpstreamState(self.journal, "http://127.0.0.1:1234")
        self.service = ModelService(
            self.choice,
            self.state,
            self.active,
            self.journal,
            lambda: self.exchanges,
            self.clock,  # type: ignore[arg-type]
            lambda key: self.defaults.get(key, {}),
        )

    def start(self, *loaded: str | LoadedModel) -> None:
        """Have it watch what is loaded."""
        self.studio.has(*loaded)
        self.service.startService()
        self.addCleanup(lambda: self.successResultOf(self.service.stopService()))
        self.clock.advance(0)
        self.journal.events.clear()

    def wait(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        self.clock.pump([1.0] * int(seconds))

    def told(self, *kinds: str) -> list[dict[str, Any]]:
        """What events of these types say."""
        return [dict(data) for kind, data in self.journal.events if kind in kinds]

    def kinds(self) -> list[str]:
        """The types of all events."""
        return [kind for kind, _ in self.journal.events]


def exchange(model: str | None, requestId: str = "r1") -> Exchange:
    """A request in flight."""
    return Exchange(
        requestId=requestId,
        method="POST",
        path="/v1/chat/completions",
        route="/v1/chat/completions",
        key="alice",
        keyId=None,
        client="127.0.0.1",
        startedAt=1_800_000_000.0,
        cancel=lambda: None,
        model=model,
    )
