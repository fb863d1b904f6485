# -*- test-case-name: tests.commands.test_audit -*-
"""``lmgateway audit``: who did what to the gateway."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
from rich.table import Table
from rich.text import Text

from lmgateway.audit import readAudit
from lmgateway.commands.talk import TalkError, findPlace, jsonText, openConsole, takesPlace
from lmgateway.policy.acts import MOST_LINES, USUAL_LINES, AuditQuery
from lmgateway.settings import SettingsError, loadSettings
from lmgateway.telemetry.accesslog import printable

_COLUMNS = {
    "time": "time",
    "action": "action",
    "target": "target",
    "outcome": "outcome",
    "key": "key",
    "client": "from",
    "requestId": "request",
}
"""What the table shows, and what it calls it."""


@click.command()
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_LINES),
    default=USUAL_LINES,
    show_default=True,
    metavar="N",
    help="The newest N lines.",
)
@click.option("--action", metavar="NAME", help="Such as keys.revoke, or all of keys.")
@click.option("--key", metavar="NAME", help="What was asked with this key.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON, with what was before and after.")
@click.option("--offline", is_flag=True, help="Read the state folder, whether or not a gateway runs.")
@click.option("--state-dir", "stateDir", metavar="DIR", help="The same, with this state folder.")
@takesPlace
def audit(
    limit: int,
    action: str | None,
    key: str | None,
    stateDir: str | None,
    *,
    asJson: bool,
    offline: bool,
    **place: Any,
) -> None:
    """
    Print the administrative acts and refusals, the newest first.

    Needs a key with the scope admin; with --offline, the right to read the state folder.
    """
    query = AuditQuery(limit, action, key)
    try:
        answer = _read(stateDir, query, place) if offline or stateDir is not None else _ask(query, place)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    try:
        table = tableOf(answer)
    except (LookupError, TypeError, AttributeError):
        raise TalkError("The gateway's answer cannot be read: it may be of another version. Try --json.") from None
    openConsole().print(table)
    if answer.get("truncated"):
        click.echo("There are older lines, which were not searched.", err=True)


def _ask(query: AuditQuery, place: Mapping[str, Any]) -> dict[str, Any]:
    files = (place["configFile"], place["envFile"])
    gateway = findPlace(place["url"], place["keyFile"], place["caFile"], files, os.environ)
    asked = {"limit": query.limit, "action": query.action, "key": query.key}
    given = {name: value for name, value in asked.items() if value is not None}
    return gateway.askJson(f"/admin/audit?{urlencode(given)}")


def _read(stateDir: str | None, query: AuditQuery, place: Mapping[str, Any]) -> dict[str, Any]:
    if stateDir is None:
        files = (place["configFile"] or None, place["envFile"] or None)
        stateDir = loadSettings(configFile=files[0], envFile=files[1], environ=os.environ).state.directory
    if not Path(stateDir).is_dir():
        raise TalkError(f"There is no state folder {stateDir}. Name the gateway's: --state-dir DIR.", mayPass=False)
    try:
        return readAudit(Path(stateDir), query)
    except OSError as error:
        raise TalkError(f"The audit in {stateDir} cannot be read ({error.strerror}).", mayPass=False) from None


def tableOf(answer: Mapping[str, Any]) -> Table:
    """
    Lay out an answer of ``/admin/audit``.

    :raise LookupError: something of it is missing.
    :raise TypeError: something of it is of another type.
    :raise AttributeError: likewise.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in _COLUMNS.values():
        table.add_column(heading, overflow="fold")
    for line in answer["lines"]:
        table.add_row(*(Text(_textOf(line, member)) for member in _COLUMNS))
    return table


def _textOf(line: Mapping[str, Any], member: str) -> str:
    value = line.get(member)
    if value is None:
        return "-"
    if member == "outcome" and line.get("status") is not None:
        value = f"{value} ({line['status']})"
    if member == "outcome" and line.get("omitted"):
        value = f"{value}, and {line['omitted']} more before"
    return printable(str(value))
