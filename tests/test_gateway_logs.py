"""LM Studio's log within a gateway: followed when that is configured, and told to whoever may watch."""

from __future__ import annotations

import json

from lmgateway.gateway import Gateway
from lmgateway.studio.logs import POLL
from lmgateway.studio.simulator.logfiles import LogFiles

from tests.gateways import KEY, GatewayTestCase


class LogTests(GatewayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.logs = self.folder / "server-logs"
        self.studio = LogFiles(self.logs, self.reactor)
        self.studio.write("INFO", "old")

    def follow(self, **environ: str) -> Gateway:
        """A gateway with these variables, as far as it follows."""
        gateway = self.start(self.settings(GATEWAY_API_KEY=KEY, LMSTUDIO_LOG_DIR=str(self.logs), **environ))
        for service in gateway:
            service.startService()
            self.addCleanup(service.stopService)
        return gateway

    def told(self, gateway: Gateway) -> list[tuple[str, str]]:
        """The types and messages of what comes from the log."""
        self.reactor.pump([POLL] * 4)
        answer = self.ask(gateway, "/debug/poll?since=0&timeout=0&types=debug_log,lmstudio_chat_start", key=KEY)
        return [(event["type"], event["data"]["message"]) for event in json.loads(answer.body)["events"]]

    def test_followed(self) -> None:
        """What LM Studio logs is told as events, without what people asked."""
        gateway = self.follow(ENABLE_LOG_MONITORING="true")
        said = "Running chat completion on conversation with 2 messages"
        self.studio.write("INFO", f"{said}.", "qwen")
        self.studio.write("DEBUG", 'Received request: POST to /v1/chat/completions with body {"a": 1}')
        self.assertEqual(
            self.told(gateway),
            [
                ("debug_log", f"{said}."),
                ("lmstudio_chat_start", said),
                ("debug_log", "Received request: POST to /v1/chat/completions with body …"),
            ],
        )

    def test_notWanted(self) -> None:
        """A folder that is named is not followed unless that is wanted."""
        gateway = self.follow()
        self.studio.write("INFO", "a")
        self.assertEqual(self.told(gateway), [])

    def test_reloaded(self) -> None:
        """A reload turns it on."""
        gateway = self.follow()
        environ = {"GATEWAY_API_KEY": KEY, "LMSTUDIO_LOG_DIR": str(self.logs), "ENABLE_LOG_MONITORING": "true"}
        self.reload(gateway, self.settings(**environ))
        self.studio.write("INFO", "a")
        self.assertEqual(self.told(gateway), [("debug_log", "a")])
