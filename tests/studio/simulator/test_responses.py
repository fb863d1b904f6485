"""``/v1/responses``: the object, the order of its events, and going on from an earlier response."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, QWEN, Answer, Studio

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "get_weather", "parameters": {}}
ECHO = "This is lmgateway's simulator, not a model. You said: hi"


class Responses(SynchronousTestCase):
    """With a simulator."""

    def setUp(self) -> None:
        self.studio = Studio()

    def ask(self, input: object = "hi", **more: Any) -> Answer:  # noqa: A002 - the field's name
        """Ask for a response."""
        return self.studio.ask(PATH, {"model": GEMMA, "input": input, **more})


class WholeTests(Responses):
    def test_shape(self) -> None:
        """The finished response, with its message and its usage."""
        whole = self.ask().json
        self.assertRegex(whole["id"], "^resp_[0-9a-f]{48}$")
        self.assertEqual((whole["object"], whole["status"], whole["model"]), ("response", "completed", GEMMA))
        (item,) = whole["output"]
        self.assertRegex(item.pop("id"), "^msg_")
        content = [{"type": "output_text", "text": ECHO, "annotations": [], "logprobs": []}]
        self.assertEqual(item, {"type": "message", "status": "completed", "role": "assistant", "content": content})
        self.assertEqual(
            whole["usage"],
            {
                "input_tokens": 5,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 17,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 22,
            },
        )

    def test_reasoning(self) -> None:
        """A model that thinks has an item for that before the message."""
        whole = self.ask(model=QWEN, reasoning={"effort": "low"}).json
        thoughts, message = whole["output"]
        self.assertEqual((thoughts["type"], message["type"]), ("reasoning", "message"))
        self.assertEqual(thoughts["content"][0]["type"], "reasoning_text")
        self.assertEqual(whole["usage"]["output_tokens_details"], {"reasoning_tokens": 14})
        self.assertEqual(whole["reasoning"]["effort"], "low")

    def test_limit(self) -> None:
        """At the limit the response is incomplete, and says why."""
        whole = self.ask(max_output_tokens=4).json
        self.assertEqual((whole["status"], whole["max_output_tokens"]), ("incomplete", 4))
        self.assertEqual(whole["incomplete_details"], {"reason": "max_output_tokens"})
        self.assertEqual(whole["usage"]["output_tokens"], 3)

    def test_items(self) -> None:
        """The input may be a list of items: messages in parts, and what a function gave."""
        text = {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
        self.assertEqual(self.ask([text]).json["output"][0]["content"][0]["text"], ECHO)
        output = {"type": "function_call_output", "call_id": "1", "output": "rain"}
        call = {"type": "function_call", "call_id": "1", "name": "get_weather", "arguments": "{}"}
        answer = self.ask([text, call, output]).json["output"][0]["content"][0]["text"]
        self.assertTrue(answer.endswith("The tool answered: rain"))

    def test_toolCall(self) -> None:
        """A call of a function is an item of its own, and there is no message."""
        (item,) = self.ask('tool: get_weather {"city":"Paris"}', tools=[WEATHER]).json["output"]
        self.assertEqual((item["type"], item["name"]), ("function_call", "get_weather"))
        self.assertEqual((item["arguments"], item["status"]), ('{"city":"Paris"}', "completed"))

    def test_refusals(self) -> None:
        """What is wrong is told by an object indented by 2, in the recorded words where there are any."""
        answer = self.ask(text={})
        expected = '{\n  "error": {\n    "message": "Required",\n    "type": "invalid_request_error",\n    "param": "text.format",\n'
        self.assertEqual(answer.status, 400)
        self.assertTrue(answer.text.startswith(expected))
        self.assertEqual(self.ask(None).json["error"]["param"], "input")
        self.assertEqual(self.ask(7).json["error"]["param"], "input")
        self.assertEqual(self.ask(model="nope").json["error"]["code"], "model_not_found")
        self.assertTrue(self.ask(model="nope").text.startswith('{\n  "error": {\n    "message": "Invalid model'))


class StateTests(Responses):
    def test_goesOn(self) -> None:
        """A response can be gone on from, and the one after that too; streamed or not."""
        first = self.ask("one").json
        second = self.ask("two", previous_response_id=first["id"]).json
        self.assertEqual(second["previous_response_id"], first["id"])
        self.assertTrue(second["output"][0]["content"][0]["text"].endswith("Before that you said: one"))
        completed = self.ask("three", previous_response_id=second["id"], stream=True).data[-1]["response"]
        third = self.ask("four", previous_response_id=completed["id"]).json
        self.assertTrue(third["output"][0]["content"][0]["text"].endswith("Before that you said: three"))
        self.assertGreater(third["usage"]["input_tokens"], second["usage"]["input_tokens"])

    def test_unknown(self) -> None:
        """One that never was cannot."""
        error = self.ask(previous_response_id="resp_0").json["error"]
        self.assertEqual((error["param"], error["code"]), ("previous_response_id", "previous_response_not_found"))


class StreamTests(Responses):
    def names(self, answer: Answer) -> list[str]:
        """The names of the events in order, a run of the same once; each event's data says its name, and they are numbered."""
        self.assertTrue(answer.complete)
        self.assertEqual([name for name, _ in answer.events], [data["type"] for data in answer.data])
        self.assertEqual([data["sequence_number"] for data in answer.data], list(range(len(answer.data))))
        return [str(name).removeprefix("response.") for name, _ in groupby(answer.events, lambda event: event[0])]

    def test_order(self) -> None:
        """OpenAI's order of events, and no ``[DONE]``."""
        answer = self.ask(stream=True)
        self.assertEqual(
            self.names(answer),
            [
                *("created", "in_progress", "output_item.added", "content_part.added"),
                *("output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
            ],
        )
        deltas = [data["delta"] for data in answer.data if data["type"] == "response.output_text.delta"]
        self.assertEqual("".join(deltas), ECHO)
        self.assertEqual(len(deltas), 17)

    def test_consistent(self) -> None:
        """The items in the events are those of the finished response, and it is what it would be without a stream."""
        data = self.ask(stream=True, model=QWEN).data
        done = [item["item"] for item in data if item["type"] == "response.output_item.done"]
        final = data[-1]["response"]
        self.assertEqual(done, final["output"])
        self.assertEqual((data[0]["response"]["status"], data[0]["response"]["output"]), ("in_progress", []))
        whole = self.ask(model=QWEN).json
        self.assertEqual(list(whole), list(final))
        self.assertEqual(whole["usage"], final["usage"])
        self.assertEqual(whole["output"][1]["content"], final["output"][1]["content"])

    def test_reasoning(self) -> None:
        """Thoughts have events of their own."""
        names = self.names(self.ask(stream=True, model=QWEN))
        self.assertEqual(names[4:6], ["reasoning_text.delta", "reasoning_text.done"])

    def test_toolCall(self) -> None:
        """So have calls of functions."""
        answer = self.ask('tool: get_weather {"city":"Paris"}', tools=[WEATHER], stream=True)
        self.assertEqual(
            self.names(answer)[2:],
            [
                *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
                *("output_item.done", "completed"),
            ],
        )
        done = next(data for data in answer.data if data["type"] == "response.function_call_arguments.done")
        self.assertEqual((done["name"], done["arguments"]), ("get_weather", '{"city":"Paris"}'))

    def test_limit(self) -> None:
        """A response that was cut at the limit ends incomplete."""
        self.assertEqual(self.names(self.ask(stream=True, max_output_tokens=3))[-1], "incomplete")

    def test_errorInside(self) -> None:
        """A failure is an event, after which nothing comes."""
        self.studio.simulator.behaviour.errorInsideStream = 2
        answer = self.ask(stream=True)
        self.assertEqual(self.names(answer)[-2:], ["output_text.delta", "error"])
        self.assertTrue(answer.data[-1]["message"].startswith("Input does not fit"))
