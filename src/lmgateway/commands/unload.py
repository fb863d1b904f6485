# -*- test-case-name: tests.commands.test_unload -*-
"""``lmgateway unload``: have models unloaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from lmgateway.commands.results import MANAGE_SECONDS, tellResult
from lmgateway.commands.talk import Place, TalkError, asksGateway, jsonText

Wanted = Mapping[str, str]
"""What is to be unloaded: a ``modelKey``, and the ``instanceId`` where one is meant."""

_MOST_NAMED = 20


@click.command()
@click.argument("key", required=False)
@click.option("--instance", "instanceId", metavar="ID", help="The instance; else that of the model's own name.")
@click.option("--all", "isAll", is_flag=True, help="Everything that is loaded.")
@click.option("--force", is_flag=True, help="Even while it answers.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def unload(place: Place, *, key: str | None, instanceId: str | None, isAll: bool, force: bool, asJson: bool) -> None:
    """
    Unload the model KEY, an instance, or what is loaded where nothing is named and only one thing is.

    Needs a key with the scope admin. A model that is answering is not unloaded, unless --force is given. Exits with 0 once
    all of it is unloaded.
    """
    if isAll and (key is not None or instanceId is not None):
        raise click.UsageError("--all is everything: name nothing besides.")
    if key is not None:
        wanted: list[Wanted] = [
            {"modelKey": key} if instanceId is None else {"modelKey": key, "instanceId": instanceId}
        ]
    else:
        wanted = wantedOf(place.askJson("/admin/models"), instanceId, isAll=isAll)
    results = [_unload(place, {**each, "force": force}) for each in wanted]
    for result in results:
        if isinstance(result, TalkError):
            result.show()
        elif not (asJson and isAll):
            tellResult(result, asJson=asJson)
    if asJson and isAll:
        click.echo(jsonText([result for result in results if not isinstance(result, TalkError)], 2))
    if any(isinstance(result, TalkError) or result.get("status") != "unloaded" for result in results):
        sys.exit(1)
    if not results and not asJson:
        click.echo("Nothing is loaded.")


def _unload(place: Place, order: Mapping[str, Any]) -> dict[str, Any] | TalkError:
    try:
        return place.post("/admin/models/unload", order, MANAGE_SECONDS)
    except TalkError as error:
        return error


def wantedOf(answer: Mapping[str, Any], instanceId: str | None, *, isAll: bool) -> list[Wanted]:
    """
    Give what is to be unloaded where no model is named.

    :param answer: of ``GET /admin/models``.
    :param instanceId: the instance that is meant, or None for the one that is loaded.
    :param isAll: whether all of them are meant.
    :raise TalkError: there is no such instance, or none, or several.
    """
    listed = answer.get("loaded")
    loaded = [_wantedIn(each) for each in (listed if isinstance(listed, list) else []) if isinstance(each, dict)]
    if isAll:
        return loaded
    found = [each for each in loaded if instanceId in {None, each["instanceId"]}]
    if len(found) == 1:
        return found
    names = ", ".join(each["instanceId"] for each in loaded[:_MOST_NAMED])
    if instanceId is not None:
        said = f"Loaded: {names}." if names else "Nothing is."
        raise TalkError(f"No instance {instanceId} is loaded. {said}")
    if found:
        raise TalkError(f"Several are loaded: {names}. Name one, or say --all.")
    if answer.get("management") == "gateway":
        raise TalkError("This LM Studio does not tell what is loaded. Name the model.")
    raise TalkError("Nothing is loaded.")


def _wantedIn(instance: Mapping[str, Any]) -> Wanted:
    """Name an instance as it is listed."""
    return {"modelKey": str(instance.get("modelKey")), "instanceId": str(instance.get("identifier"))}
