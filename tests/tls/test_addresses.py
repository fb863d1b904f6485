"""What a machine can be called, by the addresses and names that are found."""

from __future__ import annotations

import ipaddress

from cryptography.x509 import DNSName, IPAddress
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.tls.addresses import interfaceAddresses, lanAddresses, machineSubjects, subjectsOf
from twisted.trial.unittest import SynchronousTestCase

FOUND = ("127.0.0.1", "::1", "fe80::1%eth0", "fd00::7", "192.168.1.7", "169.254.3.4", "192.168.1.7", "2001:db8::7")


class LanAddressesTests(SynchronousTestCase):
    def test_usable(self) -> None:
        """Loopback and IPv6's link-local addresses are left out; IPv4 comes first, each address once."""
        self.assertEqual(list(map(str, lanAddresses(FOUND))), ["192.168.1.7", "169.254.3.4", "fd00::7", "2001:db8::7"])

    def test_none(self) -> None:
        """A machine without a network has none."""
        self.assertEqual(lanAddresses(["127.0.0.1", "::1", "fe80::1%4"]), ())


class SubjectsTests(SynchronousTestCase):
    def test_all(self) -> None:
        """The machine's name, its label, and that as mDNS has it; addresses, loopback last; and what the user adds to them."""
        subjects = subjectsOf("Box.Office.LAN.", FOUND[3:5], ["Gateway.lan", "10.0.0.9"])
        self.assertEqual(subjects.names, ("box.office.lan", "box.local", "box", "gateway.lan", "localhost"))
        self.assertEqual(list(map(str, subjects.addresses)), ["192.168.1.7", "fd00::7", "10.0.0.9", "127.0.0.1", "::1"])

    def test_macos(self) -> None:
        """A machine that calls itself by its mDNS name has it once."""
        self.assertEqual(subjectsOf("Box.local", [], ()).names, ("box.local", "box", "localhost"))

    @given(st.text(), st.lists(st.text(max_size=20)))
    def test_anyName(self, host: str, more: list[str]) -> None:
        """Whatever a machine calls itself, there are names and addresses, and each can stand in a certificate."""
        subjects = subjectsOf(host, [], more)
        self.assertEqual([DNSName(name).value for name in subjects.names], list(subjects.names))
        self.assertEqual([IPAddress(address).value for address in subjects.addresses], list(subjects.addresses))
        self.assertIn("localhost", subjects.names)

    @given(st.lists(st.ip_addresses()))
    def test_anyAddress(self, found: list[ipaddress.IPv4Address]) -> None:
        """Of any addresses none is told twice, and loopback always is."""
        addresses = subjectsOf("box", map(str, found), ()).addresses
        self.assertEqual(len(set(addresses)), len(addresses))
        self.assertIn(ipaddress.ip_address("127.0.0.1"), addresses)


class MachineTests(SynchronousTestCase):
    def test_thisOne(self) -> None:
        """On this machine, too, there is loopback, and the names and addresses are such as a certificate takes."""
        self.assertIn("127.0.0.1", interfaceAddresses())
        self.assertIn("gateway.lan", machineSubjects(["gateway.lan"]).names)
