# -*- test-case-name: tests.commands.test_models -*-
"""``lmgateway models``: what LM Studio has loaded and downloaded, and which of it is active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from lmgateway.commands.talk import LONGEST_MESSAGE, Place, asksGateway, jsonText, openConsole
from lmgateway.telemetry.accesslog import printable

_GIGABYTE = 1_000_000_000
_ROOMY = 80
"""Columns of a terminal in which there is room for what is only good to know."""

_ACTIVE = "*"
_NONE = "-"
_NAMES = ("model", "type")
_MORE = {"paramsString": "params", "quantization": "quantization", "maxContextLength": "context"}
"""What is good to know of a model on the disk, and what the table calls it."""

_UNITS = ((3600, "h"), (60, "min"))


@click.command()
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def models(place: Place, *, asJson: bool) -> None:
    """
    Print the models that LM Studio has loaded, and those that it has downloaded.

    Needs a key with the scope admin. The active model, which requests that name none are given, is marked by *.
    """
    answer = place.askJson("/admin/models")
    if asJson:
        click.echo(jsonText(answer, 2))
        return
    console = openConsole()
    for part in partsOf(answer, isRoomy=console.width >= _ROOMY):
        console.print(part, soft_wrap=isinstance(part, Text))
    for note in notesOf(answer):
        click.echo(note, err=True)


def partsOf(answer: Mapping[str, Any], *, isRoomy: bool) -> Iterator[Text | Table]:
    """
    Say it for people. Whatever the gateway answers, there is something to be said.

    :param answer: of ``GET /admin/models``.
    :param isRoomy: whether there is room for what is only good to know.
    """
    active = _objectOf(answer.get("active"))
    loaded, downloaded = _objectsIn(answer.get("loaded")), _objectsIn(answer.get("downloaded"))
    yield _heading("loaded" if loaded else "nothing is loaded")
    if loaded:
        yield loadedTable(loaded, active, isRoomy=isRoomy)
    if downloaded:
        yield _heading("\ndownloaded")
        yield downloadedTable(downloaded, active, isRoomy=isRoomy)
    if active:
        named = namedOf(active.get("modelKey"), active.get("instanceId"))
        where = ", which is not loaded now" if active.get("resident") is False else ""
        yield Text(f"\n{_ACTIVE} active: {named}{where}")


def loadedTable(loaded: list[Mapping[str, Any]], active: Mapping[str, Any], *, isRoomy: bool) -> Table:
    """Lay out the instances in memory."""
    names = _NAMES if isRoomy else _NAMES[:1]
    table = _table(*names, figures=("context", "TTL"))
    for each in loaded:
        name = namedOf(each.get("modelKey") or each.get("path"), each.get("identifier"))
        context = _objectOf(each.get("loadConfig")).get("contextLength")
        cells = [name, _textOf(each.get("type"))][: len(names)]
        cells += [_textOf(context), durationOf(each.get("ttlSeconds"))]
        table.add_row(_markOf(isActive=_isActive(each, active)), *map(Text, cells))
    return table


def downloadedTable(downloaded: list[Mapping[str, Any]], active: Mapping[str, Any], *, isRoomy: bool) -> Table:
    """Lay out what is on the disk."""
    names, more = (_NAMES, _MORE) if isRoomy else (_NAMES[:1], {})
    table = _table(*names, figures=("GB", *more.values()))
    key = active.get("modelKey")
    for each in downloaded:
        name = each.get("modelKey") or each.get("path")
        cells = [_textOf(name), _textOf(each.get("type"))][: len(names)]
        cells += [gigabytesOf(each.get("size")), *(_textOf(_nameOf(each.get(member))) for member in more)]
        table.add_row(_markOf(isActive=key is not None and key == name), *map(Text, cells))
    return table


def notesOf(answer: Mapping[str, Any]) -> Iterator[str]:
    """Say what one must know to take the lists for what they are."""
    if answer.get("stale") is True:
        reason = answer.get("reason")
        why = f" {printable(reason, LONGEST_MESSAGE)}" if isinstance(reason, str) else ""
        yield f"LM Studio does not answer: this is what it had when it did.{why}"
    if answer.get("management") == "gateway":
        yield "This LM Studio offers no model management: load and unload models in its window, or with lms."


def namedOf(modelKey: object, instance: object) -> str:
    """Give the name of a model, and that of an instance which is called something else."""
    return (
        _textOf(modelKey) if instance is None or instance == modelKey else f"{_textOf(modelKey)} as {_textOf(instance)}"
    )


def durationOf(seconds: object) -> str:
    """Give a time in the largest unit in which it is whole; a dash for none."""
    for length, unit in _UNITS:
        if isinstance(seconds, int | float) and seconds >= length and seconds % length == 0:
            return f"{_figure(seconds, length, '.0f')} {unit}"
    figure = _figure(seconds, 1, "g")
    return figure if figure == _NONE else f"{figure} s"


def gigabytesOf(size: object) -> str:
    """Give bytes in GB, as LM Studio's window does; a dash where nobody knows."""
    return _figure(size, _GIGABYTE, ".2f")


def _figure(value: object, unit: int, form: str) -> str:
    """Give a number in a unit; a dash for what is none, or more than any."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _NONE
    try:
        return format(value / unit, form)
    except OverflowError:
        return _NONE


def _isActive(instance: Mapping[str, Any], active: Mapping[str, Any]) -> bool:
    """Whether requests that name no model go to an instance: they are given its name, or else the model's key."""
    name = active.get("instanceId") or active.get("modelKey")
    return name is not None and name == instance.get("identifier")


def _markOf(*, isActive: bool) -> Text:
    return Text(_ACTIVE if isActive else "")


def _table(*names: str, figures: tuple[str, ...]) -> Table:
    """Begin a table with a column for marks: names are broken where there is no room for them, figures are not."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", width=len(_ACTIVE))
    for name in names:
        table.add_column(name, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _nameOf(value: object) -> object:
    """Give the name of what may be described by several: a quantization has a name and bits."""
    return value.get("name") if isinstance(value, dict) else value


def _objectOf(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objectsIn(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _textOf(value: object) -> str:
    """Give a value as a terminal can take it: the name of a model is anybody's words."""
    return _NONE if value is None else printable(str(value))
