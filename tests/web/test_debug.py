"""The state, the sums and the single requests, over HTTP."""

from __future__ import annotations

from lmgateway.message import ActiveModel, Principal, Scope
from lmgateway.policy.authentication import digestOf
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import KEY, MemoryGateway, ScriptedUpstreams, requestBytes, settingsOf
from tests.web.test_proxy import SSE_HEAD, chunk

CHAT = {"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "Hello"}]}
MONITOR = {digestOf("monitor-key"): Principal("watcher", frozenset({Scope.MONITOR}))}


class StatusTests(SynchronousTestCase):
    def test_idle(self) -> None:
        """Nothing happens: idle, no operation, the active model."""
        gateway = MemoryGateway()
        gateway.active.model = ActiveModel("m", None, {"topP": 0.5})
        told = gateway.ask("GET", "/debug/status").json()
        self.assertEqual((told["status"], told["currentOperation"], told["inFlight"]), ("idle", None, 0))
        active = {"modelKey": "m", "instanceId": None, "defaultInference": {"topP": 0.5}, "resident": None}
        self.assertEqual(told["activeModel"], active)

    def test_busy(self) -> None:
        """An inference in flight is the current operation."""
        gateway = MemoryGateway(listen=ScriptedUpstreams())
        gateway.connect().send(requestBytes("POST", "/v1/chat/completions", CHAT))
        told = gateway.ask("GET", "/debug/status").json()
        self.assertEqual((told["status"], told["inFlight"]), ("processing_inference", 1))
        self.assertEqual(told["currentOperation"]["modelKey"], "qwen/qwen3-8b")

    def test_recent(self) -> None:
        """The last ten that ended are told, the newest first; totals count them all."""
        gateway = MemoryGateway()
        for _ in range(11):
            last = gateway.ask("POST", "/v1/chat/completions", CHAT)
        gateway.ask("POST", "/v1/chat/completions", {"model": 5})
        told = gateway.ask("GET", "/debug/status").json()
        self.assertEqual((told["totalRequests"], told["totalErrors"], len(told["recentRequests"])), (12, 1, 10))
        self.assertEqual(told["recentRequests"][0]["status"], 400)
        self.assertEqual(told["recentRequests"][1]["requestId"].encode(), last.header(b"x-request-id"))

    def test_down(self) -> None:
        """While LM Studio cannot be reached the status is error, with the reason."""
        gateway = MemoryGateway()
        gateway.endpoints.listen = None
        gateway.ask("POST", "/v1/chat/completions", CHAT)
        told = gateway.ask("GET", "/debug/status").json()
        self.assertEqual(told["status"], "error")
        self.assertIn("refused the connection", told["upstream"]["reason"])
        kinds = [event.kind for event in gateway.journal.read(0).events]
        self.assertEqual(kinds, ["inference_start", "upstream_down", "error"])


class MetricsTests(SynchronousTestCase):
    def test_json(self) -> None:
        """Every field of the contract is there."""
        gateway = MemoryGateway()
        gateway.ask("POST", "/v1/chat/completions", CHAT)
        told = gateway.ask("GET", "/debug/metrics").json()
        self.assertEqual(set(told), {"modelInfo", "performance", "recentActivity", "system", "currentOperation"})
        self.assertEqual(told["performance"]["completedRequestCount"], 1)
        self.assertEqual(
            set(told["system"]),
            {"uptime", "uptimeFormatted", "memoryUsage", "pythonVersion", "twistedVersion", "platform"},
        )
        self.assertEqual(len(told["recentActivity"]["last10Requests"]), 1)

    def test_prometheus(self) -> None:
        """Prometheus' own parser reads what is served."""
        gateway = MemoryGateway()
        gateway.ask("POST", "/v1/chat/completions", CHAT)
        answer = gateway.ask("GET", "/metrics")
        self.assertTrue((answer.header(b"content-type") or b"").startswith(b"text/plain"))
        names = {family.name for family in text_string_to_metric_families(answer.body.decode())}
        self.assertLessEqual({"lmgateway_inference_requests", "lmgateway_in_flight", "lmgateway_upstream_up"}, names)


class RequestsTests(SynchronousTestCase):
    def test_list(self) -> None:
        """Requests in flight and ended are listed with all that is known of them."""
        gateway = MemoryGateway()
        gateway.active.model = ActiveModel("qwen/qwen3-8b", None, {"temperature": 0.5})
        gateway.ask("POST", "/v1/chat/completions?secret=1", {"messages": CHAT["messages"]})
        (ended,) = gateway.ask("GET", "/debug/requests").json()["ended"]
        self.assertEqual((ended["phase"], ended["ending"], ended["status"]), ("ended", "complete", 200))
        self.assertEqual(
            (ended["path"], ended["key"], ended["injected"]),
            ("/v1/chat/completions", "GATEWAY_API_KEY", ["model", "temperature"]),
        )

    def test_tokensSoFar(self) -> None:
        """While a stream passes its tokens so far are told, as counted; of what is no stream nothing is told before its end."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        for isStream in (True, False):
            client = gateway.connect()
            client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": isStream}))
        told = gateway.ask("GET", "/debug/requests").json()["inFlight"]
        self.assertEqual([each["tokenUsage"] for each in told], [None, None])
        text = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
        upstreams.made[0].transport.write(SSE_HEAD + chunk(text) + chunk(text + text))
        gateway.network.flush()
        stream, other = gateway.ask("GET", "/debug/requests").json()["inFlight"]
        self.assertEqual((stream["tokenUsage"]["completionTokens"], stream["tokenUsage"]["estimated"]), (3, True))
        self.assertIsNone(other["tokenUsage"])

    def test_ended(self) -> None:
        """As many of those that ended are listed as are asked for, the newest first; anything but a number is refused."""
        gateway = MemoryGateway()
        ids = [
            (gateway.ask("POST", "/v1/chat/completions", CHAT).header(b"x-request-id") or b"").decode()
            for _ in range(3)
        ]
        for query, count in (("", 3), ("?ended=2", 2), ("?ended=0", 0), ("?ended=1000", 3)):
            told = gateway.ask("GET", f"/debug/requests{query}").json()["ended"]
            self.assertEqual([each["requestId"] for each in told], ids[::-1][:count], query)
        for query in ("?ended=-1", "?ended=x", "?ended=1001", "?ended=", "?ended=%D9%A1"):
            self.assertEqual(gateway.ask("GET", f"/debug/requests{query}").status, 400, query)

    def test_cancel(self) -> None:
        """A request in flight is cancelled: LM Studio's connection is closed, and the client told why."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", CHAT))
        (requestId,) = gateway.exchanges.inFlight
        self.assertEqual(gateway.ask("DELETE", f"/debug/requests/{requestId}").status, 200)
        self.assertTrue(upstreams.made[0].ended)
        (answer,) = client.answers
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "cancelled"))
        self.assertEqual(gateway.exchanges.ended[-1].ending, "cancelled")
        self.assertEqual(gateway.ask("DELETE", f"/debug/requests/{requestId}").status, 409)
        self.assertEqual(gateway.ask("DELETE", "/debug/requests/none").status, 404)

    def test_cancelNeedsAnAdmin(self) -> None:
        """A key for monitoring may look, and may not cancel."""
        gateway = MemoryGateway(keys=MONITOR)
        self.assertEqual(gateway.ask("GET", "/debug/requests", key="monitor-key").status, 200)
        self.assertEqual(gateway.ask("DELETE", "/debug/requests/x", key="monitor-key").status, 403)

    def test_captured(self) -> None:
        """What was captured is shown to admins, and exported; never the key that asked."""
        from msgspec.structs import replace

        settings = settingsOf()
        settings = replace(settings, debug=replace(settings.debug, capture=("GATEWAY_API_KEY",)))
        gateway = MemoryGateway(settings, keys=MONITOR)
        requestId = (gateway.ask("POST", "/v1/chat/completions", CHAT).header(b"x-request-id") or b"").decode()
        shown = gateway.ask("GET", f"/debug/requests/{requestId}")
        self.assertIn("Hello", shown.json()["captured"]["request"]["body"])
        self.assertIn("assistant", shown.json()["captured"]["answer"]["body"])
        har = gateway.ask("GET", f"/debug/requests/{requestId}?format=har").json()
        self.assertEqual(har["log"]["entries"][0]["response"]["status"], 200)
        curl = gateway.ask("GET", f"/debug/requests/{requestId}?format=curl")
        self.assertIn(b"http://127.0.0.1:8001/v1/chat/completions", curl.body)
        self.assertNotIn(KEY.encode(), shown.body + curl.body)
        self.assertIsNone(gateway.ask("GET", f"/debug/requests/{requestId}", key="monitor-key").json()["captured"])
        self.assertEqual(gateway.ask("GET", f"/debug/requests/{requestId}?format=har", key="monitor-key").status, 403)

    def test_notCaptured(self) -> None:
        """Without capture there is nothing to show or export, and that is said."""
        gateway = MemoryGateway()
        requestId = (gateway.ask("POST", "/v1/chat/completions", CHAT).header(b"x-request-id") or b"").decode()
        self.assertIsNone(gateway.ask("GET", f"/debug/requests/{requestId}").json()["captured"])
        answer = gateway.ask("GET", f"/debug/requests/{requestId}?format=curl")
        self.assertEqual(answer.status, 404)
        self.assertIn("debug.capture", answer.json()["error"])
