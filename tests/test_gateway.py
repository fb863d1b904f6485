"""The gateway put together: how it starts, and how it stops. What a reload does is in :mod:`tests.test_reload`."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from ipaddress import ip_address
from typing import Any

from lmgateway.configuration.listeners import hasOwnTls
from lmgateway.gateway import Gateway, StartError
from lmgateway.interfaces import IUpstream
from lmgateway.policy.authentication import digestOf
from lmgateway.settings import loadSettings
from lmgateway.state import StateStore
from lmgateway.statefile import STATE_FILE, StateError
from lmgateway.tls.serving import listenerUrl, reachableUrls
from lmgateway.wire.upstream import makeUpstream
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.folders import temporaryFolder
from tests.gateways import EMPTY, END, HEAD, KEY, BrokenPort, GatewayTestCase, ServingTestCase, chunk
from tests.web.support import requestBytes


class MakeUpstreamTests(GatewayTestCase):
    def test_transports(self) -> None:
        """Each transport that can be chosen is an upstream, and reaches the address that was given."""
        settings = self.settings(LMSTUDIO_BASE_URL="http://127.0.0.1:1234")
        for transport in ("treq", "direct"):
            upstream = makeUpstream(
                replace(settings, upstream=replace(settings.upstream, transport=transport)), self.reactor
            )
            verifyObject(IUpstream, upstream)
            sending = upstream.send(b"GET", b"/x", (), None)
            self.upstreams.made[-1].transport.write(EMPTY)
            self.network.flush()
            self.assertEqual(self.successResultOf(sending).code, 200)
            self.successResultOf(self.closed(upstream))

    def closed(self, upstream: Any) -> Deferred[None]:
        """Close it."""
        closing = upstream.close()
        self.network.flush()
        return closing


class RestoreTests(GatewayTestCase):
    def test_firstKey(self) -> None:
        """Beyond loopback a key is made where there is none; it works in this run and the next, which makes no other."""
        settings = self.settings(GATEWAY_HOST="0.0.0.0")
        first = self.open(settings)
        key = first.restore()
        assert key is not None
        self.assertEqual(self.ask(first, "/debug/status", key=key).status, 200)
        self.assertEqual(self.ask(first, "/debug/status", key=f"{key}x").status, 401)
        self.successResultOf(self.stop(first))
        second = self.open(settings)
        self.assertIsNone(second.restore())
        self.assertEqual(self.ask(second, "/debug/status", key=key).status, 200)
        self.assertEqual(self.ask(second, "/debug/status").status, 401)

    def test_onlyItsDigest(self) -> None:
        """Of a key that was made, the state folder holds the digest and nothing else."""
        key = self.open(self.settings(GATEWAY_HOST="0.0.0.0")).restore() or ""
        held = b"".join(file.read_bytes() for file in (self.folder / "state").iterdir())
        self.assertIn(digestOf(key), held)
        self.assertNotIn(key[4:].encode(), held)

    def test_noKeyNeeded(self) -> None:
        """On loopback none is made, and nobody is asked for one; nor is one made where one is configured."""
        gateway = self.open(self.settings())
        self.assertIsNone(gateway.restore())
        self.assertEqual(self.ask(gateway, "/debug/status").status, 200)
        self.successResultOf(self.stop(gateway))
        gateway = self.open(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY=KEY))
        self.assertIsNone(gateway.restore())
        self.assertEqual(self.ask(gateway, "/debug/status", key=KEY).status, 200)

    def test_unreadable(self) -> None:
        """A state that cannot be understood stops the start, with a sentence."""
        gateway = self.open(self.settings())
        with closing(sqlite3.connect(self.folder / "state" / STATE_FILE)) as connection:
            connection.execute("INSERT INTO activeModel VALUES (1, '[nonsense')")
            connection.commit()
        error = self.assertRaises(StartError, gateway.restore)
        self.assertRegex(str(error), r"^The state file holds an active model that cannot be read\. ")


class ListenTests(TestCase):
    """On the real reactor: what the system says is the point."""

    def refusal(self, description: str) -> str:
        """Why a gateway cannot listen somewhere."""
        store = StateStore.open(temporaryFolder(self), reactor)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
        settings = loadSettings(options={"listen": [description]})
        gateway = Gateway(settings, reactor, store, lambda _: None, lambda _: None)
        return str(self.assertRaises(StartError, gateway.listen))

    def test_taken(self) -> None:
        """A port that somebody else has."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            description = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            self.assertEqual(
                self.refusal(description),
                f"Cannot listen on {description}: Address already in use. Is another program, or another gateway, there "
                "already? Choose another port (GATEWAY_PORT, or --lan-port of lmgateway run).",
            )

    def test_foreign(self) -> None:
        """An address of another machine."""
        self.assertRegex(
            self.refusal("tcp:0:interface=192.0.2.1"),
            r"requested address\. Choose an address of this machine \(GATEWAY_HOST\)\.$",
        )

    def test_missingFile(self) -> None:
        """A certificate that is not there."""
        self.assertRegex(self.refusal("ssl:0:privateKey=/nowhere/key.pem"), r": No such file or directory\.$")

    def test_missingFolder(self) -> None:
        """A unix socket in a folder that is not there."""
        self.assertRegex(self.refusal("unix:/nowhere/socket"), r": No such file or directory\.$")


class AddressTests(GatewayTestCase):
    def test_urls(self) -> None:
        """
        The URL of a listener is one that works on this machine, and with TLS, where there is such an address, on others; a unix
        socket has none.
        """
        lan = (ip_address("192.168.1.7"),)
        listenTCP = self.reactor.listenTCP
        for port, description, url in (
            (listenTCP(8001, None), "tcp:8001", "http://127.0.0.1:8001"),
            (listenTCP(8002, None, 50, "::"), r"tcp6:8002:interface=\:\:", "http://[::1]:8002"),
            (listenTCP(8003, None, 50, "::1"), r"tcp6:8003:interface=\:\:1", "http://[::1]:8003"),
            (listenTCP(8443, None), "ssl:8443", "https://192.168.1.7:8443"),
            (listenTCP(8444, None, 50, "::"), "tls:/certificates:8444", "https://[::1]:8444"),
            (self.reactor.listenUNIX("/run/socket", None), "unix:/run/socket", None),
        ):
            self.assertEqual(listenerUrl(port, lan, isSecured=hasOwnTls(description)), url)

    def test_reachable(self) -> None:
        """A listener on all addresses is reached at each of its version, those for other machines first; others at their own."""
        lan = (ip_address("192.168.1.7"), ip_address("10.0.0.7"), ip_address("fd00::7"))
        listenTCP = self.reactor.listenTCP
        for port, isSecured, urls in (
            (
                listenTCP(8001, None),
                False,
                ("http://192.168.1.7:8001", "http://10.0.0.7:8001", "http://127.0.0.1:8001"),
            ),
            (listenTCP(8002, None, 50, "::"), True, ("https://[fd00::7]:8002", "https://[::1]:8002")),
            (listenTCP(8003, None, 50, "::1"), False, ("http://[::1]:8003",)),
            (listenTCP(8004, None, 50, "fd00::8"), True, ("https://[fd00::8]:8004",)),
            (self.reactor.listenUNIX("/run/socket", None), False, ()),
        ):
            self.assertEqual(reachableUrls(port, lan, isSecured=isSecured), urls)

    def test_toldToTheDashboard(self) -> None:
        """Whoever is signed in to the dashboard is told where the gateway listens, and that it has a certificate authority."""
        listen = [r"tcp6:8001:interface=\:\:1", r"tcp6:8443:interface=fd00\:\:7"]
        gateway = self.start(self.settings({"listen": listen}, GATEWAY_API_KEY=KEY))
        told = self.ask(gateway, "/dashboard/session", key=KEY).json()
        self.assertEqual(told["addresses"], ["http://[::1]:8001", "https://[fd00::7]:8443"])
        self.assertTrue(told["hasCa"])
        self.successResultOf(self.stop(gateway))


class StopTests(ServingTestCase):
    def test_drain(self) -> None:
        """
        What is being answered is finished, whatever waits for nothing is closed at once, and then the upstream's
        connections and the state are closed.
        """
        idle = self.connect(self.gateway)
        client, busy = self.begin("/v1/chat/completions")
        pooled = self.idle()
        self.write(busy, HEAD + chunk(b"data: 1\n\n"))
        stopping = self.stop(self.gateway)
        self.assertIsNotNone(idle.protocol.ended)
        self.assertNoResult(stopping)
        self.write(busy, chunk(b"data: [DONE]\n\n") + END)
        self.assertTrue(client.answers[0].whole)
        self.assertEqual((busy.ended, pooled.ended), (True, True))
        self.successResultOf(stopping)
        self.open(self.settings())

    def test_overlong(self) -> None:
        """What is not finished when the drain's time is over is cut off, on both sides, and counts as cut by us."""
        client, busy = self.begin("/v1/chat/completions")
        self.write(busy, HEAD + chunk(b"data: 1\n\n"))
        stopping = self.stop(self.gateway)
        self.network.advance(29)
        self.assertNoResult(stopping)
        self.network.advance(2)
        self.successResultOf(stopping)
        self.assertFalse(client.answers[0].whole)
        self.assertTrue(busy.ended)
        self.assertEqual(self.records[-1].outcome, "cut")

    def test_hurry(self) -> None:
        """Hurrying cuts off what still runs, and leaves nothing to wait for."""
        client, busy = self.begin("/v1/chat/completions")
        self.write(busy, HEAD + chunk(b"data: 1\n\n"))
        stopping = self.stop(self.gateway)
        self.gateway.hurry()
        self.network.flush()
        self.successResultOf(stopping)
        self.assertIsNotNone(client.protocol.ended)
        self.assertEqual([call.func for call in self.reactor.getDelayedCalls()], [])

    def test_followers(self) -> None:
        """Event streams and long polls end at once, in good order."""
        clients = [self.connect(self.gateway) for _ in range(2)]
        clients[0].send(requestBytes("GET", "/debug/stream", key=KEY))
        clients[1].send(requestBytes("GET", "/debug/poll?timeout=60&since=9", key=KEY))
        self.successResultOf(self.stop(self.gateway))
        self.assertEqual(
            [(answer.status, answer.whole) for client in clients for answer in client.answers], [(200, True)] * 2
        )

    def test_brokenListener(self) -> None:
        """A listener that does not close in good order is told, and takes nothing from the answers that run."""
        self.gateway._ports[:] = [BrokenPort(port) for port in self.gateway._ports]
        client, busy = self.begin("/v1/chat/completions")
        self.write(busy, HEAD)
        stopping = self.stop(self.gateway)
        self.write(busy, END)
        self.assertTrue(client.answers[0].whole)
        self.successResultOf(stopping)
        self.assertIn("A listener did not close in good order: No such file or directory.", self.said())

    def test_defect(self) -> None:
        """Whatever goes wrong while it stops, the state is closed: the process could not end otherwise."""
        self.gateway._parts.ledger = None  # type: ignore[assignment]
        self.failureResultOf(self.stop(self.gateway), AttributeError)
        self.open(self.settings())

    def test_afterReload(self) -> None:
        """Connections to the upstream of before are closed, too."""
        _, busy = self.begin("/v1/chat/completions")
        self.write(busy, HEAD)
        self.serve(4321)
        self.change(LMSTUDIO_BASE_URL="http://127.0.0.1:4321")
        stopping = self.stop(self.gateway)
        self.gateway.hurry()
        self.network.flush()
        self.successResultOf(stopping)
        self.assertTrue(busy.ended)

    def test_owned(self) -> None:
        """Until it has stopped, nobody else has the state."""
        _, busy = self.begin("/v1/chat/completions")
        self.write(busy, HEAD)
        stopping = self.stop(self.gateway)
        self.assertRaises(StateError, self.open, self.settings())
        self.write(busy, END)
        self.successResultOf(stopping)
