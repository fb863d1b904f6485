"""Whether LM Studio can be reached past the gateway: asked in memory, and told in the log."""

from __future__ import annotations

from typing import Any

from lmgateway.settings import loadSettings
from lmgateway.studio.exposure import ANSWER_SECONDS, MOST_ADDRESSES, ExposureCheck
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.gateways import GatewayTestCase, LocalReactor
from tests.studio.support import inventoryOf
from tests.web.support import ScriptedUpstreams

PORT = 1234
LIST = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"data": []}'
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


class ExposureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = LocalReactor()
        self.network = self.reactor.network
        self.addresses = ["192.168.1.2", "fd00::7"]
        self.own: list[tuple[str, int]] = []
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.take)
        self.addCleanup(globalLogPublisher.removeObserver, self.take)

    def take(self, event: dict[str, object]) -> None:
        """Keep what is told by whom this is about."""
        if event["log_namespace"] == "lmgateway.studio.exposure":
            self.lines.append(str(formatEvent(event)))

    def start(self, url: str = f"http://127.0.0.1:{PORT}") -> ExposureCheck:
        """A check that runs, with a token that must go nowhere."""
        settings = loadSettings(environ={"LMSTUDIO_BASE_URL": url, "LMSTUDIO_API_TOKEN": "sk-lm-token"})
        check = ExposureCheck(lambda: settings, self.reactor, lambda: self.addresses, lambda *place: place in self.own)
        check.startService()
        self.addCleanup(check.stopService)
        return check

    def expose(self) -> ScriptedUpstreams:
        """Have LM Studio at every address."""
        self.reactor.served[PORT] = upstreams = ScriptedUpstreams()
        return upstreams

    def answer(self, upstreams: ScriptedUpstreams, *answers: bytes) -> None:
        """Answer the last connections, one after the other."""
        for answer in answers:
            self.network.flush()
            upstreams.made[-1].transport.write(answer)  # type: ignore[union-attr]
            self.network.flush()
            self.reactor.advance(0)
            self.network.flush()

    def tried(self) -> list[str]:
        """The addresses that were connected to."""
        return [client[0] for client in self.reactor.tcpClients]

    def test_open(self) -> None:
        """Who asks nobody for a key at an address that others can use is told of, once, with what to do."""
        check, upstreams = self.start(), self.expose()
        check.studioSeen(inventoryOf("m"), "rest")
        self.answer(upstreams, LIST, REFUSED)
        self.assertEqual(self.tried(), self.addresses)
        (line,) = self.lines
        self.assertIn("LM Studio can be reached by other machines, at 192.168.1.2, fd00::7, port 1234", line)
        self.assertIn("--bind 127.0.0.1", line)
        self.assertNotIn(b"sk-lm-token", b"".join(each.data for each in upstreams.made))
        self.assertTrue(upstreams.made[0].data.startswith(b"GET /v1/models HTTP/1.1\r\n"))

    def test_closed(self) -> None:
        """Where nobody takes the connection nothing is told."""
        self.start().studioSeen(inventoryOf(), "rest")
        self.assertEqual((self.tried(), self.lines), (self.addresses, []))

    def test_once(self) -> None:
        """It is looked at when LM Studio is first seen and when it comes back, not at each change; the same is told once."""
        check, upstreams = self.start(), self.expose()
        check.studioSeen(None, None)
        self.assertEqual(self.tried(), [])
        for inventory in (inventoryOf("a"), inventoryOf("b"), inventoryOf()):
            check.studioSeen(inventory, "rest")
        self.answer(upstreams, LIST, LIST)
        check.studioSeen(inventoryOf("c"), "rest")
        self.assertEqual(len(self.tried()), 2)
        check.studioSeen(None, None)
        check.studioSeen(inventoryOf("c"), "rest")
        self.answer(upstreams, LIST, LIST)
        self.assertEqual((len(self.tried()), len(self.lines)), (4, 1))

    def test_elsewhere(self) -> None:
        """An LM Studio on another machine is not looked for at the addresses of this one."""
        self.start("http://192.168.1.9:1234").studioSeen(inventoryOf(), "rest")
        self.assertEqual(self.tried(), [])

    def test_own(self) -> None:
        """The gateway does not take itself for LM Studio where it has the same port at another address."""
        self.own = [("192.168.1.2", PORT)]
        self.start().studioSeen(inventoryOf(), "rest")
        self.assertEqual(self.tried(), ["fd00::7"])

    def test_many(self) -> None:
        """A machine with hundreds of addresses is not scanned."""
        self.addresses = [f"10.0.0.{host}" for host in range(200)]
        self.start().studioSeen(inventoryOf(), "rest")
        self.assertEqual(len(self.tried()), MOST_ADDRESSES)

    def test_silent(self) -> None:
        """Who takes the connection and says nothing is given up after a while, and told as what it may be."""
        self.addresses = ["192.168.1.2"]
        check, upstreams = self.start(), self.expose()
        check.studioSeen(inventoryOf(), "rest")
        self.network.flush()
        self.reactor.advance(ANSWER_SECONDS)
        self.network.flush()
        self.assertTrue(upstreams.made[0].ended)
        self.assertIn("Other machines can connect to port 1234 at 192.168.1.2", self.lines[0])

    def test_stopped(self) -> None:
        """A stop ends it at once, with nothing left behind, and nothing is begun after."""
        check, upstreams = self.start(), self.expose()
        check.studioSeen(inventoryOf(), "rest")
        self.network.flush()
        check.stopService()
        self.network.flush()
        self.assertTrue(upstreams.made[0].ended)
        check.studioSeen(None, None)
        check.studioSeen(inventoryOf(), "rest")
        self.assertEqual((len(self.tried()), self.lines, self.reactor.getDelayedCalls()), (1, [], []))


class GatewayTests(GatewayTestCase):
    def test_own(self) -> None:
        """A gateway knows where it listens itself."""
        gateway = self.start(self.settings({"listen": ["tcp:1234:interface=127.0.0.1"]}))
        host: Any = gateway._ports[0].getHost()
        self.assertTrue(gateway._isOwn(host.host, host.port))
        self.assertFalse(gateway._isOwn("192.168.1.2", host.port + 1))

    def test_told(self) -> None:
        """A gateway's own check is told what LM Studio has, and starts with it."""
        gateway = self.start(self.settings())
        (check,) = (each for each in gateway.services if isinstance(each, ExposureCheck))
        self.assertIn(check.studioSeen, gateway._parts.models._subscribers)
