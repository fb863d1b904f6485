"""The proxied path, end to end in memory: what LM Studio is sent, what the client gets, and what happens when either leaves."""

from __future__ import annotations

import json
from collections.abc import Callable

from lmgateway.inventory import DownloadedModel, Inventory
from lmgateway.message import ActiveModel, Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.model_names import KnownModels
from lmgateway.studio.simulator.behaviour import Behaviour
from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Answer, MemoryGateway, ScriptedUpstreams, requestBytes, settingsOf

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Frame a piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class InjectionTests(SynchronousTestCase):
    """What a request is given."""

    def setUp(self) -> None:
        self.gateway = MemoryGateway()
        self.gateway.active.model = ActiveModel("qwen/qwen3-8b", None, {"temperature": 0.5, "maxTokens": 9})

    def test_completesChat(self) -> None:
        """A chat that names no model gets the active one and its parameters, and every byte of its own goes through."""
        body = json.dumps(CHAT).encode()
        answer = self.gateway.ask("POST", "/v1/chat/completions", body)
        (received,) = self.gateway.simulator.received
        sent = json.loads(received.body)
        self.assertEqual(answer.status, 200)
        self.assertEqual(sent, {"model": "qwen/qwen3-8b", "temperature": 0.5, "max_tokens": 9, **CHAT})
        self.assertIn(body[1:], received.body)
        self.assertIn((b"Content-Length", b"%d" % len(received.body)), received.headers)

    def test_shorthand(self) -> None:
        """A shorthand is the same as with /v1 in front."""
        self.assertEqual(self.gateway.ask("POST", "/chat/completions?x=1", CHAT).status, 200)
        self.assertEqual(self.gateway.simulator.received[-1].target, b"/v1/chat/completions?x=1")

    def test_embeddingsGetTheModelOnly(self) -> None:
        """Embeddings get the model and no parameter."""
        self.gateway.ask("POST", "/v1/embeddings", {"input": "x"})
        self.assertEqual(json.loads(self.gateway.simulator.received[-1].body), {"model": "qwen/qwen3-8b", "input": "x"})

    def test_otherBodiesPassUntouched(self) -> None:
        """A body of another content type, chunked as it is, goes through as it came."""
        client = self.gateway.connect()
        head = requestBytes(
            "POST",
            "/v1/audio/transcriptions",
            headers={"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"},
        )
        client.send(head + chunk(b"--x\r\n") + chunk(b"{}"))
        client.send(b"0\r\n\r\n")
        self.assertEqual(self.gateway.simulator.received[-1].body, b"--x\r\n{}")

    def test_badJson(self) -> None:
        """What is no JSON object is refused, in the dialect of the path, and never reaches LM Studio."""
        answer = self.gateway.ask("POST", "/v1/messages", b"[1]")
        self.assertEqual((answer.status, answer.json()["type"]), (400, "error"))
        answer = self.gateway.ask("POST", "/v1/chat/completions", b'{"model":1,"model":2}')
        self.assertEqual((answer.status, answer.json()["error"]["param"]), (400, "model"))
        self.assertEqual(len(self.gateway.simulator.received), 0)

    def test_emptyJsonBody(self) -> None:
        """A JSON request without a body is refused: it is no JSON object."""
        answer = self.gateway.ask("POST", "/v1/chat/completions", b"")
        self.assertEqual(answer.status, 400)

    def test_compressedJson(self) -> None:
        """A compressed body that would have to be read is refused with the reason."""
        answer = self.gateway.ask("POST", "/v1/chat/completions", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        self.assertEqual(answer.status, 415)

    def test_modelInTheRecord(self) -> None:
        """The access record names the model that the request went to, and the route instead of the path."""
        self.gateway.ask("POST", "/v1/chat/completions?secret=1", CHAT)
        record = self.gateway.records[-1]
        self.assertEqual(
            (record.model, record.route, record.status, record.outcome, record.keyName),
            ("qwen/qwen3-8b", "/v1/chat/completions", 200, "complete", "GATEWAY_API_KEY"),
        )


class UpstreamRequestTests(SynchronousTestCase):
    """What LM Studio is sent besides."""

    def test_headersAndTarget(self) -> None:
        """Target and end-to-end fields go up as they came; the client's key does not, LM Studio's token does."""
        gateway = MemoryGateway(settingsOf({"LMSTUDIO_API_TOKEN": "sk-lm-AAAAAAAA:BBBBBBBBBBBBBBBBBBBB"}))
        gateway.ask(
            "GET", "/v1/files?a=|[&b=%zz?", headers={"x-CuStOm": "a  b", "Cookie": "c=1", "Accept-Encoding": "br"}
        )
        (received,) = gateway.simulator.received
        self.assertEqual(received.target, b"/v1/files?a=|[&b=%zz?")
        self.assertEqual(
            received.headers,
            (
                (b"Host", b"127.0.0.1:1234"),
                (b"x-CuStOm", b"a  b"),
                (b"Accept-Encoding", b"br"),
                (b"Authorization", b"Bearer sk-lm-AAAAAAAA:BBBBBBBBBBBBBBBBBBBB"),
            ),
        )

    def test_integrationsNeedAnAdmin(self) -> None:
        """A chat with integrations is refused to a key for inference, under any spelling of its path."""
        from lmgateway.message import Principal, Scope
        from lmgateway.policy.authentication import digestOf

        keys = {digestOf("inference-key"): Principal("i", frozenset({Scope.INFERENCE}))}
        gateway = MemoryGateway(keys=keys)
        body = {"input": "x", "integrations": []}
        for path in ("/api/v1/chat", "/API/v1/Chat/"):
            target = path if path.startswith("/api") else "/api/V1/CHAT/"
            self.assertEqual(gateway.ask("POST", target, body, key="inference-key").status, 403)
        self.assertEqual(gateway.ask("POST", "/api/v1/models/LOAD/", {}, key="inference-key").status, 403)
        self.assertEqual(
            gateway.ask(
                "POST",
                "/api/v1/chat",
                b'{"integrations":[]}',
                key="inference-key",
                headers={"Content-Type": "text/plain"},
            ).status,
            415,
        )
        self.assertEqual(len(gateway.simulator.received), 0)

    def test_serversNeedAnAdmin(self) -> None:
        """Nor may a key for inference name MCP servers among the tools; functions, which the client runs, it may."""
        keys = {digestOf("inference-key"): Principal("i", frozenset({Scope.INFERENCE}))}
        gateway = MemoryGateway(keys=keys)
        body = {"model": "qwen/qwen3-8b", "input": "x", "tools": [{"type": "mcp", "server_url": "http://192.0.2.1/"}]}
        for target in ("/v1/responses", "/responses", "/V1/Responses/"):
            self.assertEqual(gateway.ask("POST", target, body, key="inference-key").status, 403)
        self.assertEqual(len(gateway.simulator.received), 0)
        self.assertNotEqual(gateway.ask("POST", "/v1/responses", body).status, 403)
        body["tools"] = [{"type": "function", "name": "mcp", "parameters": {}}]
        self.assertEqual(gateway.ask("POST", "/v1/responses", body, key="inference-key").status, 200)


class AnswerTests(SynchronousTestCase):
    """What the client gets."""

    def test_streamChunkByChunk(self) -> None:
        """Each piece of a stream reaches the client before the next is sent."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {"stream": True}))
        upstream = upstreams.made[0]
        upstream.transport.write(SSE_HEAD)
        gateway.network.flush()
        self.assertIn(b"text/event-stream", client.protocol.data)
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            upstream.transport.write(chunk(piece))
            gateway.network.flush()
            self.assertTrue(client.protocol.data.endswith(chunk(piece)))
        upstream.transport.write(b"0\r\n\r\n")
        gateway.network.flush()
        (answer,) = client.answers
        self.assertEqual((answer.body, answer.whole), (b"data: 1\n\ndata: 2\n\n", True))

    def test_statusOfAStream(self) -> None:
        """An upstream 400 is a 400 even where a stream was asked for."""
        answer = MemoryGateway().ask("POST", "/v1/chat/completions", {"stream": True})
        self.assertEqual(answer.status, 400)

    def test_unexpectedEndpoint(self) -> None:
        """LM Studio's 200 for an unknown path becomes a 404 with the same body."""
        answer = MemoryGateway().ask("GET", "/v1/nothing?x=1")
        self.assertEqual(answer.status, 404)
        self.assertEqual(answer.json(), {"error": "Unexpected endpoint or method. (GET /v1/nothing?x=1)"})

    def test_cutStream(self) -> None:
        """A stream that LM Studio breaks off ends with an error event in its dialect, no [DONE], and no end of chunks."""
        gateway = MemoryGateway()
        gateway.simulator.behaviour = Behaviour(dieAfterChunks=2)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "model": "qwen/qwen3-8b", "stream": True}))
        gateway.network.advance(2)
        (answer,) = client.answers
        self.assertFalse(answer.whole)
        self.assertNotIn(b"[DONE]", answer.body)
        last = answer.body.split(b"\n\n")[-2]
        self.assertEqual(json.loads(last.removeprefix(b"data: "))["error"]["code"], "upstream_broken")
        self.assertIsNotNone(client.protocol.ended)
        self.assertEqual(gateway.records[-1].outcome, "cut")

    def test_cutAnswer(self) -> None:
        """An answer that LM Studio breaks off is cut off, never made whole."""
        gateway = MemoryGateway()
        gateway.simulator.behaviour = Behaviour(dieAfterChunks=1)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "model": "qwen/qwen3-8b"}))
        gateway.network.advance(2)
        (answer,) = client.answers
        self.assertFalse(answer.whole)
        self.assertIsNotNone(client.protocol.ended)

    def test_refusedConnection(self) -> None:
        """LM Studio that is not there is a 503 that says what to do."""
        gateway = MemoryGateway()
        gateway.endpoints.listen = None
        answer = gateway.ask("GET", "/v1/files")
        self.assertEqual(answer.status, 503)
        self.assertIn("http://127.0.0.1:1234 refused the connection", answer.json()["error"]["message"])

    def test_brokenBeforeTheHead(self) -> None:
        """LM Studio that hangs up without a word is a 502."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("GET", "/v1/files"))
        upstreams.made[0].transport.loseConnection()
        gateway.network.flush()
        self.assertEqual(client.answers[0].status, 502)

    def test_silence(self) -> None:
        """LM Studio that says nothing for longer than allowed is a 504, and its connection is closed."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(settingsOf({"PROXY_TIMEOUT": "3000"}), listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("GET", "/v1/files"))
        gateway.network.advance(2)
        self.assertEqual(client.answers, [])
        gateway.network.advance(2)
        self.assertEqual(client.answers[0].status, 504)
        self.assertTrue(upstreams.made[0].ended)

    def test_silenceInAStream(self) -> None:
        """A stream has a limit of its own, counted from its last piece; past it the stream ends with an error event."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(settingsOf({"PROXY_TIMEOUT": "1000", "PROXY_STREAM_TIMEOUT": "5000"}), listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {"stream": True}))
        gateway.network.advance(4)
        upstreams.made[0].transport.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        gateway.network.advance(4)
        upstreams.made[0].transport.write(chunk(b"data: 2\n\n"))
        gateway.network.advance(4)
        self.assertIsNone(client.protocol.ended)
        gateway.network.advance(2)
        (answer,) = client.answers
        self.assertIn(b"upstream_timeout", answer.body)
        self.assertTrue(upstreams.made[0].ended)


class CancellationTests(SynchronousTestCase):
    """The client leaves: LM Studio must stop at once."""

    def setUp(self) -> None:
        self.upstreams = ScriptedUpstreams()
        self.gateway = MemoryGateway(listen=self.upstreams)
        self.client = self.gateway.connect()

    def test_whileItsBodyIsRead(self) -> None:
        """A client that leaves in the midst of a JSON body never reaches LM Studio, and is told of nowhere as an error."""
        self.client.send(requestBytes("POST", "/v1/chat/completions", b"{}")[:-1])
        self.client.leave()
        self.assertEqual(self.upstreams.made, [])
        self.assertEqual((self.gateway.records[-1].outcome, self.gateway.records[-1].status), ("cancelled", None))

    def test_whileItsBodyIsStreamed(self) -> None:
        """A client that leaves in the midst of an upload closes the upload's connection."""
        head = requestBytes("POST", "/v1/audio/transcriptions", b"x" * 10, headers={"Content-Type": "audio/wav"})
        self.client.send(head[:-5])
        self.assertTrue(self.upstreams.made[0].data.endswith(b"\r\n\r\nxxxxx"))
        self.client.leave()
        self.assertTrue(self.upstreams.made[0].ended)

    def test_whileWaiting(self) -> None:
        """A client that leaves before the first byte closes the connection upstream."""
        self.client.send(requestBytes("POST", "/v1/chat/completions", CHAT))
        self.assertFalse(self.upstreams.made[0].ended)
        self.client.leave()
        self.assertTrue(self.upstreams.made[0].ended)

    def test_midStream(self) -> None:
        """A client that leaves in the midst of a stream closes the connection upstream."""
        self.client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        self.upstreams.made[0].transport.write(SSE_HEAD + chunk(b"data: 1\n\n"))
        self.gateway.network.flush()
        self.client.leave()
        self.assertTrue(self.upstreams.made[0].ended)
        self.assertEqual(self.gateway.records[-1].outcome, "cancelled")

    def test_behindAStalledClient(self) -> None:
        """A client that does not read holds LM Studio back, and memory does not grow."""
        self.client.transport.pauseProducing()
        self.client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        upstream = self.upstreams.made[0]
        upstream.transport.write(SSE_HEAD)
        for _ in range(50):
            upstream.transport.write(chunk(b"x" * 10_000))
            self.gateway.network.flush()
        self.assertLess(len(self.client.downstream.out), 100_000)
        self.assertGreater(len(upstream.transport.out), 350_000)
        self.client.transport.resumeProducing()
        self.gateway.network.flush()
        self.assertEqual(len(self.client.answers[0].body), 500_000)


class UnknownModelTests(SynchronousTestCase):
    """A model that LM Studio did not have when it was last looked at."""

    def setUp(self) -> None:
        self.gateway = MemoryGateway()
        self.gateway.completions.known = KnownModels(Inventory())

    def ask(self, look: Callable[[], Deferred[bool]]) -> Answer:
        """Ask for it, on a gateway that looks so."""
        self.gateway.proxy._look = look
        return self.gateway.ask("POST", "/v1/chat/completions", {**CHAT, "model": "qwen/qwen3-8b"})

    def test_lookedAt(self) -> None:
        """LM Studio is looked at before a model is refused, and one that has come since is served."""

        def look() -> Deferred[bool]:
            self.gateway.completions.known = KnownModels(
                Inventory((DownloadedModel("qwen/qwen3-8b", "llm", "qwen/qwen3-8b"),))
            )
            return succeed(True)

        self.assertEqual(self.ask(look).status, 200)

    def test_refused(self) -> None:
        """One that has not come is refused: after one look, and without any where LM Studio was looked at just now."""
        for hasLooked in (True, False):
            answer = self.ask(lambda hasLooked=hasLooked: succeed(hasLooked))  # type: ignore[misc]
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "model_not_found"))
        self.assertEqual((len(self.gateway.simulator.received), len(self.gateway.exchanges.inFlight)), (0, 0))


class RestrictedKeyTests(SynchronousTestCase):
    """A key that is meant for some models."""

    def setUp(self) -> None:
        principal = Principal("limited", frozenset({Scope.INFERENCE}), "key_1", Grant(models=("qwen/*",)))
        self.gateway = MemoryGateway(keys={digestOf("limited-key"): principal})

    def ask(self, target: str, body: object, **headers: str) -> Answer:
        """Ask with that key."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.gateway.ask("POST", target, body, key="limited-key", headers=fields)

    def test_models(self) -> None:
        """It may ask those, whichever way it names them, and no other."""
        self.assertEqual(self.ask("/v1/chat/completions", {**CHAT, "model": "qwen/qwen3-8b"}).status, 200)
        for model in ("google/gemma-3-4b", None, 5, ["qwen/qwen3-8b"]):
            answer = self.ask("/v1/chat/completions", {**CHAT, "model": model})
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (403, "model_not_allowed"), model)
        self.assertEqual(self.ask("/v1/chat/completions", CHAT).status, 403)

    def test_unread(self) -> None:
        """What the gateway does not read is no way around it: another content type, or a path that it does not know."""
        body = json.dumps({**CHAT, "model": "google/gemma-3-4b"}).encode()
        self.assertEqual(self.ask("/v1/chat/completions", body, Content_Type="text/plain").status, 403)
        self.assertEqual(self.ask("/v1/other", body).status, 403)
        self.assertEqual(self.ask("/v1/audio/transcriptions", b"x", Content_Type="multipart/form-data").status, 403)
        self.assertEqual(len(self.gateway.simulator.received), 0)

    def test_unreadForOthers(self) -> None:
        """What the gateway does not read is no way around an administrator's right either, and no matter to an administrator."""
        body = json.dumps({**CHAT, "integrations": ["mcp/x"]}).encode()
        plain = Principal("plain", frozenset({Scope.INFERENCE}), "key_2")
        boss = Principal("boss", frozenset({Scope.ADMIN}), "key_3")
        gateway = MemoryGateway(keys={digestOf("plain-key"): plain, digestOf("boss-key"): boss})
        headers = {"Content-Type": "text/plain"}
        answer = gateway.ask("POST", "/api/v1/chat", body, key="plain-key", headers=headers)
        self.assertEqual((answer.status, len(gateway.simulator.received)), (415, 0))
        gateway.ask("POST", "/api/v1/chat", body, key="boss-key", headers=headers)
        self.assertEqual([each.body for each in gateway.simulator.received], [body])

    def test_list(self) -> None:
        """It may see what there is for it."""
        answer = self.gateway.ask("GET", "/v1/models", key="limited-key")
        self.assertEqual([each["id"] for each in answer.json()["data"]], ["qwen/qwen3-8b"])


class CaptureTests(SynchronousTestCase):
    def test_key(self) -> None:
        """A key says for itself whether what it asks is kept; one that says nothing goes by the settings."""
        settings = settingsOf()
        gateway = MemoryGateway(
            replace(settings, debug=replace(settings.debug, capture=("never", "usual"))),
            keys={
                digestOf(f"{name}-key"): Principal(name, frozenset({Scope.INFERENCE}), name, Grant(capture=capture))
                for name, capture in (("never", False), ("always", True), ("usual", None), ("other", None))
            },
        )
        for name, isKept in (("never", False), ("always", True), ("usual", True), ("other", False)):
            answer = gateway.ask("POST", "/v1/chat/completions", CHAT, key=f"{name}-key")
            requestId = (answer.header(b"X-Request-Id") or b"").decode()
            self.assertEqual(gateway.captures.find(requestId) is not None, isKept, name)
