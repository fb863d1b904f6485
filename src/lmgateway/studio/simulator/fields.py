# -*- test-case-name: tests.studio.simulator.test_fields -*-
"""Reading the fields of a request. A field that is absent or null is None; one of the wrong type is an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgateway.studio.simulator.errors import FieldError
from lmgateway.studio.simulator.generation import Tool, Turn

Body = Mapping[str, Any]

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed")
"""Numbers that shape the answer of a model; the simulator's is not shaped, but it does look at their types."""


def number(body: Body, name: str) -> float | None:
    """A number."""
    value = body.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise _wrong(name, "a number")


def integer(body: Body, name: str) -> int | None:
    """A number without a fraction."""
    value = number(body, name)
    if value is None or value == value // 1:
        return None if value is None else int(value)
    raise _wrong(name, "an integer")


def limit(body: Body, *names: str) -> int | None:
    """A limit of tokens, under the first of ``names`` that is there; one below 0 is none."""
    for name in names:
        value = integer(body, name)
        if value is not None:
            return value if value >= 0 else None
    return None


def flag(body: Body, name: str, *, default: bool = False) -> bool:
    """A boolean."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise _wrong(name, "a boolean")


def string(body: Body, name: str) -> str | None:
    """A string."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(name, "a string")


def strings(body: Body, name: str) -> tuple[str, ...]:
    """A string, or an array of strings; nothing is none."""
    value = body.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _wrong(name, "a string or an array of strings")


def checkSampling(body: Body) -> None:
    """See that whatever there is of :data:`SAMPLING` is a number."""
    for name in SAMPLING:
        number(body, name)


def turn(role: str, content: object) -> Turn:
    """
    One message, whatever its content is spelled like: a string, or a list of parts, of which text and images count.

    :raise FieldError: it is neither.
    """
    if content is None or isinstance(content, str):
        return Turn(role, content or "")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _wrong("content", "a string or an array of objects")
    texts = [_textOf(part) for part in content]
    images = sum("image" in str(part.get("type")) for part in content)
    return Turn(role, "\n".join(text for text in texts if text), images)


def turns(body: Body, name: str) -> tuple[Turn, ...]:
    """An array of messages with role and content, as the OpenAI routes have it."""
    value = body.get(name)
    if value is None:
        raise FieldError(f"'{name}' field is required", param=name, code="missing_required_parameter")
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise _wrong(name, "an array of objects")
    return tuple(turn(str(message.get("role")), message.get("content")) for message in value)


def tools(body: Body) -> tuple[Tool, ...]:
    """
    The functions that the model may call: OpenAI's ``function`` objects, the flat ones of ``/v1/responses``, and
    Anthropic's with their ``input_schema``.
    """
    value = body.get("tools")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise _wrong("tools", "an array of objects")
    functions = [tool.get("function", tool) for tool in value]
    return tuple(
        Tool(function["name"], _schemaOf(function))
        for function in functions
        if isinstance(function, dict) and isinstance(function.get("name"), str)
    )


def toolChoice(body: Body) -> str:
    """``auto``, ``none``, ``required`` (Anthropic's ``any``), or the name of a tool."""
    value = body.get("tool_choice")
    if isinstance(value, dict):
        named = value.get("function", value)
        name = named.get("name") if isinstance(named, dict) else None
        value = name if isinstance(name, str) else value.get("type")
    if not isinstance(value, str):
        return "auto"
    return "required" if value == "any" else value


def _textOf(part: Mapping[str, Any]) -> str:
    """The text of one part of a message, whichever API it is of."""
    for name in ("text", "content", "output"):
        value = part.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "\n".join(_textOf(inner) for inner in value if isinstance(inner, dict))
    return ""


def _schemaOf(function: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("parameters", "input_schema"):
        schema = function.get(name)
        if isinstance(schema, dict):
            return schema
    return {}


def _wrong(name: str, what: str) -> FieldError:
    return FieldError(f"'{name}' field must be {what}", param=name, code="invalid_type")
