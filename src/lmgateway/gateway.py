# -*- test-case-name: tests.test_gateway -*-
"""
The gateway as a Twisted service: everything put together, started, reloaded and stopped.

Start: the state is opened and read, a key is made where one is needed, then the listeners listen. Stop: nobody new is
accepted, running answers finish, then the state is closed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from lmgateway.errors import Unavailable
from lmgateway.keydesk import KeyDesk
from lmgateway.keys import KeyChange, KeyRing
from lmgateway.ledger import UsageLedger
from lmgateway.listeners import hasOwnTls, wantsTls, withBacklog
from lmgateway.message import Principal
from lmgateway.policy.completion import Completions
from lmgateway.policy.explaining import Explainer
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.limits import RequestLimits
from lmgateway.policy.routes import CA_PATH
from lmgateway.policy.stream_options import UsageAsking
from lmgateway.settings import Settings
from lmgateway.specs import defaultAllow
from lmgateway.state import StateStore, StoredActiveModel
from lmgateway.statefile import StateError
from lmgateway.studio.composing import makeChoice
from lmgateway.studio.logs import LogFollower
from lmgateway.studio.service import ModelService
from lmgateway.telemetry.accesslog import AccessRecord
from lmgateway.telemetry.captures import Captures
from lmgateway.telemetry.events import ExchangeEvents
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.journal import Journal
from lmgateway.telemetry.metrics import Metrics
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.telemetry.usage import readerFor
from lmgateway.tls.addresses import interfaceAddresses, lanAddresses
from lmgateway.tls.authority import TlsError
from lmgateway.tls.serving import ServerTls, listenerUrl, strictTransport
from lmgateway.tls.watch import CertificateWatch
from lmgateway.web.access import recordOf
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
from lmgateway.web.rules import EVERY_SCOPE, makeRules, needsKey
from lmgateway.web.tree import GatewayRoot
from lmgateway.web.usage import UsageApi
from lmgateway.web.watch import Watching
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from lmgateway.wire.upstream import makeUpstream

_log = Logger()

GENERATED_KEY_NAME = "first"
"""The name of the key that a gateway makes for itself when it must not serve without one."""


class StartError(Exception):
    """The gateway cannot start; the text says why, and what to do."""


class Announcement(Struct, frozen=True):
    """
    What whoever started the gateway wants to know once it listens.

    :param addresses: URLs, one for each listener that has one.
    :param generatedKey: a key that was made just now, and that nobody will be told again; else None.
    :param fingerprint: of the gateway's own certificate authority, where it is in use.
    """

    addresses: tuple[str, ...]
    generatedKey: str | None
    fingerprint: str | None = None


class Gateway(MultiService):
    """
    One gateway.

    :param settings: what it goes by.
    :param reactor: everything that waits, waits on it.
    :param store: what survives a crash, open.
    :param announce: told once all listeners listen.
    :param record: told of every request that has ended.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        store: StateStore,
        announce: Callable[[Announcement], None],
        record: Callable[[AccessRecord], None],
    ) -> None:
        super().__init__()
        self.settings = settings
        self._reactor = reactor
        self._announce = announce
        self._record = record
        self._ports: list[IListeningPort] = []
        self._generatedKey: str | None = None
        self._store = store
        self._active = StoredActiveModel(store)
        self._keys = KeyRing(store, reactor.seconds, self._keyChanged)
        self._desk = KeyDesk(self._keys, reactor.seconds, lambda: self.settings.access.apiKey is not None)
        self._tls = ServerTls(settings.state.directory, reactor)
        CertificateWatch(self._tls, reactor, self._inThread).setServiceParent(self)
        self._upstream = makeUpstream(settings, reactor)
        self._probe = UpstreamProbe(self._upstream, reactor)
        rules = makeRules(settings, {}, reactor.seconds)
        debug = settings.debug
        self._journal = Journal(reactor.seconds, debug.journalSize)
        self._feed = FeedApi(self._journal, reactor, debug.maxSubscribers, debug.maxSubscribersPerKey)
        self._metrics = Metrics()
        self._ledger = UsageLedger(store, reactor)
        self._state = UpstreamState(self._journal, settings.upstream.baseUrl)
        self._completions = Completions(settings.aliases, settings.models, isStrict=settings.upstream.strictModels)
        self._models = ModelService(
            makeChoice(settings, self._upstream, reactor),
            self._state,
            self._active,
            self._journal,
            lambda: self._exchanges.inFlight.values(),  # noqa: PLW0108 - they are made after it, and tell it of each
            reactor,
            self._completions.loadConfigOf,
        )
        self._models.setServiceParent(self)
        self._exchanges = Exchanges([ExchangeEvents(self._journal), self._metrics, self._ledger, self._models])
        self._captures = Captures(settings.debug.capture, settings.debug.captureSize)
        self._studioLog = LogFollower(self._journal, reactor)
        self._studioLog.setServiceParent(self)
        self._followLog(settings)
        asking = UsageAsking(isWanted=debug.askForUsage)
        watching = Watching(self._exchanges, reactor, readerFor, self._captures)
        self._proxy = ProxyResource(
            rules,
            self._upstream,
            MemberSplicer(),
            self._active,
            watching,
            self._state,
            asking,
            self._completions,
            lambda: succeed(False),
            reactor,
        )
        self._debug = DebugApi(self._exchanges, self._metrics, self._captures, self._models, self._state, reactor)
        self._listing = ModelListing(rules, self._upstream, self._state, self._completions, self._proxy, reactor)
        proxied = dict.fromkeys(LISTED, self._listing)
        refusals = KeyRefusals(self._journal, reactor)
        self._limits = RequestLimits(self._ledger.tokensOn, settings.limits.requestsPerMinutePerAddress)
        self._root = GatewayRoot(rules, self._proxy, proxied, self._apis(), refusals, self._limits)
        self.site = GatewaySite(self._root, reactor, settings.limits, self._root.refuse, self._ended)
        self.site.permits = self._root.permits
        self.site.turnedAway = self._metrics.connectionTurnedAway

    def _apis(self) -> dict[bytes, IResource]:
        debug = self._debug.app.resource()
        feed = self._feed.app.resource()
        return {
            CA_PATH.encode(): AuthorityApi(lambda: self._tls.authority),
            b"/health": HealthApi(self._probe, self._reactor).app.resource(),
            b"/admin": ModelsApi(self._models, self._reactor).app.resource(),
            b"/admin/explain": ExplainApi(
                Explainer(MemberSplicer(), self._completions),
                self._active,
                self._proxy,
                self._principals,
            ).app.resource(),
            b"/admin/keys": KeysApi(self._desk).app.resource(),
            b"/admin/usage": UsageApi(self._ledger, self._reactor).app.resource(),
            b"/debug": debug,
            b"/debug/stream": feed,
            b"/debug/poll": feed,
            b"/metrics": debug,
        }

    def _ended(self, request: GatewayRequest) -> None:
        principal = request.principal
        if principal is not None and principal.keyId is not None:
            self._keys.used(principal.keyId)
        self._root.ended(request)
        record = recordOf(request, self.site.now())
        self._metrics.answerSent(record.route, record.status)
        self._record(record)

    # life

    def restore(self) -> str | None:
        """
        Take up the state. To be called once, before the service is started, and so before ``twistd`` forks.

        :return: the key that was made just now, if this gateway must not serve without one and had none. Nobody will be
            told it again.
        :raise StartError: the state cannot be read.
        """
        # Before its worker thread is started, the store answers at once.
        failures: list[Failure] = []
        Deferred.fromCoroutine(self._restore()).addErrback(failures.append)
        if failures:
            raise StartError(failures[0].getErrorMessage())
        self._applyRules()
        return self._generatedKey

    def listen(self) -> None:
        """
        Listen, while privileges last; whoever connects waits until the reactor runs. To be called once, after
        :meth:`restore`, and so that whoever starts the gateway can be told what is wrong, before ``twistd`` forks.

        :raise StartError: an address cannot be listened on, or the certificates cannot be used.
        """
        listen = self.settings.listen
        if any(wantsTls(description, listen.tls) for description in listen.descriptions):
            try:
                self._tls.load(self.settings.tls)
            except TlsError as error:
                raise StartError(str(error)) from None
        self._applyTls()
        for description in listen.plainBeyondLoopback:
            _log.warn(
                "Other machines are served without TLS at {at}: keys and prompts cross the network in clear.",
                at=description,
            )
        for description in listen.descriptions:
            self._listen(description)

    def startService(self) -> None:
        """Tell that all is up."""
        super().startService()
        self._store.start()
        listen = self.settings.listen
        lan = lanAddresses(interfaceAddresses())
        found = [
            listenerUrl(port, lan, isSecured=hasOwnTls(description) or wantsTls(description, listen.tls))
            for port, description in zip(self._ports, listen.descriptions, strict=False)
        ]
        urls = tuple(url for url in found if url is not None)
        self._announce(Announcement(urls, self._generatedKey, self._tls.fingerprint))
        self._generatedKey = None

    async def _stop(self) -> None:
        try:
            closing = DeferredList([maybeDeferred(port.stopListening).addErrback(_notClosed) for port in self._ports])
            self._ports.clear()
            self._feed.closeAll()
            await self.site.drain(self.settings.limits.drainTimeout)
            await closing
            await maybeDeferred(self._models.disownServiceParent)
            await self._upstream.close()
            await self._ledger.flush()
        finally:
            # Whatever went wrong: a process whose state is not closed does not end.
            await self._store.close()

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let running answers finish, close the state."""
        stopping = Deferred.fromCoroutine(self._stop())
        return stopping.addCallback(lambda _: maybeDeferred(super(Gateway, self).stopService))

    def hurry(self) -> None:
        """Cut off what still runs."""
        self.site.abortAll()

    async def reload(self, settings: Settings) -> None:
        """
        Go by other settings from now on, and by the keys that are stored now, without cutting anything that runs.

        Where the process listens, its state folder and the size of its journal are fixed while it lives: a change of
        them is told in the log.

        :raise SettingsError: the certificates that they name cannot be used; then nothing has changed.
        """
        before = self.settings
        fresh = _inForce(settings, before)
        if self._tls.isLoaded:
            self._tls.load(fresh.tls)
        # The certificates in the file may be others, though its name is the same.
        if fresh.upstream != before.upstream or fresh.upstream.caFile is not None:
            self._replaceUpstream(fresh)
        self.settings = fresh
        self.site.limits = fresh.limits
        self._applyTls()
        self._limits.perAddress = fresh.limits.requestsPerMinutePerAddress
        debug = fresh.debug
        self._captures.configure(debug.capture, debug.captureSize)
        self._feed.configure(debug.maxSubscribers, debug.maxSubscribersPerKey)
        self._proxy.asking.isWanted = debug.askForUsage
        self._completions.configure(fresh.aliases, fresh.models, isStrict=fresh.upstream.strictModels)
        self._followLog(fresh)
        self._applyRules()
        await self._rereadKeys()
        for name in _fixedOnes(settings, before):
            _log.warn("The change in {name} takes effect at the next start.", name=name)
        _log.info("The configuration was read again.")

    def _applyTls(self) -> None:
        self.site.identitiesOf = self._tls.identitiesOf
        self.site.strictTransport = strictTransport(self.settings.tls.hsts)

    def _inThread(self, work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def _followLog(self, settings: Settings) -> None:
        upstream = settings.upstream
        self._studioLog.configure(upstream.logDirectory, isOn=upstream.followLogs, showBodies=upstream.logBodies)

    def _replaceUpstream(self, settings: Settings) -> None:
        """Send what comes from now on elsewhere. The connections of before go with the answers that they carry."""
        upstream, retiring = makeUpstream(settings, self._reactor), self._upstream
        self._upstream = self._proxy.upstream = self._probe.upstream = self._listing.upstream = upstream
        retiring.retire()
        if settings.upstream.baseUrl != self._state.url:
            state = UpstreamState(self._journal, settings.upstream.baseUrl)
            self._state = self._proxy.state = self._debug.upstream = self._listing.state = state
            self._listing.forget()
        self._models.replaceUpstream(makeChoice(settings, upstream, self._reactor), self._state)

    async def _rereadKeys(self) -> None:
        try:
            await self._keys.load()
        except (StateError, Unavailable) as error:
            _log.error("The stored keys were not read again; those of before stay. {reason}", reason=str(error))
        else:
            self._applyRules()
        if needsKey(self.settings) and self.settings.access.apiKey is None and not len(self._keys):
            _log.warn(
                "There is no key any more, and nobody is served without one. Set GATEWAY_API_KEY, or start again to have one made."
            )

    def _keyChanged(self, change: KeyChange) -> None:
        """Have a change of a key count for what comes, and for what follows events; cut what must not run on."""
        self._applyRules()
        if change.isCut:
            self._root.cutOff(change.keyId)
        self._feed.endFollowing(change.keyId)

    def _principals(self) -> Iterable[Principal]:
        """Everybody with a key that is stored."""
        return [key.principal for key in self._keys.all()]

    def _applyRules(self) -> None:
        rules = makeRules(self.settings, self._keys.principals, self._reactor.seconds)
        self._root.rules = rules
        self._proxy.rules = rules
        self._listing.rules = rules

    async def _restore(self) -> None:
        await self._active.load()
        await self._ledger.load()
        await self._keys.load()
        if needsKey(self.settings) and self.settings.access.apiKey is None and not len(self._keys):
            self._generatedKey = (await self._keys.add(GENERATED_KEY_NAME, EVERY_SCOPE)).secret

    def _listen(self, description: str) -> None:
        failures: list[StartError] = []

        def failed(reason: Failure) -> None:
            failures.append(StartError(f"Cannot listen on {description}: {_reasonOf(reason.value)}"))
            # An endpoint of a plugin's may take its time, and then nobody is left to be told.
            _log.error("{reason}", reason=str(failures[0]))

        def listen() -> Deferred[IListeningPort]:
            endpoint = serverFromString(self._reactor, withBacklog(description))
            secured = wantsTls(description, self.settings.listen.tls)
            return (self._tls.secure(endpoint) if secured else endpoint).listen(self.site)

        listening = maybeDeferred(listen)
        listening.addCallbacks(self._ports.append, failed)
        if failures:
            raise failures[0]


def _inForce(fresh: Settings, before: Settings) -> Settings:
    """
    What of fresh settings can count while the process lives.

    It listens where it does: who may connect, and whether they need a key, must not be judged by where it would listen.
    """
    access = fresh.access
    if fresh.origins["access.allow"] == "default":
        access = replace(access, allow=defaultAllow(before.listen.descriptions))
    debug = replace(fresh.debug, journalSize=before.debug.journalSize)
    return replace(fresh, access=access, debug=debug, listen=before.listen, state=before.state)


def _fixedOnes(fresh: Settings, before: Settings) -> list[str]:
    """The names of what has changed and cannot count."""
    names = [f"[{name}]" for name in ("listen", "state") if getattr(fresh, name) != getattr(before, name)]
    return [*names, *(["debug.journalSize"] if fresh.debug.journalSize != before.debug.journalSize else [])]


_HINTS = {
    errno.EADDRINUSE: "Is another program, or another gateway, there already? Choose another port (GATEWAY_PORT).",
    errno.EADDRNOTAVAIL: "Choose an address of this machine (GATEWAY_HOST).",
    errno.EACCES: "Choose a port above 1023 (GATEWAY_PORT), or a folder that may be written to.",
}
"""What to do where an address cannot be listened on."""


def _notClosed(reason: Failure) -> None:
    _log.warn("A listener did not close in good order: {reason}", reason=_reasonOf(reason.value))


def _reasonOf(error: object) -> str:
    """Why something about a listener failed, and what to do about it where that is known: sentences."""
    cause = error.socketError if isinstance(error, CannotListenError) else error
    said = str(getattr(cause, "strerror", None) or cause).rstrip(".")
    hint = _HINTS.get(getattr(cause, "errno", 0))
    return f"{said}. {hint}" if hint else f"{said}."
