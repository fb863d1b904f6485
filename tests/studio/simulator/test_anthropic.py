"""``/v1/messages``: Anthropic's shapes and events."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, QWEN, Answer, Studio

ECHO = "This is lmgateway's simulator, not a model. You said: hi"
WEATHER = {"name": "get_weather", "input_schema": {}}
CALL = 'tool: get_weather {"city":"Paris"}'


class Messages(SynchronousTestCase):
    """With a simulator."""

    def setUp(self) -> None:
        self.studio = Studio()

    def ask(self, content: object = "hi", **more: Any) -> Answer:
        """Send one message."""
        messages = [{"role": "user", "content": content}]
        return self.studio.ask("/v1/messages", {"model": GEMMA, "max_tokens": 100, "messages": messages, **more})


class WholeTests(Messages):
    def test_shape(self) -> None:
        """The message, member by member."""
        whole = self.ask(system="be brief").json
        self.assertRegex(whole.pop("id"), "^msg_[a-z0-9]{24}$")
        self.assertEqual(
            list(whole.items()),
            [
                ("type", "message"),
                ("role", "assistant"),
                ("model", GEMMA),
                ("content", [{"type": "text", "text": ECHO}]),
                ("stop_reason", "end_turn"),
                ("stop_sequence", None),
                ("usage", {"input_tokens": 11, "output_tokens": 17}),
            ],
        )

    def test_reasons(self) -> None:
        """Why it ended: the limit, a stop sequence, a call."""
        whole = self.ask(max_tokens=3).json
        self.assertEqual((whole["stop_reason"], whole["usage"]["output_tokens"]), ("max_tokens", 2))
        whole = self.ask(stop_sequences=[" not"]).json
        self.assertEqual((whole["stop_reason"], whole["stop_sequence"]), ("stop_sequence", " not"))
        whole = self.ask(CALL, tools=[WEATHER]).json
        self.assertEqual(whole["stop_reason"], "tool_use")

    def test_toolUse(self) -> None:
        """A call, and the answer to what it gave."""
        (block,) = self.ask(CALL, tools=[WEATHER]).json["content"]
        self.assertRegex(block.pop("id"), "^[0-9]{9}$")
        self.assertEqual(block, {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}})
        (block,) = self.ask("go", tools=[WEATHER], tool_choice={"type": "any"}).json["content"]
        self.assertEqual(block["type"], "tool_use")
        result = {"type": "tool_result", "tool_use_id": "1", "content": "rain"}
        self.assertTrue(
            self.ask([result], tools=[WEATHER]).json["content"][0]["text"].endswith("The tool answered: rain")
        )

    def test_thoughts(self) -> None:
        """Thoughts are not told, but count."""
        whole = self.ask(model=QWEN).json
        self.assertEqual([block["type"] for block in whole["content"]], ["text"])
        self.assertEqual(whole["usage"]["output_tokens"], 31)

    def test_refusals(self) -> None:
        """What is wrong, in the recorded words where there are any."""
        messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
        for more, message in (
            (
                {"messages": messages},
                "request.messages.1.role: Invalid discriminator value. Expected 'user' | 'assistant'",
            ),
            ({"messages": None}, "request.messages: Required"),
            ({"messages": "hi"}, "request.messages: Expected array, received something else"),
            ({"max_tokens": None}, "request.max_tokens: Required"),
            ({"model": None}, "request.model: Required"),
        ):
            answer = self.ask(**more)
            self.assertEqual(answer.status, 400)
            error = {"type": "invalid_request_error", "message": message}
            self.assertEqual(answer.json, {"type": "error", "error": error})
        self.assertIn("Invalid model identifier", self.ask(model="nope").json["error"]["message"])

    def test_countTokens(self) -> None:
        """There is no counting of tokens: it is an unexpected endpoint, with 200."""
        answer = self.studio.ask("/v1/messages/count_tokens?beta=true", {})
        expected = {"error": "Unexpected endpoint or method. (POST /v1/messages/count_tokens?beta=true)"}
        self.assertEqual((answer.status, answer.json), (200, expected))


class StreamTests(Messages):
    def test_order(self) -> None:
        """The documented events in order; the text and the usage are those of the message not streamed."""
        answer = self.ask(stream=True)
        self.assertTrue(answer.complete)
        self.assertEqual([name for name, _ in answer.events], [data["type"] for data in answer.data])
        self.assertEqual(
            [name for name, _ in groupby(answer.events, lambda event: event[0])],
            [
                *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
                *("message_delta", "message_stop"),
            ],
        )
        start = answer.data[0]["message"]
        self.assertEqual((start["content"], start["stop_reason"]), ([], None))
        self.assertEqual(start["usage"], {"input_tokens": 5, "output_tokens": 0})
        deltas = [data["delta"] for data in answer.data if data["type"] == "content_block_delta"]
        self.assertEqual("".join(delta["text"] for delta in deltas), ECHO)
        ending = answer.data[-2]
        self.assertEqual(ending["delta"], {"stop_reason": "end_turn", "stop_sequence": None})
        self.assertEqual(ending["usage"], {"output_tokens": 17})

    def test_toolUse(self) -> None:
        """A call comes as pieces of JSON."""
        data = self.ask(CALL, tools=[WEATHER], stream=True).data
        self.assertEqual((data[1]["content_block"]["type"], data[1]["content_block"]["input"]), ("tool_use", {}))
        deltas = [item["delta"] for item in data if item["type"] == "content_block_delta"]
        self.assertEqual({delta["type"] for delta in deltas}, {"input_json_delta"})
        self.assertEqual("".join(delta["partial_json"] for delta in deltas), '{"city":"Paris"}')

    def test_errorInside(self) -> None:
        """A failure is an event, after which nothing comes."""
        self.studio.simulator.behaviour.errorInsideStream = 1
        answer = self.ask(stream=True)
        name, data = answer.events[-1]
        self.assertEqual((name, data["type"], data["error"]["type"]), ("error", "error", "api_error"))
        self.assertEqual(len([1 for item in answer.data if item["type"] == "content_block_delta"]), 1)
