"""Clients that follow the events of a gateway in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lmgateway.telemetry.sse import EventStreamDecoder, StreamEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import KEY, Answer, Client, MemoryGateway, requestBytes


class Following:
    """A client that follows the stream."""

    def __init__(
        self, gateway: MemoryGateway, query: str = "", headers: Mapping[str, str] | None = None, key: str | None = KEY
    ) -> None:
        self.client: Client = gateway.connect()
        self.client.send(requestBytes("GET", f"/debug/stream{query}", key=key, headers=headers))
        gateway.network.advance(1)

    @property
    def answer(self) -> Answer:
        (answer,) = self.client.answers
        return answer

    @property
    def decoder(self) -> EventStreamDecoder:
        decoder = EventStreamDecoder()
        decoder.feed(self.answer.body)
        return decoder

    @property
    def events(self) -> list[StreamEvent]:
        assert self.answer.header(b"content-type") == b"text/event-stream", self.answer.body
        return EventStreamDecoder().feed(self.answer.body)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Types and ids, in order."""
        return [(event.kind, event.id) for event in self.events]

    @property
    def hello(self) -> str:
        """What connected says."""
        message: str = json.loads(self.events[0].data)["message"]
        return message


class FeedTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway()

    def small(self) -> None:
        """Have a gateway that holds ten events or so."""
        self.gateway = MemoryGateway(journalSize=3000)

    def happen(self, *kinds: str) -> None:
        for kind in kinds:
            self.gateway.journal.record(kind, {"x": 1})
        self.gateway.network.advance(1)

    def assertNobodyLeft(self) -> None:
        feed = self.gateway.feed
        self.assertEqual((len(feed.rounds), feed._following, self.gateway.journal._waiting), (0, {}, []))
