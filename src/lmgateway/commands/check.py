# -*- test-case-name: tests.commands.test_check -*-
"""
``lmgateway check``: every effective setting, where it came from, and what is dubious about it. Secrets are not shown.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import asdict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmgateway.configuration.table import SPECS
from lmgateway.configuration.units import oneLine
from lmgateway.policy.addresses import EVERYBODY
from lmgateway.settings import Settings, SettingsError, loadSettings, valueOf


class Row(Struct, frozen=True):
    """
    A setting as people may see it.

    :param key: as in ``limits.maxBody``.
    :param value: as the TOML file would have it; of a secret only its length; None for none.
    :param layer: where it came from.
    """

    key: str
    value: str | int | bool | list[str] | dict[str, Any] | None
    layer: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """The same in words, each on one line."""
        return self.key, oneLine(_inWords(self.value)), oneLine(self.layer)


def _inWords(value: object) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def rowsOf(settings: Settings) -> list[Row]:
    """Every setting as people may see it, in the order of the documentation."""
    rows = []
    for spec in SPECS:
        value = valueOf(settings, spec.key)
        if value is not None:
            value = f"set ({len(value)} characters)" if spec.kind.secret else spec.kind.format(value)
        rows.append(Row(spec.key, value, settings.origins[spec.key]))
    return rows


def warningsOf(settings: Settings) -> Iterator[str]:
    """What is allowed but may not be meant, a sentence each."""
    listen, access, upstream = settings.listen, settings.access, settings.upstream
    if listen.endpoints and any(settings.origins[key] != "default" for key in ("listen.host", "listen.port")):
        yield "listen.endpoints is given: listen.host and listen.port have no effect."
    if listen.beyondLoopback:
        if access.apiKey is None:
            yield "Other machines can connect and access.apiKey is not set: without a stored key, one is generated at the first start."
        if EVERYBODY in access.allow:
            yield "Other machines can connect and access.allow is *: every address may."
        if listen.plainBeyondLoopback:
            yield "Other machines can connect without TLS: keys and prompts cross the network in clear."
    if upstream.caFile is not None and not upstream.baseUrl.startswith("https:"):
        yield "upstream.caFile has no effect: upstream.baseUrl is not https."


def renderJson(rows: Sequence[Row], warnings: Sequence[str]) -> str:
    """For programs."""
    return json.dumps({"settings": [asdict(row) for row in rows], "warnings": warnings}, indent=2)


def renderPlain(rows: Sequence[Row], warnings: Sequence[str]) -> str:
    """For files and pipes: aligned columns, and a line for each warning."""
    cells = [row.cells for row in rows]
    keyWidth = max(len(key) for key, _, _ in cells)
    valueWidth = max(len(value) for _, value, _ in cells)
    lines = [f"{key:{keyWidth}}  {value:{valueWidth}}  {layer}" for key, value, layer in cells]
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in warnings)])


def renderTable(rows: Sequence[Row], warnings: Sequence[str], console: Console) -> None:
    """For a terminal. What is default is dim, so that what is not stands out."""
    table = Table("setting", "value", "from")
    for row in rows:
        # Text is not searched for markup, and an IPv6 address in brackets would be some.
        table.add_row(*map(Text, row.cells), style="dim" if row.layer == "default" else None)
    console.print(table)
    for warning in warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"))


@click.command()
@click.option("--config", "configFile", metavar="FILE", help="A TOML file with settings.")
@click.option("--env-file", "envFile", metavar="FILE", help="An .env file with variables.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
def check(configFile: str | None, envFile: str | None, *, asJson: bool) -> None:
    """
    Print every effective setting and the layer it came from.

    Exits with 1, and one line that says what to change, when a setting is not allowed.
    """
    try:
        settings = loadSettings(configFile=configFile or None, envFile=envFile or None, environ=os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    rows, warnings = rowsOf(settings), list(warningsOf(settings))
    if asJson:
        click.echo(renderJson(rows, warnings))
    elif sys.stdout.isatty():
        renderTable(rows, warnings, Console())
    else:
        click.echo(renderPlain(rows, warnings))
