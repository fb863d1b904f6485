"""
The event stream and the long poll, over HTTP in memory.

Followers are served a few milliseconds after something happens: tests let a second pass.
"""

from __future__ import annotations

import json
from typing import Any

from lmgateway.message import Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.telemetry.sse import EventStreamDecoder
from lmgateway.web.followers import RETRY_MS

from tests.web.feed_support import FeedTestCase, Following
from tests.web.support import Client, MemoryGateway, ScriptedUpstreams, requestBytes
from tests.web.test_proxy import SSE_HEAD, chunk


class StreamTests(FeedTestCase):
    def test_head(self) -> None:
        """The answer is an event stream that nobody on the way keeps, holds back or takes for a page."""
        answer = Following(self.gateway).answer
        self.assertEqual(answer.status, 200)
        for name, value in (
            (b"Content-Type", b"text/event-stream"),
            (b"Cache-Control", b"no-store"),
            (b"X-Accel-Buffering", b"no"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Transfer-Encoding", b"chunked"),
        ):
            self.assertEqual(answer.header(name), value)
        self.assertIsNotNone(answer.header(b"X-Request-Id"))

    def test_follows(self) -> None:
        """First connected, with when to come back; then each event as it happens, with its data."""
        self.happen("error")
        following = Following(self.gateway)
        self.assertEqual((following.told, following.decoder.retry), ([("connected", "1")], RETRY_MS))
        self.assertEqual(set(json.loads(following.events[0].data)), {"message", "timestamp"})
        self.happen("upstream_down", "upstream_up")
        self.assertEqual(following.told[1:], [("upstream_down", "2"), ("upstream_up", "3")])
        self.assertEqual(json.loads(following.events[2].data)["x"], 1)

    def test_resumes(self) -> None:
        """Last-Event-ID, or since, goes on after that event, without loss and without repetition; the header decides."""
        self.happen("error", "error", "error")
        for following in (
            Following(self.gateway, headers={"Last-Event-ID": "1"}),
            Following(self.gateway, "?since=1"),
            Following(self.gateway, "?since=3", {"Last-Event-ID": "1"}),
        ):
            self.assertEqual(following.told, [("connected", "1"), ("error", "2"), ("error", "3")])
            self.assertEqual(following.hello, "Connected. Events follow from 2 on.")

    def test_fromTheOldest(self) -> None:
        """since=0 begins with the oldest event held, and nothing is missing."""
        self.small()
        self.happen(*["error"] * 30)
        told = Following(self.gateway, "?since=0").told
        first = self.gateway.journal.firstId
        self.assertEqual(told[:2], [("connected", str(first - 1)), ("error", str(first))])
        self.assertEqual(told[-1], ("error", "30"))

    def test_resumesAnywhere(self) -> None:
        """Wherever the connection is lost, right after connected or a gap too, what the client then says brings the rest."""
        self.small()
        self.happen(*["error"] * 30)
        whole = Following(self.gateway, "?since=2")
        self.assertEqual([kind for kind, _ in whole.told[:3]], ["connected", "gap", "error"])
        for count in range(1, len(whole.events) + 1):
            resumed = Following(self.gateway, headers={"Last-Event-ID": whole.told[count - 1][1]})
            self.assertEqual(resumed.told[1:], whole.told[count:], f"after {count} events")
            resumed.client.leave()

    def test_resumesOnAnEmptyJournal(self) -> None:
        """Who followed before anything happened and comes back misses nothing, and is told what it lost."""
        self.small()
        (connected,) = Following(self.gateway).events
        self.happen(*["error"] * 30)
        back = Following(self.gateway, headers={"Last-Event-ID": connected.id}).events
        self.assertEqual((back[1].kind, json.loads(back[1].data)["lost"]), ("gap", self.gateway.journal.firstId - 1))

    def test_longGone(self) -> None:
        """An id that the journal no longer holds: a gap with the number lost, then all that is held."""
        self.small()
        self.happen(*["error"] * 50)
        events = Following(self.gateway, headers={"Last-Event-ID": "5"}).events
        first = self.gateway.journal.firstId
        self.assertEqual([event.kind for event in events[:3]], ["connected", "gap", "error"])
        gap = json.loads(events[1].data)
        self.assertEqual((gap["lost"], set(gap)), (first - 6, {"lost", "timestamp"}))
        self.assertEqual((events[1].id, events[2].id), (str(first - 1), str(first)))

    def test_anotherRun(self) -> None:
        """An id from another run of the gateway: all of this run, and connected says why."""
        self.happen("error")
        following = Following(self.gateway, headers={"Last-Event-ID": "900"})
        self.assertEqual(following.told, [("connected", "0"), ("error", "1")])
        self.assertIn("900 is no id of this run", following.hello)
        self.happen("error")
        self.assertEqual(following.told[2:], [("error", "2")])

    def test_types(self) -> None:
        """Only the types asked for come; one that does not exist is told, and no reason to fail."""
        following = Following(self.gateway, "?types=error,%20auth_failure,eror&types=upstream_up")
        self.happen("error", "debug_log", "auth_failure", "upstream_up")
        self.assertEqual(following.told[1:], [("error", "1"), ("auth_failure", "3"), ("upstream_up", "4")])
        self.assertIn("No event has the type eror.", following.hello)
        self.assertEqual(len(Following(self.gateway, "?since=0&types=").events), 5)

    def test_progress(self) -> None:
        """Who asks for it is told once a second how far the answers are that pass; nobody else is, and no id changes by it."""
        upstreams = ScriptedUpstreams()
        self.gateway = MemoryGateway(listen=upstreams)
        plain, watching = Following(self.gateway), Following(self.gateway, "?progress=1")
        body = {"model": "m", "messages": [], "stream": True}
        self.gateway.connect().send(requestBytes("POST", "/v1/chat/completions", body))
        (requestId,) = self.gateway.exchanges.inFlight
        text = chunk(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
        upstreams.made[0].transport.write(SSE_HEAD + text)
        for _ in range(3):
            self.gateway.network.advance(1)
            upstreams.made[0].transport.write(text * 10)
        self.gateway.network.advance(0.1)
        told = [event for event in watching.events if event.kind == "inference_progress"]
        requests = [json.loads(event.data)["requests"] for event in told]
        self.assertEqual([[each["requestId"] for each in one] for one in requests], [[requestId]] * 3)
        self.assertEqual([one[0]["completionTokens"] for one in requests], [1, 11, 21])
        ids = [event.id for event in watching.events]
        self.assertEqual(list(dict.fromkeys(ids)), [eventId for _, eventId in plain.told])
        self.assertNotIn("inference_progress", [kind for kind, _ in plain.told])
        self.assertEqual(self.gateway.ask("GET", "/debug/stream?progress=yes").status, 400)

    def test_inference(self) -> None:
        """A request through the gateway is an inference_start and an inference_complete, with the same request id."""
        following = Following(self.gateway, "?types=inference_start,inference_complete")
        body = {"model": "<b>\x00\x1b[2J", "messages": [{"role": "user", "content": "hi"}]}
        answer = self.gateway.ask("POST", "/v1/chat/completions", body)
        start, complete = (json.loads(event.data) for event in following.events[1:])
        self.assertEqual(start["requestId"].encode(), answer.header(b"X-Request-Id"))
        self.assertEqual((start["model"], complete["requestId"]), ("<b>\x00\x1b[2J", start["requestId"]))
        self.assertEqual(complete["status"], answer.status)

    def test_heartbeat(self) -> None:
        """A comment every fifteen seconds keeps it open for hours, no event comes of it, and nothing ends it."""
        following = Following(self.gateway)
        self.gateway.network.advance(3 * 3600)
        lines = following.answer.body.split(b"\n")
        self.assertEqual(lines.count(b":"), 720)
        self.assertEqual(len(following.events), 1)
        self.assertIsNone(following.client.protocol.ended)

    def test_badRequest(self) -> None:
        """What is no id is refused before the stream begins, with what it must be."""
        for query in ("since=x", "since=-1", "since=1.5", "since=", "since=1&since=2", "since=" + "9" * 5000):
            answer = self.gateway.ask("GET", f"/debug/stream?{query}")
            self.assertEqual((answer.status, "since" in answer.json()["error"]), (400, True), query)
        for value in ("-1", "x", "\xb2", "9" * 40):
            answer = self.gateway.ask("GET", "/debug/stream", headers={"Last-Event-ID": value})
            self.assertEqual((answer.status, "Last-Event-ID" in answer.json()["error"]), (400, True), value)
        self.assertNobodyLeft()

    def test_scope(self) -> None:
        """Events are for keys with the scope monitor; a method other than GET is none of theirs."""
        keys = {digestOf("infer"): Principal("infer", frozenset({Scope.INFERENCE}))}
        gateway = MemoryGateway(keys=keys)
        for path in ("/debug/stream", "/debug/poll"):
            self.assertEqual(gateway.ask("GET", path, key="infer").status, 403)
            self.assertEqual(gateway.ask("GET", path, key=None).status, 401)
            self.assertEqual(gateway.ask("POST", path, {}).status, 405)

    def test_oldClient(self) -> None:
        """HTTP/1.0 knows no chunks: its stream goes on until the connection ends."""
        client = self.gateway.connect()
        client.send(requestBytes("GET", "/debug/stream").replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.happen("error")
        head, _, body = client.protocol.data.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertEqual([event.kind for event in EventStreamDecoder().feed(body)], ["connected", "error"])
        self.gateway.feed.closeAll()
        self.gateway.network.flush()
        self.assertIsNotNone(client.protocol.ended)


class PollTests(FeedTestCase):
    def poll(self, query: str = "") -> Any:
        """The JSON of a poll that need not wait."""
        return self.gateway.ask("GET", f"/debug/poll{query}").json()

    def waiting(self, query: str = "") -> Client:
        """A client whose poll waits."""
        client = self.gateway.connect()
        client.send(requestBytes("GET", f"/debug/poll{query}"))
        self.assertEqual(client.answers, [])
        return client

    def test_atOnce(self) -> None:
        """What is there is given at once, the oldest first; next goes into the next call's since."""
        self.happen("error", "debug_log")
        told = self.poll("?since=0")
        timestamp = told["events"][0]["data"].pop("timestamp")
        self.assertEqual(told["events"][0], {"id": 1, "type": "error", "data": {"x": 1}})
        self.assertTrue(timestamp.endswith("Z"))
        self.assertEqual((len(told["events"]), told["next"], told["gap"]), (2, 3, 0))
        self.happen("error")
        self.assertEqual([event["id"] for event in self.poll("?since=3")["events"]], [3])

    def test_chain(self) -> None:
        """Poll after poll, each with next of the one before, gives every event once."""
        seen: list[int] = []
        position = 0
        for burst in (3, 0, 7, 1, 0, 12):
            self.happen(*["error"] * burst)
            told = self.poll(f"?since={position}&limit=4&timeout=0")
            seen += [event["id"] for event in told["events"]]
            position = told["next"]
        while told["events"]:
            told = self.poll(f"?since={position}&limit=4&timeout=0")
            seen += [event["id"] for event in told["events"]]
            position = told["next"]
        self.assertEqual(seen, list(range(1, 24)))

    def test_waits(self) -> None:
        """Without anything to tell it waits until something happens that is wanted."""
        before = len(self.gateway.network.clock.getDelayedCalls())
        client = self.waiting("?types=error&timeout=60")
        self.happen("debug_log")
        self.gateway.network.advance(5)
        self.assertEqual(client.answers, [])
        self.happen("error")
        told = client.answers[0].json()
        self.assertEqual(([event["id"] for event in told["events"]], told["next"]), ([2], 3))
        self.assertNobodyLeft()
        self.assertEqual(len(self.gateway.network.clock.getDelayedCalls()), before)

    def test_timeout(self) -> None:
        """After the time-out, thirty seconds unless told, there is an empty list; 0 does not wait at all."""
        short, usual = self.waiting("?timeout=2.5"), self.waiting()
        self.gateway.network.advance(4)
        self.assertEqual(short.answers[0].json(), {"events": [], "next": 1, "gap": 0})
        self.gateway.network.advance(25)
        self.assertEqual(usual.answers, [])
        self.gateway.network.advance(2)
        self.assertEqual(usual.answers[0].json()["events"], [])
        self.assertEqual(self.poll("?timeout=0"), {"events": [], "next": 1, "gap": 0})
        self.assertNobodyLeft()

    def test_limit(self) -> None:
        """No more than asked for, a hundred unless told, and the rest is not lost."""
        self.happen(*["error"] * 150)
        self.assertEqual((len(self.poll("?limit=2")["events"]), self.poll("?limit=2")["next"]), (2, 3))
        self.assertEqual((len(self.poll()["events"]), len(self.poll("?limit=1000")["events"])), (100, 150))

    def test_gap(self) -> None:
        """Who comes too late is told how many are lost, at once, even where none of its types is left."""
        self.small()
        self.happen(*["debug_log"] * 50)
        first = self.gateway.journal.firstId
        told = self.poll("?since=5")
        self.assertEqual((told["gap"], told["events"][0]["id"]), (first - 5, first))
        self.assertEqual(self.poll("?since=5&types=error"), {"events": [], "next": 51, "gap": first - 5})

    def test_anotherRun(self) -> None:
        """A next from another run of the gateway gets all of this one, and does not wait for ever."""
        self.happen("error")
        told = self.poll("?since=900")
        self.assertEqual(([event["id"] for event in told["events"]], told["next"], told["gap"]), ([1], 2, 0))

    def test_leaving(self) -> None:
        """A client that leaves while it waits leaves nothing behind."""
        self.waiting().leave()
        self.happen("error")
        self.assertNobodyLeft()
        self.assertEqual([record.outcome for record in self.gateway.records], ["cancelled"])

    def test_badRequest(self) -> None:
        """Each parameter is refused with its name and what it may be."""
        for query in (
            "since=x", "since=-1", "since=1.5", "since=", "since=%C2%B2", "timeout=61", "timeout=nan", "timeout=-1",
            "timeout=1e1", "timeout=", "limit=0", "limit=1001", "limit=x", "limit=1.5", "limit=1&limit=2",
        ):  # fmt: skip
            answer = self.gateway.ask("GET", f"/debug/poll?{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertIn(query.partition("=")[0], answer.json()["error"])
