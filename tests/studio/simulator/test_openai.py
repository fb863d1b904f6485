"""Chat and text completions and embeddings: their shapes member by member, streamed and not."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.studio.simulator.vectors import packed, vector
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, Studio, chat, said

CHAT = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
ECHO = "This is lmgateway's simulator, not a model. You said: hi"
THOUGHTS = "The conversation has 1 message. I will repeat the last one."


class ChatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def test_whole(self) -> None:
        """The answer that was recorded, member by member: thoughts apart, an empty list of calls, empty statistics."""
        answer = self.studio.ask(CHAT, chat("hi", QWEN))
        whole = answer.json
        self.assertRegex(whole.pop("id"), "^chatcmpl-[a-z0-9]{21}$")
        self.assertEqual(
            whole,
            {
                "object": "chat.completion",
                "created": 0,
                "model": QWEN,
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": ECHO,
                            "reasoning_content": THOUGHTS,
                            "tool_calls": [],
                        },
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 31,
                    "total_tokens": 36,
                    "completion_tokens_details": {"reasoning_tokens": 14},
                },
                "stats": {},
                "system_fingerprint": QWEN,
            },
        )

    def test_order(self) -> None:
        """The order of the members is the recorded one."""
        whole = self.studio.ask(CHAT, chat("hi")).json
        self.assertEqual(
            list(whole), ["id", "object", "created", "model", "choices", "usage", "stats", "system_fingerprint"]
        )
        self.assertEqual(list(whole["choices"][0]), ["index", "message", "logprobs", "finish_reason"])
        message = ["role", "content", "reasoning_content", "tool_calls"]
        self.assertEqual(list(whole["choices"][0]["message"]), message)

    def test_created(self) -> None:
        """An answer bears the time of its request, in whole seconds."""
        self.studio.clock.advance(1234.5)
        self.assertEqual(self.studio.ask(CHAT, chat("hi")).json["created"], 1234)

    def test_reasoningFields(self) -> None:
        """gpt-oss thinks in ``reasoning``; a model that does not think has empty thoughts."""
        message = self.studio.ask(CHAT, chat("hi", GPT_OSS)).json["choices"][0]["message"]
        self.assertEqual((message["reasoning"], "reasoning_content" in message), (THOUGHTS, False))
        message = self.studio.ask(CHAT, chat("hi")).json["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"], "")

    def test_limit(self) -> None:
        """At the limit the count is one short of it."""
        for name in ("max_tokens", "max_completion_tokens"):
            whole = self.studio.ask(CHAT, chat("hi", **{name: 5})).json
            self.assertEqual(whole["choices"][0]["finish_reason"], "length")
            self.assertEqual(whole["usage"]["completion_tokens"], 4)
        self.assertEqual(self.studio.ask(CHAT, chat("hi", max_tokens=-1)).json["choices"][0]["finish_reason"], "stop")

    def test_stop(self) -> None:
        """A stop string, alone or in a list, ends the answer."""
        for stop in (" not", [" not", "said"]):
            choice = self.studio.ask(CHAT, chat("hi", stop=stop)).json["choices"][0]
            self.assertEqual(choice["message"]["content"], "This is lmgateway's simulator,")
            self.assertEqual(choice["finish_reason"], "stop")

    def test_toolCall(self) -> None:
        """A call of a tool."""
        body = chat('tool: get_weather {"city":"Paris"}', tools=TOOLS)
        choice = self.studio.ask(CHAT, body).json["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        self.assertRegex(call.pop("id"), "^[0-9]{9}$")
        function = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
        self.assertEqual(call, {"type": "function", "function": function})
        self.assertEqual((choice["finish_reason"], choice["message"]["content"]), ("tool_calls", ""))

    def test_schema(self) -> None:
        """An answer that must fit a schema does."""
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        content = self.studio.ask(CHAT, chat("hi", response_format=wanted)).json["choices"][0]["message"]["content"]
        self.assertEqual(json.loads(content), {"n": 1})
        plain = self.studio.ask(CHAT, chat("hi", response_format={"type": "text"})).json
        self.assertEqual(plain["choices"][0]["message"]["content"], ECHO)

    def test_loneSurrogate(self) -> None:
        """Half an emoji goes in, and comes back as the escape it came as."""
        body = rb'{"model":"google/gemma-3-4b","messages":[{"role":"user","content":"\ud83d"}]}'
        self.assertIn(rb"You said: \ud83d", self.studio.ask(CHAT, body).body)

    def test_refusals(self) -> None:
        """What is wrong is told by a bare string with the status 400, in the words that were recorded where there are any."""
        for body, message in (
            ({"model": QWEN}, "'messages' field is required"),
            (
                chat("hi", response_format={"type": "json_object"}),
                "'response_format.type' must be 'json_schema' or 'text'",
            ),
            (chat("hi", temperature="hot"), "'temperature' field must be a number"),
            (chat("hi", stream="yes"), "'stream' field must be a boolean"),
            (b"{", "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid JSON."),
            (b"[]", "'messages' field is required"),
        ):
            answer = self.studio.ask(CHAT, body)
            self.assertEqual(
                (answer.status, answer.body), (400, json.dumps({"error": message}, separators=(",", ":")).encode())
            )

    def test_unknownModel(self) -> None:
        """A model that does not exist is a 400 with an object, indented by 4."""
        answer = self.studio.ask(CHAT, chat("hi", "nope"))
        self.assertEqual(answer.status, 400)
        self.assertTrue(
            answer.text.startswith('{\n    "error": {\n        "message": "Invalid model identifier \\"nope\\".')
        )
        self.assertTrue(answer.text.endswith('"param": "model",\n        "code": "model_not_found"\n    }\n}'))

    def test_unknownModelServed(self) -> None:
        """Or it is served by the model that is loaded, and the answer says by which."""
        self.studio.simulator.behaviour.unknownModel = "served"
        answer = self.studio.ask(CHAT, chat("hi", "nope"))
        self.assertEqual((answer.status, answer.json["model"]), (200, QWEN))


class ChatStreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def stream(self, body: dict[str, Any]) -> list[Any]:
        """The data of the events, after seeing that the stream is whole, unnamed and one event a chunk."""
        answer = self.studio.ask(CHAT, {**body, "stream": True})
        self.assertEqual((answer.status, answer.complete), (200, True))
        self.assertEqual({name for name, _ in answer.events}, {None})
        self.assertEqual(len(answer.chunks), len(answer.data))
        self.assertEqual(answer.data[-1], "[DONE]")
        return answer.data[:-1]

    def test_chunks(self) -> None:
        """The role is in every delta, the last delta is empty and bears the reason."""
        chunks = self.stream(chat("hi", QWEN))
        self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)
        first, last = chunks[0], chunks[-1]
        self.assertEqual(list(first), ["id", "object", "created", "model", "system_fingerprint", "choices"])
        self.assertEqual(first["object"], "chat.completion.chunk")
        self.assertEqual((first["model"], first["system_fingerprint"]), (QWEN, QWEN))
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "reasoning_content": "The"},
            "logprobs": None,
            "finish_reason": None,
        }
        self.assertEqual(first["choices"], [choice])
        self.assertTrue(all(chunk["choices"][0]["delta"]["role"] == "assistant" for chunk in chunks[:-1]))
        self.assertEqual(last["choices"], [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])

    def test_sameText(self) -> None:
        """Streamed or not, the thoughts, the text and the reason are the same."""
        body = chat("hi", QWEN, max_tokens=20)
        chunks = self.stream(body)
        choice = self.studio.ask(CHAT, body).json["choices"][0]
        for name in ("content", "reasoning_content"):
            pieces = "".join(chunk["choices"][0]["delta"].get(name, "") for chunk in chunks)
            self.assertEqual(pieces, choice["message"][name])
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], choice["finish_reason"])

    def test_usage(self) -> None:
        """Usage comes only if asked for, in a chunk of its own without choices, and is that of the answer not streamed."""
        self.assertFalse(any("usage" in chunk for chunk in self.stream(chat("hi"))))
        self.assertFalse(
            any("usage" in chunk for chunk in self.stream(chat("hi", stream_options={"include_usage": False})))
        )
        *chunks, last = self.stream(chat("hi", stream_options={"include_usage": True}))
        self.assertFalse(any("usage" in chunk for chunk in chunks))
        self.assertEqual((last["choices"], last["usage"]), ([], self.studio.ask(CHAT, chat("hi")).json["usage"]))

    def test_toolCall(self) -> None:
        """First the name, then the arguments in fragments that make the whole."""
        *chunks, last = self.stream(chat('tool: get_weather {"city":"Paris"}', tools=TOOLS))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        (head,) = deltas[0]["tool_calls"]
        self.assertRegex(head.pop("id"), "^[0-9]{9}$")
        self.assertEqual(head, {"index": 0, "type": "function", "function": {"name": "get_weather", "arguments": ""}})
        bits = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas[1:]]
        self.assertEqual("".join(bits), '{"city":"Paris"}')
        self.assertGreater(len(bits), 1)
        self.assertEqual(last["choices"][0]["finish_reason"], "tool_calls")

    def test_errorInside(self) -> None:
        """A prompt that does not fit is a 200 and an event, the message in it twice, and no ``[DONE]``."""
        self.studio.simulator.behaviour.errorInsideStream = 0
        answer = self.studio.ask(CHAT, chat("hi", stream=True))
        self.assertEqual((answer.status, answer.complete), (200, True))
        ((name, data),) = answer.events
        self.assertEqual(name, "error")
        self.assertTrue(data["message"].startswith("Input does not fit in context length. The input has 5 tokens"))
        self.assertEqual(data, {"error": {"message": data["message"]}, "message": data["message"]})

    def test_errorInsideOfNoStream(self) -> None:
        """The same without a stream is a 400."""
        self.studio.simulator.behaviour.errorInsideStream = 0
        answer = self.studio.ask(CHAT, chat("hi"))
        self.assertEqual(answer.status, 400)
        self.assertTrue(answer.json["error"].startswith("Input does not fit"))

    def test_refusedBefore(self) -> None:
        """A stream for a model that does not exist is refused like anything else."""
        self.assertEqual(self.studio.ask(CHAT, chat("hi", "nope", stream=True)).status, 400)

    def test_empty(self) -> None:
        """A model that says nothing: no delta with anything in it, and a proper end."""
        self.studio.simulator.behaviour.emptyStream = True
        (only,) = self.stream(chat("hi"))
        self.assertEqual(only["choices"][0]["delta"], {})
        self.assertEqual(said(self.studio.ask(CHAT, chat("hi", stream=True))), "")


class TextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def test_whole(self) -> None:
        """The sample of the documentation: ten tokens allowed, nine counted; and no thoughts without a template."""
        answer = self.studio.ask("/v1/completions", {"model": QWEN, "prompt": "hi", "max_tokens": 10})
        whole = answer.json
        self.assertRegex(whole.pop("id"), "^cmpl-[a-z0-9]{21}$")
        text = "This is lmgateway's simulator,"
        self.assertEqual(whole["choices"], [{"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}])
        self.assertEqual(list(whole["choices"][0]), ["index", "text", "logprobs", "finish_reason"])
        self.assertEqual((whole["object"], whole["usage"]["completion_tokens"]), ("text_completion", 9))

    def test_stream(self) -> None:
        """The text in pieces, the reason with an empty one, the usage if asked for."""
        body = {"model": GEMMA, "prompt": ["hi", "ignored"], "stream": True, "stream_options": {"include_usage": True}}
        *chunks, last, usage, done = self.studio.ask("/v1/completions", body).data
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in chunks), ECHO)
        self.assertEqual(list(chunks[0]), ["id", "object", "created", "model", "choices"])
        self.assertEqual(last["choices"], [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}])
        self.assertEqual((usage["choices"], usage["usage"]["completion_tokens"], done), ([], len(chunks), "[DONE]"))

    def test_noPrompt(self) -> None:
        """A prompt is required."""
        self.assertEqual(
            self.studio.ask("/v1/completions", {"model": QWEN}).json, {"error": "'prompt' field is required"}
        )


class EmbeddingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def ask(self, **more: Any) -> dict[str, Any]:
        """The answer to a request for embeddings."""
        answer: dict[str, Any] = self.studio.ask("/v1/embeddings", {"model": NOMIC, **more}).json
        return answer

    def test_shape(self) -> None:
        """Vectors of 768 numbers in the order of the texts, ``dimensions`` ignored, no usage."""
        answer = self.ask(input=["a", "b"], dimensions=3)
        self.assertEqual(list(answer), ["object", "data", "model", "usage"])
        self.assertEqual((answer["object"], answer["model"]), ("list", NOMIC))
        self.assertEqual(answer["usage"], {"prompt_tokens": 0, "total_tokens": 0})
        items = [{"object": "embedding", "embedding": vector(text, 768), "index": i} for i, text in enumerate("ab")]
        self.assertEqual(answer["data"], items)
        self.assertEqual(list(answer["data"][0]), ["object", "embedding", "index"])

    def test_single(self) -> None:
        """A text alone has the vector that it has among others."""
        self.assertEqual(
            self.ask(input="b")["data"][0]["embedding"], self.ask(input=["a", "b"])["data"][1]["embedding"]
        )

    def test_base64(self) -> None:
        """Clients that ask for base64 get it."""
        self.assertEqual(
            self.ask(input="a", encoding_format="base64")["data"][0]["embedding"], packed(vector("a", 768))
        )

    def test_noStream(self) -> None:
        """There is no stream of embeddings."""
        self.assertEqual(self.ask(input="a", stream=True)["object"], "list")

    def test_refusals(self) -> None:
        """Tokens instead of texts are refused in the recorded words; so is nothing."""
        expected = {"error": "'input' field must be a string or an array of strings"}
        self.assertEqual(self.ask(input=[[1, 2]]), expected)
        self.assertEqual(self.ask(), {"error": "'input' field is required"})
        self.assertIn("Invalid model identifier", self.ask(input="a", model=QWEN)["error"]["message"])
