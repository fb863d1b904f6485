"""What attackers try against the gateway as a whole, one test for each threat that no module of its own is about."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from lmgateway.errors import GatewayError
from lmgateway.message import Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.routes import RouteTable
from lmgateway.policy.target import checkTarget
from lmgateway.telemetry.accesslog import formatJson, formatText
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.web.fuzzing import StrictUpstream
from tests.web.support import KEY, MemoryGateway, ScriptedUpstreams, requestBytes, settingsOf

SCOPED = {digestOf(f"key-for-{scope.value}"): Principal(scope.value, frozenset({scope})) for scope in Scope}

CHAT = {"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "hello"}]}

TABLE = RouteTable()

PIECES = st.sampled_from(
    (
        *("v1", "V1", "api", "v0", "models", "load", "LOAD", "unload", "download", "chat", "completions", "messages"),
        *(
            "admin",
            "keys",
            "debug",
            "status",
            "..",
            ".",
            "",
            "%2e%2e",
            "%2f",
            "%6coad",
            "load;x",
            "\\",
            "%00",
            "x",
            "*",
        ),
    )
)

TARGETS = st.tuples(
    st.lists(PIECES, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(("", "?", "?/admin", "?a=/../v1")),
    st.sampled_from(("", "http://gateway.test", "//evil.example")),
).map(lambda parts: parts[2] + parts[0] + parts[1])
"""Targets that some readers would read as others than they are."""

ROUTE_FIELDS = ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-HTTP-Method-Override")

SPOOFED = (
    *(
        "127.0.0.1",
        "10.1.2.3",
        "::1",
        "::ffff:10.1.2.3",
        "[::ffff:10.1.2.3]:80",
        "10.1.2.3, 192.0.2.7",
        "192.0.2.7, 10.1.2.3",
    ),
    *(
        "for=10.1.2.3",
        'for="[::ffff:10.1.2.3]"',
        "for=10.1.2.3;by=10.1.2.3",
        "unknown",
        "0.0.0.0",
        "fe80::1%eth0",
        "10.1.2.3:443",
    ),
)
SPOOFING = (
    *("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"),
    *("X-Forwarded-Host", "X-Cluster-Client-Ip", "Via", "X-Remote-Addr"),
)

NAUGHTY = (
    *(
        '"',
        "\\",
        "\\n",
        "{}",
        "',{",
        "%s%n",
        "${jndi:ldap://x}",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\x1b[31m",
        "\x7f",
        "\x9b31m",
        "\r\nX: y",
    ),
    *(
        '","status":200,"x":"',
        "null",
        "\u00e9",
        "\U0001f600",
        "\x00",
        "\ud800",
        "Ω≈ç√",
        "田中さん",
        "1;DROP TABLE",
        "<script>",
        "a" * 5000,
    ),
)
"""Strings that programs have stumbled over, in the manner of the Big List of Naughty Strings."""


class RoutingTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(TARGETS, st.sampled_from(tuple(Scope)), st.sampled_from(("GET", "POST", "DELETE")))
    def test_decidedOnce(self, target: str, scope: Scope, method: str) -> None:
        """
        What is asked of LM Studio is what was judged: the client's own target behind its route's prefix, to a key that holds
        that route's scope, and nothing else, whatever fields claim another path.
        """
        targets: list[bytes] = []
        gateway = MemoryGateway(keys=SCOPED, listen=lambda: StrictUpstream(targets))
        client = gateway.connect()
        fields = dict.fromkeys(ROUTE_FIELDS, "/v1/chat/completions")
        client.send(requestBytes(method, target, key=f"key-for-{scope.value}", headers=fields))
        gateway.network.advance(1)
        asked = target.encode()
        try:
            checkTarget(asked, 8192)
            route = TABLE.resolve(method.encode(), asked.partition(b"?")[0])
        except GatewayError:
            self.assertEqual(targets, [])
            return
        isPermitted = scope in {route.scopeFor(method.encode()), Scope.ADMIN}
        if route.kind == "proxy":
            # The list of models is another's to make, and a body that must be JSON was not sent.
            self.assertIn(targets, ([route.upstreamTarget(asked)], []) if isPermitted else ([],))
            if isPermitted and route.name.endswith("*"):
                self.assertEqual(targets, [route.upstreamTarget(asked)])

    def test_onlyTheTable(self) -> None:
        """Nothing reaches LM Studio at its root, beside its APIs, or by a method that the gateway does not know."""
        targets: list[bytes] = []
        gateway = MemoryGateway(listen=lambda: StrictUpstream(targets))
        for target in ("/", "/api", "/api/", "/api/v2/x", "/lmstudio-greeting", "/v1x", "/v2/models", "/ws", "/system"):
            for method in ("GET", "POST", "OPTIONS", "PUT"):
                self.assertEqual(gateway.ask(method, target, {} if method == "POST" else None).status, 404, target)
        self.assertEqual(gateway.ask("TRACE", "/v1/x").status, 405)
        self.assertEqual(targets, [])


class ForgeryTests(SynchronousTestCase):
    def test_upstreamIsTheConfigured(self) -> None:
        """No member, field, query or redirect has the gateway, or its credential, go anywhere but to the configured LM Studio."""
        evil = "http://evil.example:81/v1"
        body = {
            **CHAT,
            **dict.fromkeys(("api_base", "base_url", "baseUrl", "custom_llm_provider", "url"), evil),
            "user_config": {"model_list": [{"litellm_params": {"api_base": evil}}]},
            "metadata": {"api_base": evil},
        }
        names = (
            "X-Portkey-Custom-Host",
            "X-Forwarded-Host",
            "X-Original-Host",
            "X-Host",
            "Api-Base",
            "X-Upstream",
            "Destination",
        )
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(settingsOf({"LMSTUDIO_API_TOKEN": "sk-lm-secret"}), listen=upstreams)
        for status in (200, 301, 302, 303, 307, 308):
            client = gateway.connect()
            fields = dict.fromkeys(names, "evil.example:81")
            client.send(requestBytes("POST", f"/v1/chat/completions?api_base={evil}", body, headers=fields))
            upstream = upstreams.made[-1]
            assert upstream.transport is not None
            said = f"HTTP/1.1 {status} X\r\nLocation: {evil}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            upstream.transport.write(said.encode())
            gateway.network.advance(1)
            self.assertEqual([answer.status for answer in client.answers], [status])
        self.assertEqual(gateway.endpoints.asked, {(b"127.0.0.1", 1234)})
        self.assertEqual(len(upstreams.made), 6)

    def test_spoofedAddress(self) -> None:
        """An address that is not allowed is refused whatever its fields claim, and LM Studio never sees the claim."""
        for name in SPOOFING:
            for value in SPOOFED:
                gateway = MemoryGateway(settingsOf({"IP_ALLOWLIST": "10.0.0.0/8,127.0.0.1,::1"}))
                headers = {name: value, "X-Forwarded-Proto": "https"}
                self.assertEqual(
                    gateway.ask("GET", "/v1/x", headers=headers, peerHost="192.0.2.7").status, 403, (name, value)
                )
                self.assertEqual(len(gateway.simulator.received), 0)

    def test_spoofedKeyless(self) -> None:
        """Nor do they make a client of the LAN one whom a keyless range lets in."""
        fromSettings = settingsOf()
        gateway = MemoryGateway(replace(fromSettings, access=replace(fromSettings.access, keyless=("10.0.0.0/8",))))
        self.assertEqual(gateway.ask("GET", "/v1/x", key=None, peerHost="10.1.2.3").status, 404, "it is let in")
        for name in SPOOFING:
            self.assertEqual(gateway.ask("GET", "/v1/x", key=None, headers={name: "10.1.2.3"}).status, 401, name)

    def test_noAmbientRights(self) -> None:
        """
        An administrative act takes a key in a field of its own: no origin, cookie, address or password that a browser sends by
        itself is one, and none that a link can hold.
        """
        gateway = MemoryGateway()
        for site in (None, "same-origin", "same-site", "cross-site", "none"):
            for origin in (None, "http://127.0.0.1:8001", "http://evil.example", "null"):
                for contentType in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                    fields = {"Content-Type": contentType, "Cookie": f"key={KEY}; Authorization=Bearer {KEY}"}
                    if site is not None:
                        fields["Sec-Fetch-Site"] = site
                    if origin is not None:
                        fields["Origin"] = origin
                    answer = gateway.ask("POST", "/admin/models/deactivate", {}, key=None, headers=fields)
                    self.assertIn(answer.status, {401, 403}, fields)
        for kept in (f"admin:{KEY}", f"{KEY}:", f":{KEY}"):
            fields = {"Authorization": f"Basic {b64encode(kept.encode()).decode()}"}
            self.assertEqual(gateway.ask("GET", "/admin/keys", key=None, headers=fields).status, 401, kept)
        for target in (f"/admin/keys?key={KEY}", f"/admin/keys?api_key={KEY}", f"/admin/keys?access_token={KEY}"):
            self.assertEqual(gateway.ask("GET", target, key=None).status, 401, target)

    def test_forms(self) -> None:
        """Where no key is needed, what a form of a web page can send is no administrative act."""
        gateway = MemoryGateway(settingsOf({"GATEWAY_API_KEY": ""}))
        for contentType in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            answer = gateway.ask(
                "POST", "/admin/models/activate", {"modelKey": "x"}, key=None, headers={"Content-Type": contentType}
            )
            self.assertEqual(answer.status, 415, contentType)

    def test_sharedBeginnings(self) -> None:
        """A key that is another one but for its end, its beginning or its case is no key."""
        gateway = MemoryGateway(settingsOf({"GATEWAY_API_KEY": "lmg-0123456789abcdefghijklmnopqrstuvwxyz"}))
        good = "lmg-0123456789abcdefghijklmnopqrstuvwxyz"
        self.assertEqual(gateway.ask("GET", "/v1/x", key=good).status, 404, "LM Studio has no such path")
        for key in (good[:20], good[:-1], good + "0", good[:20] + "0" * 20, good[1:], good.upper(), f"{good},{good}"):
            self.assertEqual(gateway.ask("GET", "/v1/x", key=key).status, 401, key)


class TellingTests(SynchronousTestCase):
    def requests(self) -> Iterator[bytes]:
        """Requests with naughty strings wherever a client can put one."""
        for naughty in NAUGHTY:
            field = naughty.encode("utf-8", "surrogatepass").replace(b"\r\n", b"\r").replace(b"\x00", b"")
            yield (
                requestBytes("GET", "/v1/x")[:-2]
                + b"User-Agent: "
                + field
                + b"\r\nX-Request-Id: "
                + field
                + b"\r\n\r\n"
            )
            yield b"GET /v1/" + field + b" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
            yield field + b" /v1/x HTTP/1.1\r\nHost: a\r\n\r\n"
            yield b"GET /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + field + b"\r\n\r\n"
            yield requestBytes("POST", "/v1/chat/completions", {**CHAT, "model": naughty, "user": naughty})

    def test_logLines(self) -> None:
        """Whatever a client writes, each line of the logs and each event is one line that parses, and is not long."""
        gateway = MemoryGateway()
        count = 0
        for wire in self.requests():
            client = gateway.connect()
            client.send(wire)
            gateway.network.advance(1)
            count += 1
        self.assertGreaterEqual(len(gateway.records), count)
        for record in gateway.records:
            line = formatJson(record)
            self.assertIsInstance(json.loads(line), dict)
            self.assertTrue(min(line.removesuffix(b"\n")) >= 0x20 and formatText(record).isprintable(), line)
            self.assertLess(len(line), 4096)
        for event in gateway.journal.read(0).events:
            self.assertIsInstance(json.loads(event.data), dict)
            self.assertNotIn(b"\n", event.data)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_reflection(self) -> None:
        """No refusal is anything but JSON that no browser takes for a page, wherever a tag stands in the request."""
        tag = "<h1>x"
        gateway = MemoryGateway(keys=SCOPED)
        ask = gateway.ask
        answers = [
            *(ask("GET", f"/{tag}"), ask("GET", f"/v1/x?{tag}", key=None), ask("GET", f"/debug/{tag}")),
            *(ask("GET", "/v1/x", key=tag), ask("GET", "/v1/x", headers={"Host": tag}), ask("BREW", "/admin/keys")),
            *(ask("GET", "/v1/x", headers={"Expect": tag}), ask("POST", f"/debug/poll?{tag}")),
            *(ask("GET", f"/debug/poll?since={tag}"), ask("GET", f"/debug/requests/{tag.replace('<', '%3c')}")),
            *(
                ask("POST", "/v1/chat/completions", tag.encode()),
                ask("POST", "/admin/models/activate", {"modelKey": tag, tag: 1}),
            ),
            *(
                ask("POST", "/admin/models/load", {"model": tag}),
                ask("POST", "/admin/explain", {"path": tag, "body": tag}),
            ),
            *(ask("POST", "/v1/chat/completions", b"{}", headers={"Content-Encoding": tag}),),
            *(ask("POST", "/admin/models/activate", b"{}", headers={"Content-Type": tag}),),
            *(ask("GET", "/v1/x", headers={"Transfer-Encoding": tag}), ask("GET", "/v1/x", headers={tag: "x"})),
            *(ask("GET", "/v1/x", headers={"Content-Length": tag}), ask("GET", f"/v1/%{tag}")),
        ]
        self.assertGreaterEqual(len(answers), 20)
        for answer in answers:
            self.assertGreaterEqual(answer.status, 400, answer.body)
            self.assertEqual(answer.header(b"content-type"), b"application/json")
            self.assertEqual(answer.header(b"x-content-type-options"), b"nosniff", answer.body)
            self.assertIsNone(answer.header(b"server"))
            self.assertIsInstance(answer.json(), dict)
