# -*- test-case-name: tests.studio.simulator.test_native -*-
"""LM Studio's own REST API: the completions of ``/api/v0`` with their statistics, and the chat of ``/api/v1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import Reply, event
from lmgateway.studio.simulator.errors import (
    FieldError,
    StudioError,
    nativeObject,
    nativeRefusal,
)
from lmgateway.studio.simulator.generation import Generation, Question, Turn
from lmgateway.studio.simulator.openai import ChatCompletion, Completion, Embeddings, TextCompletion
from lmgateway.studio.simulator.shelf import Instance
from lmgateway.studio.simulator.speech import Piece, Speech, responseId

_RUNTIME = {"name": "lmgateway-simulator", "version": "1.0.0", "supported_formats": ["gguf", "mlx"]}

_CHAT_KEYS = frozenset(
    {
        *("model", "input", "system_prompt", "integrations", "stream", "reasoning", "context_length"),
        *("temperature", "top_p", "min_p", "top_k", "repeat_penalty", "max_output_tokens"),
        *("store", "previous_response_id"),
    }
)
"""All that ``/api/v1/chat`` takes; anything else is an error, ``stop``, ``seed`` and ``max_tokens`` included."""


class ChatCompletionV0(ChatCompletion):
    """``POST /api/v0/chat/completions``; its streams are those of ``/v1``, and tell no statistics."""

    def whole(self, generation: Generation) -> object:
        """The answer that is no stream, its members in the order of the documentation's sample."""
        return _withStatistics(self, generation, super().whole(generation))

    def choice(self, generation: Generation) -> dict[str, Any]:
        """The one choice, the message last."""
        choice = super().choice(generation)
        return {**{name: value for name, value in choice.items() if name != "message"}, "message": choice["message"]}

    def message(self, generation: Generation) -> dict[str, Any]:
        """What the model said; of thoughts and calls only what there is."""
        return {name: value for name, value in super().message(generation).items() if name == "content" or value}


class TextCompletionV0(TextCompletion):
    """``POST /api/v0/completions``."""

    def whole(self, generation: Generation) -> object:
        """The answer that is no stream."""
        return _withStatistics(self, generation, super().whole(generation))


class EmbeddingsV0(Embeddings):
    """``POST /api/v0/embeddings``: it names the variant of the model."""

    @property
    def modelName(self) -> str:
        """The key and the quantization."""
        return self.instance.model.names[0]


class Chat(Speech):
    """``POST /api/v1/chat``: stateful, strict about its fields, and the only one that streams the progress of things."""

    def read(self, body: dict[str, Any]) -> Question:
        """The input, after the conversation that it goes on from."""
        _checkKeys(body)
        for name in ("temperature", "top_p", "min_p"):
            _checkFraction(body, name)
        _refuseIntegrations(body)
        self.store = fields.flag(body, "store", default=True)
        system = fields.string(body, "system_prompt")
        before = self._before(fields.string(body, "previous_response_id"))
        self.turns = (*before, _turnOf(body.get("input")))
        return Question(
            turns=(() if system is None else (Turn("system", system),)) + self.turns,
            maxTokens=fields.limit(body, "max_output_tokens"),
        )

    def meet(self, instance: Instance, created: int) -> None:
        """
        Learn which model answers, and give the response an id.

        :raise FieldError: the model cannot reason as asked.
        """
        super().meet(instance, created)
        self.id = responseId()
        wanted = fields.string(self.body, "reasoning")
        options = instance.model.reasoningOptions
        if wanted is not None and wanted not in options:
            allowed = ", ".join(options) or "none"
            raise FieldError(
                f"Reasoning setting '{wanted}' is not supported by this model. Supported settings: {allowed}.",
                param="reasoning",
                code="invalid_value",
            )

    @property
    def reasons(self) -> bool:
        """Whether the model thinks, and was not told not to."""
        return super().reasons and self.body.get("reasoning") != "off"

    def opening(self) -> Iterator[bytes]:
        """At once."""
        yield _named("chat.start", model_instance_id=self.instance.id)

    def loading(self) -> Iterator[bytes]:
        """The load begins."""
        yield _named("model_load.start", model_instance_id=self.instance.id)
        yield _named("model_load.progress", model_instance_id=self.instance.id, progress=0)

    def loaded(self) -> Iterator[bytes]:
        """The load ends."""
        yield _named("model_load.progress", model_instance_id=self.instance.id, progress=1)
        seconds = self.timing.loadSeconds
        yield _named("model_load.end", model_instance_id=self.instance.id, load_time_seconds=seconds)

    def reading(self) -> Iterator[bytes]:
        """The model starts on the prompt."""
        yield _named("prompt_processing.start")
        yield _named("prompt_processing.progress", progress=0)

    def hasRead(self) -> Iterator[bytes]:
        """It is through with it."""
        yield _named("prompt_processing.progress", progress=1)
        yield _named("prompt_processing.end")

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """Thoughts, the message, and all of it once more."""
        for name, words in (("reasoning", generation.reasoning), ("message", generation.content)):
            if words:
                yield Piece(_named(f"{name}.start"))
                for word in words:
                    yield Piece(_named(f"{name}.delta", content=word), token=True)
                yield Piece(_named(f"{name}.end"))
        yield Piece(_named("chat.end", result=self.whole(generation)))

    def breaking(self, error: StudioError, said: Generation) -> Iterator[bytes]:
        """The error; ``chat.end`` still follows, with what was said until then."""
        yield _named("error", error=nativeObject(error))
        yield _named("chat.end", result=self.whole(said))

    def whole(self, generation: Generation) -> object:
        """The result."""
        said = (("reasoning", "".join(generation.reasoning)), ("message", generation.text))
        tokens = generation.completionTokens
        stats: dict[str, Any] = {
            "input_tokens": generation.promptTokens,
            "total_output_tokens": tokens,
            "reasoning_output_tokens": len(generation.reasoning),
            "tokens_per_second": self.timing.tokensPerSecond(tokens),
            "time_to_first_token_seconds": self.timing.toFirstToken,
        }
        if self.timing.loadSeconds is not None:
            stats["model_load_time_seconds"] = self.timing.loadSeconds
        result: dict[str, Any] = {
            "model_instance_id": self.instance.id,
            "output": [{"type": kind, "content": text} for kind, text in said if text],
            "stats": stats,
        }
        return {**result, "response_id": self.id} if self.store else result

    def conclude(self, generation: Generation) -> None:
        """Keep the conversation, unless the request says not to."""
        if self.store:
            self.memory.remember(self.id, (*self.turns, Turn("assistant", generation.text)))

    @staticmethod
    def refuse(error: StudioError) -> Reply:
        """How the route tells that it will not."""
        return nativeRefusal(error)

    def _before(self, responseId: str | None) -> tuple[Turn, ...]:
        """The conversation that this one goes on from."""
        if responseId is None:
            return ()
        turns = self.memory.recall(responseId)
        if turns is None:
            message = f"Response with id '{responseId}' not found."
            raise FieldError(message, param="previous_response_id", code="invalid_value")
        return turns


def _named(name: str, /, **members: object) -> bytes:
    """An event that says its name twice."""
    return event({"type": name, **members}, name)


def _withStatistics(speech: Completion, generation: Generation, whole: object) -> object:
    """A completion of ``/v1`` as ``/api/v0`` has it."""
    assert isinstance(whole, dict)  # noqa: S101 - it is a completion
    model = speech.instance.model
    usage = {name: count for name, count in whole["usage"].items() if name != "completion_tokens_details"}
    statistics = {
        "tokens_per_second": speech.timing.tokensPerSecond(generation.completionTokens),
        "time_to_first_token": speech.timing.toFirstToken,
        "generation_time": speech.timing.generating,
        "stop_reason": generation.stopReason.value,
    }
    information = {
        "arch": model.architecture,
        "quant": model.quantization,
        "format": model.format,
        "context_length": speech.instance.contextLength,
    }
    kept = {name: whole[name] for name in ("id", "object", "created", "model", "choices")}
    return {**kept, "usage": usage, "stats": statistics, "model_info": information, "runtime": _RUNTIME}


def _checkKeys(body: dict[str, Any]) -> None:
    """
    See that there is no key too many, and none too few.

    :raise FieldError: in the words of a recorded 400.
    """
    unknown = [name for name in body if name not in _CHAT_KEYS]
    if unknown:
        names = ", ".join(f"'{name}'" for name in unknown)
        raise FieldError(f"Unrecognized key(s) in object: {names}", code="unrecognized_keys")
    if body.get("model") is None:
        raise FieldError('"model" is required', param="model", code="missing_required_parameter")
    if body.get("input") is None:
        raise FieldError("'input' is required", param="input", code="invalid_union")


def _checkFraction(body: dict[str, Any], name: str) -> None:
    """See that a number lies between 0 and 1, as the documentation has it."""
    value = fields.number(body, name)
    if value is not None and not 0 <= value <= 1:
        raise FieldError(f"'{name}' must be between 0 and 1", param=name, code="invalid_value")


def _refuseIntegrations(body: dict[str, Any]) -> None:
    """Plugins and MCP servers need a permission, and nobody has it here."""
    wanted = body.get("integrations")
    if wanted:
        first = wanted[0] if isinstance(wanted, list) else wanted
        name = first.get("id") or first.get("server_label") if isinstance(first, dict) else first
        message = f"Permission denied to use plugin '{name}'."
        raise StudioError(message, status=403, kind="plugin_connection_error")


def _turnOf(value: object) -> Turn:
    """The input: a string, or texts and images."""
    if isinstance(value, str):
        return Turn("user", value)
    if not isinstance(value, list):
        raise FieldError("'input' is invalid", param="input", code="invalid_union")
    faults = [fault for index, item in enumerate(value) if (fault := _faultOf(index, item)) is not None]
    if faults:
        raise FieldError(", ".join(faults), param="input", code="invalid_union")
    return fields.turn("user", value)


def _faultOf(index: int, item: object) -> str | None:
    """What is wrong with one item of the input, in the words of recorded 400s."""
    member = {"text": "content", "message": "content", "image": "data_url"}
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in member:
        return "Invalid discriminator value. Expected 'text' | 'image'"
    faults = [] if isinstance(item.get(member[kind]), str) else [f"'input.{index}.{member[kind]}' is required"]
    unknown = ", ".join(f"'{name}'" for name in item if name not in {"type", member[kind]})
    if unknown:
        faults.append(f"Unrecognized key(s) in object: {unknown}")
    return ", ".join(faults) or None
