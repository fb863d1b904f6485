"""SIGHUP, within the gateway: what a reload changes, and what it must not."""

from __future__ import annotations

from typing import Any

from lmgateway.keys import KeyRing
from lmgateway.settings import SettingsError
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from tests.folders import selfSigned
from tests.gateways import EMPTY, END, HEAD, KEY, GatewayTestCase, ServingTestCase, chunk
from tests.web.support import requestBytes

OTHER_KEY = "the-key-from-now-on"


class AccessTests(ServingTestCase):
    def test_key(self) -> None:
        """Another key counts for the next request, on connections of before too, and the old one no longer."""
        client = self.connect(self.gateway)
        client.send(requestBytes("GET", "/debug/status", key=KEY))
        self.change(GATEWAY_API_KEY=OTHER_KEY)
        client.send(requestBytes("GET", "/debug/status", key=KEY) + requestBytes("GET", "/debug/status", key=OTHER_KEY))
        self.assertEqual([answer.status for answer in client.answers], [200, 401, 200])

    def test_addresses(self) -> None:
        """Another allowlist counts likewise."""
        client = self.connect(self.gateway, "192.0.2.1")
        client.send(requestBytes("GET", "/debug/status", key=KEY))
        self.change(IP_ALLOWLIST="127.0.0.1")
        client.send(requestBytes("GET", "/debug/status", key=KEY))
        self.assertEqual([answer.status for answer in client.answers], [200, 403])
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=KEY).status, 200)

    def test_limits(self) -> None:
        """Other limits count for the next connection."""
        settings = self.settings(**self.environ)
        tight = replace(settings.limits, maxTarget=256)
        self.reload(self.gateway, replace(settings, limits=tight))
        self.assertEqual(self.ask(self.gateway, f"/debug/{'x' * 300}", key=KEY).status, 414)

    def test_lastKeyGone(self) -> None:
        """Where nobody may be served without a key, taking the last one away shuts everybody out, and the log says so."""
        gateway = self.start(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY=KEY, GATEWAY_STATE_DIR=self.other()))
        self.reload(gateway, self.settings(GATEWAY_HOST="0.0.0.0"))
        self.assertEqual([self.ask(gateway, "/debug/status", key=key).status for key in (None, KEY)], [401, 401])
        self.assertTrue(any("nobody is served without one" in line for line in self.said()))

    def other(self) -> str:
        """Another state folder."""
        return str(self.folder / "other")


class ListenTests(GatewayTestCase):
    def test_stillBeyondLoopback(self) -> None:
        """
        A gateway that others can reach asks for a key, and lets only private networks in, until it has really stopped
        listening for them: a file that says loopback does not make it so.
        """
        gateway = self.start(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY=KEY))
        self.reload(gateway, self.settings(GATEWAY_HOST="127.0.0.1"))
        self.assertEqual(self.ask(gateway, "/debug/status").status, 401)
        self.reload(gateway, self.settings(GATEWAY_HOST="127.0.0.1", GATEWAY_API_KEY=KEY))
        self.assertEqual(self.ask(gateway, "/debug/status", key=KEY, peerHost="8.8.8.8").status, 403)
        self.assertEqual(self.ask(gateway, "/debug/status", key=KEY, peerHost="192.168.1.2").status, 200)

    def test_stillLoopback(self) -> None:
        """A gateway that only this machine can reach stays open until it listens elsewhere."""
        gateway = self.start(self.settings())
        self.reload(gateway, self.settings(GATEWAY_HOST="0.0.0.0"))
        self.assertEqual(self.ask(gateway, "/debug/status").status, 200)

    def test_told(self) -> None:
        """What takes effect at the next start only is told, each time; what has not changed is not."""
        gateway = self.start(self.settings())
        for _ in range(2):
            self.events.clear()
            self.reload(gateway, self.settings(GATEWAY_PORT="9", GATEWAY_STATE_DIR=str(self.folder / "other")))
            self.assertEqual(
                self.said(),
                [
                    "The change in [listen] takes effect at the next start.",
                    "The change in [state] takes effect at the next start.",
                    "The configuration was read again.",
                ],
            )
        self.events.clear()
        self.reload(gateway, self.settings())
        self.assertEqual(self.said(), ["The configuration was read again."])


class KeysTests(ServingTestCase):
    def stored(self) -> str:
        """Put a key that may do nothing into the store, which the gateway does not notice."""
        return self.successResultOf(KeyRing(self.gateway._store, self.reactor.seconds).add("new", ())).secret

    def test_added(self) -> None:
        """A key that was stored meanwhile counts from now on, and one that was taken out does no longer."""
        store = self.gateway._store
        key = self.stored()
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=key).status, 401)
        self.change()
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=key).status, 403)
        self.successResultOf(store.run(lambda connection: connection.execute("DELETE FROM keys").close()))
        self.change()
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=key).status, 401)

    def test_unreadable(self) -> None:
        """Where the keys cannot be read, those of before stay, the rest of the reload counts, and the log says so."""
        store = self.gateway._store
        key = self.stored()
        self.change()
        self.successResultOf(
            store.run(lambda connection: connection.execute("UPDATE keys SET scopes = 'king'").close())
        )
        self.change(IP_ALLOWLIST="127.0.0.1")
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=key).status, 403)
        self.assertEqual(self.ask(self.gateway, "/health", peerHost="10.0.0.1").status, 403)
        self.assertTrue(any("those of before stay" in line for line in self.said()))


class UpstreamTests(ServingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.others = self.serve(4321)

    def test_unchanged(self) -> None:
        """Where nothing about the upstream changes, its connections stay in use."""
        idle = self.idle()
        self.change(IP_ALLOWLIST="127.0.0.0/8")
        self.assertIs(self.begin()[1], idle)

    def test_address(self) -> None:
        """
        Requests go to the new address from now on; a stream from the old one goes on to its end, and its connection with
        it; connections that waited in the pool are closed at once.
        """
        client, busy = self.begin("/v1/chat/completions")
        idle = self.idle()
        self.write(busy, HEAD + chunk(b"data: 1\n\n"))
        self.change(LMSTUDIO_BASE_URL="http://127.0.0.1:4321")
        self.network.flush()
        self.assertEqual((idle.ended, busy.ended), (True, False))
        later = self.connect(self.gateway)
        later.send(requestBytes("GET", "/v1/files", key=KEY))
        (new,) = self.others.made
        self.write(new, EMPTY)
        self.assertEqual(later.answers[0].status, 200)
        self.write(busy, chunk(b"data: [DONE]\n\n") + END)
        (answer,) = client.answers
        self.assertEqual((answer.body, answer.whole), (b"data: 1\n\ndata: [DONE]\n\n", True))
        self.assertTrue(busy.ended)
        self.assertFalse(new.ended)

    def test_token(self) -> None:
        """Another token at the same address: it is sent from now on, and over no connection that carried the old one."""
        idle = self.idle()
        self.assertIn(b"Bearer token-1", idle.data)
        self.change(LMSTUDIO_API_TOKEN="token-2")
        _, new = self.begin()
        self.assertIn(b"Bearer token-2", new.data)
        self.assertTrue(idle.ended)

    def test_unansweredRequest(self) -> None:
        """A request that waits for its answer gets it from where it went, and its connection ends."""
        client, busy = self.begin()
        self.change(LMSTUDIO_BASE_URL="http://127.0.0.1:4321")
        self.write(busy, EMPTY)
        self.assertEqual(client.answers[0].status, 200)
        self.assertTrue(busy.ended)
        self.assertEqual(self.others.made, [])

    def test_certificates(self) -> None:
        """Certificates to trust are read again, though their file has the same name."""
        file = self.folder / "ca.pem"
        file.write_bytes(selfSigned())
        trusting = self.settings({"ca-file": [str(file)]}, **self.environ)
        self.reload(self.gateway, trusting)
        idle = self.idle()
        self.reload(self.gateway, trusting)
        self.network.flush()
        self.assertTrue(idle.ended)

    def test_certificatesGone(self) -> None:
        """Where they are gone by the time they are read, the reload fails with a sentence, and the settings of before count."""
        file = self.folder / "ca.pem"
        file.write_bytes(selfSigned())
        trusting = self.settings({"ca-file": [str(file)]}, GATEWAY_API_KEY=OTHER_KEY)
        before = self.gateway.settings
        file.unlink()
        failing = Deferred.fromCoroutine(self.gateway.reload(trusting))
        self.assertIn("upstream.caFile", str(self.failureResultOf(failing, SettingsError).value))
        self.assertIs(self.gateway.settings, before)
        self.assertEqual(self.ask(self.gateway, "/debug/status", key=KEY).status, 200)

    def test_timeouts(self) -> None:
        """Another allowance of silence counts for the next request."""
        waiting, _ = self.begin()
        self.change(PROXY_TIMEOUT="2000")
        late, _ = self.begin()
        self.network.advance(3)
        self.assertEqual(([answer.status for answer in late.answers], waiting.answers), ([504], []))

    def test_state(self) -> None:
        """What the status tells of an upstream is what was found out about that one, and not about the one of before."""
        _, busy = self.begin()
        self.change(LMSTUDIO_BASE_URL="http://127.0.0.1:4321")
        self.write(busy, EMPTY)
        told: Any = self.ask(self.gateway, "/debug/status", key=KEY).json()["upstream"]
        self.assertEqual(told, {"url": "http://127.0.0.1:4321", "up": None, "reason": None})
        self.change(LMSTUDIO_BASE_URL="http://127.0.0.1:9")
        self.connect(self.gateway).send(requestBytes("GET", "/v1/files", key=KEY))
        told = self.ask(self.gateway, "/debug/status", key=KEY).json()["upstream"]
        self.assertEqual((told["url"], told["up"]), ("http://127.0.0.1:9", False))

    def test_stateStays(self) -> None:
        """A reload that leaves the address alone forgets nothing about it."""
        self.idle()
        self.change(LMSTUDIO_API_TOKEN="token-2")
        self.assertTrue(self.ask(self.gateway, "/debug/status", key=KEY).json()["upstream"]["up"])
