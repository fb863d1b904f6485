"""A secret in every place of a request shows in no event, metric, log line, record or error, and on no disk."""

from __future__ import annotations

import json

from lmgateway.telemetry.accesslog import formatJson, formatText
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway, requestBytes, settingsOf

CANARY = "canary5a1f"
HEADERS = {
    "X-Note": CANARY,
    "Cookie": f"c={CANARY}",
    "User-Agent": CANARY,
    "Referer": f"http://x/{CANARY}",
    "X-Forwarded-For": CANARY,
}
BODY = {
    "model": "qwen/qwen3-8b",
    "messages": [{"role": "user", "content": CANARY}],
    "user": CANARY,
    "metadata": {CANARY: CANARY},
}


class CanaryTests(SynchronousTestCase):
    def told(self, gateway: MemoryGateway) -> str:
        """Everything that the gateway says of itself."""
        seen = [event.data for event in gateway.journal.read(0).events]
        seen += [
            gateway.ask("GET", path).body for path in ("/debug/status", "/debug/metrics", "/debug/requests", "/metrics")
        ]
        for record in gateway.records:
            seen += [formatJson(record), formatText(record).encode()]
        return b"\n".join(seen).decode()

    def test_inferences(self) -> None:
        """Of requests that go to LM Studio nothing but names, numbers and times is told."""
        gateway = MemoryGateway(settingsOf({"LMSTUDIO_API_TOKEN": f"sk-lm-{CANARY}"}))
        for stream in (False, True):
            gateway.ask("POST", f"/v1/chat/completions?k={CANARY}", {**BODY, "stream": stream}, headers=HEADERS)
        gateway.ask(
            "POST", f"/v1/completions?k={CANARY}", {"model": "qwen/qwen3-8b", "prompt": CANARY}, headers=HEADERS
        )
        gateway.ask("GET", f"/v1/models?k={CANARY}", headers=HEADERS)
        self.assertNotIn(CANARY, self.told(gateway))

    def test_refusals(self) -> None:
        """Of requests that are refused neither, whatever is wrong with them; and no answer repeats it."""
        gateway = MemoryGateway()
        answers = [
            gateway.ask("GET", f"/v1/models?k={CANARY}", key=f"lmg_{CANARY}", headers=HEADERS),
            gateway.ask("GET", "/v1/models", key=None, headers={**HEADERS, "X-API-Key": CANARY}),
            gateway.ask("POST", "/v1/chat/completions", json.dumps(BODY).encode()[:-1], headers=HEADERS),
            gateway.ask("POST", "/admin/models/activate", {"modelKey": 5, CANARY[:4]: 1}, headers=HEADERS),
            gateway.ask("GET", f"/debug/poll?since={CANARY}", headers=HEADERS),
        ]
        client = gateway.connect()
        client.send(f"GET /?{CANARY} HTTP/1.1\r\nX: {CANARY}\r\n\r\n".encode())
        answers += client.answers
        for answer in answers:
            self.assertGreaterEqual(answer.status, 400)
            self.assertNotIn(CANARY.encode(), answer.body)
        self.assertNotIn(CANARY, self.told(gateway))

    def test_upstreamDown(self) -> None:
        """Errors of LM Studio's side do not tell it, either."""
        gateway = MemoryGateway()
        gateway.endpoints.listen = None
        answer = gateway.ask("POST", f"/v1/chat/completions?{CANARY}", BODY, headers=HEADERS)
        self.assertEqual(answer.status, 503)
        self.assertNotIn(CANARY, self.told(gateway) + answer.body.decode())

    def test_leaving(self) -> None:
        """Nor is it told of a client that leaves."""
        gateway = MemoryGateway()
        client = gateway.connect()
        client.send(requestBytes("POST", f"/v1/chat/completions?{CANARY}", BODY, headers=HEADERS)[:-3])
        client.leave()
        self.assertNotIn(CANARY, self.told(gateway))
