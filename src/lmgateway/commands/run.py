# -*- test-case-name: tests.commands.test_run -*-
"""
``lmgateway run``: the gateway in the foreground, for whoever wants to see it work now.

It differs from ``twistd -n lmgateway`` in four things: it serves other machines, too, with TLS, at a port of their own; it
always asks for a key, and makes one the first time; where LM Studio does not answer it starts the simulator instead, and says
so; and it prints a command to try it with.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import click
from msgspec import Struct
from msgspec.structs import replace
from twisted.application.app import startApplication
from twisted.application.service import Application, IService
from twisted.logger import ILogObserver, globalLogBeginner
from twisted.python.usage import UsageError

from lmgateway import __version__
from lmgateway.commands.tls import LAN_PORT
from lmgateway.configuration.listeners import defaultAllow, describe
from lmgateway.configuration.table import SPECS
from lmgateway.gateway import Announcement
from lmgateway.logs import streamOutput
from lmgateway.options import Options
from lmgateway.settings import Settings, UpstreamSettings
from lmgateway.tls.addresses import interfaceAddresses, lanAddresses

ASK_SECONDS = 2.0
"""How long LM Studio may take to answer before the simulator takes its place."""

MOST_MODELS = 1 << 20
"""Bytes of LM Studio's list of models that are read, to name one of them in the example."""

VARIABLE = "GATEWAY_API_KEY"


class Command(click.Command):
    """A command whose options are those of ``twistd lmgateway``, and documented with it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them out of the one table of settings."""
        rows = [("-c, --config FILE", "a TOML file with settings"), ("--env-file FILE", "an .env file with variables")]
        rows += [(f"--{spec.option} VALUE", spec.meaning) for spec in SPECS if spec.option]
        with formatter.section("Options"):
            formatter.write_dl([*rows, ("-h, --help", "Show this message and exit.")])


@click.command(cls=Command, context_settings={"ignore_unknown_options": True}, options_metavar="[OPTIONS]")
@click.option("--local", is_flag=True, help="Serve this machine only.")
@click.option(
    "--lan-port",
    "lanPort",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help=f"Where to serve other machines, with TLS: {LAN_PORT} unless given. 0 is any that is free.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def run(arguments: tuple[str, ...], lanPort: int | None, *, local: bool) -> None:
    """
    Run the gateway in the foreground, with a key, and with a simulator where LM Studio does not answer.

    On loopback it speaks plain HTTP. On a machine with a LAN it serves that, too, with TLS, unless --local, --host or
    --listen say otherwise.

    Stop it with Ctrl-C: running answers may finish; a second Ctrl-C cuts them off.
    """
    options = Options(os.environ)
    try:
        options.parseOptions(list(arguments))
    except UsageError as error:
        raise click.ClickException(str(error)) from None
    lan = None if local else lanListener(options.settings, lanPort, lanAddresses(interfaceAddresses()))
    serve(options, lan)


def lanListener(settings: Settings, port: int | None, addresses: Sequence[object]) -> str | None:
    """
    Where other machines are served.

    :param port: as the option says, if it was given.
    :param addresses: those of this machine that others can use.
    :return: an endpoint string; None where the settings say themselves where to listen, or nobody could come.
    """
    isSaid = any(settings.origins[key] != "default" for key in ("listen.host", "listen.endpoints"))
    if isSaid or not addresses or settings.listen.tls == "off":
        return None
    if port is None:
        port = LAN_PORT if settings.listen.port else 0
    return describe("0.0.0.0", port)  # noqa: S104 - with TLS and a key


def serve(options: Options, lan: str | None) -> None:
    """
    Find an upstream, put the gateway in front of it, and stay until a signal ends it.

    :param lan: an endpoint to listen on for other machines, if any.
    """
    from twisted.internet import reactor

    from lmgateway.tap import gatewayService

    upstream = findUpstream(options.settings.upstream)
    standIn = startSimulator(reactor) if upstream.fault else None
    settings = adapt(options.settings, standIn, lan)
    application = Application("lmgateway")
    gatewayService(
        settings,
        reactor,
        announce=lambda announcement: click.echo(greeting(settings, announcement, upstream)),
        reread=lambda: adapt(options.reload(), standIn, lan),
        output=streamOutput(sys.stdout),
    ).setServiceParent(application)
    globalLogBeginner.beginLoggingTo([application.getComponent(ILogObserver)], redirectStandardIO=False)
    IService(application).privilegedStartService()
    startApplication(application, False)
    reactor.run()


def adapt(settings: Settings, standIn: str | None, lan: str | None = None) -> Settings:
    """
    The settings that ``run`` goes by.

    :param standIn: the simulator's URL, if it takes LM Studio's place.
    :param lan: an endpoint to listen on for other machines, if any.
    """
    access = replace(settings.access, requireKey="always")
    listen = settings.listen
    if lan is not None:
        listen = replace(listen, endpoints=(*listen.descriptions, lan))
        if settings.origins["access.allow"] == "default":
            access = replace(access, allow=defaultAllow(listen.endpoints))
    upstream = settings.upstream
    if standIn is not None:
        upstream = replace(upstream, baseUrl=standIn, apiToken=None)
    return replace(settings, access=access, listen=listen, upstream=upstream)


def startSimulator(reactor: Any) -> str:
    """
    Serve the simulator on a free port that only this machine can reach.

    :return: its URL.
    """
    from lmgateway.studio.simulator.simulator import Simulator
    from lmgateway.studio.simulator.site import simulatorSite

    port = reactor.listenTCP(0, simulatorSite(Simulator(remember=0), reactor), interface="127.0.0.1")
    return f"http://127.0.0.1:{port.getHost().port}"


class Found(Struct, frozen=True):
    """
    What is at the upstream's address.

    :param url: the address.
    :param fault: why nothing can be asked there, or None if it can.
    :param model: a language model that it lists.
    """

    url: str
    fault: str | None
    model: str | None


def findUpstream(upstream: UpstreamSettings, seconds: float = ASK_SECONDS) -> Found:
    """
    Ask whether LM Studio is there. Blocks, and so is called before the reactor runs.

    Whatever takes a connection counts as LM Studio, slow or refusing as it may be: only the gateway can tell its user
    what is wrong with it then, and a simulator in its place would hide it.
    """
    connection = _connectionTo(upstream, seconds)
    try:
        connection.connect()
    except OSError as error:
        fault = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return Found(upstream.baseUrl, fault[:1].lower() + fault[1:], None)
    with suppress(OSError, http.client.HTTPException, ValueError):
        headers = {} if upstream.apiToken is None else {"Authorization": f"Bearer {upstream.apiToken}"}
        connection.request("GET", "/v1/models", headers=headers)
        return Found(upstream.baseUrl, None, modelOf(connection.getresponse().read(MOST_MODELS)))
    connection.close()
    return Found(upstream.baseUrl, None, None)


def _connectionTo(upstream: UpstreamSettings, seconds: float) -> http.client.HTTPConnection:
    url = urlsplit(upstream.baseUrl)
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=upstream.caFile)
        return http.client.HTTPSConnection(host, url.port, timeout=seconds, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=seconds)


def modelOf(listing: bytes) -> str | None:
    """
    The first model of a list that is none for embeddings, so far as its name tells.

    :param listing: the body of ``GET /v1/models``.
    :return: None where there is none.
    :raise ValueError: it is no JSON.
    """
    with suppress(LookupError, TypeError):
        for model in json.loads(listing)["data"]:
            if isinstance(model["id"], str) and "embed" not in model["id"]:
                return model["id"]
    return None


def greeting(settings: Settings, announcement: Announcement, upstream: Found) -> str:
    """What is printed once the gateway listens: where it is, what is behind it, the key, and a line to paste."""
    addresses = announcement.addresses or settings.listen.descriptions
    lines = [f"lmgateway {__version__}", ""]
    lines += [f"  address   {address}" for address in addresses]
    lines += [f"  upstream  {_upstreamLine(settings, upstream)}", f"  key       {_keyLine(settings, announcement)}"]
    secured = [address for address in addresses if address.startswith("https:")]
    if secured and announcement.fingerprint is not None:
        lines.append(f"  trust     {secured[0]}/ca.crt, once on each other machine: `lmgateway tls show` says how.")
        lines.append(f"            SHA-256 {announcement.fingerprint}")
    if announcement.addresses and settings.dashboard.enabled:
        lines.append(f"  look      {announcement.addresses[0]}/dashboard shows what happens; sign in with a key.")
    if announcement.addresses:
        key = announcement.generatedKey or f"${VARIABLE}"
        model = upstream.model if upstream.fault is None else _simulatedModel()
        lines += ["", "Try it:", "", f"  {curlLine(announcement.addresses[0], key, model)}"]
        if announcement.generatedKey is None:
            lines += ["", f"  ({VARIABLE} must hold the key in the shell that you paste this into.)"]
    return "\n".join(["", *lines, ""])


def _upstreamLine(settings: Settings, upstream: Found) -> str:
    if upstream.fault is None:
        return f"LM Studio at {upstream.url}"
    return (
        f"the built-in simulator at {settings.upstream.baseUrl}: its answers mean nothing.\n"
        f"            LM Studio does not answer at {upstream.url} ({upstream.fault}). Is its server started?\n"
        "            (Developer tab, or `lms server start`.) Then start this again."
    )


def _keyLine(settings: Settings, announcement: Announcement) -> str:
    if announcement.generatedKey is not None:
        return f"{announcement.generatedKey}\n            Made just now, and shown only this once: keep it."
    if settings.access.apiKey is not None:
        return f"yours, from {settings.origins['access.apiKey']}"
    return f"the one that was shown at the first start. Lost it? Choose one: {VARIABLE}=... make run"


def _simulatedModel() -> str:
    from lmgateway.studio.simulator.models import CATALOGUE

    return CATALOGUE[0].key


def curlLine(address: str, key: str, model: str | None) -> str:
    """
    A command for a POSIX shell that asks the gateway something.

    :param key: the key, or ``$NAME`` of the variable that holds it.
    :param model: whom to ask; without one, the command asks for the models.
    """
    authorization = f'-H "Authorization: Bearer {key}"'
    if model is None:
        return f"curl {address}/v1/models {authorization}"
    body = shlex.quote(json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello."}]}))
    return f"curl {address}/v1/chat/completions {authorization} -H 'Content-Type: application/json' -d {body}"
