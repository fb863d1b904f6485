# -*- test-case-name: tests.studio.simulator.test_predict -*-
"""A prediction for an SDK: the conversation and the configuration that it comes with, and the messages of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import render
from lmgateway.studio.simulator.generation import Generation, Question, StopReason, ToolCall, Turn
from lmgateway.studio.simulator.loadconfig import fromStack, toFields
from lmgateway.studio.simulator.modelinfo import instanceInfo
from lmgateway.studio.simulator.speech import Memory, Piece, Speech, thousandths

_PREFIX = "llm.prediction."
_THINK, _THOUGHT = "<think>", "</think>"

_DEFAULTS: Mapping[str, Any] = {
    "temperature": 0.8,
    "maxPredictedTokens": {"checked": False, "value": 1000},
    "stopStrings": [],
    "topKSampling": 40,
    "repeatPenalty": {"checked": True, "value": 1.1},
    "minPSampling": {"checked": True, "value": 0.05},
    "topPSampling": {"checked": True, "value": 0.95},
    "structured": {"type": "none"},
    "tools": {"type": "none"},
}
"""What LM Studio predicts with when nobody says otherwise (``lms-kv-config``)."""


class SdkPrediction(Speech):
    """
    One prediction.

    :param history: the conversation, ``{"messages": [{"role", "content": [part]}]}``.
    :param stack: the layers of its configuration.
    """

    def __init__(self, history: dict[str, Any], stack: object) -> None:
        wanted = {key.removeprefix(_PREFIX): value for key, value in fromStack(stack).items()}
        # SDKs complete a text by a template that is no chat's.
        self._completes = "promptTemplate" in wanted
        self._config: dict[str, Any] = {**_DEFAULTS, **wanted}
        super().__init__({"messages": history.get("messages"), "stream": True}, Memory(0))

    def read(self, body: dict[str, Any]) -> Question:
        """The conversation and the configuration."""
        tools = _member(self._config, "tools")
        structured = _member(self._config, "structured")
        schema = structured.get("jsonSchema")
        return Question(
            turns=tuple(_turns(body["messages"])),
            tools=fields.tools({"tools": tools.get("tools")}),
            toolChoice="required" if tools.get("force") is True else "auto",
            maxTokens=_checked(self._config, "maxPredictedTokens"),
            stops=tuple(stop for stop in _array(self._config, "stopStrings") if isinstance(stop, str)),
            schema=schema if isinstance(schema, dict) else None,
        )

    @property
    def announcement(self) -> str:
        """What LM Studio's log says when a model starts on it."""
        return f"Running prediction on conversation with {len(self.question.turns)} messages."

    @property
    def reasons(self) -> bool:
        """Whether the model thinks aloud, as it does in a chat."""
        return super().reasons and not self._completes

    def reading(self) -> Iterator[bytes]:
        """The model starts on the prompt."""
        yield _message("promptProcessingProgress", progress=0)

    def hasRead(self) -> Iterator[bytes]:
        """It is through with it."""
        yield _message("promptProcessingProgress", progress=1)

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """Thoughts between their tags, the text or the calls, and the end."""
        if generation.reasoning:
            yield Piece(_fragment(_THINK, "reasoningStartTag"))
            for word in generation.reasoning:
                yield Piece(_fragment(word, "reasoning"), token=True)
            yield Piece(_fragment(_THOUGHT, "reasoningEndTag"))
        for word in generation.content:
            yield Piece(_fragment(word, "none"), token=True)
        for call in generation.toolCalls:
            yield from _call(call)
        yield Piece(_message("success", **self.success(generation, generation.stopReason)))

    def success(self, generation: Generation, reason: StopReason) -> dict[str, Any]:
        """
        The members of the message that ends a prediction.

        :param generation: what was said.
        :param reason: why no more was.
        """
        predicted = generation.completionTokens
        stats = {
            "stopReason": reason.value,
            "tokensPerSecond": self.timing.tokensPerSecond(predicted),
            "numGpuLayers": -1,
            "timeToFirstTokenSec": self.timing.toFirstToken,
            "totalTimeSec": thousandths(max(0.0, self.timing.finished - self.timing.started)),
            "promptTokensCount": generation.promptTokens,
            "predictedTokensCount": predicted,
            "totalTokensCount": generation.promptTokens + predicted,
        }
        return {
            "stats": stats,
            "modelInfo": instanceInfo(self.instance),
            "loadModelConfig": toFields(self.instance.config),
            "predictionConfig": toFields({_PREFIX + key: value for key, value in self._config.items()}),
        }


def turnOf(message: Mapping[str, Any]) -> list[Turn]:
    """The turns in one message: a message of tools may bring several results."""
    role = str(message.get("role"))
    parts = [part for part in _array(message, "content") if isinstance(part, dict)]
    if role == "tool":
        return [Turn("tool", str(part.get("content", ""))) for part in parts]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    images = sum(part.get("type") == "file" and part.get("fileType") == "image" for part in parts)
    return [Turn(role, "\n".join(texts), images)]


def _turns(messages: object) -> Iterator[Turn]:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield from turnOf(message)


def _call(call: ToolCall) -> Iterator[Piece]:
    """A call of a tool: its name, its arguments bit by bit, and all of it once more."""
    yield Piece(_message("toolCallGenerationStart", toolCallId=call.id))
    yield Piece(_message("toolCallGenerationNameReceived", name=call.name))
    for bit in call.arguments:
        yield Piece(_message("toolCallGenerationArgumentFragmentGenerated", content=bit), token=True)
    text = "".join(call.arguments)
    request = {"type": "function", "id": call.id, "name": call.name, "arguments": json.loads(text)}
    yield Piece(_message("toolCallGenerationEnd", toolCallRequest=request, rawContent=text))


def _fragment(content: str, kind: str) -> bytes:
    """A bit of the answer."""
    fragment = {
        "content": content,
        "tokensCount": 1,
        "containsDrafted": False,
        "reasoningType": kind,
        "isStructural": False,
    }
    return _message("fragment", fragment=fragment)


def _message(kind: str, /, **members: object) -> bytes:
    return render({"type": kind, **members})


def _member(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in an object, or an empty one."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _array(holder: Mapping[str, Any], name: str) -> list[Any]:
    """An array in an object, or an empty one."""
    value = holder.get(name)
    return value if isinstance(value, list) else []


def _checked(holder: Mapping[str, Any], name: str) -> int | None:
    """A number that has a box to be checked, if it is."""
    box = _member(holder, name)
    value = box.get("value")
    return value if box.get("checked") is True and isinstance(value, int) and value >= 0 else None
