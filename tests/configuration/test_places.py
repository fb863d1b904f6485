"""What to connect to, what to listen on, who may connect."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.places import BaseUrl, Endpoint, Host, Network
from lmgateway.configuration.units import SettingsError
from twisted.trial.unittest import SynchronousTestCase


class BaseUrlTests(SynchronousTestCase):
    def test_normalised(self) -> None:
        """Scheme and host are lower case, the slash at the end and leading zeros go."""
        for given_, wanted in (
            ("http://127.0.0.1:1234", "http://127.0.0.1:1234"),
            ("http://127.0.0.1:1234/", "http://127.0.0.1:1234"),
            ("HTTPS://Studio.Local", "https://studio.local"),
            ("http://[::1]:01234/", "http://[::1]:1234"),
        ):
            self.assertEqual(BaseUrl().fromText(given_), wanted)

    def test_refused(self) -> None:
        """A path, query, fragment, password, foreign scheme, bad port or bad host is refused."""
        for text in (
            "127.0.0.1:1234",
            "ftp://host",
            "http://",
            "http:///",
            "http://host/v1",
            "http://host//",
            "http://host?a=b",
            "http://host#a",
            "http://user:password@host",
            "http://host:0",
            "http://host:65536",
            "http://host:",
            "http://[::g]",
            "http://[127.0.0.1]",
            "http://ho st",
            "http://host\n",
            "http://host\r\nX: y",
            "http://ho\u017ft",
        ):
            self.assertRaises(SettingsError, BaseUrl().fromText, text)

    def test_pathHint(self) -> None:
        """Who puts the usual /v1 behind it is told to leave it away."""
        error = self.assertRaises(SettingsError, BaseUrl().fromText, "http://127.0.0.1:1234/v1")
        self.assertIn("leave a path such as /v1", str(error))

    @given(
        st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), min_size=8),
        st.sampled_from(["", "/", "?"]),
    )
    def test_passwordsAreNotShown(self, password: str, mark: str) -> None:
        """Nothing before an @ and nothing after a ? of a refused URL is shown, wherever else it is wrong."""
        for text in (
            f"http://user:{password}{mark}@host",
            f"{password}@host/{password}@",
            f"http://host?key={password}",
        ):
            self.assertNotIn(password, BaseUrl().show(text))

    @given(st.text())
    def test_total(self, text: str) -> None:
        """Any text is refused, or normalised once and for all."""
        try:
            url = BaseUrl().fromText(text)
        except SettingsError:
            return
        self.assertEqual(BaseUrl().fromText(url), url)


class HostTests(SynchronousTestCase):
    def test_localhost(self) -> None:
        """The one name that everybody uses is an address."""
        self.assertEqual(Host().fromText("Localhost"), "127.0.0.1")

    def test_refused(self) -> None:
        """Any other name is refused: what it stands for may change."""
        for text in ("", "example.org", "127.0.0.1:8001", "[::1]", "*", "1"):
            self.assertRaises(SettingsError, Host().fromText, text)

    @given(st.ip_addresses())
    def test_addresses(self, address: object) -> None:
        """Every address is allowed."""
        self.assertEqual(Host().fromText(str(address)), str(address))


class EndpointTests(SynchronousTestCase):
    def test_reason(self) -> None:
        """A refusal says what is allowed and what is wrong."""
        error = self.assertRaises(SettingsError, Endpoint().fromText, "tcp:99999")
        self.assertIn("must be a Twisted endpoint string", str(error))
        self.assertIn("from 0 to 65535", str(error))


class NetworkTests(SynchronousTestCase):
    def test_spelling(self) -> None:
        """Addresses and networks are spelled in one way."""
        for given_, wanted in (
            ("*", "*"),
            ("192.168.1.5", "192.168.1.5"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("FD00:0::/8", "fd00::/8"),
            ("::1/128", "::1"),
        ):
            self.assertEqual(Network().fromText(given_), wanted)

    def test_allowedFormsAreNamed(self) -> None:
        """A bad CIDR is refused with the forms that are allowed."""
        for text in ("10.0.0.0/33", "10/8", "10.0.0.0/", "fe80::1%eth0", "example.org", "1.2.3", "", "**"):
            error = self.assertRaises(SettingsError, Network().fromText, text)
            self.assertIn("an IPv4 or IPv6 address, a CIDR such as", str(error))

    def test_hostBits(self) -> None:
        """An address inside a network is refused with the network that was probably meant."""
        error = self.assertRaises(SettingsError, Network().fromText, "192.168.1.7/24")
        self.assertIn("192.168.1.0/24", str(error))

    @given(st.ip_addresses(), st.integers(0, 128))
    def test_networks(self, address: object, length: int) -> None:
        """Every network is read, and read again as it is spelled."""
        network = ip_network((str(address), min(length, 32 if "." in str(address) else 128)), strict=False)
        spelled = Network().fromText(str(network))
        self.assertEqual(Network().fromText(spelled), spelled)

    @given(st.text())
    def test_total(self, text: str) -> None:
        """Any text is an entry or a SettingsError."""
        with contextlib.suppress(SettingsError):
            self.assertTrue(Network().fromText(text))
