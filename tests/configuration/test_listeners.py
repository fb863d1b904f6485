"""Endpoint strings: taken apart as Twisted does, faults found, and who can connect."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from lmgateway.configuration.listeners import (
    BACKLOG,
    checkDescription,
    describe,
    isLoopback,
    listenersOf,
    reachesBeyondLoopback,
    splitDescription,
    withBacklog,
)
from lmgateway.configuration.units import SettingsError
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

LOCAL = (
    "tcp:8001:interface=127.0.0.1",
    "tcp:0:interface=127.3.2.1",
    "tcp:8001:interface=localhost",
    r"tcp6:8001:interface=\:\:1",
    r"tls:/certificates:8443:interface=\:\:1",
    "ssl:8443:interface=127.0.0.1:privateKey=key.pem",
    "unix:/run/lmgateway.sock",
    "unix:/run/lmgateway.sock:mode=660",
)

BEYOND = (
    "tcp:8001",
    "tcp:8001:interface=",
    "tcp:8001:interface=0.0.0.0",
    "tcp:8001:interface=192.168.1.2",
    "tcp:8001:127.0.0.1",
    "tcp6:8001",
    r"tcp6:8001:interface=\:\:",
    r"tcp6:8001:interface=fe80\:\:1%eth0",
    "tls:/certificates",
    "ssl:8443",
    "systemd:domain=INET:index=0",
    r"haproxy:tcp\:8001:interface=127.0.0.1",
)

WRONG = (
    "",
    "8001",
    ":8001",
    "tcp",
    "tcp:",
    "tcp:http",
    "tcp:-1",
    "tcp:65536",
    "tcp:٣",
    "tcp:8001:interface=example.org",
    "tcp:8001:speed=fast",
    "tcp:8001:backlog=many",
    "tcp6:70000",
    "udp:8001",
    "unix",
    "unix:/run/lmgateway.sock:mode=rw",
    "tls:/certificates:99999",
    "tcp:8001\\",
)


class CheckTests(SynchronousTestCase):
    def test_valid(self) -> None:
        """Nothing is found wrong with what Twisted would listen on."""
        for description in (*LOCAL, *BEYOND):
            checkDescription(description)

    def test_wrong(self) -> None:
        """An unknown type, port, interface or argument is refused before anything is opened."""
        for description in WRONG:
            self.assertRaises(SettingsError, checkDescription, description)

    @given(
        st.text()
        | st.lists(st.sampled_from(["tcp", "tcp6", "unix", ":", "=", "\\", "1", "interface", "::1"])).map("".join)
    )
    def test_total(self, text: str) -> None:
        """Any text is an endpoint or a SettingsError, and what is an endpoint of TCP is one for Twisted, too."""
        try:
            checkDescription(text)
        except SettingsError:
            return
        if text.startswith("tcp"):
            serverFromString(MemoryReactor(), text)


class LoopbackTests(SynchronousTestCase):
    def test_local(self) -> None:
        """A loopback interface or a Unix socket is not reached from elsewhere."""
        self.assertEqual([entry for entry in LOCAL if reachesBeyondLoopback(entry)], [])

    def test_beyond(self) -> None:
        """No interface, another one, or a type that is not understood may be reached from elsewhere."""
        self.assertEqual([entry for entry in BEYOND if not reachesBeyondLoopback(entry)], [])

    def test_names(self) -> None:
        """No other name than localhost is taken for a loopback address."""
        self.assertTrue(isLoopback("localhost"))
        self.assertFalse(isLoopback("localhost.example.org"))

    @given(st.ip_addresses())
    def test_addresses(self, address: object) -> None:
        """An endpoint made from an address is beyond loopback just when the address is no loopback address."""
        self.assertEqual(reachesBeyondLoopback(describe(str(address), 1)), not isLoopback(str(address)))


class DescribeTests(SynchronousTestCase):
    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_listens(self, address: object, port: int) -> None:
        """What is made from an address and a port is valid, and Twisted listens there with it."""
        description = describe(str(address), port)
        checkDescription(description)
        reactor = MemoryReactor()
        self.successResultOf(serverFromString(reactor, description).listen(Factory()))
        ((listenPort, _, _, interface),) = reactor.tcpServers
        self.assertEqual((listenPort, interface), (port, str(address)))

    def test_backlog(self) -> None:
        """More connections may wait than Twisted lets wait, unless the string says how many; other types are left alone."""
        reactor = MemoryReactor()
        for description in ("tcp:1", "tcp:1:backlog=7", "tcp6:1", r"unix:/a\:b"):
            self.successResultOf(serverFromString(reactor, withBacklog(description)).listen(Factory()))
        self.assertEqual([server[2] for server in reactor.tcpServers], [BACKLOG, 7, BACKLOG])
        self.assertEqual([server[2] for server in reactor.unixServers], [BACKLOG])
        self.assertEqual(withBacklog("tls:/certificates:1"), "tls:/certificates:1")

    @given(st.lists(st.text(min_size=1), min_size=1), st.dictionaries(st.text(min_size=1), st.text()))
    def test_split(self, arguments: list[str], named: dict[str, str]) -> None:
        """Arguments of any text, each special character escaped, are told apart again."""
        parts = [*map(escape, arguments), *(f"{escape(name)}={escape(value)}" for name, value in named.items())]
        self.assertEqual(splitDescription(":".join(parts)), (arguments[0], arguments[1:], named))

    def test_equalsSigns(self) -> None:
        """The first equals sign ends the name, each further one is part of the value, as it is for Twisted."""
        self.assertEqual(splitDescription("tcp:1:a=b=c"), ("tcp", ["1"], {"a": "b=c"}))

    @given(st.text(alphabet="ab:=\\"))
    def test_splitTotal(self, text: str) -> None:
        """Any text is taken apart, unless it ends in the middle of an escape."""
        backslashes = len(text) - len(text.rstrip("\\"))
        assume(backslashes % 2 == 0)
        splitDescription(text)

    def test_endpointsReplaceHost(self) -> None:
        """Endpoints are listened on instead of host and port, not beside them."""
        self.assertEqual(listenersOf("127.0.0.1", 1, ()), ("tcp:1:interface=127.0.0.1",))
        self.assertEqual(listenersOf("127.0.0.1", 1, ("tcp:2", "tcp:3")), ("tcp:2", "tcp:3"))


def escape(text: str) -> str:
    """``text`` as one argument."""
    return "".join(f"\\{char}" if char in ":=\\" else char for char in text)
