"""How the upstream's address becomes a connection."""

from __future__ import annotations

from lmgateway.wire.secured import SecuredEndpoint
from lmgateway.wire.upstream import UpstreamEndpoints
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface.verify import verifyObject

SECONDS = 3.0


class UpstreamEndpointsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.endpoints = UpstreamEndpoints(self.reactor, SECONDS)

    def test_provides(self) -> None:
        """It makes endpoints for an agent."""
        verifyObject(IAgentEndpointFactory, self.endpoints)

    def test_addresses(self) -> None:
        """An IPv4 or IPv6 address is connected to as it is, at its port, and within the time that is allowed."""
        for url, host, port in (
            (b"http://192.168.1.9:1234/", "192.168.1.9", 1234),
            (b"http://[::1]:1234/", "::1", 1234),
            (b"http://[fd00::9]/", "fd00::9", 80),
            (b"https://127.0.0.1/", "127.0.0.1", 443),
        ):
            connecting = self.endpoints.endpointForURI(URI.fromBytes(url)).connect(Factory.forProtocol(Protocol))
            self.assertNoResult(connecting)
            self.assertEqual(self.reactor.tcpClients[-1][:2] + self.reactor.tcpClients[-1][3:4], (host, port, SECONDS))

    def test_names(self) -> None:
        """A name is looked up, and all of its addresses are tried."""
        self.assertIsInstance(
            self.endpoints.endpointForURI(URI.fromBytes(b"http://studio.lan:1234/")), HostnameEndpoint
        )

    def test_tls(self) -> None:
        """Only https is TLS."""
        for url, isSecured in (
            (b"http://studio.lan/", False),
            (b"https://studio.lan/", True),
            (b"https://[::1]/", True),
        ):
            endpoint = self.endpoints.endpointForURI(URI.fromBytes(url))
            self.assertEqual(isinstance(endpoint, SecuredEndpoint), isSecured)
