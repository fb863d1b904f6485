# -*- test-case-name: tests.test_assembly -*-
"""
Everything that a gateway is made of, put together; and what other settings change in it while it runs.

Nothing here listens, waits or ends: that is :mod:`lmgateway.gateway`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger
from twisted.web.resource import IResource

from lmgateway.audit import AuditLog
from lmgateway.dashboard.assets import PageAssets
from lmgateway.dashboard.site import DashboardApi
from lmgateway.inventory import Inventory, Management
from lmgateway.keydesk import KeyDesk
from lmgateway.keys import KeyChange, KeyRing
from lmgateway.ledger import UsageLedger
from lmgateway.logs import redactor
from lmgateway.message import Principal
from lmgateway.policy.completion import Completions
from lmgateway.policy.explaining import Explainer
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.limits import RequestLimits
from lmgateway.policy.model_names import KnownModels
from lmgateway.policy.routes import CA_PATH
from lmgateway.policy.sessions import Sessions
from lmgateway.policy.stream_options import UsageAsking
from lmgateway.settings import Settings
from lmgateway.state import StateStore, StoredActiveModel
from lmgateway.studio.composing import makeChoice
from lmgateway.studio.logs import LogFollower
from lmgateway.studio.service import ModelService
from lmgateway.telemetry.accesslog import AccessRecord
from lmgateway.telemetry.captures import Captures
from lmgateway.telemetry.events import ExchangeEvents
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.history import History
from lmgateway.telemetry.journal import Journal
from lmgateway.telemetry.metrics import Metrics
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.telemetry.usage import readerFor
from lmgateway.tls.serving import ServerTls
from lmgateway.web.access import recordOf
from lmgateway.web.audited import AuditApi, AuditedActs
from lmgateway.web.authority import AuthorityApi
from lmgateway.web.debug import DebugApi
from lmgateway.web.explain import ExplainApi
from lmgateway.web.feed import FeedApi
from lmgateway.web.health import HealthApi, UpstreamProbe
from lmgateway.web.keys import KeysApi
from lmgateway.web.limits import KeyRefusals
from lmgateway.web.listing import LISTED, ModelListing
from lmgateway.web.models import ModelsApi
from lmgateway.web.proxy import ProxyResource
from lmgateway.web.rules import makeRules
from lmgateway.web.tree import GatewayRoot
from lmgateway.web.usage import UsageApi
from lmgateway.web.watch import Watching
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from lmgateway.wire.upstream import makeUpstream

_log = Logger()


class Assembly:
    """
    The parts of one gateway.

    :param settings: what they go by; :meth:`configure` changes it.
    :param reactor: everything that waits, waits on it.
    :param store: what survives a crash, open.
    :param tls: serves the certificate authority, where there is one.
    :param record: told of every request that has ended.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        store: StateStore,
        tls: ServerTls,
        record: Callable[[AccessRecord], None],
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._tls = tls
        self._record = record
        self._makeWhatSurvives(store)
        self._makeWhatIsRemembered()
        self._makeWhatKnowsModels()
        self._makeWhatAnswers()
        self.site = GatewaySite(self.root, reactor, settings.limits, self.root.refuse, self._ended)
        self.site.permits = self.root.permits
        self.site.turnedAway = self.metrics.connectionTurnedAway

    def _makeWhatSurvives(self, store: StateStore) -> None:
        """Make what outlives the process: the active model, the keys, the usage, the audit."""
        reactor = self._reactor
        self.active = StoredActiveModel(store)
        self.keys = KeyRing(store, reactor.seconds, self._keyChanged)
        self.desk = KeyDesk(self.keys, reactor.seconds, lambda: self.settings.access.apiKey is not None)
        self.ledger = UsageLedger(store, reactor)
        self.audit = AuditLog(store.directory, reactor, maskOf(self.settings))

    def _makeWhatIsRemembered(self) -> None:
        """Make what ends with the process: events, sums, single requests, who is signed in."""
        debug, now = self.settings.debug, self._reactor.seconds
        self.journal = Journal(now, debug.journalSize)
        self.metrics = Metrics()
        self.history = History(now)
        self.captures = Captures(debug.capture, debug.captureSize)
        self.sessions = Sessions(now, self.settings.dashboard.sessionTimeout)

    def _makeWhatKnowsModels(self) -> None:
        """Make what asks LM Studio, and what knows its models."""
        settings, reactor = self.settings, self._reactor
        self.upstream = makeUpstream(settings, reactor)
        self.state = UpstreamState(self.journal, settings.upstream.baseUrl)
        self.completions = Completions(settings.aliases, settings.models, isStrict=settings.upstream.strictModels)
        self.models = ModelService(
            makeChoice(settings, self.upstream, reactor),
            self.state,
            self.active,
            self.journal,
            lambda: self.exchanges.inFlight.values(),  # noqa: PLW0108 - they are made after it, and tell it of each
            reactor,
            self.completions.loadConfigOf,
        )
        self.models.subscribe(self._modelsChanged)
        self.exchanges = Exchanges([ExchangeEvents(self.journal), self.metrics, self.ledger, self.models, self.history])
        self.studioLog = LogFollower(self.journal, reactor)
        self._followLog(settings)

    def _makeWhatAnswers(self) -> None:
        """Make what requests are answered by."""
        settings, reactor, debug = self.settings, self._reactor, self.settings.debug
        rules = makeRules(settings, {}, reactor.seconds, self.sessions)
        self.proxy = ProxyResource(
            rules,
            self.upstream,
            MemberSplicer(),
            self.active,
            Watching(self.exchanges, reactor, readerFor, self.captures),
            self.state,
            UsageAsking(isWanted=debug.askForUsage),
            self.completions,
            self.models.look,
            reactor,
        )
        self.listing = ModelListing(rules, self.upstream, self.state, self.completions, self.proxy, reactor)
        self.feed = FeedApi(
            self.journal, self.exchanges, self.sessions, reactor, debug.maxSubscribers, debug.maxSubscribersPerKey
        )
        self.debug = DebugApi(
            self.exchanges, self.metrics, self.captures, self.models, self.state, self.history, reactor
        )
        self.probe = UpstreamProbe(self.upstream, reactor)
        refusals = KeyRefusals(self.journal, reactor)
        self.dashboard = DashboardApi(
            PageAssets.read(), self.sessions, refusals, lambda: self._tls.authority is not None, rules
        )
        self.dashboard.isEnabled = settings.dashboard.enabled
        self.limits = RequestLimits(self.ledger.tokensOn, settings.limits.requestsPerMinutePerAddress)
        proxied = dict.fromkeys(LISTED, self.listing)
        acts = AuditedActs(self.audit, reactor.seconds)
        self.root = GatewayRoot(rules, self.proxy, proxied, self._apis(), refusals, self.limits, acts)

    def _apis(self) -> dict[bytes, IResource]:
        debug = self.debug.app.resource()
        feed = self.feed.app.resource()
        return {
            CA_PATH.encode(): AuthorityApi(lambda: self._tls.authority),
            b"/health": HealthApi(self.probe, self._reactor).app.resource(),
            b"/admin": ModelsApi(self.models, self._reactor).app.resource(),
            b"/admin/audit": AuditApi(self.audit).app.resource(),
            b"/admin/explain": ExplainApi(
                Explainer(MemberSplicer(), self.completions),
                self.active,
                self.proxy,
                self._principals,
            ).app.resource(),
            b"/admin/keys": KeysApi(self.desk).app.resource(),
            b"/admin/usage": UsageApi(self.ledger, self._reactor).app.resource(),
            b"/dashboard": self.dashboard.app.resource(),
            b"/debug": debug,
            b"/debug/stream": feed,
            b"/debug/poll": feed,
            b"/metrics": debug,
        }

    def _ended(self, request: GatewayRequest) -> None:
        principal = request.principal
        if principal is not None and principal.keyId is not None:
            self.keys.used(principal.keyId)
        self.root.ended(request)
        record = recordOf(request, self.site.now())
        self.metrics.answerSent(record.route, record.status)
        self._record(record)

    def configure(self, fresh: Settings) -> None:
        """Go by other settings from now on, without cutting anything that runs."""
        before = self.settings
        # The certificates in the file may be others, though its name is the same.
        if fresh.upstream != before.upstream or fresh.upstream.caFile is not None:
            self._replaceUpstream(fresh)
        self.settings = fresh
        self.audit.mask = maskOf(fresh)
        self.site.limits = fresh.limits
        self.limits.perAddress = fresh.limits.requestsPerMinutePerAddress
        debug = fresh.debug
        self.captures.configure(debug.capture, debug.captureSize)
        self.feed.configure(debug.maxSubscribers, debug.maxSubscribersPerKey)
        self.proxy.asking.isWanted = debug.askForUsage
        self.completions.configure(fresh.aliases, fresh.models, isStrict=fresh.upstream.strictModels)
        self.sessions.idleSeconds = fresh.dashboard.sessionTimeout
        self.dashboard.isEnabled = fresh.dashboard.enabled
        self._followLog(fresh)
        self.applyRules()

    def _modelsChanged(self, inventory: Inventory | None, management: Management | None) -> None:
        """Know which models there are, where whoever lists them can tell: without management a list proves nothing."""
        isProof = inventory is not None and management in {"sdk", "rest"}
        self.completions.known = KnownModels(inventory) if inventory is not None and isProof else None

    def _followLog(self, settings: Settings) -> None:
        upstream = settings.upstream
        self.studioLog.configure(upstream.logDirectory, isOn=upstream.followLogs, showBodies=upstream.logBodies)

    def _replaceUpstream(self, settings: Settings) -> None:
        """Send what comes from now on elsewhere. The connections of before go with the answers that they carry."""
        upstream, retiring = makeUpstream(settings, self._reactor), self.upstream
        self.upstream = self.proxy.upstream = self.probe.upstream = self.listing.upstream = upstream
        retiring.retire()
        if settings.upstream.baseUrl != self.state.url:
            state = UpstreamState(self.journal, settings.upstream.baseUrl)
            self.state = self.proxy.state = self.debug.upstream = self.listing.state = state
            self.listing.forget()
        self.models.replaceUpstream(makeChoice(settings, upstream, self._reactor), self.state)

    def _keyChanged(self, change: KeyChange) -> None:
        """Have a change of a key count for what comes, and for what follows events; cut what must not run on."""
        self.applyRules()
        if change.isCut:
            self.root.cutOff(change.keyId)
        self.feed.endFollowing(change.keyId)

    def _principals(self) -> Iterable[Principal]:
        """Everybody with a key that is stored."""
        return [key.principal for key in self.keys.all()]

    def applyRules(self) -> None:
        """Decide by the settings and the keys of now."""
        rules = makeRules(self.settings, self.keys.principals, self._reactor.seconds, self.sessions)
        self.root.rules = rules
        self.proxy.rules = rules
        self.listing.rules = rules
        self.dashboard.rules = rules


def maskOf(settings: Settings) -> Callable[[str], str]:
    """What masks the secrets that the settings hold, and all that is shaped like a key."""
    return redactor((settings.access.apiKey, settings.upstream.apiToken))
