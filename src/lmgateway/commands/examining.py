# -*- test-case-name: tests.commands.test_examining -*-
"""
The facts that ``lmgateway doctor`` goes by: asked of LM Studio, of the gateway, of the disk and of the operating system.

What they mean is :mod:`lmgateway.policy.diagnosis`'s to say. Nothing here changes anything, but for taking away from others the right to read the
gateway's own certificates' keys, as the gateway itself does.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from lmgateway.audit import AUDIT_FILE
from lmgateway.commands.check import warningsOf
from lmgateway.commands.talk import Place, TalkError
from lmgateway.configuration.descriptors import WINDOWS_SOCKETS, connectionsWithin
from lmgateway.configuration.listeners import isLoopback, splitDescription, wantsTls
from lmgateway.policy.diagnosis import (
    Finding,
    Seen,
    certificateFinding,
    clockFinding,
    descriptorFinding,
    exposureFinding,
    modeFinding,
    spaceFinding,
    upstreamFinding,
)
from lmgateway.settings import Settings
from lmgateway.statefile import LOCK_FILE, STATE_FILE, StateError, takeFolder
from lmgateway.studio.logs import logFolder
from lmgateway.tls.addresses import Subjects
from lmgateway.tls.authority import TlsError, mayVouchFor, subjectsIn
from lmgateway.tls.context import readCertificates
from lmgateway.tls.folder import AUTHORITY_FILE, FOLDER, LEAF_FILE, TlsFolder

ASK_SECONDS = 5.0
"""How long anybody who is asked may take."""

MOST_BODY = 4 << 20

_RENEW = "lmgateway tls renew"


def examine(
    settings: Settings, files: Iterable[str], place: Place | None, subjects: Subjects, now: datetime
) -> Iterator[Finding]:
    """
    Look at everything.

    :param files: those that the settings were read from.
    :param place: where the gateway is, if the settings tell.
    :param subjects: what this machine is called.
    :param now: what its clock shows.
    """
    # Who reads the certificates puts their rights right, so those come first.
    yield from modeFindings(settings, files)
    clocks: dict[str, float] = {}
    yield from upstreamFindings(settings, subjects, clocks)
    owner, isRunning = stateFinding(settings.state.directory)
    yield owner
    if isRunning and place is not None:
        yield gatewayFinding(place, clocks)
    elif not isRunning:
        yield from map(portFinding, settings.listen.descriptions)
    yield clockFinding(now, clocks)
    yield from certificateFindings(settings, subjects, now)
    yield diskFinding(settings.state.directory)
    yield descriptorsFinding()
    yield from logFindings(settings)
    for warning in warningsOf(settings):
        yield Finding("warning", "settings", warning, "lmgateway check shows all of them.")


def ask(url: str, target: str, token: str | None, caFile: str | None, seconds: float = ASK_SECONDS) -> Seen:
    """
    Ask somebody.

    :param url: scheme, host and port.
    :param token: goes along, where there is one.
    :param caFile: whose certificates to trust instead of the platform's.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=caFile)
            connection = http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=context)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=seconds)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", target, headers={**headers, "Connection": "close"})
        response = connection.getresponse()
        with response:
            return Seen(response.status, None, dateOf(response.getheader("Date")), response.read(MOST_BODY))
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        fault = (
            "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        )
        return Seen(fault=str(fault) or "it speaks no HTTP")


def dateOf(field: str | None) -> float | None:
    """The Unix time of a ``Date`` field; None where there is none, or none that can be read."""
    try:
        return None if field is None else parsedate_to_datetime(field).timestamp()
    except (ValueError, OverflowError):
        return None


def upstreamFindings(settings: Settings, subjects: Subjects, clocks: dict[str, float]) -> Iterator[Finding]:
    """
    Look at LM Studio: where it is meant to be, and where it is not.

    :param clocks: takes up what its clock shows.
    """
    upstream = settings.upstream
    seen = ask(upstream.baseUrl, "/v1/models", upstream.apiToken, upstream.caFile)
    if seen.date is not None:
        clocks["LM Studio"] = seen.date
    yield upstreamFinding(upstream.baseUrl, seen, hasToken=upstream.apiToken is not None)
    parts = urlsplit(upstream.baseUrl)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    lan = [str(address) for address in subjects.addresses if not address.is_loopback]
    isHere = isLoopback(host) or host in {*lan, *subjects.names}
    elsewhere = elsewhereOf(lan, port) if isHere else {}
    yield exposureFinding(port, elsewhere, isHere=isHere)


def elsewhereOf(addresses: Iterable[str], port: int, seconds: float = 1.0) -> dict[str, Seen]:
    """What answers at a port of addresses, without a token; who takes no connection is not in it."""
    found = {}
    for address in addresses:
        with suppress(OSError), socket.create_connection((address, port), seconds):
            found[address] = ask(
                f"http://{f'[{address}]' if ':' in address else address}:{port}", "/v1/models", None, None
            )
    return found


def stateFinding(directory: str) -> tuple[Finding, bool]:
    """Look at the state folder; the second value tells whether a gateway uses it."""
    subject = "state folder"
    if not (Path(directory) / LOCK_FILE).exists():
        return Finding("ok", subject, f"No gateway has used {directory} yet."), False
    try:
        os.close(takeFolder(Path(directory)))
    except StateError as error:
        if "Another gateway" in str(error):
            return Finding("ok", subject, f"A gateway runs with {directory}."), True
        return Finding("error", subject, str(error), "Give the folder to the user that the gateway runs as."), False
    return Finding("ok", subject, f"No gateway runs with {directory}."), False


def gatewayFinding(place: Place, clocks: dict[str, float]) -> Finding:
    """
    Ask the gateway that runs whether it is well.

    :param clocks: takes up what its clock shows.
    """
    try:
        with place.open("/health", {}, ASK_SECONDS, frozenset({200, 401, 403})) as response:
            moment = dateOf(response.getheader("Date"))
    except TalkError as error:
        return Finding("error", "gateway", f"It runs, but: {error.message}", "See what its log says.")
    if moment is not None:
        clocks["the gateway"] = moment
    return Finding("ok", "gateway", f"It answers at {place.url}.")


def portFinding(description: str) -> Finding:
    """
    Look at whether the gateway could listen somewhere.

    :param description: a valid endpoint string.
    """
    kind, arguments, named = splitDescription(description)
    subject = "listener"
    if kind not in {"tcp", "tcp6", "ssl"}:
        return Finding("ok", subject, f"{description} is not looked at: it is no plain port.")
    host = named.get("interface", "::" if kind == "tcp6" else "")
    port = int(arguments[0] if arguments else named.get("port", "0"))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        if os.name == "posix":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
            taken.listen(1)
        except OSError as error:
            return Finding(
                "error", subject, f"{description}: {error.strerror}.", _HINTS.get(error.errno or 0, _ELSEWHERE)
            )
    return Finding("ok", subject, f"{description} is free.")


_ELSEWHERE = "Listen elsewhere: GATEWAY_HOST, GATEWAY_PORT, --listen."
_HINTS = {
    errno.EADDRINUSE: "Another program is there: end it, or choose another port (GATEWAY_PORT).",
    errno.EADDRNOTAVAIL: "Choose an address of this machine (GATEWAY_HOST).",
    errno.EACCES: "Choose a port above 1023 (GATEWAY_PORT).",
}


def modeFindings(settings: Settings, files: Iterable[str]) -> Iterator[Finding]:
    """Look at who may read what is secret. Windows has no such bits."""
    if os.name != "posix":
        return
    state = Path(settings.state.directory)
    tls = state / FOLDER
    looked: list[tuple[str, Path]] = [
        ("state folder's rights", state),
        ("state file's rights", state / STATE_FILE),
        ("audit's rights", state / AUDIT_FILE),
        ("authority's key", tls / AUTHORITY_FILE),
        ("certificate's key", tls / LEAF_FILE),
    ]
    keyFile = settings.tls.key or settings.tls.certificate
    if keyFile is not None:
        looked.append(("tls.key", Path(keyFile)))
    secrets = [each for each in (settings.access.apiKey, settings.upstream.apiToken) if each]
    looked += [("settings with a key", Path(file)) for file in files if _holdsAny(Path(file), secrets)]
    for what, path in looked:
        with suppress(OSError):
            mode = path.stat().st_mode
            yield modeFinding(what, str(path), stat.S_IMODE(mode), isFolder=stat.S_ISDIR(mode))


def _holdsAny(path: Path, secrets: Iterable[str]) -> bool:
    with suppress(OSError):
        content = path.read_bytes()
        return any(secret.encode() in content for secret in secrets)
    return False


def certificateFindings(settings: Settings, subjects: Subjects, now: datetime) -> Iterator[Finding]:
    """Look at the certificates that other machines are shown, where they are shown any."""
    if not any(wantsTls(each, settings.listen.tls) for each in settings.listen.descriptions):
        yield Finding("ok", "certificate", "None is needed: no listener has TLS.")
        return
    try:
        brought = settings.tls.certificate
        yield from _ownFindings(settings, subjects, now) if brought is None else _broughtFindings(brought, now)
    except (TlsError, OSError) as error:
        yield Finding("error", "certificate", str(error), "Put a good one in its place.")


def _broughtFindings(path: str, now: datetime) -> Iterator[Finding]:
    certificate = readCertificates(Path(path).read_bytes(), "tls.certificate")[0]
    remedy = "Have a new one made, and put it into the file that tls.certificate names."
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    yield certificateFinding("certificate", begins, ends, now, (), remedy)


def _ownFindings(settings: Settings, subjects: Subjects, now: datetime) -> Iterator[Finding]:
    folder = TlsFolder(settings.state.directory)
    authority, leaf = folder.authority(), folder.leaf()
    if authority is None or leaf is None:
        yield Finding("ok", "certificate", "It is made when the gateway starts.")
        return
    held = subjectsIn(leaf.certificate)
    missing = [each for each in subjects.names if each not in held.names and mayVouchFor(authority, each)]
    missing += [str(each) for each in subjects.addresses if each not in held.addresses]
    for subject, certificate, unnamed, remedy in (
        (
            "certificate authority",
            authority.certificate,
            [],
            "lmgateway tls init --force; then everybody must trust it anew.",
        ),
        ("certificate", leaf.certificate, missing, _RENEW),
    ):
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        yield certificateFinding(subject, begins, ends, now, unnamed, remedy)


def diskFinding(directory: str) -> Finding:
    """Look at the disk that the state folder is on, or will be."""
    path = Path(directory)
    there = next(each for each in (path, *path.parents) if each.exists())
    usage = shutil.disk_usage(there)
    return spaceFinding(usage.free, usage.total)


def descriptorsFinding() -> Finding:
    """Look at how many files a process may have open, as this one may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit, and another one that nobody can raise
        return descriptorFinding(None, connectionsWithin(WINDOWS_SOCKETS))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = None if soft == resource.RLIM_INFINITY else soft
    return descriptorFinding(limit, connectionsWithin(limit))


def logFindings(settings: Settings) -> Iterator[Finding]:
    """Look at LM Studio's log folder, where it is followed."""
    if not settings.upstream.followLogs:
        return
    folder = logFolder(settings.upstream.logDirectory, Path.home)
    if folder.is_dir():
        yield Finding("ok", "LM Studio's logs", f"{folder} is followed.")
    else:
        text = f"The folder {folder} is not there, so nothing of it is told."
        remedy = "Name LM Studio's server-logs folder: LMSTUDIO_LOG_DIR; or set ENABLE_LOG_MONITORING to false."
        yield Finding("error", "LM Studio's logs", text, remedy)
