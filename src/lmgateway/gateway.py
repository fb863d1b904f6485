# -*- test-case-name: tests.test_gateway -*-
"""
The gateway as a Twisted service: everything put together, started, reloaded and stopped.

Start: the state is opened and read, a key is made where one is needed, then the listeners listen. Stop: nobody new is
accepted, running answers finish, then the state is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from lmgateway.errors import Unauthenticated
from lmgateway.interfaces import IUpstream
from lmgateway.ledger import UsageLedger
from lmgateway.message import Principal, RequestHead
from lmgateway.policy.authentication import digestOf, generateKey
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.stream_options import UsageAsking
from lmgateway.settings import Settings
from lmgateway.state import KeyDigests, StateStore, StoredActiveModel
from lmgateway.telemetry.accesslog import AccessRecord
from lmgateway.telemetry.captures import Captures
from lmgateway.telemetry.events import ExchangeEvents
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.journal import Journal
from lmgateway.telemetry.metrics import Metrics
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.telemetry.usage import readerFor
from lmgateway.web.access import recordOf
from lmgateway.web.admin import AdminApi
from lmgateway.web.debug import DebugApi
from lmgateway.web.feed import FeedApi
from lmgateway.web.health import HealthApi, UpstreamProbe
from lmgateway.web.proxy import ProxyResource
from lmgateway.web.rules import EVERY_SCOPE, makeRules, needsKey
from lmgateway.web.tree import GatewayRoot
from lmgateway.web.usage import UsageApi
from lmgateway.web.watch import Watching
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from lmgateway.wire.upstream import DirectUpstream, TreqUpstream, UpstreamEndpoints

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
    """

    addresses: tuple[str, ...]
    generatedKey: str | None


def makeUpstream(settings: Settings, reactor: Any) -> IUpstream:
    """Make the upstream that the settings name."""
    upstream = settings.upstream
    agent = UpstreamAgent(reactor, UpstreamEndpoints(reactor, upstream.connectTimeout, upstream.caFile))
    if upstream.transport == "direct":
        return DirectUpstream(agent, upstream.baseUrl)
    return TreqUpstream(agent, upstream.baseUrl, reactor)


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
        self._keys = KeyDigests(store, reactor)
        self._storedKeys: dict[bytes, Principal] = {}
        self._upstream = makeUpstream(settings, reactor)
        self._probe = UpstreamProbe(self._upstream, reactor)
        rules = makeRules(settings, {})
        debug = settings.debug
        self._journal = Journal(reactor.seconds, debug.journalSize)
        self._feed = FeedApi(self._journal, reactor, debug.maxSubscribers, debug.maxSubscribersPerKey)
        self._metrics = Metrics()
        self._ledger = UsageLedger(store, reactor)
        self._exchanges = Exchanges([ExchangeEvents(self._journal), self._metrics, self._ledger])
        self._captures = Captures(settings.debug.capture, settings.debug.captureSize)
        self._state = UpstreamState(self._journal, settings.upstream.baseUrl)
        asking = UsageAsking(isWanted=debug.askForUsage)
        watching = Watching(self._exchanges, reactor, readerFor, self._captures)
        self._proxy = ProxyResource(
            rules, self._upstream, MemberSplicer(), self._active, watching, self._state, asking, reactor
        )
        self._root = GatewayRoot(rules, self._proxy, self._apis(), self._keyRefused)
        self.site = GatewaySite(self._root, reactor, settings.limits, self._root.refuse, self._ended)

    def _apis(self) -> dict[bytes, IResource]:
        debug = DebugApi(
            self._exchanges, self._metrics, self._captures, self._active, self._state, self._reactor
        ).app.resource()
        feed = self._feed.app.resource()
        return {
            b"/health": HealthApi(self._probe, self._reactor).app.resource(),
            b"/admin": AdminApi(self._active, self._journal).app.resource(),
            b"/admin/usage": UsageApi(self._ledger, self._reactor).app.resource(),
            b"/debug": debug,
            b"/debug/stream": feed,
            b"/debug/poll": feed,
            b"/metrics": debug,
        }

    def _ended(self, request: GatewayRequest) -> None:
        record = recordOf(request, self.site.now())
        self._metrics.answerSent(record.route, record.status)
        self._record(record)

    def _keyRefused(self, head: RequestHead, error: Unauthenticated) -> None:
        path = head.path.decode("latin-1")
        self._journal.record("auth_failure", {"client": head.peer, "path": path, "reason": error.code})

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

    def privilegedStartService(self) -> None:
        """
        Listen, while privileges last.

        :raise StartError: an address cannot be listened on.
        """
        super().privilegedStartService()
        for description in self.settings.listen.descriptions:
            self._listen(description)

    def startService(self) -> None:
        """Tell that all is up."""
        super().startService()
        self._store.start()
        urls = tuple(url for url in map(_urlOf, self._ports, self.settings.listen.descriptions) if url is not None)
        self._announce(Announcement(urls, self._generatedKey))
        self._generatedKey = None

    async def _stop(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self._ports.clear()
        self._feed.closeAll()
        await self.site.drain(self.settings.limits.drainTimeout)
        await self._upstream.close()
        await self._ledger.flush()
        await self._store.close()

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let running answers finish, close the state."""
        stopping = Deferred.fromCoroutine(self._stop())
        return stopping.addCallback(lambda _: maybeDeferred(super(Gateway, self).stopService))

    def hurry(self) -> None:
        """Cut off what still runs."""
        self.site.abortAll()

    def reload(self, settings: Settings) -> None:
        """
        Go by other settings from now on, without cutting anything that runs.

        Where to listen and the state folder are fixed while the process lives; a change of them is
        told in the log.
        """
        before, self.settings = self.settings, settings
        if settings.upstream != before.upstream:
            self._replaceUpstream(settings)
        self.site.limits = settings.limits
        debug = settings.debug
        self._captures.configure(debug.capture, debug.captureSize)
        self._feed.configure(debug.maxSubscribers, debug.maxSubscribersPerKey)
        self._proxy.asking.isWanted = debug.askForUsage
        self._applyRules()
        for name in ("listen", "state"):
            if getattr(settings, name) != getattr(before, name):
                _log.warn("The change in [{name}] takes effect at the next start.", name=name)
        _log.info("The configuration was read again.")

    def _replaceUpstream(self, settings: Settings) -> None:
        """Send what comes from now on elsewhere. The connections of before go with the answers that they carry."""
        self._upstream = makeUpstream(settings, self._reactor)
        self._proxy.upstream = self._upstream
        self._probe.upstream = self._upstream

    def _applyRules(self) -> None:
        rules = makeRules(self.settings, self._storedKeys)
        self._root.rules = rules
        self._proxy.rules = rules

    async def _restore(self) -> None:
        await self._active.load()
        await self._ledger.load()
        stored = await self._keys.all()
        if needsKey(self.settings) and self.settings.access.apiKey is None and not stored:
            self._generatedKey = generateKey()
            stored = (await self._keys.add(GENERATED_KEY_NAME, digestOf(self._generatedKey), EVERY_SCOPE),)
        self._storedKeys = {key.digest: key.principal for key in stored}

    def _listen(self, description: str) -> None:
        listening: list[Any] = []
        waiting = serverFromString(self._reactor, description).listen(self.site)
        waiting.addBoth(listening.append)
        result = listening[0] if listening else None
        if isinstance(result, Failure):
            raise StartError(_whyNotListening(description, result))
        if result is None:
            waiting.addCallback(self._ports.append)
        else:
            self._ports.append(result)


def _whyNotListening(description: str, reason: Failure) -> str:
    if isinstance(reason.value, CannotListenError):
        cause = reason.value.socketError
        return (
            f"Cannot listen on {description}: {getattr(cause, 'strerror', None) or cause}. "
            "Is another program, or another gateway, there already? Choose another port (GATEWAY_PORT)."
        )
    return f"Cannot listen on {description}: {reason.getErrorMessage()}."


def _urlOf(port: IListeningPort, description: str) -> str | None:
    address: Any = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return None
    scheme = "https" if description.startswith(("ssl:", "tls:")) else "http"
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - shown, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"
