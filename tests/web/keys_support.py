"""Keys over HTTP, on a whole gateway whose state is real."""

from __future__ import annotations

from typing import Any

from lmgateway.gateway import Gateway

from tests.gateways import KEY, GatewayTestCase
from tests.web.support import Answer, Client, requestBytes

START = 1_800_000_000.0


class KeysTestCase(GatewayTestCase):
    """A gateway with a configured key."""

    environ = {"GATEWAY_API_KEY": KEY}

    def setUp(self) -> None:
        super().setUp()
        self.reactor.advance(START - self.reactor.seconds())
        self.gateway = self.start(self.settings(**self.environ))

    def send(
        self, method: str, target: str, body: object = None, *, key: str | None = KEY, peerHost: str = "127.0.0.1"
    ) -> Answer:
        """Ask, and give the whole answer."""
        client = self.connect(self.gateway, peerHost)
        client.send(requestBytes(method, target, body, key=key))
        (answer,) = client.answers
        client.leave()
        return answer

    def well(self, method: str, target: str, body: object = None, *, key: str | None = KEY) -> Any:
        """Ask for what is done, and give what is said of it."""
        answer = self.send(method, target, body, key=key)
        self.assertIn(answer.status, (200, 201), answer.body)
        return answer.json()

    def mint(self, name: str = "alice", *, key: str | None = KEY, **members: Any) -> Any:
        """Make a key."""
        return self.well("POST", "/admin/keys", {"name": name, **members}, key=key)

    def status(self, key: str | None, peerHost: str = "127.0.0.1") -> int:
        """What somebody is told who asks for the gateway's status."""
        return self.send("GET", "/debug/status", key=key, peerHost=peerHost).status

    def restarted(self) -> Gateway:
        """Stop the gateway, and start it again."""
        self.successResultOf(self.stop(self.gateway))
        self.gateway = self.start(self.settings(**self.environ))
        return self.gateway

    def begin(self, target: str, key: str, body: object = None) -> Client:
        """Send a request that takes its time."""
        client = self.connect(self.gateway)
        client.send(requestBytes("POST" if body else "GET", target, body, key=key))
        return client
