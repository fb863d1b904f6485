"""What a request that is over a limit is told, and what comes of wrong keys; through a whole gateway in memory."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.limits import ANSWERED_FAILURES, FREE_FAILURES
from lmgateway.web.limits import EVENTS_PER_SECOND, MOST_HELD
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import KEY, Client, MemoryGateway, ScriptedUpstreams, requestBytes, settingsOf

CHAT = ("POST", "/v1/chat/completions", {"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "Hello"}]})
WRONG = "a-key-of-nobody"


def gatewayWith(listen: Any = None, perAddress: int = 0, **grant: Any) -> MemoryGateway:
    """A gateway with a key ``limited`` that is held to something."""
    settings = settingsOf()
    if perAddress:
        settings = replace(settings, limits=replace(settings.limits, requestsPerMinutePerAddress=perAddress))
    principal = Principal("limited", frozenset({Scope.INFERENCE, Scope.MONITOR}), grant=Grant(**grant))
    return MemoryGateway(settings, keys={digestOf("limited"): principal}, listen=listen)


class RateTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """Over a key's requests a minute the answer is 429, in the path's dialect, with the time to wait; others pass."""
        gateway = gatewayWith(requestsPerMinute=2)
        for target in ("/v1/models", "/debug/status"):
            self.assertEqual(gateway.ask("GET", target, key="limited").status, 200)
        answer = gateway.ask("GET", "/v1/models", key="limited")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (429, "rate_limit_exceeded"))
        self.assertEqual(answer.header(b"retry-after"), b"28")
        self.assertEqual(answer.header(b"x-ratelimit-remaining-requests"), b"0")
        self.assertEqual(gateway.ask("GET", "/v1/models").status, 200)
        gateway.network.advance(28)
        self.assertEqual(gateway.ask("GET", "/v1/models", key="limited").status, 200)

    def test_fields(self) -> None:
        """Every answer to a limited key tells its limits, LM Studio's answers among them; others' answers tell none."""
        gateway = gatewayWith(requestsPerMinute=60, tokensPerDay=1000)
        gateway.tokens["limited"] = 100
        answer = gateway.ask("GET", "/v1/models", key="limited")
        told = {name: value for name, value in answer.headers if name.startswith(b"x-ratelimit")}
        self.assertEqual(
            told,
            {
                b"x-ratelimit-limit-requests": b"60",
                b"x-ratelimit-remaining-requests": b"59",
                b"x-ratelimit-reset-requests": b"1s",
                b"x-ratelimit-limit-tokens": b"1000",
                b"x-ratelimit-remaining-tokens": b"900",
                b"x-ratelimit-reset-tokens": b"16h0m0s",
            },
        )
        self.assertFalse([name for name, _ in gateway.ask("GET", "/v1/models").headers if b"ratelimit" in name])

    def test_scopeFirst(self) -> None:
        """A request that its key may not make costs none of those that it may."""
        gateway = gatewayWith(requestsPerMinute=1)
        self.assertEqual([gateway.ask("GET", "/admin/usage", key="limited").status for _ in range(3)], [403] * 3)
        self.assertEqual(gateway.ask("GET", "/v1/models", key="limited").status, 200)

    def test_beforeTheBody(self) -> None:
        """A refused request is answered before its body is read, and LM Studio does not hear of it."""
        upstreams = ScriptedUpstreams()
        gateway = gatewayWith(upstreams, requestsPerMinute=1)
        gateway.connect().send(requestBytes("GET", "/v1/files", key="limited"))
        client = gateway.connect()
        client.send(requestBytes(*CHAT, key="limited", headers={"Content-Length": "100000"}))
        self.assertEqual([answer.status for answer in client.answers], [429])
        self.assertEqual(sum(each.data.count(b"HTTP/1.1") for each in upstreams.made), 1)

    def test_address(self) -> None:
        """All keys of an address share what it may ask in a minute, whichever address of a /64 it is."""
        gateway = gatewayWith(perAddress=2)
        asked = [("limited", "2001:db8::1"), (KEY, "2001:db8::2"), (KEY, "2001:db8::3"), (KEY, "2001:db8:0:1::1")]
        answers = [gateway.ask("GET", "/v1/models", key=key, peerHost=peer).status for key, peer in asked]
        self.assertEqual(answers, [200, 200, 429, 200])

    def test_healthIsFree(self) -> None:
        """What needs no key costs nothing: a monitor does not lock people out, nor they it."""
        gateway = gatewayWith(perAddress=1)
        self.assertEqual([gateway.ask("GET", "/health", key=None).status for _ in range(5)], [200] * 5)
        self.assertEqual(gateway.ask("GET", "/v1/models").status, 200)


class ParallelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.upstreams = ScriptedUpstreams()
        self.gateway = gatewayWith(self.upstreams, parallel=1)

    def begin(self) -> Client:
        """Send a chat that LM Studio takes its time for."""
        client = self.gateway.connect()
        client.send(requestBytes(*CHAT, key="limited"))
        return client

    def statuses(self, client: Client) -> list[int]:
        """What a client was answered so far."""
        return [answer.status for answer in client.answers]

    def assertFull(self) -> None:
        """No other chat is taken; what is no inference is."""
        client = self.begin()
        self.assertEqual(self.statuses(client), [429])
        self.assertEqual(client.answers[0].header(b"retry-after"), b"1")
        self.assertEqual(client.answers[0].json()["error"]["code"], "too_many_parallel_requests")
        self.assertEqual(self.gateway.ask("GET", "/debug/status", key="limited").status, 200)

    def assertRoom(self) -> None:
        """Exactly one more chat is taken, and given up again."""
        client = self.begin()
        self.assertEqual(self.statuses(client), [])
        self.assertFull()
        client.leave()
        self.assertEqual(self.gateway.limits.running("limited"), 0)

    def test_answered(self) -> None:
        """A place is free again when its answer is finished, on the same connection too."""
        client = self.begin()
        self.assertFull()
        self.upstreams.made[0].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        self.gateway.network.flush()
        self.assertEqual(self.statuses(client), [200])
        client.send(requestBytes(*CHAT, key="limited"))
        self.assertFull()
        client.leave()
        self.assertRoom()

    def test_left(self) -> None:
        """When its client leaves: while its body is read, while LM Studio is silent, and in the midst of the answer."""
        reading = self.gateway.connect()
        reading.send(requestBytes(*CHAT, key="limited", headers={"Content-Length": "100000"}))
        self.assertFull()
        reading.leave()
        waiting = self.begin()
        self.assertFull()
        waiting.leave()
        answering = self.begin()
        self.upstreams.made[-1].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
        self.gateway.network.flush()
        self.assertFull()
        answering.leave()
        self.assertRoom()

    def test_failed(self) -> None:
        """When LM Studio breaks off, before an answer and within one, and when the body was refused."""
        for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"):
            self.begin()
            self.assertFull()
            self.upstreams.made[-1].transport.write(said)
            self.upstreams.made[-1].transport.loseConnection()
            self.gateway.network.flush()
            self.assertRoom()
        for body, headers, status in ((b"[]", {}, 400), (b"{}", {"Content-Length": str(1 << 40)}, 413)):
            client = self.gateway.connect()
            client.send(requestBytes("POST", "/v1/chat/completions", body, key="limited", headers=headers))
            self.assertEqual(self.statuses(client), [status])
            self.assertRoom()

    def test_cancelled(self) -> None:
        """When an administrator cancels it."""
        client = self.begin()
        (exchange,) = self.gateway.exchanges.inFlight.values()
        exchange.cancel()
        self.gateway.network.flush()
        self.assertEqual(self.statuses(client), [503])
        self.assertRoom()

    def test_pipelined(self) -> None:
        """Chats that wait in line on one connection are answered one after the other, and none is refused."""
        client = self.gateway.connect()
        client.send(requestBytes(*CHAT, key="limited") * 3)
        for _ in range(3):
            self.upstreams.made[-1].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            self.gateway.network.flush()
        self.assertEqual(self.statuses(client), [200] * 3)


class TokenTests(SynchronousTestCase):
    def test_used(self) -> None:
        """With the day's tokens used no chat is taken, while lists and figures still are."""
        gateway = gatewayWith(tokensPerDay=50)
        self.assertEqual(gateway.ask(*CHAT, key="limited").status, 200)
        gateway.tokens["limited"] = 50
        answer = gateway.ask(*CHAT, key="limited")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (429, "tokens_per_day_exceeded"))
        self.assertEqual(answer.header(b"x-ratelimit-remaining-tokens"), b"0")
        self.assertEqual(gateway.ask("GET", "/v1/models", key="limited").status, 200)
        self.assertEqual(gateway.ask(*CHAT).status, 200)


class FailureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = gatewayWith()

    def begin(self, key: str = WRONG, peerHost: str = "192.168.0.9", times: int = 1) -> Client:
        """Ask with a key, without waiting for an answer."""
        client = self.gateway.connect(peerHost)
        client.send(requestBytes("GET", "/v1/models", key=key) * times)
        return client

    def statuses(self, client: Client) -> list[int]:
        """What a client was answered so far."""
        return [answer.status for answer in client.answers]

    def exhaust(self) -> list[Client]:
        """Send so many wrong keys at once that the next is refused."""
        return [self.begin() for _ in range(ANSWERED_FAILURES)]

    def test_slowed(self) -> None:
        """The first wrong keys are answered at once; of the others each waits longer, but all are told."""
        clients = self.exhaust()
        self.assertEqual([self.statuses(each) for each in clients[:FREE_FAILURES]], [[401]] * FREE_FAILURES)
        self.assertEqual([self.statuses(each) for each in clients[FREE_FAILURES:]], [[]] * FREE_FAILURES)
        answered = []
        for _ in range(5):
            self.gateway.network.clock.advance(0.4)
            self.gateway.network.flush()
            answered.append(sum(self.statuses(each) == [401] for each in clients) - FREE_FAILURES)
        self.assertEqual(answered, [3, 4, 4, 5, 10])

    def test_refused(self) -> None:
        """After that they are refused with a time to wait that grows."""
        self.exhaust()
        refused = [self.begin().answers[0] for _ in range(3)]
        self.assertEqual([each.status for each in refused], [429] * 3)
        self.assertEqual([each.header(b"retry-after") for each in refused], [b"6", b"9", b"12"])
        self.assertEqual(refused[0].json()["error"]["code"], "too_many_failed_keys")

    def test_goodKeysPass(self) -> None:
        """A good key from the same address is answered at once all the while; so is a wrong one from another."""
        self.exhaust()
        self.assertEqual(self.statuses(self.begin()), [429])
        self.assertEqual(self.statuses(self.begin(KEY)), [200])
        self.assertEqual(self.statuses(self.begin(peerHost="192.168.0.10")), [401])

    def test_withoutKey(self) -> None:
        """To send no key is no guess: it is told at once, however often."""
        answers = [self.gateway.ask("GET", "/v1/models", key=None) for _ in range(3 * ANSWERED_FAILURES)]
        self.assertEqual({answer.status for answer in answers}, {401})
        self.assertEqual(self.statuses(self.begin()), [401])

    def test_left(self) -> None:
        """Who leaves meanwhile leaves nothing behind."""
        clients = self.exhaust()
        waiting = len(self.gateway.network.clock.getDelayedCalls())
        for client in clients:
            client.leave()
        self.assertEqual(waiting - len(self.gateway.network.clock.getDelayedCalls()), FREE_FAILURES)
        self.gateway.network.advance(5)
        self.assertEqual(self.statuses(clients[-1]), [])

    def test_fewAreHeld(self) -> None:
        """Only so many answers are held back at once, wherever they go; the next wrong key is refused instead."""
        for host in range(MOST_HELD // FREE_FAILURES):
            for _ in range(ANSWERED_FAILURES):
                self.begin(peerHost=f"192.168.1.{host}")
        late = [self.begin(peerHost="192.168.2.1") for _ in range(ANSWERED_FAILURES)][FREE_FAILURES:]
        held = MOST_HELD - MOST_HELD // FREE_FAILURES * FREE_FAILURES
        self.assertEqual([self.statuses(each) for each in late[: held + 1]], [[]] * held + [[429]])
        self.gateway.network.advance(3)
        self.assertEqual([self.statuses(each) for each in late[:held]], [[401]] * held)
        retried = self.begin(peerHost="192.168.2.1")
        self.gateway.network.advance(3)
        self.assertIn(self.statuses(retried), [[401], [429]])

    def test_inTheirTurn(self) -> None:
        """Wrong keys that wait in line on one connection cannot be had answered any faster."""
        client = self.begin(times=FREE_FAILURES + 3)
        self.assertEqual(self.statuses(client), [401] * FREE_FAILURES)
        self.gateway.network.advance(3)
        self.assertEqual(self.statuses(client), [401] * (FREE_FAILURES + 3))

    def test_events(self) -> None:
        """A flood of wrong keys makes few events, and each tells how many were left out."""
        for _ in range(50):
            self.begin()
        self.gateway.network.clock.advance(1)
        self.begin()
        events = [
            json.loads(event.data) for event in self.gateway.journal.read(0).events if event.kind == "auth_failure"
        ]
        self.assertEqual(len(events), EVENTS_PER_SECOND + 1)
        self.assertEqual(events[-1]["omitted"], 50 - EVENTS_PER_SECOND)
        self.assertEqual(
            {name: events[0][name] for name in ("client", "path", "reason")},
            {"client": "192.168.0.9", "path": "/v1/models", "reason": "invalid_api_key"},
        )

    def test_misplaced(self) -> None:
        """A good key from an address that it is not held to is told with its name; that is no guess, and slows nobody."""
        self.gateway = gatewayWith(addresses=("10.0.0.0/8",))
        clients = [self.begin("limited") for _ in range(FREE_FAILURES + 1)]
        self.assertEqual([self.statuses(each) for each in clients], [[403]] * (FREE_FAILURES + 1))
        self.assertEqual(self.statuses(self.begin("limited", "10.0.0.7")), [200])
        self.assertEqual(self.statuses(self.begin(WRONG)), [401])
        told = [json.loads(event.data) for event in self.gateway.journal.read(0).events if event.kind == "auth_failure"]
        self.assertEqual(
            {name: told[0][name] for name in ("client", "path", "reason", "key")},
            {
                "client": "192.168.0.9",
                "path": "/v1/models",
                "reason": "address_not_allowed_for_key",
                "key": "limited",
            },
        )
