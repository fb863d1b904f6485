# -*- test-case-name: tests.studio.simulator.test_generation -*-
"""
What the simulated model says: text made of the question, the same every time. Pure.

``count to 100`` in the last message makes a long answer, ``tool: NAME {"argument": 1}`` a call of a tool.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s", re.ASCII)
_COUNT = re.compile(r"\bcount to (\d{1,6})\b", re.IGNORECASE | re.ASCII)
_TOOL = re.compile(r"tool:[ \t]*([\w.-]*)", re.IGNORECASE | re.ASCII)
_ECHOED = 400
"""Characters of the question that come back in the answer."""

_CHARACTERS_A_TOKEN = 4
_TOKENS_AROUND_A_TURN = 4
_TOKENS_OF_AN_IMAGE = 256

_EXAMPLES: Mapping[str, Any] = {
    "string": "string",
    "number": 1,
    "integer": 1,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


class StopReason(Enum):
    """Why a generation ended, in the words of ``stats.stop_reason`` of ``/api/v0``."""

    EOS = "eosFound"
    STOP_STRING = "stopStringFound"
    TOOL_CALLS = "toolCalls"
    LIMIT = "maxPredictedTokensReached"
    USER = "userStopped"


class Turn(Struct, frozen=True):
    """
    One message of a conversation.

    :param role: ``system``, ``user``, ``assistant`` or ``tool``.
    :param images: how many images came with it.
    """

    role: str
    text: str
    images: int = 0


class Tool(Struct, frozen=True):
    """
    A function that the model may call.

    :param parameters: the JSON schema of its arguments.
    """

    name: str
    parameters: Mapping[str, Any]


class ToolCall(Struct, frozen=True):
    """
    A call that the model makes.

    :param id: nine digits, as LM Studio's are.
    :param arguments: JSON, in the pieces it is generated in.
    """

    id: str
    name: str
    arguments: tuple[str, ...]


class Question(Struct, frozen=True, kw_only=True):
    """
    What a request asks the model for, whatever API it came by.

    :param turns: the conversation so far.
    :param tools: what the model may call.
    :param toolChoice: ``auto``, ``none``, ``required``, or the name of the one tool to call.
    :param maxTokens: the limit of the answer's length, or None.
    :param stops: strings that end the answer before they appear in it.
    :param schema: the JSON schema that the answer must fit, or None for prose.
    """

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    toolChoice: str = "auto"
    maxTokens: int | None = None
    stops: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None

    @property
    def tokens(self) -> int:
        """How many tokens the prompt has, roughly, as a 30 MB prompt must not take seconds to count."""
        return sum(
            -(-len(turn.text) // _CHARACTERS_A_TOKEN) + _TOKENS_AROUND_A_TURN + turn.images * _TOKENS_OF_AN_IMAGE
            for turn in self.turns
        )


class Generation(Struct, frozen=True, kw_only=True):
    """
    All that a model says to a question, token by token.

    :param promptTokens: how many tokens the prompt had.
    :param stopString: which of the stop strings ended it.
    """

    promptTokens: int
    reasoning: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    toolCalls: tuple[ToolCall, ...] = ()
    stopReason: StopReason = StopReason.EOS
    stopString: str | None = None

    @property
    def completionTokens(self) -> int:
        """How many tokens were generated, reasoning and calls of tools included."""
        return len(self.reasoning) + len(self.content) + sum(len(call.arguments) for call in self.toolCalls)

    def first(self, tokens: int, stopReason: StopReason) -> Generation:
        """What was said when only so many tokens came: of calls, which are worth nothing by halves, none."""
        reasoning = self.reasoning[:tokens]
        content = self.content[: tokens - len(reasoning)]
        return Generation(promptTokens=self.promptTokens, reasoning=reasoning, content=content, stopReason=stopReason)

    @property
    def text(self) -> str:
        """The answer without the reasoning."""
        return "".join(self.content)


def tokenize(text: str) -> tuple[str, ...]:
    """Cut a text into tokens of at most nine characters that make the very text when joined."""
    return tuple(_TOKEN.findall(text))


def generate(question: Question, *, reasons: bool) -> Generation:
    """
    Answer a question.

    :param reasons: whether the model thinks aloud before it answers.
    """
    promptTokens = question.tokens
    reasoning = tokenize(_thoughts(question)) if reasons else ()
    call = _toolCall(question)
    if call is not None:
        whole = Generation(
            promptTokens=promptTokens, reasoning=reasoning, toolCalls=(call,), stopReason=StopReason.TOOL_CALLS
        )
        return _limited(whole, question.maxTokens)
    text, stopString = _stopped(_answer(question), question.stops)
    whole = Generation(
        promptTokens=promptTokens,
        reasoning=reasoning,
        content=tokenize(text),
        stopReason=StopReason.EOS if stopString is None else StopReason.STOP_STRING,
        stopString=stopString,
    )
    return _limited(whole, question.maxTokens)


def _answer(question: Question) -> str:
    """The text of an answer that is no call of a tool."""
    if question.schema is not None:
        return _json(_argumentsFor(question.schema))
    last = question.turns[-1] if question.turns else Turn("user", "")
    count = _COUNT.search(last.text)
    if count is not None:
        return " ".join(map(str, range(1, int(count[1]) + 1)))
    verb = "The tool answered" if last.role == "tool" else "You said"
    text = f"This is lmgateway's simulator, not a model. {verb}: {last.text[:_ECHOED]}"
    before = [turn.text for turn in question.turns[:-1] if turn.role == "user"]
    if before and last.role == "user":
        text += f"\nBefore that you said: {before[-1][:_ECHOED]}"
    if last.images:
        text += f"\nYou showed {last.images} image{'s' if last.images > 1 else ''}."
    return text


def _thoughts(question: Question) -> str:
    """What the model says to itself."""
    messages = len(question.turns)
    return f"The conversation has {messages} message{'' if messages == 1 else 's'}. I will repeat the last one."


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The text up to the first stop string in it, and that string."""
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _limited(whole: Generation, limit: int | None) -> Generation:
    """
    Cut at the limit, with LM Studio's quirk: of ``max_tokens`` 10 there are 9 tokens in the answer and in its count
    (bug tracker 2335, and the sample in the documentation of ``/api/v0/completions``).
    """
    if limit is None or whole.completionTokens < limit:
        return whole
    return whole.first(max(0, limit - 1), StopReason.LIMIT)


def _toolCall(question: Question) -> ToolCall | None:
    """The call that the question asks for, if it does and there are tools."""
    last = question.turns[-1] if question.turns else Turn("user", "")
    asked = _TOOL.search(last.text) if last.role == "user" else None
    forced = question.toolChoice not in {"auto", "none"} and last.role != "tool"
    if not question.tools or question.toolChoice == "none" or not (asked or forced):
        return None
    names = {tool.name: tool for tool in question.tools}
    wanted = question.toolChoice if question.toolChoice in names else asked[1] if asked else ""
    tool = names.get(wanted, question.tools[0])
    arguments = _argumentsIn(last.text[asked.end() :]) if asked else None
    if arguments is None:
        arguments = _argumentsFor(tool.parameters)
    text = _json(arguments)
    seed = f"{len(question.turns)} {tool.name} {text}".encode("utf-8", "surrogatepass")
    return ToolCall(f"{zlib.crc32(seed) % 10**9:09d}", tool.name, tokenize(text))


def _json(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def _argumentsIn(text: str) -> dict[str, Any] | None:
    """The JSON object that a text begins with, or None."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _argumentsFor(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object that has every property that a schema requires, of the right type."""
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {}
    return {name: _example(properties.get(name)) for name in required if isinstance(name, str)}


def _example(schema: object) -> Any:
    """A value that fits the simplest schemas."""
    if not isinstance(schema, dict):
        return "string"
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type")
    return _EXAMPLES.get(kind, "string") if isinstance(kind, str) else "string"
