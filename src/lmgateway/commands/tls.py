# -*- test-case-name: tests.commands.test_tls -*-
"""
``lmgateway tls``: the gateway's own certificate authority. Makes it, renews what it has signed, and tells how to trust it.

It works on the files in the state folder; a gateway that runs notices within a minute, or on SIGHUP.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
import segno
from cryptography import x509

from lmgateway.configuration.listeners import hasOwnTls, splitDescription, wantsTls
from lmgateway.settings import Settings, SettingsError, loadSettings
from lmgateway.tls.addresses import Subjects, machineSubjects
from lmgateway.tls.authority import Pair, TlsError, fingerprintOf, mayVouchFor, subjectsIn
from lmgateway.tls.folder import TlsFolder
from lmgateway.tls.trust import fetchCommand, recipeLines, verifyCommand

LAN_PORT = 8443
"""Where ``lmgateway run`` serves other machines, unless it is told otherwise."""


@click.group()
def tls() -> None:
    """Make, renew and show the gateway's own certificates."""


def _takesSettings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which gateway's state is meant, and its settings as the first argument."""

    @click.option("--config", "configFile", metavar="FILE", help="The gateway's TOML file.")
    @click.option("--env-file", "envFile", metavar="FILE", help="The gateway's .env file.")
    @click.option("--state-dir", "stateDirectory", metavar="FOLDER", help="The gateway's state folder.")
    @functools.wraps(command)
    def found(configFile: str | None, envFile: str | None, stateDirectory: str | None, **rest: Any) -> None:
        options = {"state-dir": stateDirectory}
        try:
            settings = loadSettings(
                configFile=configFile or None, envFile=envFile or None, environ=os.environ, options=options
            )
            command(settings, **rest)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None

    return found


@tls.command()
@click.option(
    "--force", is_flag=True, help="Replace an authority that is there. Everybody must trust the new one then."
)
@_takesSettings
def init(settings: Settings, *, force: bool) -> None:
    """
    Make a certificate authority and a certificate for this machine.

    A gateway makes both by itself when it first needs them.
    """
    folder = TlsFolder(settings.state.directory)
    if not force and folder.authority() is not None:
        raise TlsError(
            "There is a certificate authority already, and whoever trusts it would have to trust the new one instead. To replace it "
            "all the same: lmgateway tls init --force"
        )
    subjects = machineSubjects(settings.tls.names)
    folder.begin(subjects, datetime.now(UTC))
    click.echo(report(settings, folder, subjects))


@tls.command()
@_takesSettings
def renew(settings: Settings) -> None:
    """
    Make a new certificate for this machine, signed by the same authority.

    A gateway does so by itself 30 days ahead, and when the machine has another address.
    """
    folder = TlsFolder(settings.state.directory)
    leaf = folder.renew(machineSubjects(settings.tls.names), datetime.now(UTC))
    click.echo("\n".join(["Renewed.", "", *_leafLines(leaf.certificate)]))


@tls.command()
@_takesSettings
def show(settings: Settings) -> None:
    """Show the certificates, and how to trust them on each platform."""
    click.echo(report(settings, TlsFolder(settings.state.directory), machineSubjects(settings.tls.names)))


def report(settings: Settings, folder: TlsFolder, subjects: Subjects) -> str:
    """
    Everything that there is to know for trusting a gateway.

    :param subjects: what this machine is called.
    :raise TlsError: there is no authority, or it cannot be read.
    """
    authority, leaf = folder.authority(), folder.leaf()
    if authority is None or leaf is None:
        raise TlsError("There is no certificate authority yet. Make one: lmgateway tls init")
    url = authorityUrl(settings, subjects)
    lines = [
        "Certificate authority",
        f"  name         {authority.certificate.subject.rfc4514_string()}",
        f"  ends         {authority.certificate.not_valid_after_utc:%Y-%m-%d}",
        f"  file         {folder.certificatePath}",
        f"  SHA-256      {fingerprintOf(authority.certificate)}",
        "",
        *_leafLines(leaf.certificate),
        *_unnamed(authority, subjects),
    ]
    if settings.tls.certificate is not None:
        lines += ["", "None of this is in use: tls.certificate names a certificate from elsewhere."]
    lines += ["", "On each machine that is to trust it: get it from the gateway,", f"  {fetchCommand(url)}"]
    lines += ["compare the fingerprint with the one above,", f"  {verifyCommand()}", "and trust it:", *recipeLines()]
    return "\n".join([*lines, "", f"On a telephone, open {url} and compare the fingerprint:", "", qrCode(url)])


def _leafLines(leaf: x509.Certificate) -> list[str]:
    held = subjectsIn(leaf)
    return [
        "This machine's certificate",
        f"  ends         {leaf.not_valid_after_utc:%Y-%m-%d}",
        f"  names        {', '.join(held.names)}",
        f"  addresses    {', '.join(map(str, held.addresses))}",
    ]


def _unnamed(authority: Pair, subjects: Subjects) -> list[str]:
    """What the certificate cannot be for, and why."""
    refused = [name for name in subjects.names if not mayVouchFor(authority, name)]
    if not refused:
        return []
    return [
        f"  left out     {', '.join(refused)}: not among the names that the authority was made for (lmgateway tls init --force)"
    ]


def authorityUrl(settings: Settings, subjects: Subjects) -> str:
    """The URL of ``/ca.crt`` for other machines: at the first listener that has TLS, else where ``lmgateway run`` has it."""
    address = subjects.addresses[0]
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"https://{host}:{_securedPort(settings) or LAN_PORT}/ca.crt"


def _securedPort(settings: Settings) -> int:
    for description in settings.listen.descriptions:
        kind, arguments, named = splitDescription(description)
        if kind.startswith("tcp") and wantsTls(description, settings.listen.tls) and not hasOwnTls(description):
            return int(arguments[0] if arguments else named.get("port", "0"))
    return 0


def qrCode(url: str) -> str:
    """A QR code to be photographed from a terminal, of half-block characters."""
    text = io.StringIO()
    segno.make(url, micro=False).terminal(text, compact=True)
    return text.getvalue()
