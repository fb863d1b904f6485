# -*- test-case-name: tests.test_settings -*-
"""
Files, variables and options to frozen :class:`Settings`, or a :class:`SettingsError` of one line that names the key.

Three layers, each overriding the one before: the TOML file, the environment, the options. What a setting may be stands
in :mod:`lmgateway.configuration.table`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from lmgateway.configuration.layers import Given, Layer, environmentFileLayer, environmentLayer, fileLayer, optionLayer
from lmgateway.configuration.listeners import isPlainBeyondLoopback, listenersOf, reachesBeyondLoopback
from lmgateway.configuration.table import SPECS
from lmgateway.configuration.units import SettingsError
from lmgateway.policy.completion import Alias, ModelDefaults

__all__ = [
    "AccessSettings",
    "CorsSettings",
    "DashboardSettings",
    "DebugSettings",
    "LimitSettings",
    "ListenSettings",
    "LogSettings",
    "Settings",
    "SettingsError",
    "StateSettings",
    "TlsSettings",
    "UpstreamSettings",
    "loadSettings",
    "valueOf",
]

_SECRETS = frozenset(spec.key.rpartition(".")[2] for spec in SPECS if spec.kind.secret)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Section(Struct, frozen=True, kw_only=True):
    """Settings that belong together. A secret never shows in its ``repr``, for that is what ends up in tracebacks."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "…" if name in _SECRETS else getattr(self, name)) for name in self.__struct_fields__]


class UpstreamSettings(Section, frozen=True, kw_only=True):
    """
    LM Studio, and how to reach it.

    :param baseUrl: scheme, host and port, without a slash at the end.
    :param apiToken: LM Studio's own token. Secret.
    :param transport: ``treq`` or ``direct``.
    :param connectTimeout: seconds.
    :param caFile: a PEM file of the certificates to trust for an https upstream, or None for the platform's.
    :param timeout: seconds of silence allowed in an answer that is no stream; 0 is no limit.
    :param streamTimeout: the same for streams.
    :param management: ``auto``, ``sdk``, ``rest`` or ``gateway``.
    :param strictModels: whether a model that LM Studio does not have is refused.
    :param logDirectory: LM Studio's ``server-logs`` folder, or None.
    :param followLogs: whether it is followed.
    :param logBodies: whether events of its lines show the bodies of requests.
    """

    baseUrl: str
    apiToken: str | None
    transport: str
    connectTimeout: float
    caFile: str | None
    timeout: float
    streamTimeout: float
    management: str
    strictModels: bool
    logDirectory: str | None
    followLogs: bool
    logBodies: bool


class ListenSettings(Section, frozen=True, kw_only=True):
    """
    Where to listen.

    :param host: an IP address.
    :param port: 0 is any that is free.
    :param endpoints: Twisted endpoint strings; where there are any, they replace ``host`` and ``port``.
    :param tls: ``auto``, ``on`` or ``off``.
    :param allowPlain: whether others than this machine may be served without TLS.
    """

    host: str
    port: int
    endpoints: tuple[str, ...]
    tls: str
    allowPlain: bool

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The endpoint strings to listen on, at least one."""
        return listenersOf(self.host, self.port, self.endpoints)

    @property
    def beyondLoopback(self) -> bool:
        """Whether another machine may be able to connect to any listener."""
        return any(map(reachesBeyondLoopback, self.descriptions))

    @property
    def plainBeyondLoopback(self) -> tuple[str, ...]:
        """The endpoint strings at which other machines may be served without TLS."""
        return tuple(each for each in self.descriptions if isPlainBeyondLoopback(each, self.tls))


class TlsSettings(Section, frozen=True, kw_only=True):
    """
    What is shown, and whose certificates are asked for, where there is TLS.

    :param certificate: a PEM file: the user's own certificate, then those that signed it; None for the gateway's own.
    :param key: the PEM file of its key, or None where that is in the same file.
    :param names: host names and addresses that the gateway's own certificate is for, beside those of the machine.
    :param clientCa: a PEM file: the certificates that must have signed those of clients, or None.
    :param clientCertificates: ``off``, ``optional`` or ``required``.
    :param hsts: seconds for which browsers are to use TLS only (RFC 6797); 0 sends no such thing.
    """

    certificate: str | None
    key: str | None
    names: tuple[str, ...]
    clientCa: str | None
    clientCertificates: str
    hsts: float


class AccessSettings(Section, frozen=True, kw_only=True):
    """
    Who may ask.

    :param apiKey: one key with every scope. Secret.
    :param allow: addresses and CIDRs, IPv4 and IPv6; ``*`` is all.
    :param requireAuthForHealth: whether ``/health`` asks for a key, too.
    :param requireKey: ``auto`` asks for a key beyond loopback and wherever one exists; ``always`` does so always.
    :param keyless: addresses and CIDRs whose clients need no key to infer.
    :param keylessRequestsPerMinute: of all of them together; 0 is any number.
    :param keylessParallel: answers that they have at the same time; 0 is any number.
    :param hosts: what clients without a key may call the gateway.
    """

    apiKey: str | None
    allow: tuple[str, ...]
    requireAuthForHealth: bool
    requireKey: str
    keyless: tuple[str, ...]
    keylessRequestsPerMinute: int
    keylessParallel: int
    hosts: tuple[str, ...]


class CorsSettings(Section, frozen=True, kw_only=True):
    """
    Which web pages may read answers.

    :param origins: theirs, as browsers write them.
    :param privateNetwork: whether those on the internet may reach a gateway on the local network.
    """

    origins: tuple[str, ...]
    privateNetwork: bool


class LimitSettings(Section, frozen=True, kw_only=True):
    """
    What a client may use up. Sizes are in bytes, times in seconds.

    :param maxBody: the largest request body.
    :param maxHead: the most bytes of header fields.
    :param maxFields: the most header fields.
    :param maxTarget: the longest request target.
    :param headTimeout: how long a head may take to arrive.
    :param bodyGrace: how long a body may take before ``bodyRate`` counts.
    :param bodyRate: bytes per second at which a body must at least arrive.
    :param idleTimeout: how long a connection is kept between requests.
    :param writeStallTimeout: how long a client may read nothing of its answer.
    :param drainTimeout: how long running answers have to finish on SIGTERM.
    :param handshakeTimeout: how long a TLS handshake may take.
    :param requestsPerMinutePerAddress: requests with a key from one address in a minute; 0 is any number.
    :param maxConnections: connections of clients at the same time.
    :param maxConnectionsPerAddress: the same, from one address.
    :param maxUnauthenticatedPerAddress: the same, of those that have not sent the head of a request with a good key yet.
    """

    maxBody: int
    maxHead: int
    maxFields: int
    maxTarget: int
    headTimeout: float
    bodyGrace: float
    bodyRate: int
    idleTimeout: float
    writeStallTimeout: float
    drainTimeout: float
    handshakeTimeout: float
    requestsPerMinutePerAddress: int
    maxConnections: int
    maxConnectionsPerAddress: int
    maxUnauthenticatedPerAddress: int


class LogSettings(Section, frozen=True, kw_only=True):
    """
    What is written down.

    :param level: ``error``, ``warn``, ``info`` or ``debug``.
    :param file: the access log, in lines of JSON, or None.
    :param rotateSize: bytes at which a new access log is begun.
    :param keep: how many old access logs are kept.
    :param format: of the process's own log: ``auto``, ``text`` or ``json``.
    """

    level: str
    file: str | None
    rotateSize: int
    keep: int
    format: str


class DebugSettings(Section, frozen=True, kw_only=True):
    """
    What can be seen of the gateway at work.

    :param journalSize: bytes of events that are held.
    :param maxSubscribers: event streams and long polls at the same time.
    :param maxSubscribersPerKey: the same, of one key.
    :param askForUsage: whether token counts are asked for on behalf of clients that did not.
    :param capture: names of keys whose requests are kept to be looked at; ``*`` is all.
    :param captureSize: bytes of each body that is kept so.
    """

    journalSize: int
    maxSubscribers: int
    maxSubscribersPerKey: int
    askForUsage: bool
    capture: tuple[str, ...]
    captureSize: int


class DashboardSettings(Section, frozen=True, kw_only=True):
    """
    The page for people.

    :param enabled: whether there is one.
    :param sessionTimeout: seconds after which who does not use it is signed out.
    """

    enabled: bool
    sessionTimeout: float


class StateSettings(Section, frozen=True, kw_only=True):
    """
    Where everything is that must survive.

    :param directory: an absolute path. It need not exist yet.
    """

    directory: str


class Settings(Struct, frozen=True, kw_only=True):
    """
    Everything that can be set, each value found allowed.

    :param aliases: other names for models.
    :param models: what is set for single models, by key.
    :param origins: for each key (``upstream.baseUrl``) the layer that its value came from: ``default``,
        ``file lmgateway.toml``, ``variable LMSTUDIO_BASE_URL``, ``option --listen``.
    """

    upstream: UpstreamSettings
    listen: ListenSettings
    tls: TlsSettings
    access: AccessSettings
    cors: CorsSettings
    limits: LimitSettings
    log: LogSettings
    debug: DebugSettings
    dashboard: DashboardSettings
    state: StateSettings
    aliases: Mapping[str, Alias]
    models: Mapping[str, ModelDefaults]
    origins: Mapping[str, str]


_SECTIONS: Mapping[str, type[Section]] = {
    "upstream": UpstreamSettings,
    "listen": ListenSettings,
    "tls": TlsSettings,
    "access": AccessSettings,
    "cors": CorsSettings,
    "limits": LimitSettings,
    "log": LogSettings,
    "debug": DebugSettings,
    "dashboard": DashboardSettings,
    "state": StateSettings,
}


def loadSettings(
    *,
    configFile: str | None = None,
    environ: Mapping[str, str] = _NOTHING,
    options: Mapping[str, str | Sequence[str] | None] = _NOTHING,
    envFile: str | None = None,
    directory: str | None = None,
) -> Settings:
    """
    Read all layers.

    :param configFile: a TOML file; without one there is no such layer.
    :param environ: the process's environment.
    :param options: by their long names without dashes; several values for one that was given several times.
    :param envFile: an ``.env`` file, which the process's environment overrides.
    :param directory: the folder that relative paths start from (those in the TOML file start from its own); the current
        one unless given. Who reads again later gives it, for a daemon may have moved since.
    :return: every setting, from the last layer that has it.
    :raise SettingsError: something is unknown or not allowed, in any layer.
    """
    base = str(Path(directory or "").absolute())
    given: Layer = {}
    if configFile is not None:
        given |= fileLayer(configFile, base)
    if envFile is not None:
        given |= environmentFileLayer(envFile, base)
    given |= environmentLayer(environ, base)
    given |= optionLayer(options, base)
    return _build(given)


def _build(given: Mapping[str, Given]) -> Settings:
    """Fill the gaps with defaults and sort everything into its section."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for spec in SPECS:
        found = given.get(spec.key)
        values[spec.key] = found.value if found else spec.defaultFor(values)
        origins[spec.key] = found.origin if found else "default"
    sections: dict[str, Any] = {
        section: structure(**{name: values[f"{section}.{name}"] for name in structure.__struct_fields__})
        for section, structure in _SECTIONS.items()
    }
    _checkTls(sections["listen"], sections["tls"], origins)
    return Settings(**sections, aliases=values["aliases"], models=values["models"], origins=MappingProxyType(origins))


def _checkTls(listen: ListenSettings, tls: TlsSettings, origins: Mapping[str, str]) -> None:
    """
    Look at what no setting tells alone.

    :raise SettingsError: others would be served without TLS unasked, or certificates could not be judged.
    """
    if listen.plainBeyondLoopback and not listen.allowPlain:
        raise SettingsError(
            f"{origins['listen.tls']}: listen.tls = off: other machines could connect at {listen.plainBeyondLoopback[0]}, and keys and "
            "prompts would cross the network in clear. Leave it at auto; or, if that is what you want, set listen.allowPlain to true"
        )
    if tls.clientCertificates != "off" and tls.clientCa is None:
        raise SettingsError(
            f"{origins['tls.clientCertificates']}: tls.clientCertificates = {tls.clientCertificates}: must be off unless tls.clientCa "
            "names the certificates that must have signed those of clients"
        )


def valueOf(settings: Settings, key: str) -> Any:
    """
    Look a setting up.

    :param key: as in ``limits.maxBody``.
    """
    section, _, name = key.rpartition(".")
    return getattr(getattr(settings, section) if section else settings, name)
