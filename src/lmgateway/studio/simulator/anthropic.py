# -*- test-case-name: tests.studio.simulator.test_anthropic -*-
"""``POST /v1/messages``: Anthropic's API. What a model thinks is not told here; it does count as output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import Reply, event, parse
from lmgateway.studio.simulator.errors import FieldError, StudioError, anthropicRefusal
from lmgateway.studio.simulator.generation import Generation, Question, StopReason, ToolCall, Turn
from lmgateway.studio.simulator.shelf import Instance
from lmgateway.studio.simulator.speech import Piece, Speech, randomId

_STOP_REASONS = {
    StopReason.EOS: "end_turn",
    StopReason.STOP_STRING: "stop_sequence",
    StopReason.LIMIT: "max_tokens",
    StopReason.TOOL_CALLS: "tool_use",
}


class Message(Speech):
    """One answer of ``/v1/messages``."""

    brand = "Anthropic "

    def read(self, body: dict[str, Any]) -> Question:
        """The system prompt, the messages, the tools and the limits; ``max_tokens`` is required."""
        for name in ("model", "max_tokens", "messages"):
            if body.get(name) is None:
                raise _fault(name, "Required")
        system = () if body.get("system") is None else (fields.turn("system", body["system"]),)
        return Question(
            turns=system + _turnsOf(body["messages"]),
            tools=fields.tools(body),
            toolChoice=fields.toolChoice(body),
            maxTokens=fields.limit(body, "max_tokens"),
            stops=fields.strings(body, "stop_sequences"),
        )

    def meet(self, instance: Instance, created: int) -> None:
        """Learn which model answers, and give the message an id."""
        super().meet(instance, created)
        self.id = randomId("msg_", 24)

    @property
    def announcement(self) -> str:
        """What LM Studio's log says when a model starts on it."""
        return f"Running Anthropic messages API on conversation with {len(self.question.turns)} messages."

    def whole(self, generation: Generation) -> object:
        """The finished message."""
        calls = [_toolUse(call, parse("".join(call.arguments).encode("utf-8"))) for call in generation.toolCalls]
        text = [{"type": "text", "text": generation.text}] if generation.content or not calls else []
        usage = {"input_tokens": generation.promptTokens, "output_tokens": generation.completionTokens}
        return {**self._message([*text, *calls]), **_ending(generation), "usage": usage}

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """The events from ``message_start`` to ``message_stop``."""
        usage = {"input_tokens": generation.promptTokens, "output_tokens": 0}
        start = {**self._message([]), "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield _event("message_start", message=start)
        index = 0
        if generation.content or not generation.toolCalls:
            yield from _block(index, {"type": "text", "text": ""}, "text", generation.content)
            index += 1
        for call in generation.toolCalls:
            yield from _block(index, _toolUse(call, {}), "input_json", call.arguments)
            index += 1
        output = {"output_tokens": generation.completionTokens}
        yield _event("message_delta", delta=_ending(generation), usage=output)
        yield _event("message_stop")

    def breaking(self, error: StudioError, said: Generation) -> Iterator[bytes]:
        """An ``error`` event, and no ``message_stop``."""
        yield event(anthropicRefusal(error).value, "error")

    @staticmethod
    def refuse(error: StudioError) -> Reply:
        """How the route tells that it will not."""
        return anthropicRefusal(error)

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.instance.id,
            "content": content,
        }


def _block(index: int, block: dict[str, Any], kind: str, words: tuple[str, ...]) -> Iterator[Piece]:
    """One block of the content, from its start to its stop."""
    member = "partial_json" if kind == "input_json" else "text"
    yield _event("content_block_start", index=index, content_block=block)
    for word in words:
        delta = {"type": f"{kind}_delta", member: word}
        yield _event("content_block_delta", token=True, index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _event(name: str, /, *, token: bool = False, **members: object) -> Piece:
    return Piece(event({"type": name, **members}, name), token)


def _ending(generation: Generation) -> dict[str, Any]:
    return {"stop_reason": _STOP_REASONS[generation.stopReason], "stop_sequence": generation.stopString}


def _toolUse(call: ToolCall, arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _turnsOf(messages: object) -> tuple[Turn, ...]:
    """The messages; a message whose content is the result of a tool counts as the tool's."""
    if not isinstance(messages, list):
        raise _fault("messages", "Expected array, received something else")
    turns = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in {"user", "assistant"}:
            raise _fault(f"messages.{index}.role", "Invalid discriminator value. Expected 'user' | 'assistant'")
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        fromTool = any(isinstance(part, dict) and part.get("type") == "tool_result" for part in parts)
        turns.append(fields.turn("tool" if fromTool else role, content))
    return tuple(turns)


def _fault(path: str, what: str) -> FieldError:
    """Recorded for a role (bug tracker 1399): the path into the request, then what its schema says."""
    return FieldError(f"request.{path}: {what}", param=path)
