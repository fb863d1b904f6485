"""How the upstream's address becomes a connection."""

from __future__ import annotations

from typing import Any

from lmgateway.errors import UpstreamUnavailable
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.secured import SecuredEndpoint
from lmgateway.wire.upstream import DirectUpstream, UpstreamEndpoints, certificatesIn
from twisted.internet import error
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.folders import selfSigned, temporaryFolder

SECONDS = 3.0


@implementer(IHostnameResolver)
class NoNames:
    """Knows no name."""

    def resolveHostName(self, resolutionReceiver: Any, hostName: str, *_: Any, **__: Any) -> Any:
        resolutionReceiver.resolutionBegan(None)
        resolutionReceiver.resolutionComplete()


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
        """A name is looked up, and what is found is connected to."""
        endpoint = self.endpoints.endpointForURI(URI.fromBytes(b"http://studio.lan:1234/"))
        self.assertNoResult(endpoint.connect(Factory.forProtocol(Protocol)))
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 1234))

    def test_tls(self) -> None:
        """Only https is TLS."""
        for url, isSecured in (
            (b"http://studio.lan/", False),
            (b"https://studio.lan/", True),
            (b"https://[::1]/", True),
        ):
            endpoint = self.endpoints.endpointForURI(URI.fromBytes(url))
            self.assertEqual(isinstance(endpoint, SecuredEndpoint), isSecured)

    def test_certificates(self) -> None:
        """Of a file of certificates all of them are trusted, whatever else stands before, between and behind them."""
        path = temporaryFolder(self) / "ca.pem"
        key = b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"
        certificates = selfSigned(), selfSigned()
        path.write_bytes(b"# text\n" + key + certificates[0] + b"BEGIN here\n" + certificates[1] + key)
        trusted = [each.dumpPEM() for each in certificatesIn(str(path))]
        self.assertEqual(trusted, list(certificates))
        UpstreamEndpoints(self.reactor, SECONDS, str(path))

    def whyNot(self, url: str, failure: Exception | None = None) -> str:
        """Have connecting fail, where it is begun at all, and give what the request then says."""
        upstream = DirectUpstream(UpstreamAgent(self.reactor, self.endpoints), url)
        sent = upstream.send(b"GET", b"/", (), None)
        if failure is not None:
            factory: Any = self.reactor.tcpClients[-1][2]
            factory.clientConnectionFailed(None, Failure(failure))
            self.reactor.advance(1)
        return self.failureResultOf(sent, UpstreamUnavailable).value.message

    def test_unknownName(self) -> None:
        """A name that nobody knows is told as such."""
        self.reactor.installNameResolver(NoNames())
        self.assertIn("studio.lan:1234 could not be found", self.whyNot("http://studio.lan:1234"))

    def test_noConnection(self) -> None:
        """Why an address, or the address of a name, is not reached is told by what the reactor says."""
        for url in ("http://192.168.1.9:1234", "http://studio.lan:1234", "https://192.168.1.9"):
            self.assertIn(f"{url} did not answer in time.", self.whyNot(url, error.TimeoutError()))
            self.assertIn(f"{url} refused the connection.", self.whyNot(url, error.ConnectionRefusedError()))
            self.assertIn(f"{url} could not be reached.", self.whyNot(url, error.NoRouteError()))
