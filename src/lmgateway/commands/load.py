# -*- test-case-name: tests.commands.test_load -*-
"""``lmgateway load``: have a model loaded, and see how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from lmgateway.commands.loading import Loading, Progress
from lmgateway.commands.results import tellResult
from lmgateway.commands.talk import Place, TalkError, asksGateway, openConsole
from lmgateway.telemetry.accesslog import printable

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended, as shells have it: 128 and the number of the signal."""

_NOT_DONE = 1
_COUNT = click.IntRange(1)
_POSITIVE = click.FloatRange(0, min_open=True)


class GpuRatio(click.ParamType[float]):
    """How much of a model goes to the GPU: a number from 0 to 1, or ``off`` or ``max`` as LM Studio's own command has them."""

    name = "ratio"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        words = {"off": 0.0, "max": 1.0}
        return words[value] if value in words else click.FloatRange(0, 1).convert(value, param, ctx)


LOAD_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--context-length", "contextLength", type=_COUNT, help="Tokens of context."),
    click.option("--gpu", "gpuRatio", type=GpuRatio(), metavar="RATIO", help="Share for the GPU: 0 to 1, off or max."),
    click.option("--gpu-layers", "gpuLayers", type=click.IntRange(0), help="Layers for the GPU."),
    click.option("--cpu-threads", "cpuThreads", type=_COUNT, help="Threads of the CPU."),
    click.option("--parallel", type=_COUNT, help="Requests that it answers at once."),
    click.option("--eval-batch-size", "evalBatchSize", type=_COUNT, help="Tokens of a prompt that it reads at once."),
    click.option("--flash-attention/--no-flash-attention", "flashAttention", default=None, help="Save memory."),
    click.option("--num-experts", "numExperts", type=_COUNT, help="Of a mixture of experts."),
    click.option("--offload-kv-cache/--no-offload-kv-cache", "offloadKvCacheToGpu", default=None, help="To the GPU."),
    click.option("--rope-frequency-base", "ropeFrequencyBase", type=_POSITIVE, help="For long contexts."),
    click.option("--rope-frequency-scale", "ropeFrequencyScale", type=_POSITIVE, help="Likewise."),
)
"""An option for each setting of a ``loadConfig``, by the name that it has there."""

_IN_GPU = {"gpuRatio": "ratio", "gpuLayers": "layers"}
"""What has its place in the member ``gpu`` of a ``loadConfig``, and is called so there."""


def takesLoadConfig(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a ``loadConfig``."""
    for option in reversed(LOAD_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("key")
@click.option("--as", "instanceId", metavar="INSTANCE", help="What requests are to call it; else LM Studio chooses.")
@takesLoadConfig
@click.option("--ttl", "ttlSeconds", type=_COUNT, metavar="SECONDS", help="Have it unloaded when idle for so long.")
@click.option(
    "--no-activate", "activate", is_flag=True, flag_value=False, default=True, help="Leave the active model be."
)
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
@asksGateway
def load(
    place: Place,
    *,
    key: str,
    instanceId: str | None,
    ttlSeconds: int | None,
    activate: bool,
    asJson: bool,
    **config: Any,
) -> None:
    """
    Load the model KEY, and make it the one that requests without a model are given.

    Needs a key with the scope admin. Exits with 0 once that is done. Ctrl-C cancels the load; where the command is
    ended in any other way, the load goes on. Where LM Studio offers no model management, the gateway can only note the model,
    says how to load it, and the command exits with 1.
    """
    order: dict[str, Any] = {"modelKey": key, "instanceId": instanceId, "ttlSeconds": ttlSeconds}
    order["loadConfig"] = loadConfigOf(config)
    order = {name: value for name, value in order.items() if value not in (None, {})}
    loading = Loading(place, {**order, "activate": activate})
    try:
        follow(loading, key, openConsole(isForErrors=True))
    except KeyboardInterrupt:
        _cancel(loading, key)
        sys.exit(INTERRUPTED)
    tellResult(loading.answer, asJson=asJson)
    isActive = loading.answer.get("activated") is not False
    if loading.answer.get("status") != "loaded" or (activate and not isActive):
        sys.exit(_NOT_DONE)


def loadConfigOf(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the ``loadConfig`` of what was said."""
    config: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _IN_GPU:
            config.setdefault("gpu", {})[_IN_GPU[name]] = value
        else:
            config[name] = value
    return config


def follow(loading: Loading, key: str, console: Console) -> None:
    """
    Show how far a load is until it has ended: by a bar that vanishes then, or not at all where there is no terminal.

    :raise TalkError: as :meth:`Loading.updates`.
    """
    if not console.is_terminal:
        for update in loading.updates():
            if not isinstance(update, Progress):
                console.print(printable(update.reason), soft_wrap=True)
        return
    console.print(f"Loading {printable(key)}. Ctrl-C cancels.", soft_wrap=True)
    # Until the first news, and for good where LM Studio tells none, the bar shows only that something goes on.
    with Bar(
        BarColumn(),
        TaskProgressColumn("{task.percentage:>5.1f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        for update in loading.updates():
            if isinstance(update, Progress):
                bar.update(task, total=100, completed=update.percent)
            else:
                console.print(printable(update.reason), soft_wrap=True)


def _cancel(loading: Loading, key: str) -> None:
    """Cancel a load, and say what came of that."""
    name = printable(key)
    try:
        answer = loading.cancel()
    except TalkError as error:
        click.echo(f"The load of {name} may go on, as it could not be cancelled. {error.message}", err=True)
    except KeyboardInterrupt:
        click.echo(f"The load of {name} may go on.", err=True)
    else:
        click.echo(printable(str(answer.get("message") or f"The load of {name} is cancelled.")), err=True)
