"""The list of models, while LM Studio is there and while it is not."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.completion import Alias
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.web.listing import LONGEST_WAIT, PATIENCE_SECONDS
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Answer, MemoryGateway, ScriptedUpstreams, requestBytes

BODY = b'{"data":[{"id":"a/b","object":"model"}],"object":"list"}'


def ids(answer: Answer) -> list[str]:
    """The names that are listed."""
    return [item["id"] for item in answer.json()["data"]]


def answerOf(body: bytes, status: bytes = b"200 OK") -> bytes:
    """An upstream's answer."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class ListingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.upstreams = ScriptedUpstreams()
        self.gateway = MemoryGateway(listen=self.upstreams)

    def begin(self, target: str = "/v1/models", headers: dict[str, str] | None = None) -> Any:
        """Ask, and give the client."""
        client = self.gateway.connect()
        client.send(requestBytes("GET", target, headers=headers))
        return client

    def say(self, data: bytes) -> None:
        """Have the last upstream say something."""
        transport: Any = self.upstreams.made[-1].transport
        transport.write(data)
        self.gateway.network.flush()

    def leave(self) -> None:
        """Have LM Studio end."""
        self.gateway.endpoints.listen = None
        transport: Any = self.upstreams.made[-1].transport
        transport.loseConnection()
        self.gateway.network.flush()

    def list(self) -> Answer:
        """Ask, have LM Studio answer, and give the answer."""
        client = self.begin()
        self.say(answerOf(BODY))
        answer: Answer = client.answers[0]
        return answer

    def test_letter(self) -> None:
        """The list is LM Studio's, and not marked as old."""
        answer = self.list()
        self.assertEqual((answer.status, answer.body), (200, BODY))
        self.assertIsNone(answer.header(b"X-LMGateway-Stale"))

    def test_request(self) -> None:
        """LM Studio is asked what the client asked, but for what would make its answer unreadable."""
        self.begin("/models?x=1", {"Accept-Encoding": "gzip", "If-None-Match": "*", "X-Custom": "y"})
        data = self.upstreams.made[0].data
        self.assertTrue(data.startswith(b"GET /v1/models?x=1 HTTP/1.1\r\n"), data)
        self.assertIn(b"X-Custom: y\r\n", data)
        self.assertNotIn(b"If-None-Match", data)
        self.assertNotIn(b"gzip", data)

    def test_alias(self) -> None:
        """Aliases are listed."""
        self.gateway.completions.configure({"gpt": Alias("a/b")}, {}, isStrict=True)
        self.assertEqual(ids(self.list()), ["a/b", "gpt"])

    def test_key(self) -> None:
        """A key that is meant for other models sees none of these."""
        principal = Principal("k", frozenset({Scope.INFERENCE}), None, Grant(models=("c/*",)))
        gateway = MemoryGateway(keys={digestOf("limited"): principal}, listen=self.upstreams)
        client = gateway.connect()
        client.send(requestBytes("GET", "/v1/models", key="limited"))
        transport: Any = self.upstreams.made[-1].transport
        transport.write(answerOf(BODY))
        gateway.network.flush()
        self.assertEqual(ids(client.answers[0]), [])

    def test_other(self) -> None:
        """What is no list is passed on as LM Studio says it, which is asked once."""
        client = self.begin()
        self.say(answerOf(b'{"error":"x"}', b"401 Unauthorized"))
        (answer,) = client.answers
        self.assertEqual((answer.status, answer.body), (401, b'{"error":"x"}'))

    def test_otherMethods(self) -> None:
        """Other methods are LM Studio's business."""
        client = self.gateway.connect()
        client.send(requestBytes("POST", "/v1/models", {"a": 1}))
        self.assertTrue(self.upstreams.made[0].data.startswith(b"POST /v1/models "))

    def test_down(self) -> None:
        """While LM Studio is down its last list is given at once, marked with its age, and LM Studio is asked behind."""
        self.list()
        self.gateway.network.advance(7)
        self.gateway.state.failed("gone")
        before = len(self.upstreams.made)
        client = self.begin()
        (answer,) = client.answers
        self.assertEqual((answer.status, answer.body, answer.header(b"X-LMGateway-Stale")), (200, BODY, b"7"))
        for _ in range(9):
            self.begin()
        self.assertLessEqual(len(self.upstreams.made), before + 1)
        self.say(answerOf(BODY.replace(b"a/b", b"new")))
        self.assertIs(self.gateway.state.isUp, True)
        client = self.begin()
        self.say(answerOf(BODY.replace(b"a/b", b"newer")))
        self.assertEqual(ids(client.answers[0]), ["newer"])

    def test_refused(self) -> None:
        """The request that finds LM Studio gone is given the last list, too."""
        self.list()
        self.leave()
        (answer,) = self.begin().answers
        self.assertEqual((answer.status, answer.body), (200, BODY))
        self.assertIs(self.gateway.state.isUp, False)

    def test_silent(self) -> None:
        """An LM Studio that hangs is waited for a little where its last list is at hand, and longer where none is."""
        client = self.begin()
        self.gateway.network.advance(LONGEST_WAIT + 1)
        self.assertEqual(client.answers[0].status, 504)
        self.list()
        client = self.begin()
        self.gateway.network.advance(PATIENCE_SECONDS + 1)
        self.assertEqual(client.answers[0].status, 200)
        self.assertIsNotNone(client.answers[0].header(b"X-LMGateway-Stale"))

    def test_unknown(self) -> None:
        """Where there never was a list, it is told that LM Studio is not there."""
        self.gateway.endpoints.listen = None
        (answer,) = self.begin().answers
        self.assertEqual(answer.status, 503)
        self.assertIn("LM Studio", json.loads(answer.body)["error"]["message"])

    def test_replaced(self) -> None:
        """What one LM Studio answers when another has taken its place is not taken for the other's."""
        client = self.begin()
        state = self.gateway.listing.state = UpstreamState(self.gateway.journal, "http://127.0.0.1:9999")
        self.gateway.listing.forget()
        self.say(answerOf(BODY))
        self.assertEqual(client.answers[0].status, 200)
        self.assertIsNone(state.isUp)
        self.leave()
        self.assertEqual(self.begin().answers[0].status, 503)

    def test_left(self) -> None:
        """A client that leaves takes its question along."""
        self.begin().leave()
        self.gateway.network.advance(1)
        self.assertTrue(self.upstreams.made[0].ended)
