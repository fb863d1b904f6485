"""A generation in time: loading, waiting for a slot, reading, speaking; and every way it can end early."""

from __future__ import annotations

from lmgateway.studio.simulator.errors import MODEL_UNLOADED
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, Connection, Studio, chat, said

CHAT = "/v1/chat/completions"
COUNT = "count to 20"
"""Answered by gemma with 39 tokens, spaces not counted apart."""


class Predictions(SynchronousTestCase):
    """With ways to ask."""

    studio: Studio

    def stream(self, model: str = GEMMA, **fields: str) -> Connection:
        """Ask for a stream on a connection of its own."""
        connection = self.studio.connect()
        connection.send(CHAT, chat(COUNT, model, stream=True), **fields)
        return connection

    def whole(self, model: str = GEMMA) -> Connection:
        """Ask for an answer that is no stream."""
        connection = self.studio.connect()
        connection.send(CHAT, chat(COUNT, model))
        return connection

    def counts(self) -> tuple[int, int]:
        """How many generate, and how many wait."""
        return self.studio.simulator.generating, self.studio.simulator.queued


class PaceTests(Predictions):
    def test_speed(self) -> None:
        """Tokens come at the speed that was set, however the clock jumps; the first at once."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.stream()
        self.assertEqual(said(connection.answer), "1")
        self.studio.clock.advance(0.1)
        self.assertEqual(said(connection.answer), "1 2")
        self.studio.clock.advance(0.5)
        self.assertEqual(said(connection.answer), "1 2 3 4 5 6 7")
        self.assertFalse(connection.answer.complete)
        self.studio.clock.advance(100)
        self.assertTrue(connection.answer.complete)
        self.assertEqual(self.counts(), (0, 0))

    def test_whole(self) -> None:
        """An answer that is no stream comes when its last token would."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.whole()
        self.studio.clock.advance(1.9)
        self.assertEqual(connection.received, b"")
        self.studio.clock.advance(0.2)
        self.assertTrue(connection.answer.complete)

    def test_prefill(self) -> None:
        """Not a byte goes out while the prompt is read, the head included."""
        self.studio = Studio(prefill=30)
        for ask in (self.stream, self.whole):
            connection = ask()
            self.studio.clock.advance(29.9)
            self.assertEqual(connection.received, b"")
            self.studio.clock.advance(0.2)
            self.assertTrue(connection.answer.complete)

    def test_load(self) -> None:
        """Nor while the model is loaded; requests that come meanwhile wait for the same load, and it is done once."""
        self.studio = Studio(loadTime=20)
        first = self.stream()
        self.studio.clock.advance(19)
        second = self.stream()
        self.assertEqual((first.received, second.received), (b"", b""))
        self.studio.clock.advance(1)
        self.assertTrue(first.answer.complete)
        self.assertTrue(second.answer.complete)
        self.assertTrue(self.stream().answer.complete)

    def test_delay(self) -> None:
        """A delay holds back everything, the simplest answers included."""
        self.studio = Studio(delay=2)
        connection = self.studio.connect()
        connection.send("/lmstudio-greeting")
        self.studio.clock.advance(1.9)
        self.assertEqual(connection.received, b"")
        self.studio.clock.advance(0.2)
        self.assertEqual(connection.answer.json, {"lmstudio": True})

    def test_backpressure(self) -> None:
        """While the client does not read nothing is sent; when it reads again nothing is lost."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.stream()
        connection.channel.pauseProducing()
        self.studio.clock.advance(60)
        self.assertEqual(said(connection.answer), "1")
        self.assertEqual(self.counts(), (1, 0))
        connection.channel.resumeProducing()
        self.studio.clock.advance(60)
        self.assertEqual(said(connection.answer).split()[-1], "20")
        self.assertTrue(connection.answer.complete)


class SlotTests(Predictions):
    def test_queue(self) -> None:
        """As many as there are slots generate, the others wait their turn in order."""
        self.studio = Studio(tokensPerSecond=10, parallel=2)
        first, second, third, fourth = (self.stream() for _ in range(4))
        self.assertEqual(self.counts(), (2, 2))
        self.assertEqual((third.received, fourth.received), (b"", b""))
        first.leave()
        self.assertEqual(self.counts(), (2, 1))
        self.assertEqual(said(third.answer), "1")
        self.assertEqual(fourth.received, b"")
        self.studio.clock.advance(60)
        self.studio.clock.advance(60)
        for connection in (second, third, fourth):
            self.assertTrue(connection.answer.complete)
        self.assertEqual(self.counts(), (0, 0))

    def test_eachModelItsOwn(self) -> None:
        """Each model has slots of its own."""
        self.studio = Studio(tokensPerSecond=10, parallel=1, autoEvict=False)
        self.stream()
        self.stream(GPT_OSS)
        self.assertEqual(self.counts(), (2, 0))

    def test_leavesTheQueue(self) -> None:
        """A client that leaves the queue takes no slot, and holds up nobody."""
        self.studio = Studio(tokensPerSecond=10, parallel=1)
        first, second, third = (self.stream() for _ in range(3))
        second.leave()
        self.assertEqual(self.counts(), (1, 1))
        self.studio.clock.advance(60)
        self.assertTrue(first.answer.complete)
        self.assertEqual(said(third.answer), "1")
        self.assertEqual(second.received, b"")


class LeavingTests(Predictions):
    def test_speaking(self) -> None:
        """When the client leaves in the middle the generation stops at once, and its slot is free."""
        self.studio = Studio(tokensPerSecond=10)
        for ask in (self.stream, self.whole):
            connection = ask()
            self.studio.clock.advance(0.5)
            self.assertEqual(self.counts(), (1, 0))
            connection.leave()
            self.assertEqual(self.counts(), (0, 0))
        self.assertEqual(self.studio.clock.getDelayedCalls(), [])

    def test_reading(self) -> None:
        """While the prompt is read nothing stops it: the slot is taken until it is read, and nothing is said then."""
        self.studio = Studio(prefill=30, tokensPerSecond=10)
        connection = self.stream()
        self.studio.clock.advance(1)
        connection.leave()
        self.assertEqual(self.counts(), (1, 0))
        self.studio.clock.advance(28.9)
        self.assertEqual(self.counts(), (1, 0))
        self.studio.clock.advance(0.2)
        self.assertEqual(self.counts(), (0, 0))
        self.assertEqual(connection.received, b"")
        self.assertEqual(self.studio.clock.getDelayedCalls(), [])

    def test_loading(self) -> None:
        """Waiting for the model to be loaded can be given up at any time."""
        self.studio = Studio(loadTime=30)
        connection = self.stream()
        connection.leave()
        self.assertEqual(self.studio.simulator.predictions, set())
        self.assertEqual(self.studio.clock.getDelayedCalls(), [])

    def test_paused(self) -> None:
        """A client that read slowly and leaves frees its slot too."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.stream()
        connection.channel.pauseProducing()
        self.studio.clock.advance(1)
        connection.leave()
        self.assertEqual(self.counts(), (0, 0))

    def test_log(self) -> None:
        """The log tells which clients left."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.stream()
        self.studio.clock.advance(0.5)
        connection.leave()
        self.assertEqual(self.studio.lines, [f"POST {CHAT} 200, 6 chunks, 0.500 s, the client left"])


class EvictionTests(Predictions):
    def test_stream(self) -> None:
        """A model that is evicted breaks off the streams that it had, inside of them."""
        self.studio = Studio(tokensPerSecond=10)
        connection = self.stream()
        self.studio.clock.advance(0.5)
        self.stream(GPT_OSS)
        name, data = connection.answer.events[-1]
        self.assertEqual((name, data["message"]), ("error", MODEL_UNLOADED))
        self.assertTrue(connection.answer.complete)
        self.assertEqual(self.counts(), (1, 0))

    def test_others(self) -> None:
        """Answers that are no streams, and those that had not begun, are refused; a slot is left for nobody."""
        self.studio = Studio(tokensPerSecond=10, parallel=1)
        speaking, waiting = self.whole(), self.whole()
        self.stream(GPT_OSS)
        for connection in (speaking, waiting):
            self.assertEqual((connection.answer.status, connection.answer.json), (400, {"error": MODEL_UNLOADED}))
        self.assertEqual(self.counts(), (1, 0))

    def test_reading(self) -> None:
        """Even one that reads its prompt."""
        self.studio = Studio(prefill=30)
        connection = self.stream()
        self.stream(GPT_OSS)
        self.assertEqual(connection.answer.events[-1][0], "error")
        self.assertEqual(self.counts(), (1, 0))


class DeathTests(Predictions):
    def test_stream(self) -> None:
        """A stream that dies has as many chunks as it should, and no end; the slot is free."""
        self.studio = Studio(dieAfterChunks=3)
        connection = self.stream()
        self.assertEqual(len(connection.answer.chunks), 3)
        self.assertFalse(connection.answer.complete)
        self.assertTrue(connection.closed)
        connection.leave()
        self.assertEqual(self.counts(), (0, 0))
        self.assertEqual(self.studio.lines, [f"POST {CHAT} 200, 3 chunks, 0.000 s, cut off"])

    def test_whole(self) -> None:
        """An answer that is no stream dies in the middle."""
        self.studio = Studio(dieAfterChunks=3)
        connection = self.whole()
        length = int(connection.answer.field("Content-Length") or 0)
        self.assertEqual(len(connection.answer.body), length // 2)
        self.assertTrue(connection.closed)

    def test_never(self) -> None:
        """A stream with fewer chunks than that lives."""
        self.studio = Studio(dieAfterChunks=1000)
        self.assertTrue(self.stream().answer.complete)
