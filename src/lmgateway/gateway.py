# -*- test-case-name: tests.test_gateway -*-
"""
The gateway as a Twisted service: everything put together, started, reloaded and stopped.

Start: the state is opened and read, a key is made where one is needed, then the listeners listen. Stop: nobody new is
accepted, running answers finish, then the state is closed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from lmgateway.assembly import Assembly
from lmgateway.audit import AuditEntry, AuditFailed
from lmgateway.configuration.listeners import defaultAllow, hasOwnTls, wantsTls, withBacklog
from lmgateway.errors import Unavailable
from lmgateway.settings import Settings
from lmgateway.state import StateStore
from lmgateway.statefile import StateError
from lmgateway.studio.exposure import ExposureCheck
from lmgateway.telemetry.accesslog import AccessRecord
from lmgateway.tls.addresses import interfaceAddresses, lanAddresses
from lmgateway.tls.authority import TlsError
from lmgateway.tls.serving import ServerTls, listenerUrl, reachableUrls, strictTransport
from lmgateway.tls.watch import CertificateWatch
from lmgateway.web.rules import EVERY_SCOPE, needsKey

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
        self._ports: list[IListeningPort] = []
        self._generatedKey: str | None = None
        self._store = store
        self._tls = ServerTls(settings.state.directory, reactor)
        CertificateWatch(self._tls, reactor, self._inThread).setServiceParent(self)
        self._parts = parts = Assembly(settings, reactor, store, self._tls, record)
        self.site = parts.site
        parts.dashboard.addresses = self.addresses
        exposure = ExposureCheck(lambda: self.settings, reactor, _otherAddresses, self._isOwn)
        exposure.setServiceParent(self)
        parts.models.subscribe(exposure.studioSeen)
        parts.models.setServiceParent(self)
        parts.studioLog.setServiceParent(self)

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
        self._parts.applyRules()
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
        self._parts.audit.start()
        self.tellAudit("start", "done")
        lan = lanAddresses(interfaceAddresses())
        found = [listenerUrl(port, lan, isSecured=isSecured) for port, isSecured in self._listeners()]
        urls = tuple(url for url in found if url is not None)
        self._announce(Announcement(urls, self._generatedKey, self._tls.fingerprint))
        self._generatedKey = None

    def addresses(self) -> tuple[str, ...]:
        """Every URL by which it can be reached now: the addresses of the machine may change."""
        lan = lanAddresses(interfaceAddresses())
        found = [reachableUrls(port, lan, isSecured=isSecured) for port, isSecured in self._listeners()]
        return tuple(dict.fromkeys(url for urls in found for url in urls))

    def _listeners(self) -> Iterator[tuple[IListeningPort, bool]]:
        """Each listener, and whether it speaks TLS."""
        listen = self.settings.listen
        for port, description in zip(self._ports, listen.descriptions, strict=False):
            yield port, hasOwnTls(description) or wantsTls(description, listen.tls)

    async def _stop(self) -> None:
        try:
            closing = DeferredList([maybeDeferred(port.stopListening).addErrback(_notClosed) for port in self._ports])
            self._ports.clear()
            self._parts.feed.closeAll()
            await self.site.drain(self.settings.limits.drainTimeout)
            await closing
            await maybeDeferred(self._parts.models.disownServiceParent)
            await self._parts.upstream.close()
            await self._parts.ledger.flush()
        finally:
            # Whatever went wrong: a process whose state is not closed does not end.
            await self.tellAudit("stop", "done")
            await self._parts.audit.close()
            await self._store.close()

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let running answers finish, close the state."""
        stopping = Deferred.fromCoroutine(self._stop())
        return stopping.addCallback(lambda _: maybeDeferred(super(Gateway, self).stopService))

    def hurry(self) -> None:
        """Cut off what still runs."""
        self.site.abortAll()

    def tellAudit(self, action: str, outcome: str, after: Any = None) -> Deferred[None]:
        """
        Write a line of what nobody asked for over HTTP.

        :return: fires when it is written, or when the log was told that it cannot be.
        """
        entry = AuditEntry(time=self._reactor.seconds(), action=action, outcome=outcome, after=after)
        return self._parts.audit.record(entry).addErrback(_trapAuditFailed)

    def serve(self, path: bytes, api: IResource) -> None:
        """
        Answer what only the process can: how it is reloaded.

        :param path: of a route of its own.
        """
        self._parts.root.serve(path, api)

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
        self._parts.configure(fresh)
        self.settings = fresh
        self._applyTls()
        await self._rereadKeys()
        for name in _fixedOnes(settings, before):
            _log.warn("The change in {name} takes effect at the next start.", name=name)
        _log.info("The configuration was read again.")

    def _applyTls(self) -> None:
        self.site.identitiesOf = self._tls.identitiesOf
        self.site.strictTransport = strictTransport(self.settings.tls.hsts)

    def _isOwn(self, address: str, port: int) -> bool:
        """Whether this gateway itself listens at an address of this machine and a port."""
        own: list[Any] = [each.getHost() for each in self._ports]
        everywhere = {address, "0.0.0.0", "::"}  # noqa: S104 - compared, not listened on
        return any(getattr(each, "port", None) == port and each.host in everywhere for each in own)

    def _inThread(self, work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    async def _rereadKeys(self) -> None:
        try:
            await self._parts.keys.load()
        except (StateError, Unavailable) as error:
            _log.error("The stored keys were not read again; those of before stay. {reason}", reason=str(error))
        else:
            self._parts.applyRules()
        if needsKey(self.settings) and self.settings.access.apiKey is None and not len(self._parts.keys):
            _log.warn(
                "There is no key any more, and nobody is served without one. Set GATEWAY_API_KEY, or start again to have one made."
            )

    async def _restore(self) -> None:
        await self._parts.active.load()
        await self._parts.ledger.load()
        await self._parts.keys.load()
        if needsKey(self.settings) and self.settings.access.apiKey is None and not len(self._parts.keys):
            self._generatedKey = (await self._parts.keys.add(GENERATED_KEY_NAME, EVERY_SCOPE)).secret

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


def _otherAddresses() -> list[str]:
    """The addresses of this machine that other machines can use."""
    return [str(address) for address in lanAddresses(interfaceAddresses())]


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
    errno.EADDRINUSE: "Is another program, or another gateway, there already? Choose another port (GATEWAY_PORT, or --lan-port of lmgateway run).",
    errno.EADDRNOTAVAIL: "Choose an address of this machine (GATEWAY_HOST).",
    errno.EACCES: "Choose a port above 1023 (GATEWAY_PORT), or a folder that may be written to.",
}
"""What to do where an address cannot be listened on."""


def _trapAuditFailed(reason: Failure) -> None:
    reason.trap(AuditFailed)


def _notClosed(reason: Failure) -> None:
    _log.warn("A listener did not close in good order: {reason}", reason=_reasonOf(reason.value))


def _reasonOf(error: object) -> str:
    """Why something about a listener failed, and what to do about it where that is known: sentences."""
    cause = error.socketError if isinstance(error, CannotListenError) else error
    said = str(getattr(cause, "strerror", None) or cause).rstrip(".")
    hint = _HINTS.get(getattr(cause, "errno", 0))
    return f"{said}. {hint}" if hint else f"{said}."
