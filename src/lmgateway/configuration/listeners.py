# -*- test-case-name: tests.configuration.test_listeners -*-
"""
Where to listen, as Twisted endpoint strings: what is wrong with one, whether it reaches beyond this machine, and who may connect
then. Nothing is opened.

How they are written: https://docs.twisted.org/en/stable/core/howto/endpoints.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from lmgateway.configuration.units import SettingsError
from lmgateway.policy.addresses import EVERYBODY

_PORT_POSITION = {"tcp": 0, "tcp6": 0, "ssl": 0, "tls": 1}
"""Where a port stands among the arguments. These types are also those that take ``interface=``."""

_SECURED = frozenset({"ssl", "tls"})
"""Types that speak TLS by themselves."""

_PURE = frozenset({"tcp", "tcp6", "unix"})
"""Types that Twisted can construct without reading a file, so that it may judge every argument."""

_BUILT_IN = frozenset({"tcp", "ssl", "unix"})
"""Types that are no plugins of Twisted's."""


BACKLOG = 1024
"""
Connections that may wait to be accepted. Twisted's 50 are too few for a burst: the kernel drops the others, whose clients
try again after a second.
"""

_WITH_BACKLOG = frozenset({"tcp", "tcp6", "ssl", "unix"})
"""Types that take ``backlog=``."""


PRIVATE_RANGES = (
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fe80::/10",
    "fc00::/7",
)
"""Loopback, RFC 1918, link-local (RFC 3927, RFC 4291) and unique local (RFC 4193) addresses."""


def isLoopback(host: str) -> bool:
    """Whether ``host`` is a loopback address, or the name that RFC 6761 section 6.3 reserves for one."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def describe(host: str, port: int) -> str:
    """The endpoint string that listens on an address and a port."""
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(host)}"


def withBacklog(description: str) -> str:
    """
    Give an endpoint string whose listener lets more connections wait than Twisted's do by themselves.

    :param description: a valid endpoint string; what it says of this itself is left.
    """
    kind, _, named = splitDescription(description)
    return description if kind not in _WITH_BACKLOG or "backlog" in named else f"{description}:backlog={BACKLOG}"


def reachesBeyondLoopback(description: str) -> bool:
    """
    Whether others than this machine may be able to connect. When in doubt, they may.

    :param description: a valid endpoint string.
    """
    kind, _, named = splitDescription(description)
    if kind == "unix":
        return False
    return kind not in _PORT_POSITION or not isLoopback(named.get("interface", ""))


def listenersOf(host: str, port: int, endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """The endpoint strings to listen on: those that were given, else the one of ``host`` and ``port``."""
    return endpoints or (describe(host, port),)


def defaultAllow(listeners: Iterable[str]) -> tuple[str, ...]:
    """Who may connect when nobody says: to listeners that only this machine can reach everybody, else the private ranges."""
    return PRIVATE_RANGES if any(map(reachesBeyondLoopback, listeners)) else (EVERYBODY,)


def hasOwnTls(description: str) -> bool:
    """Whether an endpoint is one of Twisted's own that speak TLS, with certificates that its string names."""
    return splitDescription(description)[0] in _SECURED


def wantsTls(description: str, mode: str) -> bool:
    """
    Whether the gateway is to speak TLS at a listener.

    :param description: a valid endpoint string.
    :param mode: ``auto``, ``on`` or ``off``, as ``listen.tls``.
    """
    kind, _, _ = splitDescription(description)
    if mode == "off" or kind == "unix" or kind in _SECURED:
        return False
    return mode == "on" or reachesBeyondLoopback(description)


def isPlainBeyondLoopback(description: str, mode: str) -> bool:
    """Whether others than this machine may be served at a listener without TLS; arguments as of :func:`wantsTls`."""
    return reachesBeyondLoopback(description) and not hasOwnTls(description) and not wantsTls(description, mode)


def checkDescription(description: str) -> None:
    """
    Find fault with an endpoint string as far as that is possible without opening anything.

    :raise SettingsError: its type is unknown, or an argument is wrong.
    """
    kind, arguments, named = splitDescription(description)
    if kind not in _BUILT_IN and kind.lower() not in _pluginPrefixes():
        raise SettingsError("its type, the word before the first colon, is not known")
    if kind in _PORT_POSITION:
        _checkPort(_portOf(kind, arguments, named))
        _checkInterface(named.get("interface", ""))
    if kind in _PURE:
        try:
            serverFromString(None, description)
        except (TypeError, ValueError):
            raise SettingsError("its arguments are not those of its type") from None


def splitDescription(description: str) -> tuple[str, list[str], dict[str, str]]:
    """
    Take an endpoint string apart, as Twisted will.

    :return: its type, its positional arguments, its named ones.
    :raise SettingsError: it ends in the middle of an escape.
    """
    arguments: list[str] = []
    named: dict[str, str] = {}
    for name, value in _split(description):
        if name is None:
            arguments.append(value)
        else:
            named[name] = value
    kind = arguments.pop(0) if arguments else ""
    return kind, arguments, named


def _split(description: str) -> Iterator[tuple[str | None, str]]:
    """Each argument between colons, with its name where there is an ``=``; a backslash takes the next character as it is."""
    name: str | None = None
    current = ""
    characters = iter(description)
    for character in characters:
        if character == ":":
            yield name, current
            name, current = None, ""
        elif character == "=" and name is None:
            name, current = current, ""
        elif character == "\\":
            following = next(characters, None)
            if following is None:
                raise SettingsError("it ends with a backslash that escapes nothing")
            current += following
        else:
            current += character
    yield name, current


def _portOf(kind: str, arguments: list[str], named: Mapping[str, str]) -> str | None:
    position = _PORT_POSITION[kind]
    if len(arguments) > position:
        return arguments[position]
    return named.get("port", "443" if kind == "tls" else None)


def _checkPort(port: str | None) -> None:
    if port is None or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise SettingsError("its port must be a whole number from 0 to 65535")


def _checkInterface(interface: str) -> None:
    if interface in {"", "localhost"}:
        return
    try:
        ip_address(interface)
    except ValueError:
        raise SettingsError("its interface must be an IP address of this machine") from None


def _pluginPrefixes() -> frozenset[str]:
    return frozenset(parser.prefix.lower() for parser in getPlugins(IStreamServerEndpointStringParser))
