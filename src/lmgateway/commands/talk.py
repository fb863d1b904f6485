# -*- test-case-name: tests.commands.test_talk -*-
"""
Talking to a gateway that runs: where it is, with which key, and what went wrong, in one line.

What these commands do is ask and print, so they do it without a reactor: Ctrl-C ends them at any moment, and they start in
the time that Python takes.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console

from lmgateway.configuration.kinds import Kind, PemBundle, Secret
from lmgateway.configuration.listeners import isLoopback, splitDescription, wantsTls
from lmgateway.configuration.places import BaseUrl
from lmgateway.policy.authentication import KeyForm, checkKeyForm
from lmgateway.settings import Settings, SettingsError, loadSettings
from lmgateway.telemetry.accesslog import printable

URL_VARIABLE = "LMGATEWAY_URL"
KEY_VARIABLE = "LMGATEWAY_KEY"

ANSWER_SECONDS = 15.0
"""How long the gateway may be silent: it asks LM Studio for five seconds before it says that it is not ready."""

MOST_ANSWER = 64 << 20
"""Bytes of an answer that are read: its ten thousand rows of usage are far less."""

LONGEST_MESSAGE = 1000
"""Characters of what the gateway says that an error shows."""

_ALL_ADDRESSES = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - shown, not bound
_DONE = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
_MAY_PASS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class TalkError(click.ClickException):
    """
    The gateway could not be asked, or did not answer as hoped. Shown in one line, and ends the command with 1.

    :param message: what happened, and what to do.
    :param mayPass: whether the same may succeed a little later.
    """

    def __init__(self, message: str, *, mayPass: bool = True) -> None:
        super().__init__(printable(message, LONGEST_MESSAGE))
        self.mayPass = mayPass


class Place:
    """
    Where a gateway is, and how it is asked there.

    :param url: scheme, host and port.
    :param key: goes along with each request, or None.
    :param caFile: the certificates to trust, or None for the platform's.
    :ivar most: bytes of an answer that are read.
    """

    most = MOST_ANSWER

    def __init__(self, url: str, key: str | None = None, caFile: str | None = None) -> None:
        self.url = url
        self._key = key
        self._caFile = caFile

    def ask(self, target: str, *, accept: str = "application/json", well: frozenset[int] = frozenset({200})) -> bytes:
        """
        Ask, and read the whole answer.

        :param target: path and query.
        :param well: the statuses that are no error.
        :raise TalkError: there was none, or one with another status.
        """
        with self.open(target, {"Accept": accept}, ANSWER_SECONDS, well) as response:
            return self.readAll(response)

    def askJson(self, target: str, *, well: frozenset[int] = frozenset({200})) -> dict[str, Any]:
        """
        Ask for a JSON object.

        :raise TalkError: as :meth:`ask`, or it is something else.
        """
        return self._objectIn(self.ask(target, well=well))

    def _objectIn(self, body: bytes) -> dict[str, Any]:
        value = readJson(body)
        if not isinstance(value, dict):
            raise TalkError(f"What answers at {self.url} is no lmgateway. {_WHERE}", mayPass=False)
        return value

    def post(self, target: str, value: Mapping[str, Any], seconds: float | None = ANSWER_SECONDS) -> dict[str, Any]:
        """
        Have something done.

        :param target: path and query.
        :param value: what is said about it.
        :param seconds: how long it may take; None for any time.
        :raise TalkError: it was not done, or nobody knows.
        """
        return self.send("POST", target, value, seconds)

    def send(
        self, method: str, target: str, value: Mapping[str, Any] | None = None, seconds: float | None = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """
        Have something done, as :meth:`post`, by any method.

        :param value: what is said about it; None for nothing.
        """
        headers = {"Accept": "application/json", **({} if value is None else {"Content-Type": "application/json"})}
        body = None if value is None else json.dumps(value).encode()
        with self.open(target, headers, seconds, _DONE, body, method) as response:
            return self._objectIn(self.readAll(response))

    def open(
        self,
        target: str,
        headers: Mapping[str, str],
        seconds: float | None,
        well: frozenset[int] = frozenset({200}),
        body: bytes | None = None,
        method: str | None = None,
    ) -> http.client.HTTPResponse:
        """
        Ask, and leave the body of the answer to be read.

        :param seconds: how long the gateway may be silent, now and while the body is read; None for any time.
        :param body: is posted; None to get.
        :param method: instead of these.
        :raise TalkError: there was no answer, or one whose status is not among ``well``.
        """
        fields = {"Connection": "close", **headers}
        if self._key is not None:
            fields["Authorization"] = f"Bearer {self._key}"
        try:
            connection = self._connection(seconds)
            connection.request(method or ("GET" if body is None else "POST"), target, body, fields)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self.broken(error) from None
        if response.status not in well:
            with response:
                raise self._refusal(response.status, self.readAll(response))
        return response

    def readAll(self, response: http.client.HTTPResponse) -> bytes:
        """
        Read the body of an answer.

        :raise TalkError: it broke off, or is endless.
        """
        try:
            body = response.read(self.most + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self.broken(error) from None
        if len(body) > self.most:
            raise TalkError(f"The answer of {self.url} has more than {self.most} bytes. Ask for less.", mayPass=False)
        # Where it is told how much to read, http.client does not say that less came than was announced.
        if response.length:
            raise self.broken(http.client.IncompleteRead(body))
        return body

    def broken(self, error: Exception) -> TalkError:
        """Say in a sentence what ended a connection, or why there was none."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return TalkError(
                f"The certificate of {self.url} is not trusted ({error.verify_message}). Name the file that it can be "
                "checked with: --ca-file FILE.",
                mayPass=False,
            )
        if isinstance(error, ssl.SSLError):
            return TalkError(f"{self.url} does not speak TLS as it should ({error.reason}). Is it an http:// address?")
        if isinstance(error, TimeoutError):
            return TalkError(f"{self.url} did not answer in time.")
        if isinstance(error, http.client.HTTPException | ConnectionResetError):
            return TalkError(f"{self.url} broke off, or speaks no HTTP. Is it an https:// address?")
        reason = getattr(error, "strerror", None) or str(error)
        return TalkError(f"Nothing answers at {self.url} ({reason}). Is the gateway running? {_WHERE}")

    def _connection(self, seconds: float | None) -> http.client.HTTPConnection:
        url = urlsplit(self.url)
        host = url.hostname or ""
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=self._caFile)
            return http.client.HTTPSConnection(host, url.port, timeout=seconds, context=context)
        return http.client.HTTPConnection(host, url.port, timeout=seconds)

    def _refusal(self, status: int, body: bytes) -> TalkError:
        """Say what an answer means that is none."""
        if status == HTTPStatus.UNAUTHORIZED:
            said = _UNKNOWN_KEYS[checkKeyForm(self._key)] if self._key else "asks for a key"
            return TalkError(
                f"The gateway at {self.url} {said}. Name a file that holds one, --key-file FILE, or set {KEY_VARIABLE}.",
                mayPass=False,
            )
        mayPass = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _MAY_PASS
        return TalkError(f"The gateway at {self.url} says {status}: {messageOf(body)}", mayPass=mayPass)


_UNKNOWN_KEYS = {
    **dict.fromkeys(KeyForm, "does not know this key"),
    KeyForm.MISTYPED: "does not know this key, and it is mistyped: a part of it is missing or wrong",
}
_WHERE = f"Say where it is: --url URL, or {URL_VARIABLE}."


def messageOf(body: bytes) -> str:
    """Give what the body of an error says, with each fault that it lists."""
    value = readJson(body)
    said = (value.get("error") or value.get("message")) if isinstance(value, dict) else None
    if not isinstance(said, str):
        return "no reason was given. Is this a gateway?"
    details = value.get("details")
    faults = [
        _detailOf(detail) for detail in (details if isinstance(details, list) else []) if isinstance(detail, dict)
    ]
    return f"{said}: {' '.join(faults)}" if faults else said


def _detailOf(detail: Mapping[str, Any]) -> str:
    """Give a detail of an error: a fault with its place, or else whatever is known of the thing that it names."""
    if isinstance(detail.get("path"), list):
        return f"{'.'.join(map(str, detail['path']))}: {detail.get('message')}"
    return f"({', '.join(f'{name} {value}' for name, value in detail.items())})"


def readJson(text: bytes | str) -> Any:
    """Give the value that JSON stands for, or None where it is none, or where it nests more deeply than anything of ours."""
    try:
        value = json.loads(text)
        # What can only just be read cannot always be written.
        json.dumps(value)
    except (ValueError, RecursionError):
        return None
    return value


def jsonText(value: object, indent: int | None = None) -> str:
    """Write JSON that drives no terminal: all of it is printable ASCII."""
    return json.dumps(value, indent=indent)


def asksGateway(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which gateway is meant, and the place that they name as its first argument."""

    @takesPlace
    @functools.wraps(command)
    def found(url: str | None, keyFile: str | None, caFile: str | None, **rest: Any) -> None:
        files = (rest.pop("configFile"), rest.pop("envFile"))
        try:
            place = findPlace(url, keyFile, caFile, files, os.environ)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        command(place, **rest)

    return found


def takesPlace(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which gateway is meant."""

    @click.option(
        "--url", metavar="URL", help=f"Where the gateway is; else {URL_VARIABLE}, else what its settings say."
    )
    @click.option(
        "--key-file",
        "--api-key-file",
        "keyFile",
        metavar="FILE",
        help=f"A file that holds a key; else {KEY_VARIABLE}, else GATEWAY_API_KEY.",
    )
    @click.option("--ca-file", "caFile", metavar="FILE", help="The certificates to trust, instead of the platform's.")
    @click.option("--config", "configFile", metavar="FILE", help="The gateway's TOML file.")
    @click.option("--env-file", "envFile", metavar="FILE", help="The gateway's .env file.")
    @functools.wraps(command)
    def taken(*given: Any, **named: Any) -> None:
        command(*given, **named)

    return taken


def findPlace(
    url: str | None,
    keyFile: str | None,
    caFile: str | None,
    files: tuple[str | None, str | None],
    environ: Mapping[str, str],
) -> Place:
    """
    Find the gateway that is meant.

    :param url: as the option says.
    :param keyFile: likewise.
    :param caFile: likewise.
    :param files: the gateway's own TOML and ``.env`` files, where they are named.
    :param environ: variables.
    :raise SettingsError: something is not allowed, or nothing says where the gateway is.
    """
    # The same name and reader as the gateway's own option: a key is never on a command line.
    options = {"api-key-file": keyFile}
    settings = loadSettings(configFile=files[0] or None, envFile=files[1] or None, environ=environ, options=options)
    key = settings.access.apiKey
    if not keyFile:
        key = _readAs(Secret(1, 4096), f"variable {KEY_VARIABLE}", environ.get(KEY_VARIABLE)) or key
    place = (
        _readAs(BaseUrl(), "option --url", url)
        or _readAs(BaseUrl(), f"variable {URL_VARIABLE}", environ.get(URL_VARIABLE))
        or _listenerUrl(settings)
    )
    return Place(place, key, _readAs(PemBundle(), "option --ca-file", caFile) or _ownAuthority(settings, place))


def _readAs(kind: Kind, where: str, text: str | None) -> str | None:
    """Read a value, or say where the one stands that cannot be read. An empty one is none."""
    if not text:
        return None
    try:
        value: str = kind.resolve(kind.fromText(text), os.getcwd())  # noqa: PTH109 - a string is what resolve takes
    except SettingsError as error:
        raise SettingsError(f"{where}: {kind.show(text)}: {error}") from None
    return value


def _listenerUrl(settings: Settings) -> str:
    """
    Give the URL of the first listener that has one.

    :raise SettingsError: none has, or only on a port that nobody knows before it listens.
    """
    # Where there is a listener without TLS, it is this machine's own.
    for description in sorted(settings.listen.descriptions, key=lambda each: wantsTls(each, settings.listen.tls)):
        url = urlOf(description, isSecured=wantsTls(description, settings.listen.tls))
        if url is not None:
            return url
    raise SettingsError(f"The settings do not tell the gateway's address. {_WHERE}")


def _ownAuthority(settings: Settings, url: str) -> str | None:
    """The file of the gateway's own authority, where the gateway at ``url`` is one on this machine that has one."""
    # Brings cryptography, which most calls need not wait for.
    from lmgateway.tls.folder import TlsFolder

    path = TlsFolder(settings.state.directory).certificatePath
    isHere = url.startswith("https:") and isLoopback(urlsplit(url).hostname or "")
    return str(path) if isHere and settings.tls.certificate is None and path.exists() else None


def urlOf(description: str, *, isSecured: bool = False) -> str | None:
    """
    Give the URL by which this machine reaches a listener.

    :param description: a valid endpoint string.
    :param isSecured: whether the gateway speaks TLS there.
    :return: None where it has none: a socket in the file system, a port that is chosen at the start, or a type that is unknown here.
    """
    kind, arguments, named = splitDescription(description)
    if kind not in {"tcp", "tcp6", "ssl", "tls"}:
        return None
    if kind == "tls":
        arguments = arguments[1:]
    port = arguments[0] if arguments else named.get("port", "443" if kind == "tls" else "0")
    if int(port) == 0:
        return None
    host = named.get("interface", "::" if kind == "tcp6" else "")
    host = _ALL_ADDRESSES.get(host, host)
    scheme = "http" if kind.startswith("tcp") and not isSecured else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{int(port)}"


def openConsole(*, isForErrors: bool = False) -> Console:
    """
    Make what prints: on a terminal as wide as it is, anywhere else as wide as the text is. What is printed are no words of
    ours, so nothing in it is markup, an emoji's name or a number to be coloured.

    :param isForErrors: whether it goes to standard error.
    """
    isTerminal = (sys.stderr if isForErrors else sys.stdout).isatty()
    width = None if isTerminal else 10_000
    return Console(stderr=isForErrors, markup=False, emoji=False, highlight=False, width=width)
