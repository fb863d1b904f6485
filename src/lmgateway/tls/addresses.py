# -*- test-case-name: tests.tls.test_addresses -*-
"""
By which addresses and names this machine can be reached, so that a certificate can name them.

The operating systems agree on no way to ask for one's own addresses, and resolving one's own name gives ``127.0.1.1`` on
Debian; ``ifaddr`` asks each system in its own way.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

import ifaddr
from msgspec import Struct

Address = IPv4Address | IPv6Address

LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
LOOPBACK_NAME = "localhost"
MULTICAST_DOMAIN = "local"
"""Where mDNS has a machine's name (RFC 6762 section 3): Bonjour, Avahi and Windows announce it without being asked."""

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


class Subjects(Struct, frozen=True):
    """
    What a certificate is for.

    :param names: DNS names, in lower case, the machine's own first.
    :param addresses: IP addresses, loopback last.
    """

    names: tuple[str, ...]
    addresses: tuple[Address, ...]


def machineSubjects(more: Iterable[str] = ()) -> Subjects:
    """
    Everything that this machine is called, as far as it knows.

    :param more: names and addresses that it does not know of: ``tls.names``.
    """
    return subjectsOf(socket.gethostname(), interfaceAddresses(), more)


def interfaceAddresses() -> list[str]:
    """The textual address of each interface that has one, as the system tells them."""
    return [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]


def lanAddresses(found: Iterable[str]) -> tuple[Address, ...]:
    """
    Those that another machine could write into a URL, IPv4 first, each once.

    Left out are loopback, and the link-local addresses of IPv6: they mean nothing without the name of an interface, which
    belongs to the machine that asks and has no place in a URL (RFC 6874 has been withdrawn by RFC 9844).
    """
    addresses = dict.fromkeys(ip_address(text.partition("%")[0]) for text in found)
    usable = [
        address
        for address in addresses
        if not (address.is_loopback or address.is_unspecified or address.is_multicast)
        and not (address.version == 6 and address.is_link_local)
    ]
    return tuple(sorted(usable, key=lambda address: address.version))


def subjectsOf(host: str, found: Iterable[str], more: Iterable[str]) -> Subjects:
    """
    What a machine of this name and these addresses can be called.

    :param host: what the machine calls itself, with or without a domain. What is no host name is left out.
    :param found: textual addresses of its interfaces.
    :param more: further host names and addresses.
    """
    host = host.lower().rstrip(".")
    label = host.partition(".")[0]
    names = [host, f"{label}.{MULTICAST_DOMAIN}", label]
    addresses = list(lanAddresses(found))
    for other in more:
        try:
            addresses.append(ip_address(other))
        except ValueError:
            names.append(other.lower().rstrip("."))
    sound = [name for name in names if _HOST_NAME.fullmatch(name)]
    return Subjects(tuple(dict.fromkeys((*sound, LOOPBACK_NAME))), tuple(dict.fromkeys((*addresses, *LOOPBACK))))
