# -*- test-case-name: tests.studio.test_bodies -*-
"""
What a server says in JSON, whatever server it is: read without ever failing. Pure.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import msgspec


def decodeObject(body: bytes) -> dict[str, Any] | None:
    """Decode one JSON object; None for everything else, however deep or broken."""
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def dicts(value: object) -> list[dict[str, Any]]:
    """Give the objects of an array, wherever there is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def isName(value: object) -> TypeGuard[str]:
    """Tell whether it names something."""
    return isinstance(value, str) and value != ""


def readNames(body: bytes) -> tuple[str, ...]:
    """Give the names in the answer to ``GET /v1/models``, which every OpenAI-like server has; none where it is no such list."""
    answer = decodeObject(body)
    listed = [] if answer is None else dicts(answer.get("data"))
    return tuple(dict.fromkeys(item["id"] for item in listed if isName(item.get("id"))))


def isGreeting(body: bytes) -> bool:
    """Tell whether this is how LM Studio answers ``GET /lmstudio-greeting``, and nobody else."""
    answer = decodeObject(body)
    return answer is not None and list(answer) == ["lmstudio"] and answer["lmstudio"] is True
