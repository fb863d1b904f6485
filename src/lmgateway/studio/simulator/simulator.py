# -*- test-case-name: tests.studio.simulator.test_simulator -*-
"""The simulated LM Studio: what it has, how it behaves, and what it was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from lmgateway.message import HeaderPairs
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.downloads import Downloads
from lmgateway.studio.simulator.logfiles import StudioLog
from lmgateway.studio.simulator.models import CATALOGUE, Model
from lmgateway.studio.simulator.prediction import Phase, Prediction
from lmgateway.studio.simulator.shelf import Shelf
from lmgateway.studio.simulator.speech import Memory


def _silent(line: str) -> None:
    """Log nothing."""


class Received(Struct, frozen=True):
    """
    A request that came in.

    :param target: the request target, with its query.
    :param headers: its header fields, spelled and ordered as they were sent.
    """

    method: bytes
    target: bytes
    headers: HeaderPairs
    body: bytes


class Simulator:
    """
    An LM Studio without LM Studio. It knows neither sockets nor time; :mod:`lmgateway.studio.simulator.site` serves it.

    :param behaviour: its switches; changing them changes what comes next.
    :param downloaded: its models.
    :param loaded: the keys of those that are loaded from the beginning.
    :param remember: how many requests :attr:`received` holds.
    :param log: is called with one line for each request that ends.
    :param studioLog: is told what LM Studio would write into its log files.
    :ivar received: the latest requests, the newest last.
    :ivar shelf: its models, and what is loaded of them.
    :ivar downloads: the models that are on their way to it.
    :ivar memory: the conversations that can be gone on with.
    :ivar predictions: the answers that are on their way.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        downloaded: tuple[Model, ...] = CATALOGUE,
        loaded: tuple[str, ...] = (CATALOGUE[0].key,),
        remember: int = 100,
        log: Callable[[str], object] = _silent,
        studioLog: StudioLog | None = None,
    ) -> None:
        self.behaviour = Behaviour() if behaviour is None else behaviour
        self.shelf = Shelf(downloaded, loaded, self.behaviour.parallel)
        self.downloads = Downloads(self.shelf)
        self.received: deque[Received] = deque(maxlen=remember)
        self.memory = Memory()
        self.predictions: set[Prediction] = set()
        self.log = log
        self.studioLog = studioLog

    @property
    def generating(self) -> int:
        """How many answers a model is working on: reading their prompts, or speaking."""
        return self._inPhase(Phase.READING, Phase.SPEAKING)

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return self._inPhase(Phase.QUEUED)

    def _inPhase(self, *phases: Phase) -> int:
        return sum(prediction.phase in phases for prediction in self.predictions)
