"""Followers that are slow, too many, or still there when the gateway stops."""

from __future__ import annotations

import gc
import json

from lmgateway.message import Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.web.followers import RETRY_MS

from tests.web.feed_support import FeedTestCase, Following
from tests.web.support import MemoryGateway, requestBytes


class SlowClientTests(FeedTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway(journalSize=200_000)
        self.gateway.withLimits(writeStallTimeout=1e9)

    def test_neverReads(self) -> None:
        """A client that does not read costs no more than a buffer, and the others get everything."""
        slow, other = Following(self.gateway), Following(self.gateway)
        slow.client.transport.pauseProducing()
        for _ in range(50):
            self.happen(*["error"] * 100)
        self.assertEqual(len(other.events), 5001)
        self.assertLess(len(slow.client.downstream.out), 2 * 64 * 1024 + 10_000)

    def test_readsAgain(self) -> None:
        """A client that reads again goes on from where it was: whole events, one gap for what it lost, then the rest."""
        slow = Following(self.gateway)
        slow.client.transport.pauseProducing()
        for _ in range(50):
            self.happen(*["error"] * 100)
        slow.client.transport.resumeProducing()
        self.gateway.network.advance(1)
        events = slow.events[1:]
        (gap,) = [event for event in events if event.kind == "gap"]
        place = events.index(gap)
        lost = json.loads(gap.data)["lost"]
        self.assertEqual([int(event.id) for event in events[:place]], list(range(1, place + 1)))
        self.assertEqual(int(gap.id), place + lost)
        self.assertEqual([int(event.id) for event in events[place + 1 :]], list(range(place + lost + 1, 5001)))

    def test_neverReadsAndIsClosed(self) -> None:
        """When the gateway stops, a client that does not read is not waited for."""
        slow = Following(self.gateway)
        slow.client.transport.pauseProducing()
        for _ in range(50):
            self.happen(*["error"] * 100)
        self.gateway.feed.closeAll()
        self.assertTrue(slow.client.downstream.aborted)
        self.gateway.network.flush()
        self.assertNobodyLeft()
        self.assertEqual([record.outcome for record in self.gateway.records], ["cut"])

    def test_vanishes(self) -> None:
        """Clients that vanish while they are behind, or are not, leave nothing behind."""
        slow, other = Following(self.gateway), Following(self.gateway)
        slow.client.transport.pauseProducing()
        self.happen(*["error"] * 1000)
        other.client.leave()
        slow.client.transport.abortConnection()
        self.gateway.network.flush()
        self.happen("error")
        self.assertNobodyLeft()
        self.assertEqual([record.outcome for record in self.gateway.records], ["cancelled", "cancelled"])

    def test_doesNotGrow(self) -> None:
        """A stream that is held open for hours holds no more than one of minutes, however much it was sent."""
        following = Following(self.gateway)
        sink = following.client.protocol

        def hour() -> int:
            for _ in range(240):
                self.happen(*["error"] * 10)
                self.gateway.network.advance(14)
                sink.data = b""
                following.client.downstream.writes.clear()
            gc.collect()
            return len(gc.get_objects())

        hour()
        after = hour()
        self.assertLessEqual(hour(), after + 20)
        self.assertIsNone(sink.ended)


class PlaceTests(FeedTestCase):
    def test_perKey(self) -> None:
        """Past the limit of its key it is 429, with the setting and when to come back; polls that wait count as well."""
        keys = {digestOf("other"): Principal("other", frozenset({Scope.MONITOR}))}
        self.gateway = MemoryGateway(keys=keys)
        self.gateway.feed.configure(10, 2)
        first = Following(self.gateway)
        poller = self.gateway.connect()
        poller.send(requestBytes("GET", "/debug/poll"))
        for path in ("/debug/stream", "/debug/poll"):
            answer = self.gateway.ask("GET", path)
            self.assertEqual((answer.status, answer.header(b"Retry-After")), (429, b"10"))
            self.assertIn("debug.maxSubscribersPerKey", answer.json()["error"])
        self.assertEqual(len(Following(self.gateway, key="other").events), 1)
        first.client.leave()
        self.assertEqual(len(Following(self.gateway).events), 1)

    def test_inAll(self) -> None:
        """Past the limit of all it is 429 for everybody; a poll that need not wait is answered all the same."""
        self.gateway.feed.configure(2, 256)
        Following(self.gateway)
        Following(self.gateway)
        self.assertIn("debug.maxSubscribers ", self.gateway.ask("GET", "/debug/stream").json()["error"])
        self.happen("error")
        self.assertEqual(len(self.gateway.ask("GET", "/debug/poll").json()["events"]), 1)

    def test_manyComeAndGo(self) -> None:
        """However many have come and gone, there is room for as many as ever."""
        self.gateway.feed.configure(3, 3)
        for _ in range(10):
            Following(self.gateway).client.leave()
            client = self.gateway.connect()
            client.send(requestBytes("GET", "/debug/poll?since=1"))
            client.leave()
            self.assertEqual(self.gateway.ask("GET", "/debug/poll?since=1&timeout=0.2").status, 200)
        self.assertNobodyLeft()


class ClosingTests(FeedTestCase):
    def test_streams(self) -> None:
        """When the gateway stops, streams end whole, with all that has happened, and the connection closes."""
        following = Following(self.gateway)
        self.gateway.journal.record("error", {})
        self.gateway.feed.closeAll()
        self.gateway.site.drain(30)
        self.gateway.network.flush()
        self.assertTrue(following.answer.whole)
        self.assertEqual(following.told[1:], [("error", "1")])
        self.assertIsNotNone(following.client.protocol.ended)
        self.assertEqual([record.outcome for record in self.gateway.records], ["complete"])
        self.assertNobodyLeft()

    def test_polls(self) -> None:
        """Polls are answered at once, with what there is."""
        client = self.gateway.connect()
        client.send(requestBytes("GET", "/debug/poll?types=error"))
        self.gateway.journal.record("debug_log", {})
        self.gateway.feed.closeAll()
        self.gateway.network.flush()
        self.assertEqual(client.answers[0].json(), {"events": [], "next": 2, "gap": 0})
        self.assertNobodyLeft()

    def test_afterwards(self) -> None:
        """Who comes after that is sent away in a way that an EventSource comes back from, and a poll does not wait."""
        self.gateway.feed.closeAll()
        following = Following(self.gateway)
        self.assertTrue(following.answer.whole)
        self.assertEqual((following.answer.status, following.events, following.decoder.retry), (200, [], RETRY_MS))
        self.assertEqual(self.gateway.ask("GET", "/debug/poll").json()["events"], [])
