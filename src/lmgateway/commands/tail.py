# -*- test-case-name: tests.commands.test_tail -*-
"""
``lmgateway tail``: each event as it happens, a line for each.

An event tells what is new, so what ends a request does not say again whose it was. The lines do: they remember the requests
that they have seen begin.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import urlencode

import click
from msgspec import Struct
from rich.text import Text

from lmgateway.commands.follow import EventFollower
from lmgateway.commands.talk import Place, asksGateway, jsonText, openConsole, readJson
from lmgateway.telemetry.accesslog import printable
from lmgateway.telemetry.sse import StreamEvent

BEGUN = "inference_start"
ENDINGS = frozenset({"inference_complete", "inference_cancelled", "error"})

REMEMBERED = 2000
"""Requests under way that are remembered: more than any gateway has, but an event can be missed."""

_LATER = ENDINGS | {"inference_first_token"}
_KIND_WIDTH = 22
_LONGEST_NAME = 80
_LONGEST_TEXT = 400
_MOST_MEMBERS = 12
_COLOURS = {
    "auth_failure": "magenta",
    "connected": "dim",
    "error": "red",
    "gap": "bold yellow",
    "inference_cancelled": "yellow",
    "inference_complete": "green",
    "inference_first_token": "blue",
    BEGUN: "cyan",
    "upstream_down": "bold red",
    "upstream_up": "green",
}


@click.command()
@click.option("--types", metavar="A,B", help="Only events of these types, such as inference_complete,error.")
@click.option("--since", type=click.IntRange(min=0), help="Begin after the event of this id; 0 is all that is held.")
@click.option("--json", "asJson", is_flag=True, help="Print a line of JSON for each event.")
@asksGateway
def tail(place: Place, *, types: str | None, since: int | None, asJson: bool) -> None:
    """
    Print what happens, as it happens, until Ctrl-C.

    Needs a key with the scope monitor. A lost connection is made again, and what happened meanwhile is printed then. Times are local.
    """
    wanted = frozenset(name.strip() for name in (types or "").split(",") if name.strip())
    lines: Callable[[StreamEvent], Text | None]
    lines = jsonLine if asJson else EventLines(wanted, None).lineOf
    console = openConsole()
    target = targetOf(wanted if asJson else askedFor(wanted), since)
    try:
        for event in EventFollower(place, target, _tell, time.sleep).events():
            line = lines(event)
            if line is not None:
                console.print(line, soft_wrap=True)
    except KeyboardInterrupt:
        """That is how it is meant to end."""


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def targetOf(types: frozenset[str], since: int | None) -> str:
    """
    Give the path and query of the stream.

    :param types: none for all.
    """
    asked = {"types": ",".join(sorted(types)), "since": "" if since is None else str(since)}
    query = urlencode({name: value for name, value in asked.items() if value}, safe=",")
    return f"/debug/stream?{query}" if query else "/debug/stream"


def askedFor(wanted: frozenset[str]) -> frozenset[str]:
    """Give the types to ask for: with the later events of a request goes its first one, which names key and model."""
    return wanted | {BEGUN} if wanted & _LATER else wanted


def jsonLine(event: StreamEvent) -> Text:
    """Give an event as a line of JSON, in the shape that ``/debug/poll`` has; all of it is ASCII."""
    known = event.id.isascii() and event.id.isdigit()
    return Text(jsonText({"id": int(event.id) if known else None, "type": event.kind, "data": dataOf(event)}))


def dataOf(event: StreamEvent) -> dict[str, Any]:
    """Give what an event says; nothing where it cannot be read."""
    data = readJson(event.data)
    return data if isinstance(data, dict) else {}


class Asked(Struct, frozen=True):
    """
    What is remembered of a request under way.

    :param key: the name of the key.
    :param model: that was asked.
    """

    key: str = "-"
    model: str = "-"


class EventLines:
    """
    Writes a line for each event.

    :param wanted: the types that are; none for all.
    :param zone: of the times; None for the local one.
    """

    def __init__(self, wanted: frozenset[str], zone: tzinfo | None) -> None:
        self._wanted = wanted
        self._zone = zone
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    def lineOf(self, event: StreamEvent) -> Text | None:
        """Give the line of an event, or None for one that came only to be remembered. Total, whatever the event says."""
        data = dataOf(event)
        asked = self._recall(event.kind, data)
        if self._wanted and event.kind not in self._wanted and event.kind not in {"connected", "gap"}:
            return None
        if event.kind == BEGUN or event.kind in _LATER:
            parts = [f"{asked.key:16}", f"{asked.model:28}", *_figures(event.kind, data)]
        else:
            parts = list(_members(event.kind, data))
        line = Text.assemble((_timeOf(data.get("timestamp"), self._zone), "dim"), "  ")
        line.append(f"{_name(event.kind):{_KIND_WIDTH}}", _styleOf(event.kind, data))
        return line.append("".join(f"  {part}" for part in parts))

    def _recall(self, kind: str, data: Mapping[str, Any]) -> Asked:
        """Tell whose request it is that an event is about."""
        requestId = data.get("requestId")
        if not isinstance(requestId, str):
            return Asked(model=_name(data.get("modelKey")))
        if kind == BEGUN:
            self._asked[requestId] = asked = Asked(_name(data.get("key")), _name(data.get("model")))
            if len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
            return asked
        if kind in ENDINGS:
            return self._asked.pop(requestId, Asked())
        return self._asked.get(requestId, Asked())


def _figures(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Give what the line of a request's event says beside key and model."""
    if kind == BEGUN:
        yield f"{_name(data.get('method'))} {_name(data.get('path'))}"
        if data.get("stream") is True:
            yield "stream"
        injected = data.get("injected")
        if isinstance(injected, list) and injected:
            yield "+" + ",".join(map(_name, injected[:_MOST_MEMBERS]))
        yield f"from {_name(data.get('client'))}"
        return
    if kind == "inference_first_token":
        yield f"first after {_milliseconds(data.get('ttftMs'))}"
        return
    if data.get("status") is not None:
        yield _name(data["status"])
    if data.get("totalTimeMs") is not None:
        yield _milliseconds(data["totalTimeMs"])
    yield from _tokens(data)
    if data.get("phase") is not None:
        yield f"while {_name(data['phase'])}"
    if kind == "error":
        yield f"{_name(data.get('operation'))}: {printable(str(data.get('error')), _LONGEST_TEXT)}"


def _tokens(data: Mapping[str, Any]) -> Iterator[str]:
    usage = data.get("tokenUsage")
    if isinstance(usage, dict):
        about = "~" if usage.get("estimated") is True else ""
        prompt, completion = (_name(usage.get(name)) for name in ("promptTokens", "completionTokens"))
        yield f"{prompt} + {about}{completion} tokens"
    if data.get("tokensPerSecond") is not None:
        yield f"{_number(data['tokensPerSecond'], '.1f')} tok/s"


def _members(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Give what an event says, member by member; a message alone needs no name."""
    if kind == "gap":
        yield f"{_name(data.get('lost'))} events were lost"
        return
    shown = [(name, value) for name, value in data.items() if name != "timestamp"]
    for name, value in shown[:_MOST_MEMBERS]:
        text = printable(value if isinstance(value, str) else jsonText(value), _LONGEST_TEXT)
        yield text if name == "message" else f"{_name(name)}={text}"
    if len(shown) > _MOST_MEMBERS:
        yield "…"


def _milliseconds(value: object) -> str:
    return f"{_number(value, '.0f')} ms"


def _number(value: object, form: str) -> str:
    try:
        return format(float(value), form) if isinstance(value, int | float) else "-"
    except OverflowError:
        return "-"


def _name(value: object) -> str:
    """Give a name as a terminal can take it, without a space, so that none can pass for another column."""
    return "-" if value is None or value == "" else printable(str(value), _LONGEST_NAME).replace(" ", "\\x20")


def _timeOf(timestamp: object, zone: tzinfo | None) -> str:
    """Give the time of the day, to the millisecond."""
    try:
        moment = datetime.fromisoformat(str(timestamp)).astimezone(zone)
    except (ValueError, OverflowError, OSError):
        return "-" * 12
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _styleOf(kind: str, data: Mapping[str, Any]) -> str:
    """Give the colour of an event; an answer that is an error looks like one, though it was answered whole."""
    status = data.get("status")
    if kind == "inference_complete" and isinstance(status, int) and status >= 400:
        return "yellow" if status < 500 else "red"
    return _COLOURS.get(kind, "white")
