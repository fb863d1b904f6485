"""What LM Studio's log says of requests, from their coming to their end."""

from __future__ import annotations

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.logtext import LEFT, SERVER
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.sdk import Sdk, stack
from tests.studio.simulator.wire import GEMMA, NOMIC, QWEN, Studio, chat

CHAT = "/v1/chat/completions"


class Notes:
    """A log that is kept."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, tuple[str, ...]]] = []

    def write(self, level: str, message: str, *tags: str) -> None:
        """Keep it."""
        self.entries.append((level, message, tags))


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.notes = Notes()
        self.studio = Studio()
        self.studio.simulator = Simulator(Behaviour(), studioLog=self.notes)
        self.studio.site = simulatorSite(self.studio.simulator, self.studio.clock)

    def said(self, *tags: str) -> list[str]:
        """The first lines of what those with these tags said."""
        return [message.partition("\n")[0] for _, message, given in self.notes.entries if given == tags]

    def last(self) -> tuple[str, str, tuple[str, ...]]:
        """The last entry."""
        return self.notes.entries[-1]

    def test_list(self) -> None:
        """A list is told with what came back."""
        self.studio.ask("/v1/models")
        (first, second) = self.notes.entries
        self.assertEqual(first, ("DEBUG", "Received request: GET to /v1/models", ()))
        self.assertEqual((second[0], second[1].partition("\n")[0]), ("INFO", "Returning {"))

    def test_unexpected(self) -> None:
        """What is not served is an error that says so."""
        self.studio.ask("/nope?x=1")
        self.assertEqual(
            self.last(), ("ERROR", "Unexpected endpoint or method. (GET /nope?x=1). Returning 200 anyway", ())
        )

    def test_refusals(self) -> None:
        """Refusals are told with their bodies; those for want of a token in the server's name."""
        self.studio.ask(CHAT, chat("hi", "nope"))
        self.assertEqual((self.last()[0], self.last()[2]), ("ERROR", ()))
        self.assertTrue(self.last()[1].startswith("[Server Error] {\n"))
        self.studio.ask("/v1/models", X_Simulate="require-token=t")
        self.assertEqual((self.last()[0], self.last()[2]), ("ERROR", (SERVER,)))
        self.assertIn("invalid_api_key", self.last()[1])
        self.studio.ask("/api/v1/chat", b"{")
        (said,) = [text for text in self.said(SERVER) if text.startswith("Received")]
        self.assertTrue(said.startswith("Received request for /api/v1/chat with invalid JSON: "))

    def test_stream(self) -> None:
        """A stream is told from its beginning to its end, in the model's name, and the engine speaks without one."""
        self.studio.ask(CHAT, chat("count to 3", stream=True))
        self.assertEqual(
            self.said(GEMMA),
            [
                "Running chat completion on conversation with 1 messages.",
                "Streaming response...",
                "Prompt processing progress: 0.0%",
                "Prompt processing progress: 100.0%",
                "First token generated. Continuing to stream response..",
                "Finished streaming response",
            ],
        )
        untagged = self.said()
        self.assertTrue(untagged[0].startswith(f"Received request: POST to {CHAT} with body {{"))
        self.assertTrue(untagged[1].startswith("Sampling params:"))
        self.assertEqual(untagged[-1], "BeginProcessingPrompt")

    def test_whole(self) -> None:
        """Any other answer is told whole."""
        self.studio.ask(CHAT, chat("hi"))
        self.assertEqual(self.said(GEMMA)[-1], "Generated prediction: {")
        self.assertIn('\n  "object": "chat.completion",\n', self.last()[1])

    def test_kinds(self) -> None:
        """Each API has words of its own."""
        body = {"model": GEMMA, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        self.studio.ask("/v1/messages", body)
        self.studio.ask("/v1/completions", {"model": GEMMA, "prompt": "hi"})
        self.studio.ask("/v1/embeddings", {"model": NOMIC, "input": ["a", "b"]})
        for text in (
            "Running Anthropic messages API on conversation with 1 messages.",
            "Streaming Anthropic response...",
            "Finished streaming Anthropic response",
            "Running completion on text.",
        ):
            self.assertIn(text, self.said(GEMMA))
        self.assertEqual(self.said(NOMIC)[0], "Received request to embed 2 texts.")

    def test_left(self) -> None:
        """A client that leaves is told of, while the model speaks and while it reads."""
        for switch in ("tokens-per-second=1", "prefill=3"):
            connection = self.studio.connect()
            connection.send(CHAT, chat("count to 9", stream=True), X_Simulate=switch)
            connection.leave()
            self.studio.clock.advance(4)
            self.assertEqual(self.last(), ("INFO", LEFT, (SERVER,)))

    def test_tokens(self) -> None:
        """Every token is told with all before it, when that is wanted."""
        self.studio.ask(CHAT, chat("count to 3", stream=True), X_Simulate="log-tokens")
        said = [text for text in self.said(GEMMA) if text.startswith("Accumulated")]
        self.assertEqual(said, ["Accumulated 1 token 1", "Accumulated 2 tokens 1 2", "Accumulated 3 tokens 1 2 3"])

    def test_sdk(self) -> None:
        """An SDK's client is told of when it comes, when it is refused something, and when it goes."""
        sdk = Sdk.authenticated(self.studio)
        sdk.call("unloadModel", {"identifier": "nope"})
        sdk.create("loadModel", {"modelKey": "nope", "loadConfigStack": stack()})
        sdk.connection.leave()
        self.assertEqual(self.said("Client=guest:1"), ["Client created.", "Client disconnected."])
        (call,) = self.said("Client=guest:1", "Endpoint=unloadModel")
        (talk,) = self.said("Client=guest:1", "Endpoint=loadModel")
        self.assertTrue(call.startswith("Error in RPC handler: Error: "))
        self.assertTrue(talk.startswith("Error in channel handler: Error: "))

    def test_predict(self) -> None:
        """An SDK's prediction is told like any other."""
        sdk = Sdk.authenticated(self.studio)
        query = {"type": "query", "query": {}}
        sdk.create("predict", {"modelSpecifier": query, "history": {}, "predictionConfigStack": stack()})
        self.assertEqual(self.said(QWEN)[0], "Running prediction on conversation with 0 messages.")
        self.assertEqual(self.said(QWEN)[-1], "Finished streaming response")
