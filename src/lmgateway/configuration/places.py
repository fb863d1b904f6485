# -*- test-case-name: tests.configuration.test_places -*-
"""
The kinds of values that name a place on a network: what to connect to, what to listen on, who may connect.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from lmgateway.configuration.kinds import Kind
from lmgateway.configuration.listeners import checkDescription
from lmgateway.configuration.units import SettingsError
from lmgateway.policy.addresses import EVERYBODY, parseNetwork

_HOST_NAME = re.compile(
    r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE | re.ASCII
)
_LONGEST_NAME = 253
_BASE_URL = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", re.IGNORECASE | re.ASCII)


class BaseUrl(Kind):
    """The scheme, host and port of an HTTP server, and no more. Its value has no slash at the end."""

    allowed = 'an http or https URL of scheme, host and port alone, such as "http://127.0.0.1:1234"'

    def fromText(self, text: str) -> str:
        """Refuse anything more, above all a password."""
        match = _BASE_URL.fullmatch(text)
        if match is None:
            raise self.refusal("leave a path such as /v1, a query and a password away")
        scheme, host, port = match.groups()
        if host.startswith("["):
            self._checkAddress(host[1:-1])
        if port is not None and not 1 <= int(port) <= 65535:
            raise self.refusal("its port must be from 1 to 65535")
        return f"{scheme.lower()}://{host.lower()}" + (f":{int(port)}" if port else "")

    def _checkAddress(self, address: str) -> None:
        try:
            IPv6Address(address)
        except ValueError:
            raise self.refusal("what stands in brackets must be an IPv6 address") from None

    def show(self, raw: object) -> str:
        """Without what may be a password: all before an ``@``, all after a ``?`` or ``#``."""
        if not isinstance(raw, str):
            return super().show(raw)
        _, mark, host = raw.rpartition("@")
        visible = f"…@{host}" if mark else raw
        return super().show(re.sub(r"[?#].*", "?…", visible, flags=re.DOTALL))


class Host(Kind):
    """An address to listen on."""

    allowed = 'an IP address of this machine, such as "127.0.0.1", "0.0.0.0" (all IPv4) or "::" (all)'

    def fromText(self, text: str) -> str:
        """An address, or the one name that everybody uses."""
        if text.lower() == "localhost":
            return "127.0.0.1"
        try:
            return str(ip_address(text))
        except ValueError:
            raise self.refusal() from None


class Endpoint(Kind):
    """A Twisted endpoint string to listen on."""

    allowed = 'a Twisted endpoint string, such as "tcp:8001:interface=192.168.1.2" or "unix:/run/lmgateway.sock"'

    def fromText(self, text: str) -> str:
        """Find its faults, without opening it."""
        try:
            checkDescription(text)
        except SettingsError as error:
            raise self.refusal(str(error)) from None
        return text


class HostOrAddress(Kind):
    """What a certificate can be for."""

    allowed = 'a host name or an IP address, such as "llm.example.org" or "10.0.0.7"'

    def fromText(self, text: str) -> str:
        """Read it in one spelling."""
        try:
            return str(ip_address(text))
        except ValueError:
            pass
        if not _HOST_NAME.fullmatch(text) or len(text) > _LONGEST_NAME:
            raise self.refusal()
        return text.lower().rstrip(".")


class Network(Kind):
    """
    An IP address, a CIDR, or ``*`` for all of them.

    :param isAll: whether ``*`` is allowed.
    """

    def __init__(self, *, isAll: bool = True) -> None:
        self._isAll = isAll
        allowed = 'an IPv4 or IPv6 address, a CIDR such as "192.168.0.0/16" or "fd00::/8"'
        self.allowed = f'{allowed}, or "*" for all' if isAll else allowed.replace(" address, a", " address or a")

    def fromText(self, text: str) -> str:
        """Read it as the allowlist will, and spell it in one way."""
        if text == EVERYBODY and self._isAll:
            return text
        try:
            network = parseNetwork(text)
        except ValueError as error:
            raise self.refusal(str(error)) from None
        return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


class HostName(Kind):
    """A host's name, as browsers write it in ``Host``."""

    allowed = 'a host name without a port, such as "llm.example.org"'

    def fromText(self, text: str) -> str:
        """Read it without regard to case."""
        if not _HOST_NAME.fullmatch(text) or len(text) > _LONGEST_NAME:
            raise self.refusal()
        return text.lower().rstrip(".")


class Origin(Kind):
    """The origin of web pages, as browsers write it (RFC 6454 section 6.2)."""

    allowed = 'the scheme, host and port of a web site, such as "https://chat.example.org"'

    def fromText(self, text: str) -> str:
        """Read it as an URL without a path; a default port is left away, as browsers do."""
        url = BaseUrl().fromText(text)
        default = ":443" if url.startswith("https:") else ":80"
        return url.removesuffix(default)
