"""
TLS connections: made only once it is known who is there.

In memory against :mod:`tests.wire.memory_peer`, which does not speak TLS; against a real one over sockets in
:mod:`tests.wire.test_sockets`.
"""

from __future__ import annotations

from lmgateway.wire.secured import SecuredEndpoint
from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from zope.interface.verify import verifyObject

from tests.wire.memory_peer import MemoryEndpoints, Peer

SECONDS = 5.0


class SecuredEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints = MemoryEndpoints(self.clock)
        self.endpoint = SecuredEndpoint(
            self.clock,
            self.endpoints.endpointForURI(URI.fromBytes(b"https://studio.lan/")),
            optionsForClientTLS("studio.lan"),
            SECONDS,
        )
        self.connecting = self.endpoint.connect(Factory.forProtocol(Protocol))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    @property
    def peer(self) -> Peer:
        """The other end."""
        return self.endpoints.peers[-1]

    def test_provides(self) -> None:
        """It is an endpoint like Twisted's."""
        verifyObject(IStreamClientEndpoint, self.endpoint)
        self.stop()

    def stop(self) -> None:
        """End a test that is not about the end."""
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.turn()

    def turn(self) -> None:
        """Let what an abort and TLS's own timers leave behind run out."""
        self.clock.advance(0)

    def test_notYet(self) -> None:
        """Connected, but without a handshake, there is no connection yet; a handshake was begun."""
        self.assertNoResult(self.connecting)
        self.assertEqual(self.peer.received[:2], b"\x16\x03")
        self.stop()

    def test_silent(self) -> None:
        """An other end that does not shake hands in time has not answered in time, and is hung up on."""
        self.clock.advance(SECONDS - 0.1)
        self.assertNoResult(self.connecting)
        self.clock.advance(0.1)
        self.failureResultOf(self.connecting, TimeoutError)
        self.assertTrue(self.peer.transport.aborted)
        self.turn()

    def test_cancelled(self) -> None:
        """Cancelled within the handshake, the connection is closed at once."""
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        self.assertTrue(self.peer.transport.aborted)
        self.turn()

    def test_hungUp(self) -> None:
        """An other end that hangs up within the handshake is told as such, and not as a broken answer."""
        self.peer.reset()
        self.failureResultOf(self.connecting, ConnectionLost, ConnectionDone, SSL.Error)
        self.turn()

    def test_noTls(self) -> None:
        """An other end that speaks HTTP, and no TLS, is an error of TLS."""
        self.peer.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.turn()
        self.failureResultOf(self.connecting, SSL.Error)

    def test_refused(self) -> None:
        """What connecting fails with is what it fails with."""
        self.stop()
        self.endpoints.refusal = ConnectionRefusedError()
        self.failureResultOf(self.endpoint.connect(Factory.forProtocol(Protocol)), ConnectionRefusedError)
