# -*- test-case-name: tests.commands.test_reload -*-
"""``lmgateway reload``: have a gateway that runs go by what its configuration says now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from lmgateway.commands.talk import LONGEST_MESSAGE, Place, asksGateway, jsonText
from lmgateway.telemetry.accesslog import printable


@click.command()
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def reload(place: Place, *, asJson: bool) -> None:
    """
    Have the gateway read its configuration, keys and certificates again, as SIGHUP does, and tell what has changed.

    Needs a key with the scope admin. Nothing that runs is cut. Where something is bad, the old settings stay, the reason
    is told, and the exit status is 1. Variables and options stay what they were at the start: they belong to the process.
    """
    answer = place.post("/admin/reload", {})
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    for line in linesOf(answer):
        click.echo(printable(line, LONGEST_MESSAGE))


def linesOf(answer: Mapping[str, Any]) -> Iterator[str]:
    """Say what came of it."""
    changed, needsRestart = _keysIn(answer.get("changed")), _keysIn(answer.get("needsRestart"))
    yield f"The configuration was read again. {f'Changed: {changed}.' if changed else 'No setting has changed.'}"
    if needsRestart:
        yield f"Only after a restart: {needsRestart}."


def _keysIn(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else ""
