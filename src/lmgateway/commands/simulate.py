# -*- test-case-name: tests.commands.test_simulate -*-
"""``lmgateway simulate``: an LM Studio without LM Studio, for trying the gateway out and for testing clients."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from lmgateway.studio.simulator.behaviour import LOAD_FAILURE, Behaviour
from lmgateway.studio.simulator.logfiles import LogFiles
from lmgateway.studio.simulator.models import CATALOGUE
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite

SECONDS = click.FloatRange(min=0)
COUNT = click.IntRange(min=0)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The IP address to listen on.")
@click.option("--port", default=1234, show_default=True, type=click.IntRange(0, 65535), help="0 is any free one.")
@click.option(
    "--log-dir",
    "logDirectory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write log files into this folder, as LM Studio does into its server-logs.",
)
@click.option(
    "--load",
    "loaded",
    multiple=True,
    default=(CATALOGUE[0].key,),
    show_default=True,
    type=click.Choice([model.key for model in CATALOGUE]),
    help="Have this model loaded from the beginning; may be given several times.",
)
@click.option("--delay", type=SECONDS, default=0.0, help="Seconds before anything is done about a request.")
@click.option("--prefill", type=SECONDS, default=0.0, help="Seconds of silence while the model reads the prompt.")
@click.option("--load-time", "loadTime", type=SECONDS, default=0.0, help="Seconds that loading a model takes.")
@click.option(
    "--tokens-per-second",
    "tokensPerSecond",
    type=SECONDS,
    default=30.0,
    show_default=True,
    help="The speed of generation; 0 is as fast as possible.",
)
@click.option(
    "--die-after", "dieAfterChunks", type=COUNT, help="Cut each stream after so many chunks; other answers too."
)
@click.option(
    "--error-in-stream",
    "errorInsideStream",
    type=COUNT,
    is_flag=False,
    flag_value=0,
    help="Fail each stream after so many tokens (0 if none are named), by an event.",
)
@click.option("--empty-stream", "emptyStream", is_flag=True, help="Say nothing at all.")
@click.option(
    "--unknown-model",
    "unknownModel",
    type=click.Choice(["error", "served"]),
    default="error",
    show_default=True,
    help="What becomes of a request for a model that does not exist.",
)
@click.option(
    "--unknown-path",
    "unknownPathStatus",
    type=click.Choice(["200", "404"]),
    default="200",
    show_default=True,
    help="The status of the answer to unknown paths below /api/v1.",
)
@click.option("--no-jit", "jit", is_flag=True, flag_value=False, default=True, help="Load no model just in time.")
@click.option(
    "--no-auto-evict",
    "autoEvict",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Keep what was loaded just in time when another model is.",
)
@click.option("--require-token", "requireToken", metavar="TOKEN", help="Demand this API token.")
@click.option(
    "--parallel", type=click.IntRange(min=1), default=4, show_default=True, help="Generations at once; more wait."
)
@click.option("--no-api-v1", "apiV1", is_flag=True, flag_value=False, default=True, help="Be an LM Studio before 0.4.")
@click.option("--no-models", "noModels", is_flag=True, help="Have nothing downloaded, and nothing loaded.")
@click.option("--no-sdk", "sdk", is_flag=True, flag_value=False, default=True, help="Have no WebSockets for the SDKs.")
@click.option(
    "--fail-load",
    "failLoad",
    metavar="CAUSE",
    is_flag=False,
    flag_value=LOAD_FAILURE,
    help="Fail each load of a model, for this cause or for LM Studio's usual one.",
)
@click.option(
    "--drop-socket",
    "dropSocket",
    type=click.FloatRange(0, 1),
    is_flag=False,
    flag_value=0.5,
    help="Cut the WebSocket of a load when its progress has come so far (0.5 if nothing is said).",
)
@click.option("--mute-management", "muteManagement", is_flag=True, help="Never answer what manages models.")
@click.option("--forbid-management", "forbidManagement", is_flag=True, help="Give the token no permission to.")
@click.option(
    "--download-time",
    "downloadTime",
    type=SECONDS,
    default=5.0,
    show_default=True,
    help="Seconds that downloading a model takes.",
)
@click.option("--log-tokens", "logTokens", is_flag=True, help="Repeat the whole answer in the log with each token.")
def simulate(host: str, port: int, loaded: tuple[str, ...], logDirectory: Path | None, **switches: Any) -> None:
    """
    Be an LM Studio without LM Studio.

    It answers as LM Studio 0.4 does, with text that means nothing and needs no model. "count to 100" in a message makes a
    long answer, and 'tool: NAME {"argument": 1}' the call of a tool.

    The header "X-Simulate: die-after=3; prefill=2" sets for one request what the options below --load set for all.
    """
    from twisted.internet import reactor

    switches["unknownPathStatus"] = int(switches["unknownPathStatus"])
    files = None if logDirectory is None else _logFiles(logDirectory, reactor)
    simulator = Simulator(Behaviour(**switches), loaded=loaded, remember=0, log=click.echo, studioLog=files)
    failures: list[str] = []

    def cbListening(listening: IListeningPort) -> None:
        bound: Any = listening.getHost()
        address = f"http://{_authority(host, bound.port)}"
        if files is not None:
            files.begin(address, jit=simulator.behaviour.jit)
        click.echo(f"lmgateway's simulator of LM Studio listens on {address}")

    def ebListening(failure: Failure) -> None:
        failures.append(_cannotListen(failure, host, port))
        reactor.stop()

    # The endpoint needs a running reactor, or the failure would stop one that has not been started.
    reactor.callWhenRunning(lambda: listen(reactor, simulator, host, port).addCallbacks(cbListening, ebListening))
    reactor.run()
    if failures:
        raise click.ClickException(failures[0])


def listen(reactor: Any, simulator: Simulator, host: str, port: int) -> Deferred[IListeningPort]:
    """
    Serve a simulator.

    :param reactor: provides ``IReactorTCP`` and ``IReactorTime``.
    :param host: an IP address.
    :param port: 0 for any free one.
    :return: fires with the listening port; fails with ``CannotListenError``, or ``ValueError`` if ``host`` is no address.
    """
    return Deferred.fromCoroutine(_listen(reactor, simulator, host, port))


async def _listen(reactor: Any, simulator: Simulator, host: str, port: int) -> IListeningPort:
    endpoint = TCP4ServerEndpoint if ip_address(host).version == 4 else TCP6ServerEndpoint
    listening: IListeningPort = await endpoint(reactor, port, interface=host).listen(simulatorSite(simulator, reactor))
    return listening


def _logFiles(folder: Path, reactor: Any) -> LogFiles:
    """
    Log files in a folder, which is made if it must be.

    :raise ClickException: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"--log-dir {folder} cannot be made: {error.strerror}. Choose another.") from error
    return LogFiles(folder, reactor)


def _authority(host: str, port: int) -> str:
    """Host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannotListen(failure: Failure, host: str, port: int) -> str:
    """Why not, and what to do."""
    if failure.check(ValueError):
        return f"{host!r} is not an IP address; --host takes one, such as 127.0.0.1."
    if failure.check(CannotListenError):
        reason = getattr(failure.value, "socketError", failure.value)
        return (
            f"Cannot listen on {_authority(host, port)} ({reason}). Is LM Studio running there? Choose another --port."
        )
    return f"Cannot listen on {_authority(host, port)}: {failure.getErrorMessage()}"
