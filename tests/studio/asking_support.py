"""An LM Studio in memory, the simulator or one that the test plays, and those who ask it on the gateway's own account."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.inventory import LoadOrder
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.upstream import TreqUpstream
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.network import MemoryEndpoints, Network

QWEN = "qwen/qwen3-8b"
GEMMA = "google/gemma-3-4b"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"


class PlayedStudio(Protocol):
    """
    A server that answers each path with what the test says; what is not said, as LM Studio does.

    :ivar answers: a status and a body, by path; None is silence, and a body of bytes is sent as it is.
    """

    def __init__(self, answers: dict[str, tuple[int, Any] | None], asked: list[str]) -> None:
        self.answers = answers
        self.asked = asked
        self.data = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, blank, body = self.data.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if not blank or len(body) < sum(lengths):
            return
        self.data = b""
        method, path, _ = head.split(b" ", 2)
        self.asked.append(path.decode())
        unknown = 200, {"error": f"Unexpected endpoint or method. ({method.decode()} {path.decode()})"}
        answer = self.answers.get(path.decode(), unknown)
        if answer is not None:
            status, said = answer
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


class StudioTestCase(SynchronousTestCase):
    """With an upstream that is the simulator, unless :meth:`play` makes it another."""

    def setUp(self) -> None:
        self.network = Network()
        self.clock: Any = self.network.clock
        self.simulator = Simulator()
        site = simulatorSite(self.simulator, self.clock)
        self.endpoints = MemoryEndpoints(self.network, lambda: site.buildProtocol(None))
        self.upstream = TreqUpstream(UpstreamAgent(self.clock, self.endpoints), "http://studio.lan:1234", self.clock)
        self.played: list[PlayedStudio] = []
        self.asked: list[str] = []

    def play(self, answers: dict[str, tuple[int, Any] | None]) -> None:
        """Be a server that says that."""

        def listen() -> PlayedStudio:
            self.played.append(PlayedStudio(answers, self.asked))
            return self.played[-1]

        self.endpoints.listen = listen

    def vanish(self) -> None:
        """Nobody listens any more."""
        self.endpoints.listen = None
        self.cut()

    def cut(self) -> None:
        """Break every connection, as a server does that ends."""
        for transport in list(self.network.transports):
            transport.abortConnection()
        self.network.flush()

    def result(self, waiting: Deferred[Any], seconds: float = 0) -> Any:
        """Give what comes within so many seconds."""
        self.network.advance(seconds)
        return self.successResultOf(waiting)

    def failure(self, waiting: Deferred[Any], kind: type[Exception], seconds: float = 0) -> Any:
        """Give the error that comes within so many seconds."""
        self.network.advance(seconds)
        return self.failureResultOf(waiting, kind).value


def orderOf(modelKey: str = GEMMA, **more: Any) -> LoadOrder:
    """Order a model."""
    return LoadOrder(modelKey, **more)
