# -*- test-case-name: tests.commands.test_keys -*-
"""``lmgateway keys``: who may use the gateway, and for what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from lmgateway.commands.keystore import IKeys, asksKeys
from lmgateway.commands.talk import TalkError, jsonText, openConsole
from lmgateway.configuration.units import SettingsError, parseDuration
from lmgateway.message import Scope
from lmgateway.telemetry.accesslog import printable

_DAY = 86_400
_COUNT = click.IntRange(1)
_LIMITS = (
    "expires",
    "models",
    "addresses",
    "requestsPerMinute",
    "tokensPerDay",
    "parallel",
    "defaultInference",
    "capture",
)
_COLUMNS = {
    "name": "name",
    "id": "id",
    "scopes": "scopes",
    "created": "created",
    "expires": "expires",
    "lastUsed": "last used",
}
_SHORT = ("created", "expires", "lastUsed")


class Span(click.ParamType[float]):
    """A length of time: ``30d``, ``12h``, ``90m``, ``0s``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, in seconds."""
        text = str(value)
        if text[:-1].isdecimal() and text.isascii() and text.endswith("d"):
            return float(text[:-1]) * _DAY
        try:
            return parseDuration(text)
        except SettingsError:
            self.fail(f"{text!r} is no time such as 30d, 12h, 90m or 0s.", param, ctx)


class Default(click.ParamType[tuple[str, Any]]):
    """A default parameter: its name and its value, as JSON or as plain text."""

    name = "default"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Read it."""
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail("Write a name and a value: temperature=0.2.", param, ctx)
        try:
            return name, json.loads(text)
        except (ValueError, RecursionError):
            return name, text


_HELD: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--scope",
        "scopes",
        type=click.Choice([scope.value for scope in Scope]),
        multiple=True,
        help="What it may do; may be given several times. A new key may infer.",
    ),
    click.option("--expires", metavar="TIME", help="When it ends, such as 2027-01-31T12:00:00Z."),
    click.option("--expires-in", "expiresInSeconds", type=Span(), help="The same from now, such as 30d."),
    click.option("--model", "models", metavar="GLOB", multiple=True, help="A model that it may ask, such as qwen/*."),
    click.option("--address", "addresses", metavar="CIDR", multiple=True, help="Where it may be used from."),
    click.option("--requests-per-minute", "requestsPerMinute", type=_COUNT, metavar="N", help="That may begin."),
    click.option(
        "--tokens-per-day", "tokensPerDay", type=_COUNT, metavar="N", help="Of prompts and answers, days of UTC."
    ),
    click.option("--parallel", type=_COUNT, metavar="N", help="Requests at the same time."),
    click.option(
        "--default", "defaults", type=Default(), metavar="NAME=VALUE", multiple=True, help="Such as temperature=0.2."
    ),
    click.option("--capture/--no-capture", default=None, help="Whether its requests are kept to be looked at."),
)
"""An option for each thing that a key can be held to."""

_JSON = click.option("--json", "asJson", is_flag=True, help="Print JSON.")
_QUIET = click.option("--quiet", "-q", "isQuiet", is_flag=True, help="Print the key and nothing else.")


def _takesLimits(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_HELD):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """
    Make, list, change, rotate and revoke keys.

    Needs a key with the scope admin; with --offline, that no gateway runs, and its state folder.
    """


@keys.command()
@click.argument("name")
@_takesLimits
@_QUIET
@_JSON
@asksKeys
def add(store: IKeys, *, name: str, isQuiet: bool, asJson: bool, **said: Any) -> None:
    """Make a key for NAME, and print it this once."""
    _tellSecret(store.mint({"name": name, **_membersOf(said)}), isQuiet=isQuiet, asJson=asJson)


@keys.command("list")
@_JSON
@asksKeys
def listAll(store: IKeys, *, asJson: bool) -> None:
    """List all keys."""
    answer = store.listAll()
    if asJson:
        click.echo(jsonText(answer, 2))
    else:
        openConsole().print(tableOf(_keysIn(answer)))


@keys.command()
@click.argument("key")
@_JSON
@asksKeys
def show(store: IKeys, *, key: str, asJson: bool) -> None:
    """Tell all that is known of KEY, which is a name or an id."""
    _tell(_find(store, key), asJson=asJson)


@keys.command()
@click.argument("key")
@_takesLimits
@click.option("--unlimit", "unlimited", type=click.Choice(_LIMITS), multiple=True, help="Take this limit away.")
@_JSON
@asksKeys
def change(store: IKeys, *, key: str, unlimited: tuple[str, ...], asJson: bool, **said: Any) -> None:
    """Change what KEY may do. What is not named stays as it is."""
    changes = {**dict.fromkeys(unlimited), **_membersOf(said)}
    if not changes:
        raise click.UsageError("Say what is to change.")
    _tell(store.edit(_idOf(store, key), changes), asJson=asJson)


@keys.command()
@click.argument("key")
@click.option("--grace", type=Span(), help="How long the old one stays good; else a day. 0s: not at all.")
@_QUIET
@_JSON
@asksKeys
def rotate(store: IKeys, *, key: str, grace: float | None, isQuiet: bool, asJson: bool) -> None:
    """Give KEY a new secret, and print it this once."""
    order = {} if grace is None else {"graceSeconds": grace}
    _tellSecret(store.rotate(_idOf(store, key), order), isQuiet=isQuiet, asJson=asJson)


@keys.command()
@click.argument("key")
@_JSON
@asksKeys
def revoke(store: IKeys, *, key: str, asJson: bool) -> None:
    """End KEY, and all that runs with it, at once and for good."""
    answer = store.revoke(_idOf(store, key))
    click.echo(jsonText(answer, 2) if asJson else _textOf(answer.get("message")))


def tableOf(known: list[Mapping[str, Any]]) -> Table:
    """Lay out all keys, a line for each."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in (*_COLUMNS.values(), "limits"):
        table.add_column(heading, overflow="fold")
    for key in known:
        if key.get("configured"):
            table.add_row(_textOf(key.get("name")), "-", "admin", "-", "-", "-", "")
            continue
        cells = [_textOf(key.get(member))[: 16 if member in _SHORT else None] for member in _COLUMNS]
        table.add_row(*map(Text, (*cells, ", ".join(_limitsOf(key)))))
    return table


def linesOf(key: Mapping[str, Any]) -> Iterator[str]:
    """Say all that is known of a key, a line for each thing that there is."""
    for name, value in key.items():
        if value not in (None, [], {}) and name not in {"key", "message"}:
            yield f"{_textOf(name):18} {_textOf(value)}"


def _limitsOf(key: Mapping[str, Any]) -> Iterator[str]:
    for name in _LIMITS[1:]:
        if key.get(name) not in (None, [], {}):
            yield f"{name} {_textOf(key[name])}"
    if key.get("rotatedUntil") is not None:
        yield f"old secret until {_textOf(key['rotatedUntil'])}"


def _membersOf(said: Mapping[str, Any]) -> dict[str, Any]:
    """Give what was said by the names that it has in a body. What was not said is None, or () where it could be said several times."""
    members = {name: value for name, value in said.items() if value is not None and value != ()}
    defaults = members.pop("defaults", ())
    return {**members, **({"defaultInference": dict(defaults)} if defaults else {})}


def _tell(key: Mapping[str, Any], *, asJson: bool) -> None:
    if asJson:
        click.echo(jsonText(key, 2))
        return
    for line in linesOf(key):
        click.echo(line)


def _tellSecret(answer: Mapping[str, Any], *, isQuiet: bool, asJson: bool) -> None:
    """Print an answer that a key is in. The key alone is on standard output, unless it is JSON, so that a script can take it."""
    secret = answer.get("key")
    if not isinstance(secret, str):
        raise TalkError("The gateway's answer cannot be read: it may be of another version. Try --json.")
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    if not isQuiet:
        for line in linesOf(answer):
            click.echo(line, err=True)
        click.echo(_textOf(answer.get("message")), err=True)
    click.echo(printable(secret))


def _keysIn(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = answer.get("keys")
    return [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []


def _find(store: IKeys, wanted: str) -> Mapping[str, Any]:
    """
    Find a key by its id, or else by its name.

    :raise TalkError: there is none.
    """
    known = _keysIn(store.listAll())
    for member in ("id", "name"):
        for key in known:
            if key.get(member) == wanted:
                return key
    raise TalkError(f"There is no key {printable(wanted)}. See lmgateway keys list.", mayPass=False)


def _idOf(store: IKeys, wanted: str) -> str:
    """
    Give the id of a key.

    :raise TalkError: there is none, or it is not stored.
    """
    keyId = _find(store, wanted).get("id")
    if not isinstance(keyId, str):
        raise TalkError("This key is configured, not stored: change GATEWAY_API_KEY.", mayPass=False)
    return keyId


def _textOf(value: object) -> str:
    """Give a value as a terminal can take it: names may hold anything."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    elif isinstance(value, dict | bool):
        value = jsonText(value)
    return "-" if value is None else printable(str(value))
