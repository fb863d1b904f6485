"""The simulator as a whole: what it remembers, and what it starts with."""

from __future__ import annotations

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.models import CATALOGUE
from lmgateway.studio.simulator.shelf import Shelf
from lmgateway.studio.simulator.simulator import Simulator
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, NOMIC, QWEN, Studio, chat


class SimulatorTests(SynchronousTestCase):
    def test_received(self) -> None:
        """It remembers what it received, the header fields spelled and ordered as they were sent."""
        studio = Studio()
        studio.ask("/v1/x?y=%2f", b"body", x_ODD="1", Accept="a", X_odd="2")
        (received,) = studio.simulator.received
        self.assertEqual((received.method, received.target, received.body), (b"POST", b"/v1/x?y=%2f", b"body"))
        expected = (
            (b"Host", b"studio"),
            (b"x-ODD", b"1"),
            (b"Accept", b"a"),
            (b"X-odd", b"2"),
            (b"Content-Length", b"4"),
        )
        self.assertEqual(received.headers, expected)

    def test_bounded(self) -> None:
        """It remembers the latest only."""
        simulator = Simulator(remember=2)
        studio = Studio()
        studio.simulator.received = simulator.received
        for number in range(3):
            studio.ask(f"/{number}")
        self.assertEqual([received.target for received in simulator.received], [b"/1", b"/2"])

    def test_loaded(self) -> None:
        """It starts with one model loaded, for ever, or with those it is told."""
        self.assertEqual([instance.id for instance in Simulator().shelf.instances(1e9)], [QWEN])
        simulator = Simulator(Behaviour(parallel=2), loaded=(GEMMA,))
        (instance,) = simulator.shelf.instances(0)
        self.assertEqual((instance.id, instance.parallel, instance.jit), (GEMMA, 2, False))

    def test_models(self) -> None:
        """It has the models that it is given."""
        simulator = Simulator(downloaded=CATALOGUE[:1], loaded=())
        self.assertEqual(list(simulator.shelf.listed(0, Behaviour())), [CATALOGUE[0]])

    def test_defect(self) -> None:
        """A defect of the simulator is logged and closes the connection, instead of leaving the client to wait."""
        studio = Studio()
        impossible = replace(CATALOGUE[3], dimensions=0.5)
        studio.simulator.shelf = Shelf((impossible,))
        connection = studio.connect()
        connection.send("/v1/embeddings", {"model": NOMIC, "input": "x"})
        self.assertEqual(connection.received, b"")
        self.assertTrue(connection.closed)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(studio.lines[0].endswith("a defect of the simulator"))
        self.assertEqual(studio.simulator.predictions, set())

    def test_changedBehaviour(self) -> None:
        """What is changed holds from the next request on."""
        studio = Studio()
        self.assertEqual(studio.ask("/v1/chat/completions", chat("hi", "nope")).status, 400)
        studio.simulator.behaviour.unknownModel = "served"
        self.assertEqual(studio.ask("/v1/chat/completions", chat("hi", "nope")).status, 200)

    def test_log(self) -> None:
        """There is a line for each request."""
        studio = Studio()
        studio.ask("/v1/models")
        studio.ask("/v1/completions", {"prompt": "count to 2", "model": GEMMA, "stream": True})
        self.assertEqual(studio.lines, ["GET /v1/models 200, 0.000 s", "POST /v1/completions 200, 4 chunks, 0.000 s"])
