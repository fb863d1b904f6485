"""
A whole gateway in memory: clients on one side, the simulator or a scripted upstream on the other, a clock that only the test
moves. Everything between is what runs in production, treq included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lmgateway.audit import AuditEntry
from lmgateway.dashboard.assets import PageAssets
from lmgateway.dashboard.site import DashboardApi
from lmgateway.errors import Unavailable
from lmgateway.interfaces import IActiveModel, IEventJournal
from lmgateway.message import ActiveModel, Principal
from lmgateway.policy.completion import Completions
from lmgateway.policy.explaining import Explainer
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.limits import RequestLimits
from lmgateway.policy.sessions import Sessions
from lmgateway.policy.stream_options import UsageAsking
from lmgateway.settings import Settings, loadSettings
from lmgateway.studio.service import ModelService
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from lmgateway.studio.watching import Choice
from lmgateway.telemetry.captures import Captures
from lmgateway.telemetry.events import ExchangeEvents
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.history import History
from lmgateway.telemetry.journal import Journal
from lmgateway.telemetry.metrics import Metrics
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.telemetry.usage import readerFor
from lmgateway.web.access import recordOf
from lmgateway.web.audited import AuditedActs
from lmgateway.web.authority import AuthorityApi
from lmgateway.web.debug import DebugApi
from lmgateway.web.explain import ExplainApi
from lmgateway.web.feed import FeedApi
from lmgateway.web.health import HealthApi, UpstreamProbe
from lmgateway.web.limits import KeyRefusals
from lmgateway.web.listing import LISTED, ModelListing
from lmgateway.web.models import ModelsApi
from lmgateway.web.proxy import ProxyResource
from lmgateway.web.rules import makeRules
from lmgateway.web.tree import GatewayRoot
from lmgateway.web.watch import Watching
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from lmgateway.wire.upstream import TreqUpstream
from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from tests.network import MemoryEndpoints, MemoryTransport, Network, Recorder

KEY = "test-key-123"
UPSTREAM = "http://127.0.0.1:1234"
HOST = "127.0.0.1:8001"
"""What clients call the gateway."""


def settingsOf(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings as the environment would give them, with one key."""
    return loadSettings(configFile=None, environ={"GATEWAY_API_KEY": KEY, **(environ or {})}, options={}, envFile=None)


@implementer(IActiveModel)
class MemoryActiveModel:
    """An active model that no crash is meant to survive."""

    def __init__(self) -> None:
        self.model: ActiveModel | None = None

    def current(self) -> ActiveModel | None:
        return self.model

    def activate(self, model: ActiveModel) -> Deferred[None]:
        self.model = model
        return succeed(None)

    def deactivate(self) -> Deferred[None]:
        self.model = None
        return succeed(None)


@implementer(IEventJournal)
class MemoryJournal:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def record(self, kind: str, data: Mapping[str, object]) -> int:
        self.events.append((kind, data))
        return len(self.events)


class Nobody:
    """There is nobody who manages models."""

    reason = None

    def choose(self) -> Deferred[Any]:
        return fail(Unavailable("Nobody manages models here."))


class MemoryAudit:
    """Keeps the lines of the audit in memory."""

    isFailing = False

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def record(self, entry: AuditEntry) -> Deferred[None]:
        self.entries.append(entry)
        return succeed(None)

    def recover(self) -> Deferred[None]:
        return succeed(None)


class Answer:
    """One parsed answer."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, whole: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.whole = whole

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


def parseAnswers(data: bytes) -> list[Answer]:
    """Read every answer there is, the last perhaps not whole."""
    answers = []
    while data:
        head, blank, rest = data.partition(b"\r\n\r\n")
        assert blank, f"an unfinished head: {data[:200]!r}"
        statusLine, *lines = head.split(b"\r\n")
        headers = [(line.partition(b": ")[0], line.partition(b": ")[2]) for line in lines]
        fields = {name.lower(): value for name, value in headers}
        body, data, whole = _body(fields, rest)
        answers.append(Answer(int(statusLine.split(b" ")[1]), headers, body, whole=whole))
    return answers


def _body(fields: Mapping[bytes, bytes], rest: bytes) -> tuple[bytes, bytes, bool]:
    if fields.get(b"transfer-encoding") == b"chunked":
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if not length:
                return body, rest[2:], True
            body += rest[:length]
            rest = rest[length + 2 :]
        return body, b"", False
    length = int(fields.get(b"content-length", b"0"))
    return rest[:length], rest[length:], len(rest) >= length


class Client:
    """A client's connection."""

    def __init__(self, gateway: MemoryGateway, peerHost: str) -> None:
        self._gateway = gateway
        self.protocol = Recorder()
        channel = gateway.site.buildProtocol(None)
        self.downstream: MemoryTransport
        self.downstream, self.transport = gateway.network.connect(channel, self.protocol, peerHost)

    def send(self, data: bytes) -> None:
        self.transport.write(data)
        self._gateway.network.flush()

    @property
    def answers(self) -> list[Answer]:
        return parseAnswers(self.protocol.data)

    def leave(self) -> None:
        """Close the connection, as a stop button does."""
        self.transport.loseConnection()
        self._gateway.network.flush()


class MemoryGateway:
    """
    A gateway between :class:`Client` and an upstream.

    :param listen: makes the upstream's end of each connection to it; the simulator unless given.
    :param choice: finds who manages models; nobody does unless given. What there is is looked at only when somebody asks.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        keys: Mapping[bytes, Principal] | None = None,
        listen: Callable[[], Any] | None = None,
        journalSize: int = 8 << 20,
        choice: Choice | None = None,
    ) -> None:
        self.settings = settings or settingsOf()
        self.network = Network()
        clock: Any = self.network.clock
        self.simulator = Simulator()
        simulated = simulatorSite(self.simulator, clock)
        self.endpoints = MemoryEndpoints(self.network, listen or (lambda: simulated.buildProtocol(None)))
        self.agent = UpstreamAgent(clock, self.endpoints)
        upstream = TreqUpstream(self.agent, UPSTREAM, clock)
        self.active = MemoryActiveModel()
        self.sessions = Sessions(clock.seconds, self.settings.dashboard.sessionTimeout)
        rules = makeRules(self.settings, keys or {}, clock.seconds, self.sessions)
        self.journal = Journal(clock.seconds, journalSize)
        self.metrics = Metrics()
        self.state = UpstreamState(self.journal, UPSTREAM)
        inFlight = lambda: self.exchanges.inFlight.values()  # noqa: E731, PLW0108 - they are made after it
        self.models = ModelService(choice or Nobody(), self.state, self.active, self.journal, inFlight, clock)
        history = History(clock.seconds)
        self.exchanges = Exchanges([ExchangeEvents(self.journal), self.metrics, self.models, history])
        self.feed = FeedApi(self.journal, self.exchanges, self.sessions, clock, 1024, 256)
        self.captures = Captures(self.settings.debug.capture, self.settings.debug.captureSize)
        watching = Watching(self.exchanges, clock, readerFor, self.captures)
        self.completions = Completions()
        self.proxy = ProxyResource(
            rules,
            upstream,
            MemberSplicer(),
            self.active,
            watching,
            self.state,
            UsageAsking(),
            self.completions,
            lambda: succeed(False),
            clock,
        )
        debug = DebugApi(
            self.exchanges, self.metrics, self.captures, self.models, self.state, history, clock
        ).app.resource()
        refusals = KeyRefusals(self.journal, clock)
        self.tokens: dict[str, int] = {}
        perAddress = self.settings.limits.requestsPerMinutePerAddress
        self.limits = RequestLimits(lambda _, name: self.tokens.get(name, 0), perAddress)
        self.audit = MemoryAudit()
        self.listing = ModelListing(rules, upstream, self.state, self.completions, self.proxy, clock)
        self.root = GatewayRoot(
            rules,
            self.proxy,
            dict.fromkeys(LISTED, self.listing),
            {
                b"/ca.crt": AuthorityApi(lambda: b"a certificate"),
                b"/dashboard": DashboardApi(
                    PageAssets.read(), self.sessions, refusals, lambda: False, rules
                ).app.resource(),
                b"/health": HealthApi(UpstreamProbe(upstream, clock), clock).app.resource(),
                b"/admin": ModelsApi(self.models, clock).app.resource(),
                b"/admin/explain": ExplainApi(
                    Explainer(MemberSplicer(), self.completions), self.active, self.proxy, (keys or {}).values
                ).app.resource(),
                b"/debug": debug,
                b"/debug/stream": self.feed.app.resource(),
                b"/debug/poll": self.feed.app.resource(),
                b"/metrics": debug,
            },
            refusals,
            self.limits,
            AuditedActs(self.audit, clock.seconds),  # type: ignore[arg-type]
        )
        self.records: list[Any] = []
        self.site = GatewaySite(self.root, clock, self.settings.limits, self.root.refuse, self._ended)
        self.site.permits = self.root.permits
        self.site.turnedAway = self.metrics.connectionTurnedAway
        self.site.startFactory()

    def _ended(self, request: GatewayRequest) -> None:
        self.root.ended(request)
        self.records.append(recordOf(request, self.site.now()))

    def connect(self, peerHost: str = "127.0.0.1") -> Client:
        return Client(self, peerHost)

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        peerHost: str = "127.0.0.1",
    ) -> Answer:
        """Send one request over a connection of its own, and give its whole answer."""
        client = self.connect(peerHost)
        client.send(requestBytes(method, target, body, key=key, headers=headers))
        self.network.advance(1)
        (answer,) = client.answers
        assert answer.whole, "the answer is not whole"
        return answer

    def withLimits(self, **limits: Any) -> None:
        """Change limits of the running gateway."""
        self.site.limits = replace(self.settings.limits, **limits)


def requestBytes(
    method: str, target: str, body: object = None, *, key: str | None = KEY, headers: Mapping[str, str] | None = None
) -> bytes:
    """Write a request; a body that is not bytes becomes JSON."""
    fields = {"Host": HOST, **({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields.setdefault("Content-Type", "application/json")
        fields.setdefault("Content-Length", str(len(data)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + data


class ScriptedUpstream(Protocol):
    """An upstream that keeps what it is sent and says what the test says."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended = True


class ScriptedUpstreams:
    """Makes scripted upstreams, and remembers them in order."""

    def __init__(self) -> None:
        self.made: list[ScriptedUpstream] = []

    def __call__(self) -> ScriptedUpstream:
        self.made.append(ScriptedUpstream())
        return self.made[-1]
