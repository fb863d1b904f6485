"""What the access log says of requests that have ended, whichever way they did."""

from __future__ import annotations

from typing import Any

from lmgateway.telemetry.accesslog import AccessRecord
from twisted.trial.unittest import SynchronousTestCase

from tests.gateways import EMPTY, HEAD, chunk
from tests.web.support import MemoryGateway, ScriptedUpstreams, requestBytes

BODY = {"model": "m", "stream": True}


class RecordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.upstreams = ScriptedUpstreams()
        self.gateway = MemoryGateway(listen=self.upstreams)

    def begin(self) -> Any:
        """Ask for an inference, and give the client."""
        client = self.gateway.connect("10.0.0.7")
        client.send(requestBytes("POST", "/v1/chat/completions?a=b", BODY))
        return client

    def say(self, data: bytes) -> None:
        """Have LM Studio say something."""
        transport: Any = self.upstreams.made[-1].transport
        transport.write(data)
        self.gateway.network.flush()

    def last(self) -> AccessRecord:
        """The last record."""
        record: AccessRecord = self.gateway.records[-1]
        return record

    def test_complete(self) -> None:
        """A whole answer is complete: who asked, from where, on which route (never the query), for which model."""
        self.begin()
        self.gateway.network.advance(2)
        self.say(EMPTY)
        record = self.last()
        self.assertEqual((record.outcome, record.status, record.model), ("complete", 200, "m"))
        self.assertEqual((record.address, record.method, record.route), ("10.0.0.7", "POST", "/v1/chat/completions"))
        self.assertEqual((record.keyName, record.seconds, record.secondsToFirstByte), ("GATEWAY_API_KEY", 2.0, 2.0))

    def test_cancelled(self) -> None:
        """A client that leaves cancels, before the answer or in the midst of it; then there is no status, or there is."""
        self.begin().leave()
        self.assertEqual(
            (self.last().outcome, self.last().status, self.last().secondsToFirstByte), ("cancelled", None, None)
        )
        client = self.begin()
        self.say(HEAD + chunk(b"data: 1\n\n"))
        client.leave()
        self.assertEqual((self.last().outcome, self.last().status), ("cancelled", 200))

    def test_cut(self) -> None:
        """An answer that breaks off upstream is cut."""
        self.begin()
        self.say(HEAD + chunk(b"data: 1\n\n"))
        transport: Any = self.upstreams.made[-1].transport
        transport.loseConnection()
        self.gateway.network.flush()
        self.assertEqual((self.last().outcome, self.last().status), ("cut", 200))

    def test_refused(self) -> None:
        """What is the client's fault is refused; a key that is wrong, or a path that is none, has no name and no route."""
        self.gateway.ask("GET", "/v1/models", key="wrong-key-wrong-key")
        self.assertEqual((self.last().outcome, self.last().status, self.last().keyName), ("refused", 401, None))
        self.gateway.ask("GET", "/nowhere/secret")
        self.assertEqual((self.last().outcome, self.last().status, self.last().route), ("refused", 404, "-"))

    def test_upstreamsFault(self) -> None:
        """An error that is not the client's fault is a whole answer, and no refusal."""
        self.begin()
        transport: Any = self.upstreams.made[-1].transport
        transport.loseConnection()
        self.gateway.network.flush()
        self.assertEqual((self.last().outcome, self.last().status), ("complete", 502))
