"""The allowlist, measured against the standard library's idea of what is in a network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.interfaces import IAddressPolicy
from lmgateway.policy.addresses import AddressPolicy, parseNetwork
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

ENTRIES_4 = st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda pair: str(ip_network(pair, strict=False)))
ENTRIES_6 = st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda pair: str(ip_network(pair, strict=False)))
NEAR_4 = st.builds(lambda base, low: IPv4Address(int(base) & ~0xFF | low), st.ip_addresses(v=4), st.integers(0, 255))


class AddressPolicyTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The policy is what the gate asks for."""
        verifyObject(IAddressPolicy, AddressPolicy(["*"]))

    def test_everybody(self) -> None:
        """``*`` is every address of either kind, and still nothing that is no address."""
        policy = AddressPolicy(["10.0.0.0/8", "*"])
        for address in ("127.0.0.1", "8.8.8.8", "::1", "2001:db8::1", "fe80::1%eth0", "::ffff:8.8.8.8"):
            self.assertTrue(policy.permits(address), address)
        for address in ("", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.4 ", "0x7f.1", "127.1", "*", "::1%"):
            self.assertFalse(policy.permits(address), address)

    def test_nobody(self) -> None:
        """An empty list allows nobody, not everybody."""
        self.assertFalse(AddressPolicy([]).permits("127.0.0.1"))

    def test_notByText(self) -> None:
        """Addresses are compared as numbers: 192.168.1.100 does not begin with 192.168.1.1."""
        policy = AddressPolicy(["192.168.1.1"])
        self.assertTrue(policy.permits("192.168.1.1"))
        self.assertFalse(policy.permits("192.168.1.100"))

    def test_mapped(self) -> None:
        """An IPv4 client that a dual-stack listener reports is that IPv4 client, and no IPv6 one."""
        policy = AddressPolicy(["192.168.0.0/16", "fd00::/8"])
        self.assertTrue(policy.permits("::ffff:192.168.3.4"))
        self.assertTrue(policy.permits("::FFFF:c0a8:304"))
        self.assertFalse(policy.permits("::ffff:8.8.8.8"))
        self.assertFalse(AddressPolicy(["::/0"]).permits("::ffff:192.168.3.4"))

    def test_mappedEntry(self) -> None:
        """An entry of mapped addresses means the IPv4 ones."""
        self.assertTrue(AddressPolicy(["::ffff:10.0.0.0/104"]).permits("10.200.0.1"))
        self.assertFalse(AddressPolicy(["::ffff:10.0.0.0/104"]).permits("11.0.0.1"))

    def test_zone(self) -> None:
        """A zone id says by which interface somebody came, not who it is."""
        policy = AddressPolicy(["fe80::/10"])
        self.assertTrue(policy.permits("fe80::1%eth0"))
        self.assertTrue(policy.permits("fe80::1%17"))

    def test_bounded(self) -> None:
        """However many addresses come, 4,096 answers are remembered."""
        policy = AddressPolicy(["10.0.0.0/8"])
        for number in range(5000):
            policy.permits(str(IPv4Address(0x0A000000 + number)))
        self.assertEqual(policy._answer.cache_info().currsize, 4096)

    @given(st.lists(ENTRIES_4, min_size=1, max_size=4), st.one_of(st.ip_addresses(v=4), NEAR_4))
    def test_asTheStandardLibrary4(self, entries: list[str], address: IPv4Address) -> None:
        """An IPv4 address is allowed exactly when ``ipaddress`` finds it in an entry, mapped into IPv6 or not."""
        expected = any(address in ip_network(entry) for entry in entries)
        policy = AddressPolicy(entries)
        self.assertEqual(policy.permits(str(address)), expected)
        self.assertEqual(policy.permits(f"::ffff:{address}"), expected)

    @given(st.lists(ENTRIES_6, min_size=1, max_size=4), st.ip_addresses(v=6), st.sampled_from(("", "%eth0", "%3")))
    def test_asTheStandardLibrary6(self, entries: list[str], address: IPv6Address, zone: str) -> None:
        """An IPv6 address that is not a mapped one is allowed exactly when ``ipaddress`` finds it in an entry, whatever its zone."""
        if address.ipv4_mapped is None:
            expected = any(address in ip_network(entry) for entry in entries)
            self.assertEqual(AddressPolicy(entries).permits(f"{address}{zone}"), expected)

    @given(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.ip_addresses(v=4))
    def test_inside(self, pair: tuple[IPv4Address, int], other: IPv4Address) -> None:
        """Every address of a network is allowed by it, its first and last among them."""
        network = IPv4Network(pair, strict=False)
        policy = AddressPolicy([str(network)])
        inside = network[int(other) % network.num_addresses]
        for address in (network[0], network[-1], inside):
            self.assertTrue(policy.permits(str(address)))

    @given(st.text(max_size=20))
    def test_anyText(self, text: str) -> None:
        """What is no address is no reason to raise, and is not allowed."""
        policy = AddressPolicy(["*"])
        try:
            IPv6Address(text) if ":" in text else IPv4Address(text)
        except ValueError:
            self.assertFalse(policy.permits(text))
        else:
            self.assertTrue(policy.permits(text))


class ParseNetworkTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Addresses and networks are read, with space around them."""
        self.assertEqual(str(parseNetwork(" 10.0.0.0/8 ")), "10.0.0.0/8")
        self.assertEqual(str(parseNetwork("127.0.0.1")), "127.0.0.1/32")
        self.assertEqual(str(parseNetwork("fd00::/8")), "fd00::/8")
        self.assertEqual(str(parseNetwork("::ffff:10.1.2.3")), "10.1.2.3/32")
        self.assertEqual(str(parseNetwork("::ffff:0:0/96")), "0.0.0.0/0")
        self.assertEqual(str(parseNetwork("::fffe:0:0/95")), "::fffe:0:0/95")
        self.assertEqual(str(parseNetwork("::/0")), "::/0")

    def test_refused(self) -> None:
        """What is wrong with an entry is told in a sentence with the entry in it."""
        for text, said in (
            ("", "no IP address"),
            ("*.example", "no IP address"),
            ("10.0.0.0/33", "no IP address"),
            ("10.0.0", "no IP address"),
            ("192.168.1.1-20", "no IP address"),
            ("10.0.0.5/8", 'write "10.0.0.0/8"'),
            ("fd00::1/8", 'write "fd00::/8"'),
            ("fe80::1%eth0", "zone"),
        ):
            error = self.assertRaises(ValueError, parseNetwork, text)
            self.assertIn(said, str(error))
            self.assertIn(f'"{text}"', str(error))

    def test_policyRefuses(self) -> None:
        """A policy is not made of entries that mean nothing."""
        self.assertRaises(ValueError, AddressPolicy, ["10.0.0.0/8", "everywhere"])
