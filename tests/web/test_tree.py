"""The gate before everything: what is checked, in which order, and how each refusal looks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.message import Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.routes import ROUTES
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import KEY, MemoryGateway, requestBytes, settingsOf

SCOPED = {digestOf(f"key-for-{scope.value}"): Principal(scope.value, frozenset({scope})) for scope in Scope}


class GateTests(SynchronousTestCase):
    """Who gets through."""

    def test_healthAloneIsOpen(self) -> None:
        """Without a key every path but /health and the authority's is a 401 with a challenge, an unknown one too."""
        gateway = MemoryGateway()
        for route in ROUTES:
            method = route.methods[0].decode() if route.methods else "GET"
            answer = gateway.ask(method, route.name.replace("*", "x"), key=None)
            if route.isOpen:
                # A name of the page's files that is none is no secret, and who is signed in is nobody.
                self.assertIn(answer.status, {200, 401, 404, 503}, route.name)
            else:
                self.assertEqual(answer.status, 401, route.name)
                self.assertTrue((answer.header(b"www-authenticate") or b"").startswith(b"Bearer"))
        self.assertEqual(gateway.ask("GET", "/nothing", key=None).status, 401)
        self.assertEqual(len([each for each in gateway.simulator.received if each.target != b"/lmstudio-greeting"]), 0)

    def test_healthClosedOnDemand(self) -> None:
        """A setting closes /health too; then any key opens it."""
        gateway = MemoryGateway(settingsOf({"REQUIRE_AUTH_FOR_HEALTH": "true"}), keys=SCOPED)
        self.assertEqual(gateway.ask("GET", "/health", key=None).status, 401)
        self.assertEqual(gateway.ask("GET", "/health", key="key-for-inference").status, 200)

    def test_scopes(self) -> None:
        """Each route opens to its scope and to admin, and to no other."""
        gateway = MemoryGateway(keys=SCOPED)
        for route in ROUTES:
            if route.scope is None:
                continue
            method = route.methods[0].decode() if route.methods else "GET"
            for scope in Scope:
                client = gateway.connect()
                client.send(requestBytes(method, route.name.replace("*", "x"), key=f"key-for-{scope.value}"))
                gateway.network.flush()
                gateway.feed.closeAll()
                gateway.network.flush()
                allowed = scope in {route.scope, Scope.ADMIN}
                self.assertEqual(client.answers[0].status != 403, allowed, f"{route.name} with {scope}")

    def test_unknownPath(self) -> None:
        """An unknown path is a 404 once the key is known, and never LM Studio's business."""
        gateway = MemoryGateway()
        for target in ("/", "/v1", "/api/tags", "/llm", "/favicon.ico", "/chat/completions/x", "/v10/models"):
            self.assertEqual(gateway.ask("GET", target).status, 404, target)
        self.assertEqual(len(gateway.simulator.received), 0)

    def test_otherMethod(self) -> None:
        """A known path with another method is a 405 that tells which there are."""
        answer = MemoryGateway().ask("GET", "/admin/models/activate")
        self.assertEqual((answer.status, answer.header(b"allow")), (405, b"POST"))

    def test_escapedOwnPath(self) -> None:
        """
        A path of the gateway's own has one spelling: with anything escaped in it, UTF-8 or not, it is a 404 like any other
        that does not exist, and is answered at once. Some of these need no key.
        """
        gateway = MemoryGateway()
        for route in ROUTES:
            if route.kind == "api" and route.name.endswith("*"):
                for escaped in ("%ff", "%C3%A9", "%20", "x%80/rotate", "%F0%9F%98%80"):
                    answer = gateway.ask("GET", route.name.replace("*", escaped))
                    self.assertEqual((answer.status, answer.header(b"content-type")), (404, b"application/json"))
                    self.assertEqual(gateway.ask("GET", route.name.replace("*", escaped), key=None).status, 401)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_oddHosts(self) -> None:
        """What Host says decides nothing about where a request leads, not even one that is no name in DNS."""
        gateway = MemoryGateway()
        for host in ("a..b", ".", "127.0..0.1:8001", "a" * 64, "xn--a", "_", "~", "-", "a.", "a:", "[::1]:1"):
            for target in ("/health", "/ca.crt", "/admin/keys/x", "/debug/status", "/metrics"):
                answer = gateway.ask("GET", target, headers={"Host": host})
                self.assertIn(answer.status, {200, 404}, (host, target))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_address(self) -> None:
        """An address that is not allowed gets a 403 before anything else is looked at, sound head or not."""
        gateway = MemoryGateway(settingsOf({"IP_ALLOWLIST": "10.0.0.0/8"}))
        self.assertEqual(gateway.ask("GET", "/health", key=None, peerHost="192.0.2.7").status, 403)
        self.assertEqual(gateway.ask("GET", "/health", key=None, peerHost="10.1.2.3").status, 200)
        client = gateway.connect("192.0.2.7")
        client.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
        self.assertEqual(client.answers[0].status, 403)

    def test_orderOfChecks(self) -> None:
        """A bad key is told before a missing path, a missing scope before a body that is too large."""
        gateway = MemoryGateway(keys=SCOPED)
        gateway.withLimits(maxBody=10)
        self.assertEqual(gateway.ask("GET", "/nothing", key="wrong-key").status, 401)
        self.assertEqual(gateway.ask("POST", "/v1/completions", b"x" * 20, key="key-for-monitor").status, 403)
        self.assertEqual(gateway.ask("POST", "/v1/completions", b"x" * 20).status, 413)

    def test_tooLargeIsToldBeforeTheBody(self) -> None:
        """A body that declares too much is refused before any of it comes."""
        gateway = MemoryGateway()
        gateway.withLimits(maxBody=10)
        client = gateway.connect()
        client.send(
            requestBytes("POST", "/v1/chat/completions", headers={"Content-Length": "11", "Expect": "100-continue"})
        )
        self.assertEqual([answer.status for answer in client.answers], [413])

    def test_chunkedTooLarge(self) -> None:
        """A body that does not declare its length is refused when it has too much, while it is read or passed on."""
        for target, contentType in (("/v1/chat/completions", "application/json"), ("/v1/x", "audio/wav")):
            gateway = MemoryGateway()
            gateway.withLimits(maxBody=10)
            client = gateway.connect()
            head = requestBytes("POST", target, headers={"Transfer-Encoding": "chunked", "Content-Type": contentType})
            client.send(head + b"8\r\n12345678\r\n")
            client.send(b"8\r\n12345678\r\n")
            self.assertEqual([answer.status for answer in client.answers], [413], target)
            self.assertEqual(len(gateway.simulator.received), 0)

    def test_openOnLoopback(self) -> None:
        """A gateway that only this machine can reach, and that has no key, asks for none."""
        gateway = MemoryGateway(settingsOf({"GATEWAY_API_KEY": ""}))
        self.assertEqual(gateway.ask("GET", "/v1/models", key=None).status, 200)

    def test_neverOpenBeyondLoopback(self) -> None:
        """A gateway that others can reach serves nothing without a key, even while it has none."""
        gateway = MemoryGateway(settingsOf({"GATEWAY_API_KEY": "", "GATEWAY_HOST": "0.0.0.0"}))
        self.assertEqual(gateway.ask("GET", "/v1/models", key=None).status, 401)
        self.assertEqual(gateway.ask("GET", "/v1/models", key="anything").status, 401)


class DialectTests(SynchronousTestCase):
    """Errors speak as their path does, whether or not the path exists."""

    def test_shapes(self) -> None:
        """OpenAI's shape for /v1 and /api, Anthropic's for messages, the gateway's own for its own paths."""
        gateway = MemoryGateway()
        for target in ("/v1/models", "/models", "/api/v0/models", "/api/v1/chat", "/nothing"):
            error = gateway.ask("GET", target, key=None).json()["error"]
            self.assertEqual(set(error), {"message", "type", "param", "code"}, target)
        for target in ("/v1/messages", "/v1/messages/count_tokens"):
            body = gateway.ask("POST", target, key=None).json()
            self.assertEqual((body["type"], set(body["error"])), ("error", {"type", "message"}), target)
        for target in (
            "/admin/models/activate",
            "/admin/nothing",
            "/debug/nothing",
            "/dashboard",
            "/dashboard/x",
            "/ca.crt",
        ):
            self.assertIsInstance(gateway.ask("POST", target, key=None).json()["error"], str, target)

    def test_everyAnswerHasItsId(self) -> None:
        """Every answer carries an X-Request-Id of its own."""
        gateway = MemoryGateway()
        client = gateway.connect()
        client.send(requestBytes("GET", "/v1/models") * 2 + requestBytes("GET", "/x") + b"BAD\r\n\r\n")
        gateway.network.advance(1)
        ids = [answer.header(b"x-request-id") for answer in client.answers]
        self.assertEqual(len(ids), 4)
        self.assertEqual(len(set(ids)), 4)
        self.assertNotIn(None, ids)

    @given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30))
    def test_nothingIsReflected(self, path: str) -> None:
        """No refusal repeats what the client wrote, and none is anything but JSON."""
        gateway = MemoryGateway()
        client = gateway.connect()
        client.send(f"GET /<h1>{path} HTTP/1.1\r\nHost: <h1>\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        (answer,) = client.answers
        self.assertIn(answer.status, {400, 404})
        self.assertNotIn(b"<h1>", answer.body)
        self.assertEqual(answer.header(b"content-type"), b"application/json")
