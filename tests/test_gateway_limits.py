"""That a gateway as a process has it goes by its limits, and by those of a reload."""

from __future__ import annotations

from typing import Any

from lmgateway.settings import Settings
from lmgateway.wire.channel import GatewayChannel
from lmgateway.wire.site import TurnedAway
from msgspec.structs import replace
from twisted.internet.address import IPv4Address

from tests.gateways import EMPTY, KEY, ServingTestCase
from tests.web.keys_support import KeysTestCase
from tests.web.support import requestBytes

PEER = IPv4Address("TCP", "127.0.0.1", 50_000)


class LimitTests(ServingTestCase):
    def limited(self, **limits: Any) -> Settings:
        """The settings with other limits."""
        settings = self.settings(**self.environ)
        return replace(settings, limits=replace(settings.limits, **limits))

    def test_perAddress(self) -> None:
        """How much an address may ask counts from the reload that says so, and no longer than until one that does not."""
        statuses = []
        for perMinute in (0, 2, 0):
            self.reload(self.gateway, self.limited(requestsPerMinutePerAddress=perMinute))
            statuses += [self.ask(self.gateway, "/debug/status", key=KEY).status for _ in range(3)]
        self.assertEqual(statuses, [200, 200, 200, 200, 200, 429, 200, 200, 200])

    def test_connections(self) -> None:
        """So does how many connections there may be; what is turned away is counted in the metrics."""
        clients = [self.connect(self.gateway) for _ in range(3)]
        self.assertIsInstance(self.gateway.site.buildProtocol(PEER), GatewayChannel)
        self.reload(self.gateway, self.limited(maxConnectionsPerAddress=3))
        self.assertIsInstance(self.gateway.site.buildProtocol(PEER), TurnedAway)
        clients[0].leave()
        metrics = self.ask(self.gateway, "/metrics", key=KEY).body
        self.assertIn(b'lmgateway_connections_turned_away_total{reason="address"} 1.0', metrics)

    def test_allowlist(self) -> None:
        """Who may connect by TLS at all is what the allowlist in force says."""
        self.assertTrue(self.gateway.site.permits("192.0.2.7"))
        self.change(IP_ALLOWLIST="10.0.0.0/8")
        self.assertFalse(self.gateway.site.permits("192.0.2.7"))
        self.assertTrue(self.gateway.site.permits("10.1.2.3"))

    def test_events(self) -> None:
        """A wrong key is told those who follow, with the path that it came for."""
        self.ask(self.gateway, "/v1/models?key=secret", key="wrong")
        answer = self.ask(self.gateway, "/debug/poll?types=auth_failure", key=KEY)
        (event,) = answer.json()["events"]
        self.assertEqual((event["data"]["client"], event["data"]["path"]), ("127.0.0.1", "/v1/models"))


class StoredKeyTests(KeysTestCase):
    def test_placesAreFreed(self) -> None:
        """A stored key is held to what it was made with, and a request that has ended counts no more."""
        key = self.mint(name="alice", scopes=["inference"], parallel=1, requestsPerMinute=4)["key"]
        chat = requestBytes("POST", "/v1/chat/completions", {"model": "m", "stream": True}, key=key)
        first = self.connect(self.gateway)
        for _ in range(2):
            first.send(chat)
            second = self.connect(self.gateway)
            second.send(chat)
            self.assertEqual([answer.status for answer in second.answers], [429])
            self.upstreams.made[-1].transport.write(EMPTY)
            self.network.flush()
        self.assertEqual([answer.status for answer in first.answers], [200, 200])
        self.assertEqual(first.answers[-1].header(b"x-ratelimit-remaining-requests"), b"2")

    def test_tokensOfTheDay(self) -> None:
        """What LM Studio says that answers cost is what a key's day is held to."""
        key = self.mint(name="alice", scopes=["inference"], tokensPerDay=10)["key"]
        body = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
        left, statuses = [], []
        for _ in range(3):
            client = self.connect(self.gateway)
            client.send(requestBytes("POST", "/v1/chat/completions", {"model": "m"}, key=key))
            if not client.answers:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                self.upstreams.made[-1].transport.write(head + body)
                self.network.flush()
            statuses.append(client.answers[0].status)
            left.append(client.answers[0].header(b"x-ratelimit-remaining-tokens"))
        self.assertEqual((statuses, left), ([200, 200, 429], [b"10", b"3", b"0"]))
