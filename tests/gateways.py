"""Gateways as a process has them, state and all, on a reactor that is in memory: nothing is listened on, no time passes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from lmgateway.gateway import Announcement, Gateway
from lmgateway.settings import Settings, loadSettings
from lmgateway.state import StateStore
from lmgateway.telemetry.accesslog import AccessRecord
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.network import Network
from tests.web.support import Answer, Client, ScriptedUpstream, ScriptedUpstreams, requestBytes

UPSTREAM_PORT = 1234
KEY = "the-key-of-before"
CHAT = requestBytes("POST", "/v1/chat/completions", {"model": "m", "stream": True}, key=KEY)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
END = b"0\r\n\r\n"


def chunk(text: bytes) -> bytes:
    """A chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(text), text)


class LocalReactor(MemoryReactorClock):
    """
    A reactor whose outgoing connections lead to what a test serves.

    :ivar served: makes the other end of each connection, by port; what is not there refuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.rightNow = self.network.clock.rightNow
        self.network.clock = self
        self.served: dict[int, Callable[[], Any]] = {}

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = super().connectTCP(host, port, factory, timeout, bindAddress)  # type: ignore[arg-type]
        if port in self.served:
            self.network.connect(self.served[port](), factory.buildProtocol(None))
        else:
            factory.clientConnectionFailed(connector, Failure(Refused()))
        return connector


class GatewayTestCase(SynchronousTestCase):
    """Gateways in one state folder, in front of upstreams that say what the test says."""

    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.reactor = LocalReactor()
        self.network = self.reactor.network
        self.upstreams = self.serve(UPSTREAM_PORT)
        self.announced: list[Announcement] = []
        self.records: list[AccessRecord] = []
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def serve(self, port: int) -> ScriptedUpstreams:
        """Have upstreams at a port."""
        self.reactor.served[port] = upstreams = ScriptedUpstreams()
        return upstreams

    def settings(self, options: Mapping[str, Iterable[str]] | None = None, **environ: str) -> Settings:
        """The settings of these variables and options."""
        given = {name: list(values) for name, values in (options or {}).items()}
        return loadSettings(environ={"GATEWAY_STATE_DIR": str(self.folder / "state"), **environ}, options=given)

    def open(self, settings: Settings) -> Gateway:
        """A gateway that is not restored yet; its state is closed when the test ends."""
        store = StateStore.open(settings.state.directory, self.reactor)  # type: ignore[arg-type]
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(store.close())))
        return Gateway(settings, self.reactor, store, self.announced.append, self.records.append)

    def start(self, settings: Settings) -> Gateway:
        """A gateway that serves, though its state is still without its thread."""
        gateway = self.open(settings)
        gateway.restore()
        gateway.listen()
        return gateway

    def reload(self, gateway: Gateway, settings: Settings) -> None:
        """Have it go by other settings."""
        self.successResultOf(Deferred.fromCoroutine(gateway.reload(settings)))

    def stop(self, gateway: Gateway) -> Deferred[None]:
        """Begin to stop it."""
        stopping = gateway.stopService()
        self.network.flush()
        return stopping

    def connect(self, gateway: Gateway, peerHost: str = "127.0.0.1") -> Client:
        """Connect a client."""
        return Client(SimpleNamespace(site=gateway.site, network=self.network), peerHost)  # type: ignore[arg-type]

    def ask(self, gateway: Gateway, target: str, *, key: str | None = None, peerHost: str = "127.0.0.1") -> Answer:
        """Ask for what the gateway itself answers."""
        client = self.connect(gateway, peerHost)
        client.send(requestBytes("GET", target, key=key))
        (answer,) = client.answers
        client.leave()
        return answer

    def said(self) -> list[str]:
        """What the gateway has told its log."""
        return [str(formatEvent(event)) for event in self.events if event["log_namespace"].startswith("lmgateway")]


class ServingTestCase(GatewayTestCase):
    """A gateway with a key and LM Studio's token, and what can be had of it."""

    def setUp(self) -> None:
        super().setUp()
        self.environ = {"GATEWAY_API_KEY": KEY, "LMSTUDIO_API_TOKEN": "token-1"}
        self.gateway = self.start(self.settings(**self.environ))

    def change(self, **environ: str) -> None:
        """Have it go by other variables."""
        self.reload(self.gateway, self.settings(**{**self.environ, **environ}))

    def begin(self, target: str = "/v1/files") -> tuple[Client, ScriptedUpstream]:
        """Send a request to LM Studio that is not answered yet."""
        client = self.connect(self.gateway)
        before = {upstream: len(upstream.data) for upstream in self.upstreams.made}
        client.send(CHAT if target == "/v1/chat/completions" else requestBytes("GET", target, key=KEY))
        (upstream,) = [each for each in self.upstreams.made if len(each.data) != before.get(each, 0)]
        return client, upstream

    def write(self, upstream: ScriptedUpstream, data: bytes) -> None:
        """Have the upstream say something."""
        upstream.transport.write(data)
        self.network.flush()

    def idle(self) -> ScriptedUpstream:
        """Have a connection in the pool."""
        client, upstream = self.begin()
        self.write(upstream, EMPTY)
        self.assertEqual(client.answers[0].status, 200)
        return upstream


class BrokenPort:
    """A listener that cannot be closed in good order."""

    def __init__(self, port: IListeningPort) -> None:
        self.getHost = port.getHost

    def stopListening(self) -> None:
        """Fail as a unix socket does whose file is gone."""
        raise FileNotFoundError(2, "No such file or directory")
