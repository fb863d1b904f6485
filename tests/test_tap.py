"""The gateway as a process: its reloads, who watches over it, and as whom it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lmgateway.changes import Changes
from lmgateway.logs import LogService
from lmgateway.settings import Settings, SettingsError
from lmgateway.supervision import Supervisor
from lmgateway.tap import GatewayProcess, asWhoeverRuns
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.gateways import KEY, GatewayTestCase
from tests.web.support import Answer, requestBytes


class Watcher(Supervisor):
    """Keeps what it is told."""

    def __init__(self, clock: Any) -> None:
        super().__init__({}, clock, 1)
        self.told: list[str] = []

    def ready(self, status: str) -> None:
        self.told.append(f"ready: {status}")

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self, seconds: float) -> None:
        self.told.append(f"stopping: {seconds:g}")

    def ended(self) -> None:
        self.told.append("ended")


class ReloadTests(GatewayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.environ = {"GATEWAY_API_KEY": KEY}
        self.gateway = self.start(self.settings(**self.environ))
        self.watcher = Watcher(self.reactor)
        logs = LogService(self.gateway.settings.log, self.reactor, None)
        self.process = GatewayProcess(self.gateway, logs, self.reactor, self.reread, self.watcher)

    def reread(self) -> Settings:
        return self.settings(**self.environ)

    def post(self) -> Answer:
        """Ask for a reload over HTTP."""
        client = self.connect(self.gateway)
        client.send(requestBytes("POST", "/admin/reload", {}, key=KEY))
        self.network.flush()
        (answer,) = client.answers
        return answer

    def test_changed(self) -> None:
        """A reload tells the keys of what has changed, and who watches is told when it begins and ends."""
        self.environ |= {"LOG_LEVEL": "debug", "GATEWAY_PORT": "9"}
        self.assertEqual(self.successResultOf(self.process.reload()), Changes(("log.level",), ("listen.port",)))
        self.assertEqual(self.gateway.settings.log.level, "debug")
        self.assertEqual(self.watcher.told, ["reloading", "ready: Serving."])

    def test_refused(self) -> None:
        """A bad configuration changes nothing; the log and who watches are told why."""
        self.environ |= {"LOG_LEVEL": "loud"}
        reason = str(self.failureResultOf(self.process.reload(), SettingsError).value)
        self.assertIn("LOG_LEVEL", reason)
        refused = f"The configuration was not read again; the old one stays: {reason}"
        self.assertEqual(self.gateway.settings.log.level, "info")
        self.assertEqual(self.said()[-1], refused)
        self.assertEqual(self.watcher.told, ["reloading", f"ready: {refused}"])

    def test_overHttp(self) -> None:
        """The path does what SIGHUP does, for the process's own gateway, and tells what came of it."""
        self.environ |= {"IP_ALLOWLIST": "127.0.0.1"}
        answer = self.post()
        told = {"status": "reloaded", "changed": ["access.allow"], "needsRestart": []}
        self.assertEqual((answer.status, answer.json()), (200, told))
        self.environ |= {"IP_ALLOWLIST": "nowhere"}
        answer = self.post()
        self.assertEqual(answer.status, 409)
        self.assertIn("IP_ALLOWLIST", answer.json()["error"])
        self.assertEqual(self.gateway.settings.access.allow, ("127.0.0.1",))

    def test_hangUp(self) -> None:
        """SIGHUP with a bad configuration ends in the log and nowhere else, and the next one counts."""
        self.environ |= {"LOG_LEVEL": "loud"}
        self.process.hangUp()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.environ |= {"LOG_LEVEL": "debug"}
        self.process.hangUp()
        self.assertEqual(self.gateway.settings.log.level, "debug")

    def test_defect(self) -> None:
        """A mistake of ours while reading is told in the log with where it happened, and the next reload counts."""
        self.environ["LOG_LEVEL"] = 1  # type: ignore[assignment]
        self.process.hangUp()
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.environ["LOG_LEVEL"] = "debug"
        self.assertEqual(self.successResultOf(self.process.reload()).changed, ("log.level",))

    def test_inTurn(self) -> None:
        """A reload waits for the one before it, and goes on when whoever asked for it has left."""
        turns: list[Deferred[None]] = []
        applied: list[str] = []

        async def slowly(settings: Settings) -> None:
            turns.append(Deferred())
            await turns[-1]
            applied.append(settings.log.level)

        self.gateway.reload = slowly  # type: ignore[method-assign]
        self.environ["LOG_LEVEL"] = "debug"
        first = self.process.reload()
        self.environ["LOG_LEVEL"] = "warn"
        second = self.process.reload()
        self.assertEqual(len(turns), 1)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        turns[0].callback(None)
        turns[1].callback(None)
        self.successResultOf(second)
        self.assertEqual(applied, ["debug", "warn"])

    def test_stop(self) -> None:
        """Who watches is told at once that it stops and how long that may take, and of its end once all is closed."""
        client = self.connect(self.gateway)
        client.send(requestBytes("GET", "/v1/files", key=KEY))
        stopping = self.process.stopService()
        self.network.flush()
        self.assertNoResult(stopping)
        self.assertEqual(self.watcher.told, ["stopping: 30"])
        self.gateway.hurry()
        self.network.flush()
        self.successResultOf(stopping)
        self.assertEqual(self.watcher.told, ["stopping: 30", "ended"])


class UserTests(SynchronousTestCase):
    def made(self, twistd: Mapping[str, Any]) -> tuple[int, int]:
        """As whom something is made that twistd makes with these options."""
        return asWhoeverRuns(twistd, lambda: (os.geteuid(), os.getegid()))

    def test_untold(self) -> None:
        """Where twistd was told nothing, it stays who it is."""
        own = (os.geteuid(), os.getegid())
        self.assertEqual([self.made({}), self.made({"uid": None, "gid": None})], [own, own])

    def test_told(self) -> None:
        """Where it was told to become somebody, all is made as that one already, and only while it is made."""
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        self.assertEqual(self.made({"uid": 65534, "gid": 65533}), (65534, 65533))
        self.assertEqual(self.made({"uid": 65534, "gid": None}), (65534, os.getegid()))
        self.assertEqual((os.geteuid(), os.getegid()), (0, 0))
