# -*- test-case-name: tests.studio.simulator.test_responses -*-
"""
``POST /v1/responses``: stateful, in OpenAI's order of events, which is what strict clients need. LM Studio's documentation
names three of them and shows none; there is no ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import Reply, event
from lmgateway.studio.simulator.errors import FieldError, StudioError, responsesRefusal
from lmgateway.studio.simulator.generation import Generation, Question, StopReason, ToolCall, Turn
from lmgateway.studio.simulator.shelf import Instance
from lmgateway.studio.simulator.speech import Piece, Speech, responseId

_KEPT = ("instructions", "max_output_tokens", "previous_response_id", "temperature", "top_p", "user")
"""Fields of the request that the answer repeats, null where they are absent."""

Item = dict[str, Any]


class Response(Speech):
    """One response of ``/v1/responses``."""

    def read(self, body: dict[str, Any]) -> Question:
        """The items of the input, after those of the response that it goes on from."""
        text = body.get("text")
        if text is not None and not (isinstance(text, dict) and isinstance(text.get("format"), dict)):
            raise _required("text.format")
        before = self._before(fields.string(body, "previous_response_id"))
        instructions = fields.string(body, "instructions")
        system = () if instructions is None else (Turn("system", instructions),)
        self.turns = before + _turnsOf(body.get("input"))
        return Question(
            turns=system + self.turns,
            tools=fields.tools(body),
            toolChoice=fields.toolChoice(body),
            maxTokens=fields.limit(body, "max_output_tokens"),
        )

    def meet(self, instance: Instance, created: int) -> None:
        """Learn which model answers, and give the response an id."""
        super().meet(instance, created)
        self.id = responseId()

    def conclude(self, generation: Generation) -> None:
        """Keep the conversation for those that go on from it."""
        self.memory.remember(self.id, (*self.turns, Turn("assistant", generation.text)))

    def whole(self, generation: Generation) -> object:
        """The finished response."""
        return self._response(generation, self._items(generation))

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """The events from ``response.created`` to ``response.completed``."""
        yield self._event("response.created", response=self._response(None, []))
        yield self._event("response.in_progress", response=self._response(None, []))
        items = self._items(generation)
        tokens = _tokensOf(generation)
        for index, (item, words) in enumerate(zip(items, tokens, strict=True)):
            yield self._event("response.output_item.added", output_index=index, item=_begun(item))
            yield from self._deltas(index, item, words)
            yield self._event("response.output_item.done", output_index=index, item=item)
        name = "incomplete" if generation.stopReason is StopReason.LIMIT else "completed"
        yield self._event(f"response.{name}", response=self._response(generation, items))

    def breaking(self, error: StudioError, said: Generation) -> Iterator[bytes]:
        """An ``error`` event, and no ``response.completed``."""
        yield self._event("error", code=error.code, message=error.message, param=error.param).data

    @staticmethod
    def refuse(error: StudioError) -> Reply:
        """How the route tells that it will not."""
        return responsesRefusal(error)

    def _before(self, responseId: str | None) -> tuple[Turn, ...]:
        """The conversation that this one goes on from."""
        if responseId is None:
            return ()
        turns = self.memory.recall(responseId)
        if turns is None:
            raise FieldError(
                f"Previous response with id '{responseId}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return turns

    def _deltas(self, index: int, item: Item, words: tuple[str, ...]) -> Iterator[Piece]:
        """What lies between the beginning of an item and its end."""
        where: dict[str, Any] = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            for word in words:
                yield self._event("response.function_call_arguments.delta", **where, delta=word, token=True)
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **where, **done)
            return
        part = item["content"][0]
        name = "response." + part["type"]
        where["content_index"] = 0
        logprobs: dict[str, Any] = {"logprobs": []} if part["type"] == "output_text" else {}
        yield self._event("response.content_part.added", **where, part={**part, "text": ""})
        for word in words:
            yield self._event(name + ".delta", **where, delta=word, **logprobs, token=True)
        yield self._event(name + ".done", **where, text=part["text"], **logprobs)
        yield self._event("response.content_part.done", **where, part=part)

    def _event(self, name: str, /, *, token: bool = False, **members: object) -> Piece:
        """One event, numbered."""
        value = {"type": name, "sequence_number": self.sent, **members}
        return Piece(event(value, name), token)

    def _items(self, generation: Generation) -> list[Item]:
        """The output: thoughts if any, then the message or the calls."""
        items: list[Item] = []
        status = "incomplete" if generation.stopReason is StopReason.LIMIT else "completed"
        if generation.reasoning:
            text = {"type": "reasoning_text", "text": "".join(generation.reasoning)}
            items.append({"id": self._itemId("rs", 0), "type": "reasoning", "summary": [], "content": [text]})
        items.extend(self._call(number, call) for number, call in enumerate(generation.toolCalls))
        if not generation.toolCalls:
            content = {"type": "output_text", "text": generation.text, "annotations": [], "logprobs": []}
            message = {"id": self._itemId("msg", 0), "type": "message", "status": status, "role": "assistant"}
            items.append({**message, "content": [content]})
        return items

    def _call(self, number: int, call: ToolCall) -> Item:
        return {
            "id": self._itemId("fc", number),
            "type": "function_call",
            "status": "completed",
            "arguments": "".join(call.arguments),
            "call_id": call.id,
            "name": call.name,
        }

    def _itemId(self, prefix: str, number: int) -> str:
        """An id that is the same whenever this response is spelled."""
        return f"{prefix}_{self.id.removeprefix('resp_')[:-1]}{number}"

    def _response(self, generation: Generation | None, output: list[Item]) -> dict[str, Any]:
        """The response object; without a generation it is still in progress."""
        status, usage, details = "in_progress", None, None
        if generation is not None:
            cut = generation.stopReason is StopReason.LIMIT
            status, details = ("incomplete", {"reason": "max_output_tokens"}) if cut else ("completed", None)
            usage = _usage(generation)
        effort = self.body.get("reasoning")
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": details,
            "model": self.instance.id,
            "output": output,
            "parallel_tool_calls": True,
            "reasoning": {"effort": effort.get("effort") if isinstance(effort, dict) else None, "summary": None},
            "store": True,
            "text": self.body.get("text") or {"format": {"type": "text"}},
            "tool_choice": self.body.get("tool_choice") or "auto",
            "tools": self.body.get("tools") or [],
            "truncation": "disabled",
            "usage": usage,
            "metadata": {},
            **{name: self.body.get(name) for name in _KEPT},
        }


def _begun(item: Item) -> Item:
    """An item as it is announced: empty, and in progress if it has a status."""
    empty: Item = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    status = {"status": "in_progress"} if "status" in item else {}
    return {**item, **status, **empty}


def _tokensOf(generation: Generation) -> list[tuple[str, ...]]:
    """The tokens of each item of the output."""
    thoughts = [generation.reasoning] if generation.reasoning else []
    calls = [call.arguments for call in generation.toolCalls]
    return thoughts + (calls or [generation.content])


def _usage(generation: Generation) -> dict[str, Any]:
    prompt, completion = generation.promptTokens, generation.completionTokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": len(generation.reasoning)},
        "total_tokens": prompt + completion,
    }


def _turnsOf(value: object) -> tuple[Turn, ...]:
    """The input: a string, or items, of which those with content and the outputs of functions count."""
    if value is None:
        raise _required("input")
    if isinstance(value, str):
        return (Turn("user", value),)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise FieldError("Invalid input", param="input", code="invalid_union")
    turns = []
    for item in value:
        if item.get("type") == "function_call_output":
            turns.append(fields.turn("tool", item.get("output")))
        elif "content" in item and item.get("type") != "reasoning":
            turns.append(fields.turn(str(item.get("role", "user")), item["content"]))
    return tuple(turns)


def _required(param: str) -> FieldError:
    """Recorded for ``text`` without ``format``."""
    return FieldError("Required", param=param, code="missing_required_parameter")
