"""Tests for :mod:`lmgateway.studio.sdk.namespace`."""

from __future__ import annotations

from lmgateway.errors import UpstreamBroken, UpstreamUnavailable
from lmgateway.studio.sdk.connection import Connection, credentialsOf
from lmgateway.studio.sdk.namespace import Namespace
from twisted.internet.defer import CancelledError, Deferred

from tests.studio.sdk.support import PlayedCase


class NamespaceTests(PlayedCase):
    """One connection, made when it is needed."""

    def setUp(self) -> None:
        super().setUp()
        self.namespace = Namespace(self.connection, credentialsOf(None))

    def use(self) -> Deferred[Connection]:
        """Ask for the connection."""
        using = self.namespace.use()
        self.network.flush()
        return using

    def test_lazy(self) -> None:
        """Nobody is connected to before there is need, and then once."""
        self.network.advance(60)
        self.assertEqual([], self.servers)
        connections = [self.successResultOf(self.use()) for _ in range(3)]
        self.assertEqual(1, len(self.servers))
        self.assertEqual(1, len(set(connections)))
        self.assertStill()

    def test_shared(self) -> None:
        """Who comes while it is being made waits for the same; who leaves takes it from nobody."""
        self.admission = None
        first, second, third = self.use(), self.use(), self.use()
        first.cancel()
        self.failure(first, CancelledError)
        self.server.say({"success": True})
        self.network.flush()
        self.assertIs(self.successResultOf(second), self.successResultOf(third))
        self.assertEqual(1, len(self.servers))

    def test_lost(self) -> None:
        """After a loss nothing happens until the next use, which connects again, as the same client."""
        self.successResultOf(self.use())
        self.server.transport.abortConnection()
        self.network.advance(3600)
        self.assertEqual(1, len(self.servers))
        self.assertStill()
        self.assertTrue(self.successResultOf(self.use()).isOpen)
        self.assertEqual(2, len(self.servers))
        self.assertEqual(self.servers[0].packets, self.servers[1].packets)

    def test_down(self) -> None:
        """Each use while LM Studio is down tries once; once it is back the next one succeeds."""
        self.endpoints.listen = None
        for _ in range(2):
            self.failure(self.use(), UpstreamUnavailable)
        self.assertStill()
        self.endpoints.listen = self.listen
        self.successResultOf(self.use())

    def test_closed(self) -> None:
        """What is closed stays closed."""
        self.successResultOf(self.use())
        closing = self.namespace.close()
        self.network.flush()
        self.successResultOf(closing)
        self.failure(self.use(), UpstreamUnavailable)
        self.assertEqual(1, len(self.servers))
        self.assertStill()

    def test_closedUnused(self) -> None:
        """What was never used has nothing to close."""
        self.successResultOf(self.namespace.close())

    def test_closedWhileOpening(self) -> None:
        """Closing ends what is being opened."""
        self.admission = None
        using = self.use()
        closing = self.namespace.close()
        self.network.flush()
        self.successResultOf(closing)
        self.failure(using, UpstreamUnavailable)
        self.assertStill()

    def test_failing(self) -> None:
        """Everybody who waits learns why it failed."""
        self.admission = None
        waiting = [self.use(), self.use()]
        self.server.transport.abortConnection()
        for using in waiting:
            self.failure(using, UpstreamBroken)
