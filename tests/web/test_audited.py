"""Administrative acts on a whole gateway: each has its line before its answer."""

from __future__ import annotations

import json
from typing import Any

from lmgateway.audit import AUDIT_FILE, AuditEntry, AuditFailed
from lmgateway.message import Scope
from lmgateway.policy.acts import READING
from lmgateway.policy.routes import ROUTES
from lmgateway.web.audited import REFUSALS_PER_MINUTE, AuditedActs, outcomeOf
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.gateways import KEY
from tests.web.keys_support import KeysTestCase
from tests.web.support import Client, MemoryGateway, requestBytes, settingsOf

CANARY = "lmg_canary5a1fcanary5a1fcanary5a1fcanary5a1f"


class AuditedTestCase(KeysTestCase):
    """A gateway with its audit."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "state" / AUDIT_FILE

    def written(self) -> list[dict[str, Any]]:
        """Every line of the file, the oldest first."""
        return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []

    def last(self) -> dict[str, Any]:
        """The last line."""
        return self.written()[-1]


class KeyActTests(AuditedTestCase):
    def test_whoAndWhat(self) -> None:
        """A line says who asked, from where, for what, what was before and after, and what came of it."""
        answer = self.send("POST", "/admin/keys", {"name": "alice", "parallel": 2}, peerHost="10.0.0.7")
        line = self.last()
        self.assertEqual(
            {name: line[name] for name in ("action", "client", "key", "target", "outcome", "status")},
            {
                "action": "keys.add",
                "client": "10.0.0.7",
                "key": "GATEWAY_API_KEY",
                "target": "alice",
                "outcome": "done",
                "status": 201,
            },
        )
        self.assertEqual(line["requestId"].encode(), answer.header(b"x-request-id"))
        self.assertEqual((line["after"]["parallel"], line["after"]["id"]), (2, answer.json()["id"]))
        self.assertNotIn("before", line)

    def test_life(self) -> None:
        """A key's whole life is told, and never its secret."""
        minted = self.mint("alice", scopes=["admin"])
        target = f"/admin/keys/{minted['id']}"
        self.well("PATCH", target, {"parallel": 3})
        rotated = self.well("POST", f"{target}/rotate")
        self.well("DELETE", target, key=rotated["key"])
        lines = self.written()
        self.assertEqual(
            [(line["action"], line["target"]) for line in lines],
            [(f"keys.{what}", "alice") for what in ("add", "change", "rotate", "revoke")],
        )
        self.assertEqual((lines[1]["before"]["parallel"], lines[1]["after"]["parallel"]), (None, 3))
        self.assertEqual((lines[3]["key"], lines[3]["keyId"]), ("alice", minted["id"]))
        text = self.path.read_text()
        for secret in (minted["key"], rotated["key"], KEY):
            self.assertNotIn(secret, text)

    def test_failed(self) -> None:
        """An act that fails has a line, too, with the reason's code."""
        self.assertEqual(self.send("POST", "/admin/keys", {"name": 5}).status, 400)
        line = self.last()
        self.assertEqual((line["outcome"], line["status"], line["error"]), ("failed", 400, "validation_failed"))

    def test_reading(self) -> None:
        """Who only reads leaves no line."""
        for target in ("/admin/keys", "/admin/models/active", "/admin/audit", "/admin/keys/none"):
            self.send("GET", target)
        self.assertEqual(self.written(), [])

    def test_canary(self) -> None:
        """A key shows in no line, wherever a client puts it: in the path, a name, a body, a header."""
        self.send("DELETE", f"/admin/keys/{CANARY}")
        self.send("POST", "/admin/keys", {"name": f"n {CANARY}", "models": [CANARY]})
        self.send("POST", "/admin/keys", {CANARY: CANARY})
        self.send("POST", "/admin/models/activate", {"modelKey": CANARY, "defaultInference": {"stopStrings": [CANARY]}})
        self.send("POST", "/admin/models/activate", {"modelKey": f"a {KEY}"})
        self.send("POST", "/admin/keys", {"name": "x"}, key=CANARY)
        lines = self.path.read_text()
        self.assertEqual(lines.count("\n"), 6)
        self.assertNotIn("canary", lines)
        self.assertNotIn(KEY, lines)

    def test_answered(self) -> None:
        """The audit can be asked for, by who may administer and nobody else."""
        self.mint("alice", scopes=["monitor"])
        key = self.mint("bob", scopes=["monitor"])["key"]
        answer = self.well("GET", "/admin/audit?limit=1&action=keys.add")
        self.assertEqual([line["target"] for line in answer["lines"]], ["bob"])
        self.assertFalse(answer["truncated"])
        self.assertEqual(self.send("GET", "/admin/audit?limit=none").status, 400)
        self.assertEqual(self.send("GET", "/admin/audit", key=key).status, 403)


class RefusalTests(AuditedTestCase):
    def test_refused(self) -> None:
        """Who may not administer and tries has a line: with a key of too little scope, or with none."""
        key = self.mint("alice", scopes=["inference"])["key"]
        self.send("POST", "/admin/keys", {"name": "x"}, key=key)
        self.send("GET", "/admin/keys", key=key)
        self.send("DELETE", "/admin/keys/key_1", key=None, peerHost="10.0.0.7")
        told = [
            (each["action"], each["outcome"], each["status"], each.get("key"), each["client"])
            for each in self.written()[1:]
        ]
        self.assertEqual(
            told,
            [
                ("keys.add", "refused", 403, "alice", "127.0.0.1"),
                ("keys.read", "refused", 403, "alice", "127.0.0.1"),
                ("keys.revoke", "refused", 401, None, "10.0.0.7"),
            ],
        )

    def test_flood(self) -> None:
        """A flood of refusals costs so many lines a minute; the next one says how many there were, and acts go on."""
        for _ in range(REFUSALS_PER_MINUTE + 5):
            self.send("POST", "/admin/keys", key=None)
        self.assertEqual(len(self.written()), REFUSALS_PER_MINUTE)
        key = self.mint("alice", scopes=["inference"])["key"]
        self.send("GET", "/admin/keys", key=key)
        self.assertEqual(len(self.written()), REFUSALS_PER_MINUTE + 2)
        self.reactor.advance(61)
        self.send("POST", "/admin/keys", key=None)
        self.assertEqual(self.last()["omitted"], 5)

    def test_misplaced(self) -> None:
        """A good key that is shown from the wrong address is told with its name: it may have been stolen."""
        minted = self.mint("alice", scopes=["admin"], addresses=["127.0.0.2"])
        self.assertEqual(self.send("POST", "/admin/keys", {"name": "eve"}, key=minted["key"]).status, 403)
        line = self.last()
        self.assertEqual(
            [line[name] for name in ("outcome", "error", "key", "keyId")],
            ["refused", "address_not_allowed_for_key", "alice", minted["id"]],
        )

    def test_elsewhere(self) -> None:
        """What is refused where nobody administers is not the audit's business."""
        self.send("GET", "/v1/models", key=None)
        self.send("GET", "/debug/status", key=None)
        self.assertEqual(self.written(), [])


class DiskTests(AuditedTestCase):
    """What becomes of acts when the disk does not take their lines."""

    def setUp(self) -> None:
        super().setUp()
        self.path.mkdir()

    def test_told(self) -> None:
        """The act that finds out is done, and says so with 503; the next one is not done; proxying and reading go on."""
        answer = self.send("POST", "/admin/models/activate", {"modelKey": "a"})
        self.assertEqual(answer.status, 503)
        self.assertRegex(answer.json()["error"], r"audit: its disk is full, or fails\. .* It was done all the same\.$")
        answer = self.send("POST", "/admin/models/activate", {"modelKey": "b"})
        self.assertEqual(answer.status, 503)
        self.assertRegex(answer.json()["error"], r"It was not done\.$")
        self.assertEqual(self.well("GET", "/admin/models/active")["active"]["modelKey"], "a")
        client = self.begin("/v1/files", KEY)
        self.assertEqual(len(self.upstreams.made), 1)
        client.leave()

    def test_recovered(self) -> None:
        """Once the disk takes lines again, acts are done again, and the line that was owed comes first."""
        self.send("POST", "/admin/models/activate", {"modelKey": "a"})
        self.path.rmdir()
        self.well("POST", "/admin/models/activate", {"modelKey": "b"})
        self.assertEqual([line["target"] for line in self.written()], ["a", "b"])
        self.assertEqual(self.last()["before"]["modelKey"], "a")

    def test_passedOn(self) -> None:
        """What cannot be told is not passed on to LM Studio."""
        answer = self.send("POST", "/api/v1/models/load", {"model": "a"})
        self.assertEqual(answer.status, 503)
        self.assertIn("It was not done.", answer.body.decode())
        self.assertEqual(self.upstreams.made, [])


class PassedOnTests(AuditedTestCase):
    def test_before(self) -> None:
        """An act for LM Studio has its line before LM Studio hears of it, with what it is about; the body arrives to the letter."""
        body = b'{"model": "qwen/qwen3-8b",  "context_length": 4096}'
        client = self.connect(self.gateway)
        request = requestBytes("POST", "/api/v1/models/load", body, key=KEY)
        client.send(request[:-5])
        self.assertEqual((self.written(), self.upstreams.made), ([], []))
        client.send(request[-5:])
        line = self.last()
        self.assertEqual(
            (line["action"], line["outcome"], line["target"], line["after"]["context_length"]),
            ("api.v1.models.load", "passed_on", "qwen/qwen3-8b", 4096),
        )
        (upstream,) = self.upstreams.made
        self.assertTrue(upstream.data.endswith(body))
        upstream.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        self.network.flush()
        self.assertEqual((client.answers[0].status, client.answers[0].body), (200, b"{}"))
        self.assertEqual(len(self.written()), 1)

    def test_reading(self) -> None:
        """What only asks LM Studio about a download is no act."""
        client = self.begin("/api/v1/models/download/status/1", KEY)
        self.assertEqual((len(self.upstreams.made), self.written()), (1, []))
        client.leave()


class SlowAudit:
    """Writes when the test says so."""

    isFailing = False

    def __init__(self) -> None:
        self.waiting: list[tuple[AuditEntry, Deferred[None]]] = []

    def record(self, entry: AuditEntry) -> Deferred[None]:
        self.waiting.append((entry, Deferred()))
        return self.waiting[-1][1]

    def recover(self) -> Deferred[None]:
        return self.record(AuditEntry(time=0.0, action="recover", outcome="done"))


class HoldTests(SynchronousTestCase):
    """What waits for a disk."""

    def setUp(self) -> None:
        self.gateway = MemoryGateway(settingsOf())
        self.slow = SlowAudit()
        clock = self.gateway.network.clock
        self.gateway.root._acts = AuditedActs(self.slow, clock.seconds)  # type: ignore[arg-type]

    def activate(self) -> Client:
        """Ask for something to be done."""
        client = self.gateway.connect()
        client.send(requestBytes("POST", "/admin/models/activate", {"modelKey": "a"}))
        return client

    def test_waits(self) -> None:
        """No byte of the answer is sent before the line is written; then it is the answer."""
        client = self.activate()
        self.gateway.network.advance(1)
        self.assertEqual((client.answers, len(self.slow.waiting)), ([], 1))
        self.slow.waiting[0][1].callback(None)
        self.gateway.network.flush()
        self.assertEqual([answer.status for answer in client.answers], [200])
        self.assertTrue(client.answers[0].whole)

    def test_pipelined(self) -> None:
        """A request behind it on the same connection waits, and is answered after it."""
        client = self.activate()
        client.send(requestBytes("GET", "/admin/models/active"))
        self.assertEqual(client.answers, [])
        self.slow.waiting[0][1].callback(None)
        self.gateway.network.advance(1)
        self.assertEqual([answer.status for answer in client.answers], [200, 200])

    def test_leaves(self) -> None:
        """A client that leaves meanwhile does no harm, and has one line."""
        client = self.activate()
        client.leave()
        self.slow.waiting[0][1].callback(None)
        self.gateway.network.advance(1)
        self.assertEqual([entry.outcome for entry, _ in self.slow.waiting], ["done"])
        self.assertEqual(self.gateway.ask("GET", "/admin/models/active").status, 200)

    def test_unanswered(self) -> None:
        """A client that leaves before the act has an answer leaves a line that says so."""
        client = self.gateway.connect()
        client.send(requestBytes("POST", "/admin/models/activate", {"modelKey": "a"})[:-3])
        client.leave()
        (entry,) = [entry for entry, _ in self.slow.waiting]
        self.assertEqual((entry.action, entry.outcome, entry.status), ("models.activate", "unanswered", None))

    def test_defect(self) -> None:
        """A defect in the audit answers 500 rather than never."""
        client = self.activate()
        self.slow.waiting[0][1].errback(ZeroDivisionError())
        self.gateway.network.advance(1)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual([answer.status for answer in client.answers], [500])

    def test_owed(self) -> None:
        """While lines are owed, nothing is begun before they are written; one who leaves meanwhile has nothing done."""
        self.slow.isFailing = True
        client, leaving = self.activate(), self.activate()
        self.assertEqual([entry.action for entry, _ in self.slow.waiting], ["recover", "recover"])
        leaving.leave()
        for _, waiting in self.slow.waiting[:]:
            if not waiting.called:
                waiting.callback(None)
        self.assertIsNotNone(self.gateway.active.model)
        self.slow.waiting[-1][1].callback(None)
        self.gateway.network.advance(1)
        self.assertEqual([answer.status for answer in client.answers], [200])

    def test_stillOwed(self) -> None:
        """Where they cannot be written, nothing is begun."""
        self.slow.isFailing = True
        client = self.activate()
        self.slow.waiting[0][1].errback(AuditFailed("No."))
        self.gateway.network.advance(1)
        self.assertIsNone(self.gateway.active.model)
        self.assertEqual([answer.status for answer in client.answers], [503])


class EveryRouteTests(SynchronousTestCase):
    def test_acts(self) -> None:
        """Every row of the table that an admin changes something by leaves one line per request, whatever comes of it."""
        for route in ROUTES:
            for method in route.methods or (b"POST",):
                if route.scopeFor(method) is not Scope.ADMIN or method in READING:
                    continue
                gateway = MemoryGateway(settingsOf())
                client = gateway.connect()
                path = route.name.replace("*", "x")
                client.send(requestBytes(method.decode(), path, {}, headers={"Content-Type": "application/json"}))
                gateway.network.advance(30)
                client.leave()
                self.assertEqual(len(gateway.audit.entries), 1, (method, path))

    def test_outcomes(self) -> None:
        """What an answer's status says of the act."""
        for status, outcome in (
            (None, "unanswered"),
            (200, "done"),
            (201, "done"),
            (401, "refused"),
            (403, "refused"),
            (429, "refused"),
            (400, "failed"),
            (404, "failed"),
            (503, "failed"),
        ):
            self.assertEqual(outcomeOf(status), outcome)
