# -*- test-case-name: tests.commands.test_status -*-
"""``lmgateway status``: what the gateway is doing now, and whether LM Studio answers behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from lmgateway.commands.talk import Place, asksGateway, jsonText, openConsole
from lmgateway.telemetry.accesslog import printable

_COLOURS = {"idle": "green", "processing_inference": "cyan", "loading_model": "cyan", "error": "red"}
_MOST_RECENT = 50
_READY_STATUSES = frozenset({200, 503})


@click.command()
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def status(place: Place, *, asJson: bool) -> None:
    """
    Print what the gateway is doing now.

    Needs a key with the scope monitor. Exits with 0 when LM Studio answers behind the gateway, else with 1.
    """
    now = place.askJson("/debug/status")
    ready = place.askJson("/health/ready", well=_READY_STATUSES)
    isReady = ready.get("status") == "ready"
    if asJson:
        click.echo(jsonText({"url": place.url, "ready": isReady, "reason": ready.get("error"), **now}, 2))
    else:
        console = openConsole()
        for line in linesOf(place.url, now, None if isReady else str(ready.get("error"))):
            console.print(line, soft_wrap=True)
        recent = now.get("recentRequests")
        if isinstance(recent, list) and recent:
            console.print(Text("\nlast requests", style="dim"))
            console.print(recentOf(recent))
    if not isReady:
        sys.exit(1)


def linesOf(url: str, now: Mapping[str, Any], reason: str | None) -> Iterator[Text]:
    """
    Say it for people, a line for each thing. Whatever the gateway answers, there is something to be said.

    :param url: where the gateway is.
    :param now: its ``/debug/status``.
    :param reason: why it is not ready, or None if it is.
    """
    state = _textOf(now.get("status"))
    yield _line("gateway", f"{url}, ", (state, _COLOURS.get(state, "")))
    upstream = _objectOf(now.get("upstream"))
    seen = ("answers", "green") if reason is None else (f"does not answer: {_textOf(reason, 500)}", "red")
    yield _line("upstream", f"{_textOf(upstream.get('url'))} ", seen)
    yield _line("model", _modelOf(_objectOf(now.get("activeModel"))))
    total, errors, running = (_textOf(now.get(name)) for name in ("totalRequests", "totalErrors", "inFlight"))
    yield _line("requests", f"{total}, {running} running, ", (f"{errors} failed", "red" if errors != "0" else ""))
    operation = _objectOf(now.get("currentOperation"))
    if operation:
        since, model, progress = (operation.get(name) for name in ("startedAt", "modelKey", "progress"))
        done = "" if progress is None else f", {_textOf(progress)} %"
        yield _line("now", f"{_textOf(operation.get('type'))} of {_textOf(model)} since {_textOf(since)}{done}")


def recentOf(recent: list[Any]) -> Table:
    """Lay out the last requests."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("ended")
    table.add_column("status")
    table.add_column("ms", justify="right")
    table.add_column("prompt", justify="right")
    table.add_column("completion", justify="right")
    table.add_column("request")
    for each in map(_objectOf, recent[:_MOST_RECENT]):
        tokens = _objectOf(each.get("tokenUsage"))
        cells = [
            each.get("timestamp"),
            each.get("status"),
            each.get("timeMs"),
            tokens.get("promptTokens"),
            tokens.get("completionTokens"),
            each.get("requestId"),
        ]
        failed = each.get("status") is None or str(each.get("status")) >= "4"
        table.add_row(*(Text(_textOf(cell)) for cell in cells), style="red" if failed else None)
    return table


def _line(name: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{name:10}", "dim"), *parts)


def _modelOf(model: Mapping[str, Any]) -> str:
    if not model:
        return "none is active: requests must name one"
    instance = model.get("instanceId")
    shown = _textOf(model.get("modelKey")) + (f" as {_textOf(instance)}" if instance else "")
    defaults = _objectOf(model.get("defaultInference"))
    return f"{shown}, with {_textOf(jsonText(defaults), 500)}" if defaults else shown


def _objectOf(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _textOf(value: object, longest: int = 200) -> str:
    """Give a value as a terminal can take it: it may be the name of a model, and so anybody's words."""
    return "-" if value is None else printable(str(value), longest)
