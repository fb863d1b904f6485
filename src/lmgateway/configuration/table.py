# -*- test-case-name: tests.configuration.test_table -*-
"""
The one table of all settings: what each is called in the file, in the environment and on the command line, what it may
be, what it is when nobody says, and what it means.

Reading, ``lmgateway check``, the options of ``twistd lmgateway`` and the table in ``docs/configuration.md`` all come
from here; a new setting is a row here and a field in :mod:`lmgateway.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platformdirs import user_state_dir

from lmgateway.configuration.descriptors import mostConnections
from lmgateway.configuration.kinds import Choice, Duration, Flag, Many, Name, Path, PemBundle, Secret, Size, Whole
from lmgateway.configuration.listeners import defaultAllow, listenersOf
from lmgateway.configuration.model_kinds import Aliases, Models
from lmgateway.configuration.places import BaseUrl, Endpoint, Host, HostName, HostOrAddress, Network, Origin
from lmgateway.configuration.spec import Spec


def _defaultAllow(values: Mapping[str, Any]) -> tuple[str, ...]:
    return defaultAllow(listenersOf(values["listen.host"], values["listen.port"], values["listen.endpoints"]))


_UPSTREAM = (
    Spec(
        "upstream.baseUrl",
        BaseUrl(),
        "http://127.0.0.1:1234",
        "the LM Studio server",
        "LMSTUDIO_BASE_URL",
        "lmstudio-base-url",
    ),
    Spec(
        "upstream.apiToken",
        Secret(1, 4096),
        None,
        "LM Studio's own token (0.4 and later), sent upstream as Authorization: Bearer",
        "LMSTUDIO_API_TOKEN",
        "lmstudio-api-token-file",
    ),
    Spec(
        "upstream.transport",
        Choice("treq", "direct"),
        "treq",
        "what sends requests upstream: treq, or straight the connection pool below it",
    ),
    Spec("upstream.connectTimeout", Duration("100ms", "5m"), 5.0, "how long a connection to LM Studio may take"),
    Spec(
        "upstream.caFile",
        PemBundle(),
        None,
        "the certificates to trust for an https upstream, instead of the platform's",
        option="ca-file",
    ),
    Spec(
        "upstream.timeout",
        Duration("1ms", "24h", zero="no limit"),
        0.0,
        "how long the upstream may be silent in an answer that is no stream; the variable is in milliseconds",
        "PROXY_TIMEOUT",
        "proxy-timeout",
    ),
    Spec(
        "upstream.streamTimeout",
        Duration("1ms", "24h", zero="no limit"),
        0.0,
        "how long the upstream may be silent in a stream; the variable is in milliseconds",
        "PROXY_STREAM_TIMEOUT",
        "proxy-stream-timeout",
    ),
    Spec(
        "upstream.management",
        Choice("auto", "sdk", "rest", "gateway"),
        "auto",
        "how models are loaded and unloaded: as LM Studio's SDKs do, by its REST API, or in name only; auto asks LM Studio",
    ),
    Spec(
        "upstream.strictModels",
        Flag(),
        True,
        "whether a model that LM Studio does not have is refused, instead of being answered by whichever is loaded",
    ),
    Spec(
        "upstream.logDirectory",
        Path(),
        None,
        "LM Studio's server-logs folder",
        "LMSTUDIO_LOG_DIR",
        "lmstudio-log-dir",
    ),
    Spec(
        "upstream.followLogs",
        Flag(),
        False,
        "whether LM Studio's log files are followed into events",
        "ENABLE_LOG_MONITORING",
        "follow-lmstudio-logs",
    ),
    Spec(
        "upstream.logBodies",
        Flag(),
        False,
        "whether the bodies of requests, which hold prompts, are shown in the events of LM Studio's logs",
    ),
)

_LISTEN = (
    Spec("listen.host", Host(), "127.0.0.1", "the address to listen on", "GATEWAY_HOST", "host"),
    Spec(
        "listen.port",
        Whole(0, 65535),
        8001,
        "the port to listen on; 0 is any that is free",
        "GATEWAY_PORT",
        "port",
    ),
    Spec(
        "listen.endpoints",
        Many(Endpoint(), "any number of endpoints"),
        (),
        "where to listen instead of host and port",
        option="listen",
    ),
    Spec(
        "listen.tls",
        Choice("auto", "on", "off"),
        "auto",
        "which listeners have TLS: auto is those that other machines can reach; ssl: and tls: endpoints have their own",
        "GATEWAY_TLS",
        "tls",
    ),
    Spec(
        "listen.allowPlain",
        Flag(),
        False,
        "whether other machines may be served without TLS, where listen.tls is off",
        "GATEWAY_ALLOW_PLAIN",
        "allow-plain",
    ),
)

_TLS = (
    Spec(
        "tls.certificate",
        PemBundle(),
        None,
        "your own certificate and those that signed it; without, the gateway makes its own",
        "GATEWAY_TLS_CERTIFICATE",
        "tls-certificate",
    ),
    Spec(
        "tls.key",
        Path(),
        None,
        "the key of tls.certificate, in PEM, without a password; none if it is in the same file",
        "GATEWAY_TLS_KEY",
        "tls-key",
    ),
    Spec(
        "tls.names",
        Many(HostOrAddress(), "any number of names and addresses"),
        (),
        "what the gateway's own certificate is for, beside the machine's names and addresses",
    ),
    Spec("tls.clientCa", PemBundle(), None, "the certificates that must have signed those of clients"),
    Spec(
        "tls.clientCertificates",
        Choice("off", "optional", "required"),
        "off",
        "whether clients are asked for a certificate; it stands for the stored key that is named like its holder",
    ),
    Spec(
        "tls.hsts",
        Duration("1h", "26280h", zero="not sent"),
        0.0,
        "how long browsers are to ask this host for nothing without TLS, on all of its ports",
    ),
)

_ACCESS = (
    Spec(
        "access.apiKey",
        Secret(8, 1024),
        None,
        "one key with every scope; more keys live in the key store",
        "GATEWAY_API_KEY",
        "api-key-file",
    ),
    Spec(
        "access.allow",
        Many(Network(), "one or more addresses", separator=",", fewest=1),
        _defaultAllow,
        "who may connect; separated by commas in the variable",
        "IP_ALLOWLIST",
        "allow",
        "`*` when only this machine can connect, else loopback, private and link-local addresses",
    ),
    Spec(
        "access.requireAuthForHealth",
        Flag(),
        False,
        "whether /health asks for a key, too",
        "REQUIRE_AUTH_FOR_HEALTH",
        "require-auth-for-health",
    ),
    Spec(
        "access.requireKey",
        Choice("auto", "always"),
        "auto",
        "when a key is asked for: auto is beyond loopback, and wherever a key exists",
    ),
    Spec(
        "access.keyless",
        Many(Network(isAll=False), "any number of addresses"),
        (),
        "whose clients need no key to infer; for those that cannot send one",
    ),
    Spec(
        "access.keylessRequestsPerMinute",
        Whole(0, 1_000_000),
        60,
        "how often all clients without a key together may ask in a minute; 0 is any number",
    ),
    Spec(
        "access.keylessParallel",
        Whole(0, 10_000),
        2,
        "how many answers they may have at the same time; 0 is any number",
    ),
    Spec(
        "access.hosts",
        Many(HostName(), "any number of names"),
        (),
        "what clients without a key may call the gateway, beside its addresses, localhost and the machine's name",
    ),
)

_CORS = (
    Spec(
        "cors.origins",
        Many(Origin(), "any number of origins"),
        (),
        "the web sites whose pages may read the gateway's answers",
    ),
    Spec(
        "cors.privateNetwork",
        Flag(),
        False,
        "whether those among them that are on the internet may reach the gateway on the local network",
    ),
)

_LIMITS = (
    Spec("limits.maxBody", Size("1KB", "4GB"), 256 << 20, "the largest request body"),
    Spec("limits.maxHead", Size("1KB", "1MB"), 16 << 10, "the most bytes of header fields"),
    Spec("limits.maxFields", Whole(8, 1000), 100, "the most header fields"),
    Spec("limits.maxTarget", Size("256B", "64KB"), 8 << 10, "the longest request target"),
    Spec("limits.headTimeout", Duration("100ms", "10m"), 10.0, "how long a request's head may take to arrive"),
    Spec("limits.bodyGrace", Duration("100ms", "10m"), 10.0, "how long a body may take before bodyRate counts"),
    Spec("limits.bodyRate", Size("1B", "1GB"), 1 << 10, "the bytes per second at which a body must at least arrive"),
    Spec("limits.idleTimeout", Duration("100ms", "1h"), 75.0, "how long a connection is kept between requests"),
    Spec("limits.writeStallTimeout", Duration("100ms", "1h"), 60.0, "how long a client may read nothing of its answer"),
    Spec("limits.drainTimeout", Duration("100ms", "1h"), 30.0, "how long running answers have to finish on SIGTERM"),
    Spec("limits.handshakeTimeout", Duration("100ms", "10m"), 10.0, "how long a TLS handshake may take"),
    Spec(
        "limits.requestsPerMinutePerAddress",
        Whole(0, 1_000_000),
        0,
        "requests with a key that may come from one address in a minute; 0 is any number",
    ),
    Spec(
        "limits.maxConnections",
        Whole(16, 1_000_000),
        lambda _: mostConnections(),
        "connections of clients at the same time",
        defaultMeaning="half of the process's descriptor limit less 64, at most 65536",
    ),
    Spec("limits.maxConnectionsPerAddress", Whole(1, 1_000_000), 1024, "the same, from one address"),
    Spec(
        "limits.maxUnauthenticatedPerAddress",
        Whole(1, 1_000_000),
        64,
        "the same, from one address, of those that have not sent the head of a request with a good key yet",
    ),
)

_LOG = (
    Spec(
        "log.level",
        Choice("error", "warn", "info", "debug"),
        "info",
        "the least that is logged",
        "LOG_LEVEL",
        "log-level",
    ),
    Spec("log.file", Path(), None, "the access log, in lines of JSON; none unless named", option="log-file"),
    Spec("log.rotateSize", Size("64KB", "4GB"), 10 << 20, "the size at which a new access log is begun"),
    Spec("log.keep", Whole(1, 1000), 5, "how many old access logs are kept"),
    Spec(
        "log.format",
        Choice("auto", "text", "json"),
        "auto",
        "the process's own log: auto is text on a terminal, else json",
        option="log-format",
    ),
)

_DEBUG = (
    Spec("debug.journalSize", Size("64KB", "1GB"), 8 << 20, "the bytes of events that are held for those who follow"),
    Spec("debug.maxSubscribers", Whole(1, 100_000), 1024, "event streams and long polls at the same time"),
    Spec("debug.maxSubscribersPerKey", Whole(1, 100_000), 256, "the same, of one key"),
    Spec(
        "debug.askForUsage",
        Flag(),
        True,
        "whether streams whose client did not ask for token counts are asked for them; the client does not see it",
    ),
    Spec(
        "debug.capture",
        Many(Name(), "any number of key names, or *"),
        (),
        "the keys whose requests and answers are kept in memory to be looked at",
    ),
    Spec("debug.captureSize", Size("1KB", "16MB"), 64 << 10, "the bytes of each body that is kept so"),
)

_DASHBOARD = (
    Spec("dashboard.enabled", Flag(), True, "whether there is a dashboard, at /dashboard"),
    Spec(
        "dashboard.sessionTimeout",
        Duration("1m", "8h"),
        1800.0,
        "how long somebody stays signed in to it without using it; 8 hours at most in all",
    ),
)

_STATE = (
    Spec(
        "state.directory",
        Path(),
        lambda _: user_state_dir("lmgateway", appauthor=False),
        "the folder of all that must survive: active model, keys, usage, certificates",
        "GATEWAY_STATE_DIR",
        "state-dir",
        "the platform's state folder",
    ),
)

_MODELS = (
    Spec(
        "aliases",
        Aliases(),
        {},
        "other names for models, which clients may use; the only thing that changes what a client wrote",
        defaultMeaning="none",
    ),
    Spec(
        "models",
        Models(),
        {},
        "default parameters, and what a model is loaded with, of single models",
        defaultMeaning="none",
    ),
)

SPECS: tuple[Spec, ...] = (
    *_UPSTREAM,
    *_LISTEN,
    *_TLS,
    *_ACCESS,
    *_CORS,
    *_LIMITS,
    *_LOG,
    *_DEBUG,
    *_DASHBOARD,
    *_STATE,
    *_MODELS,
)
"""Every setting, in the order that ``lmgateway check`` shows them."""
