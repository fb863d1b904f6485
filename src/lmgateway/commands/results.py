# -*- test-case-name: tests.commands.test_results -*-
"""What came of something that the gateway was to do about a model, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from lmgateway.commands.talk import LONGEST_MESSAGE, jsonText
from lmgateway.telemetry.accesslog import printable

MANAGE_SECONDS = 60.0
"""How long the gateway may be silent while LM Studio does what is done at once."""


def tellResult(answer: Mapping[str, Any], *, asJson: bool) -> None:
    """Print what the gateway answered."""
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    for line in linesOf(answer):
        click.echo(line)


def linesOf(answer: Mapping[str, Any]) -> Iterator[str]:
    """
    Say it for people: what was done, what of it was not, and what they must do themselves. Whatever the gateway answers, there
    is something to be said, of characters that a terminal shows.
    """
    yield _textOf(answer.get("message") or answer.get("status") or "The gateway did not say what it did.")
    config = answer.get("loadConfig")
    if isinstance(config, dict) and config and answer.get("status") == "loaded":
        yield f"Loaded with {_textOf(', '.join(settingsOf(config)))}."
    notApplied = answer.get("notApplied")
    if isinstance(notApplied, list) and notApplied:
        yield f"Not applied, as this LM Studio cannot: {_textOf(', '.join(map(str, notApplied)))}."
    steps = answer.get("workflow")
    for number, step in enumerate(steps.values() if isinstance(steps, dict) else (), 1):
        yield f"{number}. {_textOf(step)}"


def settingsOf(config: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Give each setting of a ``loadConfig`` with its whole name, such as ``gpu.ratio 0.5``."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from settingsOf(value, f"{above}{name}.")
        else:
            yield f"{above}{name} {value if isinstance(value, str) else jsonText(value)}"


def _textOf(value: object) -> str:
    return printable(str(value), LONGEST_MESSAGE)
