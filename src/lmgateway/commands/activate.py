# -*- test-case-name: tests.commands.test_activate -*-
"""``lmgateway activate`` and ``lmgateway deactivate``: which model requests that name none are given, and with which defaults."""

from __future__ import annotations

from typing import Any

import click

from lmgateway.commands.results import tellResult
from lmgateway.commands.talk import Place, asksGateway


@click.command()
@click.argument("key")
@click.option(
    "--as", "instanceId", metavar="INSTANCE", help="The instance that they are given; else the model's own name."
)
@click.option("--temperature", type=click.FloatRange(0, 2), help="From 0 to 2.")
@click.option("--max-tokens", "maxTokens", type=click.IntRange(1), help="The longest answer.")
@click.option("--top-p", "topP", type=click.FloatRange(0, 1), help="From 0 to 1.")
@click.option("--top-k", "topK", type=click.IntRange(0), help="0 or more.")
@click.option("--repeat-penalty", "repeatPenalty", type=click.FloatRange(0, min_open=True), help="Above 0.")
@click.option(
    "--stop", "stopStrings", metavar="TEXT", multiple=True, help="Ends the answer; may be given several times."
)
@click.option("--stream/--no-stream", default=None, help="Whether answers are streams.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def activate(place: Place, *, key: str, instanceId: str | None, asJson: bool, **defaults: Any) -> None:
    """
    Give the model KEY to requests that name none, and these defaults to those that leave them open.

    Needs a key with the scope admin. What a client sends wins. Nothing is loaded by this: see lmgateway load.
    """
    order: dict[str, Any] = {"modelKey": key}
    if instanceId is not None:
        order["instanceId"] = instanceId
    # What was not said is None, and () where it could be said several times.
    inference = {name: value for name, value in defaults.items() if value is not None and value != ()}
    if inference:
        order["defaultInference"] = inference
    tellResult(place.post("/admin/models/activate", order), asJson=asJson)


@click.command()
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def deactivate(place: Place, *, asJson: bool) -> None:
    """
    Have no active model: requests must name one.

    Needs a key with the scope admin. Nothing is unloaded by this: see lmgateway unload.
    """
    tellResult(place.post("/admin/models/deactivate", {}), asJson=asJson)
