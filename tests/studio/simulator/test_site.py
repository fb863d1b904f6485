"""
Paths, methods, tokens, switches, and the habits of a connection.

Most of this runs over a string transport (:mod:`tests.studio.simulator.wire`); that the simulator can be put into any site,
and be asked through treq, is shown once.
"""

from __future__ import annotations

import json

from lmgateway.studio.simulator.channel import StudioChannel
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorResource
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from twisted.web.resource import IResource
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.studio.simulator.wire import GEMMA, NOMIC, QWEN, Studio, chat, said

CHAT = "/v1/chat/completions"
TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"

BODIES: dict[str, dict[str, object]] = {
    CHAT: chat("hi"),
    "/v1/completions": {"model": GEMMA, "prompt": "hi"},
    "/v1/embeddings": {"model": NOMIC, "input": "hi"},
    "/v1/responses": {"model": GEMMA, "input": "hi"},
    "/v1/messages": {"model": GEMMA, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    "/api/v0/chat/completions": chat("hi"),
    "/api/v0/completions": {"model": GEMMA, "prompt": "hi"},
    "/api/v0/embeddings": {"model": NOMIC, "input": "hi"},
    "/api/v1/chat": {"model": GEMMA, "input": "hi"},
}
"""Every path that takes a POST, with a body that it takes."""

LISTS = ("/v1/models", "/api/v0/models", "/api/v1/models")


def unexpected(method: str, target: str) -> dict[str, str]:
    """What LM Studio says to what it does not know."""
    return {"error": f"Unexpected endpoint or method. ({method} {target})"}


class RouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def test_every(self) -> None:
        """Every path is served, and indents what it says by 2."""
        for path, body in BODIES.items():
            answer = self.studio.ask(path, body)
            self.assertEqual(answer.status, 200, path)
            self.assertIsNone(answer.json.get("error"))
            self.assertTrue(answer.text.startswith('{\n  "'), path)
        for path in LISTS:
            self.assertEqual(self.studio.ask(path).status, 200)
        self.assertEqual(self.studio.ask("/lmstudio-greeting").body, b'{"lmstudio":true}')

    def test_unknown(self) -> None:
        """Anything else is a 200 with an error that quotes method and target."""
        for method, target in (
            ("GET", "/"),
            ("GET", "/favicon.ico?x=y&z"),
            ("GET", "/v1//models"),
            ("GET", "//v1/models"),
            ("GET", "/models"),
            ("GET", "/v1/models/qwen"),
            ("GET", "/v1/chat/completions"),
            ("POST", "/v1/models"),
            ("OPTIONS", "/v1/chat/completions"),
            ("DELETE", "/api/v1/models"),
            ("PATCH", "/x"),
            ("ODD", "/v1/%6dodels"),
            ("POST", "/api/v1/models/delete"),
            ("GET", "/api/v1/models/load"),
            ("POST", "/api/v1/models/download/status/job_1"),
        ):
            answer = self.studio.ask(target, method=method)
            self.assertEqual((answer.status, answer.json), (200, unexpected(method, target)))
            self.assertEqual(answer.field("Content-Type"), "application/json; charset=utf-8")

    def test_unknownNative(self) -> None:
        """Some versions say 404 below ``/api/v1``, and only there."""
        self.studio.simulator.behaviour.unknownPathStatus = 404
        answer = self.studio.ask("/api/v1/models/list")
        self.assertEqual((answer.status, answer.json), (404, unexpected("GET", "/api/v1/models/list")))
        self.assertEqual(self.studio.ask("/v1/models/list").status, 200)

    def test_express(self) -> None:
        """As in Express the case of a path does not matter, nor does one slash at its end, nor the query."""
        for target in ("/V1/Models", "/v1/models/", "/v1/models?x", "/v1/models/?"):
            self.assertIn("data", self.studio.ask(target).json)
        self.assertIn("choices", self.studio.ask("/V1/chat/Completions/?x=y", BODIES[CHAT]).json)
        self.assertEqual(self.studio.ask("/v1/models//").json, unexpected("GET", "/v1/models//"))

    def test_beforeVersion4(self) -> None:
        """An LM Studio before 0.4 has no ``/api/v1``."""
        self.studio.simulator.behaviour.apiV1 = False
        self.assertEqual(self.studio.ask("/api/v1/models").json, unexpected("GET", "/api/v1/models"))
        self.assertEqual(
            self.studio.ask("/api/v1/chat", BODIES["/api/v1/chat"]).json, unexpected("POST", "/api/v1/chat")
        )
        self.assertIn("data", self.studio.ask("/api/v0/models").json)
        self.assertIn("choices", self.studio.ask(CHAT, BODIES[CHAT]).json)

    def test_badJSON(self) -> None:
        """A body that is no JSON is a 400 in each dialect."""
        for path in BODIES:
            answer = self.studio.ask(path, b'{"model": }')
            self.assertEqual(answer.status, 400)
            error = answer.json["error"]
            message = error if isinstance(error, str) else error["message"]
            self.assertTrue(message.startswith("Invalid body: failed to parse JSON value."), path)

    def test_bodyWithoutObject(self) -> None:
        """JSON that is no object lacks every field."""
        for path in BODIES:
            self.assertEqual(self.studio.ask(path, b"[7]").status, 400, path)

    def test_largeBody(self) -> None:
        """A body of 8 MB is nothing special."""
        answer = self.studio.ask(CHAT, chat("x" * 8_000_000, max_tokens=2))
        self.assertEqual((answer.status, answer.json["usage"]["prompt_tokens"]), (200, 2_000_004))

    def test_noModels(self) -> None:
        """Where nothing is downloaded every path says so."""
        self.studio.simulator.behaviour.noModels = True
        for path, body in BODIES.items():
            answer = self.studio.ask(path, body)
            self.assertEqual(answer.status, 400)
            self.assertTrue(answer.json["error"]["message"].startswith("No models loaded."), path)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio(requireToken=TOKEN)

    def test_everyPath(self) -> None:
        """Without the token there is nothing but the greeting."""
        for path in (*BODIES, *LISTS, "/", "/x"):
            self.assertEqual(self.studio.ask(path, BODIES.get(path)).status, 401, path)
        self.assertEqual(self.studio.ask("/lmstudio-greeting").status, 200)

    def test_right(self) -> None:
        """With it everything is as without."""
        for path, body in BODIES.items():
            self.assertEqual(self.studio.ask(path, body, Authorization=f"Bearer {TOKEN}").status, 200)

    def test_wrong(self) -> None:
        """With another the first ten characters of it come back."""
        answer = self.studio.ask("/v1/models", Authorization="Bearer lm-studio-secret")
        self.assertEqual(answer.status, 401)
        self.assertIn("provided: lm-studio-******.", answer.json["error"]["message"])

    def test_notRequired(self) -> None:
        """While none is required any will do."""
        self.assertEqual(Studio().ask("/v1/models", Authorization="Bearer x").status, 200)

    def test_anthropicKey(self) -> None:
        """On ``/v1/messages`` the token may come as Anthropic's clients send it, and only there."""
        self.assertEqual(self.studio.ask("/v1/messages", BODIES["/v1/messages"], x_api_key=TOKEN).status, 200)
        self.assertEqual(self.studio.ask("/v1/messages", BODIES["/v1/messages"], x_api_key="x").status, 401)
        self.assertEqual(self.studio.ask(CHAT, BODIES[CHAT], x_api_key=TOKEN).status, 401)


class SwitchTests(SynchronousTestCase):
    def test_oneRequest(self) -> None:
        """Switches in the header hold for that request alone."""
        studio = Studio()
        body = chat("hi", stream=True)
        answer = studio.ask(CHAT, body, X_Simulate="die-after=3; unknown-model=served")
        self.assertEqual((len(answer.chunks), answer.complete), (3, False))
        self.assertTrue(studio.ask(CHAT, body).complete)

    def test_wrong(self) -> None:
        """A switch that does not exist is told, not overlooked."""
        answer = Studio().ask("/v1/models", X_Simulate="dye-after=3")
        self.assertEqual(answer.status, 400)
        self.assertIn("There is no switch 'dye-after'", answer.json["error"])

    def test_deathOfLists(self) -> None:
        """A list can be cut off as well."""
        answer = Studio().ask("/v1/models", X_Simulate="die-after=1")
        self.assertFalse(answer.complete)


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()
        self.connection = self.studio.connect()

    def test_interface(self) -> None:
        """A connection knows of half-closed ones."""
        verifyObject(IHalfCloseableProtocol, StudioChannel())

    def test_idle(self) -> None:
        """A connection that has been idle for 5 s after an answer is closed."""
        self.connection.ask("/v1/models")
        self.studio.clock.advance(4.9)
        self.assertFalse(self.connection.closed)
        self.studio.clock.advance(0.2)
        self.assertTrue(self.connection.closed)

    def test_busy(self) -> None:
        """The 5 s begin anew with each answer, and do not run during one, nor in the middle of a request."""
        for _ in range(3):
            self.connection.ask("/v1/models")
            self.studio.clock.advance(4)
        self.connection.send(CHAT, chat("hi"), X_Simulate="prefill=100")
        self.studio.clock.advance(99)
        self.assertFalse(self.connection.closed)
        self.studio.clock.advance(2)
        self.connection.channel.dataReceived(b"POST /v1/completions HTTP/1.1\r\n")
        self.studio.clock.advance(30)
        self.assertFalse(self.connection.closed)
        self.studio.clock.advance(31)
        self.assertTrue(self.connection.closed)

    def test_silent(self) -> None:
        """A connection on which no request ever comes has a minute."""
        self.studio.clock.advance(59)
        self.assertFalse(self.connection.closed)
        self.studio.clock.advance(2)
        self.assertTrue(self.connection.closed)

    def test_pipelined(self) -> None:
        """Requests sent ahead are answered in order."""
        self.connection.send(CHAT, chat("hi"), X_Simulate="prefill=1")
        self.connection.send("/lmstudio-greeting")
        self.assertEqual(self.connection.received, b"")
        self.studio.clock.advance(1)
        self.assertEqual(self.connection.received.count(b"HTTP/1.1 200 OK"), 2)
        self.assertTrue(self.connection.received.endswith(b'{"lmstudio":true}'))

    def test_halfClosedWhileReading(self) -> None:
        """A client that closes its side while the prompt is read is not answered in kind until it is read."""
        self.connection.send(CHAT, chat("hi"), X_Simulate="prefill=10")
        self.connection.channel.readConnectionLost()
        self.studio.clock.advance(9.9)
        self.assertFalse(self.connection.closed)
        self.assertEqual(self.studio.simulator.generating, 1)
        self.studio.clock.advance(0.2)
        self.assertTrue(self.connection.closed)
        self.assertEqual((self.connection.received, self.studio.simulator.generating), (b"", 0))

    def test_halfClosedOtherwise(self) -> None:
        """At any other time the connection is closed at once."""
        self.connection.send(CHAT, chat("count to 9", stream=True), X_Simulate="tokens-per-second=1")
        self.studio.clock.advance(3)
        self.connection.channel.readConnectionLost()
        self.assertTrue(self.connection.closed)
        idle = self.studio.connect()
        idle.channel.readConnectionLost()
        self.assertTrue(idle.closed)


@implementer(IBodyProducer)
class Content:
    """A body that is produced at once; treq's own would need the global reactor."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it all."""
        consumer.write(self.content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is all written."""

    def resumeProducing(self) -> None:
        """It is all written."""

    def stopProducing(self) -> None:
        """It is all written."""


class ResourceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.simulator = Simulator()
        self.resource = simulatorResource(self.simulator, self.clock)
        self.agent = RequestTraversalAgent(self.resource)
        self.client = HTTPClient(self.agent, data_to_body_producer=Content)

    def test_interface(self) -> None:
        """It is a resource like any other."""
        verifyObject(IResource, self.resource)

    def test_treq(self) -> None:
        """It can be asked in memory through treq, by any path."""
        response = self.successResultOf(self.client.get("http://studio/v1/models"))
        content = self.successResultOf(response.content())
        self.assertEqual(json.loads(content)["data"][0]["id"], QWEN)
        self.assertIn((b"Host", b"studio"), self.simulator.received[0].headers)

    def test_stream(self) -> None:
        """Its streams come in pieces there too, by its own clock."""
        sending = self.client.post(
            f"http://studio{CHAT}",
            data=json.dumps(chat("count to 3", stream=True)).encode(),
            headers={"X-Simulate": "tokens-per-second=1"},
            unbuffered=True,
        )
        response = self.successResultOf(sending)
        pieces: list[bytes] = []
        collected = response.collect(pieces.append)
        for expected in (1, 2, 3):
            self.agent.flush()
            self.assertEqual(b"".join(pieces).count(b'"content"'), expected)
            self.clock.advance(1)
        self.clock.advance(2)
        self.agent.flush()
        self.successResultOf(collected)
        self.assertTrue(b"".join(pieces).endswith(b"data: [DONE]\n\n"))


class WireTests(SynchronousTestCase):
    def test_said(self) -> None:
        """The text that a stream says is what these tests take it for."""
        self.assertEqual(said(Studio().ask(CHAT, chat("count to 3", stream=True))), "1 2 3")
