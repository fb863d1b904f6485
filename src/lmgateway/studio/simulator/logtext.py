# -*- test-case-name: tests.studio.simulator.test_logtext -*-
"""
What LM Studio's log says, as recorded from versions 0.3.15 to 0.4.25 (bug tracker 597, 1323, 1730, 2051, 2240). Pure.

JSON is written with an indent of 2 and spreads over lines that have no prefix of their own; long strings lose their middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lmgateway.studio.simulator.encoding import parse, render

SERVER = "LM STUDIO SERVER"
"""The tag of what the server says itself; models are tagged by their identifiers."""

LEFT = "Client disconnected. Stopping generation... (If the model is busy processing the prompt, it will finish first.)"

_KEPT = 50
"""Characters that are left at both ends of a long string."""

_ENDPOINTS = (
    ("LM Studio API", ("GET  /api/v1/models", "POST /api/v1/chat", "POST /api/v1/models/load")),
    (
        "OpenAI-compatible",
        ("GET  /v1/models", "POST /v1/responses", "POST /v1/chat/completions", "POST /v1/embeddings"),
    ),
)


def line(moment: datetime, level: str, message: str, *tags: str) -> str:
    """
    One entry: a line, or as many as the message has.

    :param moment: local time.
    :param level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
    :param tags: who speaks, if not the server in general.
    """
    prefix = "".join(f"[{part}]" for part in (f"{moment:%Y-%m-%d %H:%M:%S}", level, *tags))
    return f"{prefix} {message}\n"


def received(method: str, target: str, body: bytes) -> str:
    """A request, with its body where it has one that is JSON."""
    text = f"Received request: {method} to {target}"
    if not body:
        return text
    try:
        return f"{text} with body {pretty(shortened(parse(body)))}"
    except (ValueError, RecursionError):
        return text


def pretty(value: object) -> str:
    """JSON over several lines."""
    return render(value, 2).decode()


def shortened(value: Any) -> Any:
    """The same JSON, with the middle of long strings cut out."""
    if isinstance(value, str) and len(value) > 2 * _KEPT:
        return f"{value[:_KEPT]}... <Truncated in logs> ...{value[-_KEPT:]}"
    if isinstance(value, dict):
        return {name: shortened(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    return value


def accumulated(tokens: int, text: str) -> str:
    """The answer so far, on one line; so LM Studio logs incoming tokens when told to."""
    escaped = text.replace("\n", "\\n")
    return f"Accumulated {tokens} token{'' if tokens == 1 else 's'} {escaped}"


def engine(promptTokens: int, contextLength: int, maxTokens: int | None) -> Iterator[str]:
    """What the llama.cpp engine says before it reads a prompt; without a limit ``n_predict`` is -1."""
    limit = -1 if maxTokens is None else maxTokens
    yield (
        "Sampling params:\trepeat_last_n = 64, repeat_penalty = 1.100, frequency_penalty = 0.000, presence_penalty = 0.000\n"
        "\ttop_k = 40, top_p = 0.950, min_p = 0.050, temp = 0.800"
    )
    yield f"Generate: n_ctx = {contextLength}, n_batch = 512, n_predict = {limit}, n_keep = {promptTokens}"
    yield (
        f"Cache reuse summary: 0/{promptTokens} of prompt (0%), 0 prefix, 0 non-prefix\n"
        f"Total prompt tokens: {promptTokens}\n"
        f"Prompt tokens to decode: {promptTokens}"
    )
    yield "BeginProcessingPrompt"


def opening(address: str, folder: str, *, jit: bool) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """
    What LM Studio says when its server starts: level, message and tags of each line.

    :param address: where it listens, as a URL without a path.
    :param folder: where the log files are.
    """
    yield "INFO", f"Success! HTTP server listening on port {address.rpartition(':')[2]}", (SERVER,)
    yield "INFO", "", ()
    yield "INFO", "Supported endpoints:", (SERVER,)
    for title, routes in _ENDPOINTS:
        yield "INFO", f"  {title}", (SERVER,)
        for route in routes:
            method, path = route.split()
            yield "INFO", f"   ->  {method:<4} {address}{path}", (SERVER,)
    yield "INFO", "", ()
    yield "INFO", f"Logs are saved into {folder}", (SERVER,)
    yield "INFO", "Server started.", ()
    if jit:
        yield "INFO", "Just-in-time model loading active.", ()
