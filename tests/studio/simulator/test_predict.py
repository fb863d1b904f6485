"""Predictions for SDKs: how they are read, and how they are told."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.generation import StopReason, Turn
from lmgateway.studio.simulator.models import CATALOGUE
from lmgateway.studio.simulator.predict import SdkPrediction
from lmgateway.studio.simulator.shelf import Shelf
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.sdk import JSON, history, stack
from tests.studio.simulator.wire import GEMMA, QWEN

TOOLS = {
    "type": "toolArray",
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "required": ["a"]}}}],
}


def asked(text: str, **config: object) -> SdkPrediction:
    """A prediction for one message."""
    return SdkPrediction(history(text), stack(**{f"llm_prediction_{name}": value for name, value in config.items()}))


def messages(prediction: SdkPrediction, key: str = GEMMA) -> list[dict[str, Any]]:
    """All the messages of an answer."""
    (model,) = (model for model in CATALOGUE if model.key == key)
    prediction.meet(Shelf().load(model, 0, Behaviour(), ttl=None, jit=False), 0)
    return [json.loads(piece.data) for piece in prediction.pieces(prediction.think())]


class ReadTests(SynchronousTestCase):
    def test_history(self) -> None:
        """Texts are joined, images counted, and each result of a tool is a turn."""
        conversation = {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "s"}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "a"},
                        {"type": "text", "text": "b"},
                        {"type": "file", "fileType": "image", "name": "x"},
                        {"type": "file", "fileType": "text/plain", "name": "y"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "toolCallRequest", "toolCallRequest": {}}]},
                {"role": "tool", "content": [{"type": "toolCallResult", "content": "1"}, {"content": "2"}]},
            ]
        }
        turns = SdkPrediction(conversation, {}).question.turns
        self.assertEqual(
            turns,
            (Turn("system", "s"), Turn("user", "a\nb", 1), Turn("assistant", ""), Turn("tool", "1"), Turn("tool", "2")),
        )

    def test_config(self) -> None:
        """The limit counts if its box is checked; stops, tools and a schema are found."""
        question = asked(
            "x",
            maxPredictedTokens={"checked": True, "value": 7},
            stopStrings=["a", 5, "b"],
            tools={**TOOLS, "force": True},
            structured={"type": "json", "jsonSchema": {"type": "object"}},
        ).question
        self.assertEqual((question.maxTokens, question.stops, question.toolChoice), (7, ("a", "b"), "required"))
        self.assertEqual(([tool.name for tool in question.tools], question.schema), (["add"], {"type": "object"}))
        self.assertIsNone(asked("x", maxPredictedTokens={"checked": False, "value": 7}).question.maxTokens)

    @given(JSON, JSON)
    def test_total(self, conversation: object, config: object) -> None:
        """Any JSON is a conversation and a configuration, or is refused with a reason."""
        message = {"role": "user", "content": conversation}
        for value in (conversation, {"messages": conversation}, {"messages": [message]}):
            if isinstance(value, dict):
                self.assertIsNotNone(SdkPrediction(value, config).question)


class AnswerTests(SynchronousTestCase):
    def test_fragments(self) -> None:
        """A fragment for each token, and the end with all about it."""
        *fragments, end = messages(asked("count to 2"))
        self.assertEqual(
            fragments[0],
            {
                "type": "fragment",
                "fragment": {
                    "content": "1",
                    "tokensCount": 1,
                    "containsDrafted": False,
                    "reasoningType": "none",
                    "isStructural": False,
                },
            },
        )
        self.assertEqual("".join(message["fragment"]["content"] for message in fragments), "1 2")
        self.assertEqual(list(end), ["type", "stats", "modelInfo", "loadModelConfig", "predictionConfig"])
        self.assertEqual(end["type"], "success")
        stats = end["stats"]
        self.assertEqual((stats["stopReason"], stats["predictedTokensCount"]), ("eosFound", 2))
        self.assertEqual(stats["totalTokensCount"], stats["promptTokensCount"] + 2)
        self.assertEqual(end["modelInfo"]["identifier"], GEMMA)
        self.assertIn({"key": "llm.load.contextLength", "value": 8192}, end["loadModelConfig"]["fields"])

    def test_config(self) -> None:
        """The end tells the configuration that was in force: what was said, and what was not."""
        fields = messages(asked("hi", temperature=0.1))[-1]["predictionConfig"]["fields"]
        self.assertIn({"key": "llm.prediction.temperature", "value": 0.1}, fields)
        self.assertIn({"key": "llm.prediction.topKSampling", "value": 40}, fields)

    def test_thoughts(self) -> None:
        """Thoughts stand between tags; a completion has none."""
        kinds = [each["fragment"]["reasoningType"] for each in messages(asked("hi"), QWEN)[:-1]]
        self.assertEqual(list(dict.fromkeys(kinds)), ["reasoningStartTag", "reasoning", "reasoningEndTag", "none"])
        completion = messages(asked("hi", promptTemplate={}), QWEN)[:-1]
        self.assertEqual({each["fragment"]["reasoningType"] for each in completion}, {"none"})

    def test_tool(self) -> None:
        """A call is told by its beginning, its name, its arguments in bits, and whole."""
        said = messages(asked('tool: add {"a": 12}', tools=TOOLS))
        kinds = list(dict.fromkeys(message["type"] for message in said))
        self.assertEqual(
            kinds,
            [
                "toolCallGenerationStart",
                "toolCallGenerationNameReceived",
                "toolCallGenerationArgumentFragmentGenerated",
                "toolCallGenerationEnd",
                "success",
            ],
        )
        request = said[-2]["toolCallRequest"]
        self.assertEqual((request["name"], request["arguments"], request["type"]), ("add", {"a": 12}, "function"))
        self.assertEqual(said[-1]["stats"]["stopReason"], StopReason.TOOL_CALLS.value)
