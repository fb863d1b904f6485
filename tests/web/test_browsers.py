"""Keyless clients and web pages, at the gate."""

from __future__ import annotations

from lmgateway.settings import loadSettings
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Answer, MemoryGateway, settingsOf

CHAT = {"model": "qwen/qwen3-8b", "messages": []}


def gatewayWith(*, keyless: tuple[str, ...] = (), origins: tuple[str, ...] = (), isOpen: bool = False) -> MemoryGateway:
    """A gateway with these rules."""
    settings = loadSettings() if isOpen else settingsOf()
    access = replace(settings.access, keyless=keyless)
    return MemoryGateway(replace(settings, access=access, cors=replace(settings.cors, origins=origins)))


class KeylessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = gatewayWith(keyless=("10.0.0.0/8",))

    def ask(self, method: str, target: str, peer: str = "10.1.1.1", body: object = None, **headers: str) -> Answer:
        """Ask without a key."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.gateway.ask(method, target, body, key=None, headers=fields, peerHost=peer)

    def test_inference(self) -> None:
        """From there one can infer without a key, and under a name; from elsewhere not."""
        self.assertEqual(self.ask("POST", "/v1/chat/completions", body=CHAT).status, 200)
        self.assertEqual(self.gateway.exchanges.ended[-1].key, "keyless")
        self.assertEqual(self.ask("POST", "/v1/chat/completions", "127.0.0.1", CHAT).status, 401)

    def test_nothingElse(self) -> None:
        """Everything else asks for a key."""
        for method, target in (
            ("GET", "/debug/status"),
            ("GET", "/metrics"),
            ("POST", "/admin/models/activate"),
            ("POST", "/api/v1/models/load"),
        ):
            answer = self.ask(method, target)
            self.assertEqual(answer.status, 401, target)
            self.assertIsNotNone(answer.header(b"WWW-Authenticate"))

    def test_page(self) -> None:
        """A web page there cannot use it, nor can one that has its own name lead here."""
        self.assertEqual(self.ask("GET", "/v1/models", Origin="http://evil.example").status, 403)
        self.assertEqual(self.ask("GET", "/v1/models", Sec_Fetch_Site="cross-site").status, 403)
        self.assertEqual(self.ask("GET", "/v1/models", Host="evil.example").status, 421)
        self.assertEqual(list(self.gateway.simulator.received), [])


class OpenTests(SynchronousTestCase):
    def test_page(self) -> None:
        """On a gateway without a key, which only this machine can reach, no page of another site can do anything."""
        gateway = gatewayWith(isOpen=True)
        for headers, status in (
            ({}, 200),
            ({"Origin": "http://127.0.0.1:8001"}, 200),
            ({"Host": "host.docker.internal:8001"}, 200),
            ({"Origin": "http://evil.example"}, 403),
            ({"Host": "evil.example:8001"}, 421),
        ):
            self.assertEqual(gateway.ask("GET", "/debug/status", key=None, headers=headers).status, status, headers)

    def test_key(self) -> None:
        """A page that has a key is its owner's."""
        gateway = gatewayWith()
        self.assertEqual(gateway.ask("GET", "/v1/models", headers={"Origin": "http://evil.example"}).status, 200)


class CorsTests(SynchronousTestCase):
    ORIGIN = "https://chat.example.org"

    def preflight(self, gateway: MemoryGateway, peer: str = "127.0.0.1") -> Answer:
        """Ask as a browser does before a page may."""
        headers = {
            "Origin": self.ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        return gateway.ask("OPTIONS", "/v1/chat/completions", key=None, headers=headers, peerHost=peer)

    def test_preflight(self) -> None:
        """The question is answered at the edge, without a key, and LM Studio never sees it."""
        gateway = gatewayWith(origins=(self.ORIGIN,))
        answer = self.preflight(gateway)
        self.assertEqual((answer.status, answer.header(b"Access-Control-Allow-Origin")), (204, self.ORIGIN.encode()))
        self.assertEqual(list(gateway.simulator.received), [])

    def test_address(self) -> None:
        """Who may not connect is not answered even that."""
        settings = settingsOf({"IP_ALLOWLIST": "127.0.0.1"})
        gateway = MemoryGateway(replace(settings, cors=replace(settings.cors, origins=(self.ORIGIN,))))
        self.assertEqual(self.preflight(gateway, "10.0.0.1").status, 403)

    def test_off(self) -> None:
        """Unless it is configured the question needs a key like all others, and no answer can be read."""
        answer = self.preflight(gatewayWith())
        self.assertEqual((answer.status, answer.header(b"Access-Control-Allow-Origin")), (401, None))

    def test_everyAnswer(self) -> None:
        """A page that may read answers can read all of them: streams, lists, and what went wrong."""
        gateway = gatewayWith(origins=(self.ORIGIN,))
        for method, target, body, key in (
            ("POST", "/v1/chat/completions", {**CHAT, "stream": True}, "test-key-123"),
            ("GET", "/v1/models", None, "test-key-123"),
            ("GET", "/debug/status", None, "test-key-123"),
            ("GET", "/nothing", None, "test-key-123"),
            ("GET", "/v1/models", None, "wrong-key"),
        ):
            answer = gateway.ask(method, target, body, key=key, headers={"Origin": self.ORIGIN})
            self.assertEqual(answer.header(b"Access-Control-Allow-Origin"), self.ORIGIN.encode(), target)
