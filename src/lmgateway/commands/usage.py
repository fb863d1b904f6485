# -*- test-case-name: tests.commands.test_usage -*-
"""``lmgateway usage``: what each key asked of each model, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import click
from rich.table import Table
from rich.text import Text

from lmgateway.commands.talk import Place, TalkError, asksGateway, jsonText, openConsole
from lmgateway.configuration.units import oneLine
from lmgateway.telemetry.accesslog import printable

_HEADINGS = {
    "requests": "requests",
    "errors": "errors",
    "promptTokens": "prompt",
    "completionTokens": "completion",
    "totalTokens": "tokens",
}
"""The figures that the table shows, and what it calls them."""


@click.command()
@click.option("--from", "first", metavar="DAY", help="The first day, such as 2026-01-31; else 29 days before the last.")
@click.option("--to", "last", metavar="DAY", help="The last day; else today. Days are those of UTC.")
@click.option(
    "--by", metavar="COLUMNS", default="day", show_default=True, help="One or more of day, key, model, with commas."
)
@click.option("--csv", "asCsv", is_flag=True, help="Print CSV.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def usage(place: Place, *, first: str | None, last: str | None, by: str, asCsv: bool, asJson: bool) -> None:
    """
    Print how many requests and tokens there were, by day, key or model.

    Needs a key with the scope admin.
    """
    if asCsv and asJson:
        raise click.UsageError("Choose one of --csv and --json.")
    asked = {"from": first, "to": last, "by": by, "format": "csv" if asCsv else "json"}
    target = f"/admin/usage?{urlencode({name: value for name, value in asked.items() if value is not None})}"
    if asCsv:
        # Names may hold anything, but must not drive the terminal.
        for line in place.ask(target, accept="text/csv").decode("utf-8", "replace").split("\r\n")[:-1]:
            click.echo(oneLine(line))
        return
    answer = place.askJson(target)
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    try:
        table = tableOf(answer)
    except (LookupError, TypeError, ValueError):
        raise TalkError("The gateway's answer cannot be read: it may be of another version. Try --json.") from None
    openConsole().print(table)


def tableOf(answer: Mapping[str, Any]) -> Table:
    """
    Lay out an answer of ``/admin/usage``, the total last.

    :raise LookupError: something of it is missing.
    :raise TypeError: something of it is of another type.
    :raise ValueError: likewise.
    """
    by = [str(column) for column in answer["by"]]
    table = Table(box=None, pad_edge=False, show_footer=True, header_style="dim", footer_style="bold")
    for column in by:
        table.add_column(_textOf(column), footer=Text("total" if column == by[0] else ""), overflow="fold")
    for figure, heading in _HEADINGS.items():
        table.add_column(heading, footer=_countOf(answer["total"][figure]), justify="right", no_wrap=True)
    for row in answer["rows"]:
        table.add_row(*(_textOf(row[column]) for column in by), *(_countOf(row[figure]) for figure in _HEADINGS))
    return table


def _textOf(value: object) -> Text:
    return Text(printable(str(value)))


def _countOf(value: object) -> Text:
    return Text(f"{int(str(value)):,}")
