# -*- test-case-name: tests.policy.test_addresses -*-
"""
Who may connect at all: the allowlist of addresses and networks.

Only the address of the connection's other end counts, never a header field: anybody can write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from zope.interface import implementer

from lmgateway.interfaces import IAddressPolicy

EVERYBODY = "*"
"""The entry that allows every address."""

LOCAL = "127.0.0.1"
"""The address of whoever comes by a unix socket: it has none, and is on this machine."""

Network = IPv4Network | IPv6Network

_MAPPED_BITS = 96
_REMEMBERED = 4096


def parseNetwork(text: str) -> Network:
    """
    Read one entry of an allowlist, other than :data:`EVERYBODY`.

    A network of IPv4-mapped IPv6 addresses (``::ffff:10.0.0.0/104``) is the IPv4 network that they stand for.

    :param text: an address or a network in CIDR notation, IPv4 or IPv6; space around it is ignored.
    :raise ValueError: it is neither, or an address inside a network. The message is a sentence that says what is allowed.
    """
    text = text.strip()
    try:
        network = ip_network(text, strict=False)
        address = ip_address(text.partition("/")[0])
    except ValueError:
        raise ValueError(f'"{text}" is no IP address and no network such as 192.168.0.0/16 or fd00::/8.') from None
    if "%" in text:
        raise ValueError(
            f'"{text}" has a zone, which differs from one machine to the next. Leave out the "%" and what follows.'
        )
    if address != network.network_address:
        raise ValueError(f'"{text}" is an address inside a network. For the whole network, write "{network}".')
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None:
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


@implementer(IAddressPolicy)
class AddressPolicy:
    """
    An allowlist. What is not on it may not connect.

    The same few addresses come again and again, so the last 4,096 answers are remembered.

    :param entries: addresses and networks as :func:`parseNetwork` reads them, or :data:`EVERYBODY`.
    :raise ValueError: an entry is none of these.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._everybody = EVERYBODY in entries
        self._networks = tuple(parseNetwork(entry) for entry in entries if entry != EVERYBODY)
        self._answer = lru_cache(maxsize=_REMEMBERED)(self._decide)

    def permits(self, address: str) -> bool:
        """
        Whether ``address`` is on the list.

        An IPv4-mapped IPv6 address (``::ffff:192.0.2.1``), as a dual-stack listener reports an IPv4 client, is that IPv4
        address. A zone id (``fe80::1%eth0``) is ignored. What is no IP address is never on it.
        """
        return self._answer(address)

    def _decide(self, text: str) -> bool:
        """Look ``text`` up in every network."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._everybody or any(address in network for network in self._networks)
