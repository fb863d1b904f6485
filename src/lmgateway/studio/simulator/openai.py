# -*- test-case-name: tests.studio.simulator.test_openai -*-
"""
``/v1/chat/completions``, ``/v1/completions`` and ``/v1/embeddings``, with the order of members and the quirks of LM Studio:
the role in every delta, no chunk of its own for it, an empty delta at the end, ``tool_calls`` even where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import event
from lmgateway.studio.simulator.errors import FieldError, StudioError
from lmgateway.studio.simulator.generation import Generation, Question, StopReason, ToolCall, Turn
from lmgateway.studio.simulator.models import EMBEDDING
from lmgateway.studio.simulator.shelf import Instance
from lmgateway.studio.simulator.speech import Piece, Speech, randomId
from lmgateway.studio.simulator.vectors import packed, vector

DONE = b"data: [DONE]\n\n"

_FINISH_REASONS = {
    StopReason.EOS: "stop",
    StopReason.STOP_STRING: "stop",
    StopReason.LIMIT: "length",
    StopReason.TOOL_CALLS: "tool_calls",
}


class Completion(Speech):
    """What text and chat completions share."""

    prefix = "cmpl-"

    def meet(self, instance: Instance, created: int) -> None:
        """Learn which model answers, and give the answer an id."""
        super().meet(instance, created)
        self.id = randomId(self.prefix, 21)

    @property
    def usageWanted(self) -> bool:
        """Whether a stream ends with its usage; without ``stream_options`` it tells none."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    def breaking(self, error: StudioError, said: Generation) -> Iterator[bytes]:
        """LM Studio names this one event, and says the message twice."""
        yield event({"error": {"message": error.message}, "message": error.message}, "error")

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """The tokens, the reason of the end, the usage if wanted, and ``[DONE]``."""
        yield from self.tokens(generation)
        yield Piece(event(self.chunk([self.finalChoice(generation)])))
        if self.usageWanted:
            yield Piece(event(self.chunk([], usage=usage(generation))))
        yield Piece(DONE)

    def tokens(self, generation: Generation) -> Iterator[Piece]:
        """A chunk for each token."""
        raise NotImplementedError

    def chunk(self, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        """One chunk of the stream."""
        raise NotImplementedError

    def finalChoice(self, generation: Generation) -> dict[str, Any]:
        """The choice that carries the reason of the end."""
        raise NotImplementedError


class ChatCompletion(Completion):
    """``POST /v1/chat/completions``."""

    prefix = "chatcmpl-"

    def read(self, body: dict[str, Any]) -> Question:
        """The messages, the tools and the limits."""
        turns = fields.turns(body, "messages")
        return Question(
            turns=turns,
            tools=fields.tools(body),
            toolChoice=fields.toolChoice(body),
            maxTokens=fields.limit(body, "max_tokens", "max_completion_tokens"),
            stops=fields.strings(body, "stop"),
            schema=_schemaOf(body),
        )

    def whole(self, generation: Generation) -> object:
        """The answer that is no stream."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.instance.id,
            "choices": [self.choice(generation)],
            "usage": usage(generation),
            "stats": {},
            "system_fingerprint": self.instance.id,
        }

    def choice(self, generation: Generation) -> dict[str, Any]:
        """The one choice."""
        reason = _FINISH_REASONS[generation.stopReason]
        return {"index": 0, "message": self.message(generation), "logprobs": None, "finish_reason": reason}

    def message(self, generation: Generation) -> dict[str, Any]:
        """What the model said, its thoughts and its calls apart."""
        field = self.instance.model.reasoningField or "reasoning_content"
        calls = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for call in generation.toolCalls
        ]
        return {
            "role": "assistant",
            "content": generation.text,
            field: "".join(generation.reasoning),
            "tool_calls": calls,
        }

    def chunk(self, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        """One chunk of the stream."""
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.instance.id,
            "system_fingerprint": self.instance.id,
            "choices": choices,
            **more,
        }

    def tokens(self, generation: Generation) -> Iterator[Piece]:
        """Thoughts, then the answer or the calls."""
        field = self.instance.model.reasoningField or "reasoning_content"
        for token in generation.reasoning:
            yield self._delta({field: token})
        for token in generation.content:
            yield self._delta({"content": token})
        for index, call in enumerate(generation.toolCalls):
            yield from self._callDeltas(index, call)

    def finalChoice(self, generation: Generation) -> dict[str, Any]:
        """An empty delta, with the reason."""
        reason = _FINISH_REASONS[generation.stopReason]
        return {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}

    def _callDeltas(self, index: int, call: ToolCall) -> Iterator[Piece]:
        """First the name, then the arguments bit by bit."""
        function = {"name": call.name, "arguments": ""}
        head = {"index": index, "id": call.id, "type": "function", "function": function}
        yield Piece(self._delta({"tool_calls": [head]}).data)
        for bit in call.arguments:
            yield self._delta({"tool_calls": [{"index": index, "function": {"arguments": bit}}]})

    def _delta(self, delta: dict[str, Any]) -> Piece:
        """A chunk for one token; LM Studio repeats the role in each."""
        choice = {"index": 0, "delta": {"role": "assistant", **delta}, "logprobs": None, "finish_reason": None}
        return Piece(event(self.chunk([choice])), token=True)


class TextCompletion(Completion):
    """``POST /v1/completions``: the prompt as it is, no template around it and no thoughts."""

    def read(self, body: dict[str, Any]) -> Question:
        """The first prompt, and the limits."""
        prompts = fields.strings(body, "prompt")
        if not prompts:
            raise FieldError("'prompt' field is required", param="prompt", code="missing_required_parameter")
        return Question(
            turns=(Turn("user", prompts[0]),),
            maxTokens=fields.limit(body, "max_tokens"),
            stops=fields.strings(body, "stop"),
        )

    @property
    def announcement(self) -> str:
        """What LM Studio's log says when a model starts on it."""
        return "Running completion on text."

    @property
    def reasons(self) -> bool:
        """Without a template there is nothing that makes a model think."""
        return False

    def whole(self, generation: Generation) -> object:
        """The answer that is no stream."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.instance.id,
            "choices": [{**_textChoice(generation.text), "finish_reason": _FINISH_REASONS[generation.stopReason]}],
            "usage": usage(generation),
            "stats": {},
        }

    def chunk(self, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        """One chunk of the stream."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.instance.id,
            "choices": choices,
            **more,
        }

    def tokens(self, generation: Generation) -> Iterator[Piece]:
        """The text."""
        for token in generation.content:
            yield Piece(event(self.chunk([_textChoice(token)])), token=True)

    def finalChoice(self, generation: Generation) -> dict[str, Any]:
        """An empty text, with the reason."""
        return {**_textChoice(""), "finish_reason": _FINISH_REASONS[generation.stopReason]}


class Embeddings(Speech):
    """``POST /v1/embeddings``: ``dimensions`` is ignored, and the usage is always 0."""

    kinds = EMBEDDING

    def read(self, body: dict[str, Any]) -> Question:
        """The texts; arrays of tokens are refused, as clients have found out."""
        self.stream = False
        self.inputs = fields.strings(body, "input")
        if not self.inputs:
            raise FieldError("'input' field is required", param="input", code="missing_required_parameter")
        return Question(turns=tuple(Turn("user", text) for text in self.inputs))

    def think(self) -> Generation:
        """There is nothing to say."""
        return Generation(promptTokens=0)

    @property
    def modelName(self) -> str:
        """What the answer calls the model."""
        return self.instance.id

    @property
    def announcement(self) -> str:
        """What LM Studio's log says when a model starts on it."""
        return f"Received request to embed {len(self.inputs)} texts."

    def whole(self, generation: Generation) -> object:
        """The vectors, in the order of the texts."""
        dimensions = self.instance.model.dimensions
        vectors = [vector(text, dimensions) for text in self.inputs]
        inBase64 = self.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "embedding": packed(numbers) if inBase64 else numbers, "index": index}
            for index, numbers in enumerate(vectors)
        ]
        none = {"prompt_tokens": 0, "total_tokens": 0}
        return {"object": "list", "data": data, "model": self.modelName, "usage": none}


def usage(generation: Generation) -> dict[str, Any]:
    """How many tokens went in and came out."""
    return {
        "prompt_tokens": generation.promptTokens,
        "completion_tokens": generation.completionTokens,
        "total_tokens": generation.promptTokens + generation.completionTokens,
        "completion_tokens_details": {"reasoning_tokens": len(generation.reasoning)},
    }


def _textChoice(text: str) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": None}


def _schemaOf(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the answer, if one is asked for. LM Studio knows no ``json_object``."""
    wanted = body.get("response_format")
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in {"json_schema", "text"}:
        raise FieldError("'response_format.type' must be 'json_schema' or 'text'", param="response_format")
    holder = wanted.get("json_schema") if kind == "json_schema" else None
    schema = holder.get("schema") if isinstance(holder, dict) else None
    return schema if isinstance(schema, dict) else None
