"""LM Studio's own API: statistics of ``/api/v0``, events and strictness of ``/api/v1``."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, Answer, Studio, chat

ECHO = "This is lmgateway's simulator, not a model. You said: hi"


class V0Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio(prefill=0.5, tokensPerSecond=10)

    def test_chat(self) -> None:
        """The sample of the documentation, member by member, with the times that it took."""
        connection = self.studio.connect()
        connection.send("/api/v0/chat/completions", chat("hi"))
        self.studio.clock.advance(0.5)
        self.studio.clock.advance(1.7)
        whole = connection.answer.json
        self.assertEqual(
            list(whole),
            ["id", "object", "created", "model", "choices", "usage", "stats", "model_info", "runtime"],
        )
        self.assertEqual(list(whole["choices"][0]), ["index", "logprobs", "finish_reason", "message"])
        self.assertEqual(whole["choices"][0]["message"], {"role": "assistant", "content": ECHO})
        self.assertEqual(whole["usage"], {"prompt_tokens": 5, "completion_tokens": 17, "total_tokens": 22})
        stats = {"tokens_per_second": 10, "time_to_first_token": 0.5, "generation_time": 1.7, "stop_reason": "eosFound"}
        self.assertEqual(list(whole["stats"].items()), list(stats.items()))
        information = {"arch": "gemma3", "quant": "Q4_K_M", "format": "gguf", "context_length": 8192}
        self.assertEqual(list(whole["model_info"].items()), list(information.items()))
        self.assertEqual(list(whole["runtime"]), ["name", "version", "supported_formats"])

    def test_completion(self) -> None:
        """So for text, with the reason of the end in LM Studio's own words."""
        studio = Studio()
        body = {"model": GEMMA, "prompt": "x", "max_tokens": 10}
        whole = studio.ask("/api/v0/completions", body).json
        self.assertEqual((whole["object"], whole["usage"]["completion_tokens"]), ("text_completion", 9))
        self.assertEqual(whole["stats"]["stop_reason"], "maxPredictedTokensReached")
        whole = studio.ask("/api/v0/completions", {**body, "stop": " is"}).json
        self.assertEqual(whole["stats"]["stop_reason"], "stopStringFound")
        call = chat("tool: f", tools=[{"type": "function", "function": {"name": "f"}}])
        whole = studio.ask("/api/v0/chat/completions", call).json
        self.assertEqual(whole["stats"]["stop_reason"], "toolCalls")
        self.assertEqual(whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "f")

    def test_stream(self) -> None:
        """A stream is that of ``/v1``, and tells no statistics."""
        data = Studio().ask("/api/v0/chat/completions", chat("hi", stream=True)).data
        self.assertEqual(data[-1], "[DONE]")
        self.assertFalse([chunk for chunk in data[:-1] if "stats" in chunk])

    def test_embeddings(self) -> None:
        """Embeddings name the variant of the model."""
        answer = Studio().ask("/api/v0/embeddings", {"model": NOMIC, "input": "x"}).json
        self.assertEqual(answer["model"], f"{NOMIC}@q4_k_m")
        self.assertEqual(len(answer["data"][0]["embedding"]), 768)

    def test_unknownModel(self) -> None:
        """A model that does not exist is refused as by ``/v1``."""
        error = Studio().ask("/api/v0/chat/completions", chat("hi", "nope")).json["error"]
        self.assertEqual((error["param"], error["code"]), ("model", "model_not_found"))


class Chats(SynchronousTestCase):
    """With a simulator."""

    def setUp(self) -> None:
        self.studio = Studio()

    def ask(self, input: object = "hi", **more: Any) -> Answer:  # noqa: A002 - the field's name
        """Ask for a chat."""
        return self.studio.ask("/api/v1/chat", {"model": GEMMA, "input": input, **more})


class V1ChatTests(Chats):
    def test_shape(self) -> None:
        """The answer, member by member."""
        whole = self.ask(model=QWEN).json
        self.assertEqual(list(whole), ["model_instance_id", "output", "stats", "response_id"])
        thoughts = "The conversation has 1 message. I will repeat the last one."
        output = [{"type": "reasoning", "content": thoughts}, {"type": "message", "content": ECHO}]
        self.assertEqual((whole["model_instance_id"], whole["output"]), (QWEN, output))
        self.assertEqual(
            list(whole["stats"].items()),
            [
                ("input_tokens", 5),
                ("total_output_tokens", 31),
                ("reasoning_output_tokens", 14),
                ("tokens_per_second", 0),
                ("time_to_first_token_seconds", 0),
            ],
        )
        self.assertRegex(whole["response_id"], "^resp_[0-9a-f]{48}$")

    def test_everyField(self) -> None:
        """All that the documentation lists is taken."""
        answer = self.ask(
            model=GPT_OSS, system_prompt="s", integrations=[], stream=False, temperature=0.5, top_p=1, min_p=0, top_k=40,
            repeat_penalty=1.1, max_output_tokens=4, reasoning="low", context_length=4096, store=True,
        )  # fmt: skip
        self.assertEqual((answer.status, answer.json["stats"]["total_output_tokens"]), (200, 3))

    def test_parts(self) -> None:
        """The input may be texts and images."""
        parts = [{"type": "text", "content": "hi"}, {"type": "image", "data_url": "data:image/png;base64,"}]
        self.assertEqual(self.ask(parts).json["output"][0]["content"], f"{ECHO}\nYou showed 1 image.")

    def test_reasoningOff(self) -> None:
        """A model can be told not to think."""
        self.assertEqual([item["type"] for item in self.ask(model=QWEN, reasoning="off").json["output"]], ["message"])

    def test_state(self) -> None:
        """A chat can be gone on with, unless it was not to be stored."""
        first = self.ask("one").json["response_id"]
        second = self.ask("two", previous_response_id=first).json
        self.assertTrue(second["output"][0]["content"].endswith("Before that you said: one"))
        self.assertNotIn("response_id", self.ask(store=False).json)
        self.assertEqual(self.ask(previous_response_id="resp_0").json["error"]["param"], "previous_response_id")

    def test_recordedRefusals(self) -> None:
        """What was recorded from LM Studio, to the letter."""
        for more, error in (
            (
                {"max_tokens": 5},
                {
                    "message": "Unrecognized key(s) in object: 'max_tokens'",
                    "type": "invalid_request",
                    "code": "unrecognized_keys",
                },
            ),
            (
                {"input": None},
                {
                    "message": "'input' is required",
                    "type": "invalid_request",
                    "code": "invalid_union",
                    "param": "input",
                },
            ),
            (
                {"input": [{"type": "text", "text": "hi"}]},
                {
                    "message": "'input.0.content' is required, Unrecognized key(s) in object: 'text'",
                    "type": "invalid_request",
                    "code": "invalid_union",
                    "param": "input",
                },
            ),
            (
                {"input": [{"role": "user", "content": "hi"}, 7]},
                {
                    "message": "Invalid discriminator value. Expected 'text' | 'image', "
                    "Invalid discriminator value. Expected 'text' | 'image'",
                    "type": "invalid_request",
                    "code": "invalid_union",
                    "param": "input",
                },
            ),
            (
                {"model": None},
                {
                    "message": '"model" is required',
                    "type": "invalid_request",
                    "code": "missing_required_parameter",
                    "param": "model",
                },
            ),
        ):
            answer = self.ask(**{"input": "hi", **more})
            self.assertEqual(answer.status, 400)
            self.assertEqual(list(answer.json["error"].items()), list(error.items()))

    def test_otherRefusals(self) -> None:
        """Numbers out of range, a way of thinking that the model lacks, an input of another type; plugins with a 403."""
        for more, param in (
            ({"temperature": 1.5}, "temperature"),
            ({"top_p": -1}, "top_p"),
            ({"reasoning": "high"}, "reasoning"),
            ({"input": 7}, "input"),
        ):
            answer = self.ask(**{"input": "hi", **more})
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, param))
        for integration in (
            "mcp/x",
            {"type": "plugin", "id": "mcp/x"},
            {"type": "ephemeral_mcp", "server_label": "mcp/x"},
        ):
            answer = self.ask(integrations=[integration])
            self.assertEqual(answer.status, 403)
            self.assertIn("Permission denied to use plugin 'mcp/x'", answer.json["error"]["message"])

    def test_unknownModel(self) -> None:
        """The parameter comes before the code here."""
        error = self.ask(model="nope").json["error"]
        self.assertEqual(list(error), ["message", "type", "param", "code"])
        self.assertEqual(error["type"], "invalid_request")


class V1ChatStreamTests(Chats):
    def names(self, answer: Answer) -> list[str]:
        """The names of the events, a run of the same once."""
        self.assertEqual([name for name, _ in answer.events], [data["type"] for data in answer.data])
        return [str(name) for name, _ in groupby(answer.events, lambda event: event[0])]

    def test_order(self) -> None:
        """The documented order, from loading to the end, which holds all once more."""
        self.studio.simulator.behaviour.loadTime = 2
        self.studio.simulator.behaviour.prefill = 1
        connection = self.studio.connect()
        connection.send("/api/v1/chat", {"model": GPT_OSS, "input": "hi", "stream": True})
        self.assertEqual(self.names(connection.answer), ["chat.start", "model_load.start", "model_load.progress"])
        self.studio.clock.advance(2)
        self.assertEqual(self.names(connection.answer)[-2:], ["prompt_processing.start", "prompt_processing.progress"])
        self.studio.clock.advance(1)
        answer = connection.answer
        self.assertTrue(answer.complete)
        self.assertEqual(
            self.names(answer),
            [
                *("chat.start", "model_load.start", "model_load.progress", "model_load.end"),
                *("prompt_processing.start", "prompt_processing.progress", "prompt_processing.end"),
                *("reasoning.start", "reasoning.delta", "reasoning.end"),
                *("message.start", "message.delta", "message.end", "chat.end"),
            ],
        )
        self.assertEqual(answer.data[0], {"type": "chat.start", "model_instance_id": GPT_OSS})
        self.assertEqual([data["progress"] for data in answer.data if "progress" in data], [0, 1, 0, 1])
        ended = next(data for data in answer.data if data["type"] == "model_load.end")
        self.assertEqual(ended, {"type": "model_load.end", "model_instance_id": GPT_OSS, "load_time_seconds": 2})
        stats = answer.data[-1]["result"]["stats"]
        self.assertEqual((stats["time_to_first_token_seconds"], stats["model_load_time_seconds"]), (1, 2))

    def test_noLoading(self) -> None:
        """A model that is loaded is not loaded again; the result is what it would be without a stream."""
        self.ask()
        answer = self.ask(stream=True)
        self.assertEqual(self.names(answer)[:2], ["chat.start", "prompt_processing.start"])
        result = answer.data[-1]["result"]
        whole = self.ask().json
        self.assertEqual(
            (list(result), result["output"], result["stats"]), (list(whole), whole["output"], whole["stats"])
        )
        pieces = "".join(data["content"] for data in answer.data if data["type"] == "message.delta")
        self.assertEqual(pieces, ECHO)

    def test_errorInside(self) -> None:
        """After an error the end still comes, with what was said until then."""
        self.studio.simulator.behaviour.errorInsideStream = 2
        answer = self.ask(stream=True)
        self.assertEqual(self.names(answer)[-3:], ["message.delta", "error", "chat.end"])
        self.assertEqual(answer.data[-2]["error"]["type"], "internal_error")
        self.assertEqual(answer.data[-1]["result"]["output"], [{"type": "message", "content": "This is"}])
