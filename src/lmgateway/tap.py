# -*- test-case-name: tests.test_tap -*-
"""
``twistd lmgateway``: options in, a service out. The only module that touches the global reactor.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.python.util import runAsEffectiveUser

from lmgateway import options as shared
from lmgateway.changes import Changes, changesOf
from lmgateway.gateway import Announcement, Gateway, StartError
from lmgateway.logs import LoggedService, LogService, Output, twistdOutput
from lmgateway.process import Signals
from lmgateway.settings import Settings, SettingsError
from lmgateway.state import StateStore
from lmgateway.statefile import StateError
from lmgateway.supervision import Supervisor
from lmgateway.web.reload import ReloadApi

__all__ = ["Options", "gatewayService", "makeService"]

T = TypeVar("T")

_log = Logger()


class Options(shared.Options):
    """The options, a mistake in which ends the start with one line: ``twistd`` would print all that there are before it."""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line, and read all layers.

        :raise SystemExit: something is wrong with them; the text says what, in one line.
        """
        try:
            super().parseOptions(options)
        except UsageError as error:
            raise SystemExit(f"lmgateway: {error}") from None


class GatewayProcess(LoggedService):
    """
    The gateway, its logs, the signals of its process, and who watches over that.

    :param reread: gives the settings anew; raises SettingsError where they are bad.
    :param supervisor: is told of each turn of its life.
    """

    def __init__(
        self,
        gateway: Gateway,
        logs: LogService,
        reactor: Any,
        reread: Callable[[], Settings],
        supervisor: Supervisor,
    ) -> None:
        super().__init__(logs)
        self._gateway = gateway
        self._logs = logs
        self._reread = reread
        self._reactor = reactor
        self._supervisor = supervisor
        self._turns = DeferredLock()
        gateway.setServiceParent(self)
        gateway.serve(b"/admin/reload", ReloadApi(self.reload).app.resource())
        Signals(reactor, self.hangUp, gateway.hurry).setServiceParent(self)

    def startService(self) -> None:
        """
        Start; then take what is there for good out of the garbage collector's rounds.

        Modules, tables and services are some 100,000 objects that never become garbage, and that each full round would
        look at again: with them in, rounds cost a fifth of the time of a busy gateway.
        """
        warnOfRoot()
        super().startService()
        self._reactor.callWhenRunning(self._supervisor.ready, "Serving.")
        gc.collect()
        gc.freeze()
        # A request makes a few dozen objects and no cycles: the rounds need not come every twenty requests.
        gc.set_threshold(10_000, 20, 20)

    def stopService(self) -> Deferred[None]:
        """Stop, and tell whoever waits for it how long that may take."""
        self._supervisor.stopping(self._gateway.settings.limits.drainTimeout)

        def ended(result: Any) -> Any:
            self._supervisor.ended()
            return result

        return maybeDeferred(super().stopService).addBoth(ended)

    def hangUp(self) -> None:
        """Do what SIGHUP asks for; the log and the audit say what came of it."""
        self.reload().addCallback(self._tellReloaded).addErrback(self._tellNotReloaded)

    def _tellReloaded(self, changes: Changes) -> Deferred[None]:
        told = {"changed": changes.changed, "needsRestart": changes.needsRestart}
        return self._gateway.tellAudit("reload", "done", told)

    def _tellNotReloaded(self, reason: Failure) -> Deferred[None]:
        _tellDefect(reason)
        return self._gateway.tellAudit("reload", "failed")

    def reload(self) -> Deferred[Changes]:
        """
        Go by what the configuration says now, once other reloads are done. The log says what came of it.

        :return: what has changed; fails with SettingsError where something is bad, and then nothing has. Cancelling ends
            the waiting, not the reload.
        """
        waiting: Deferred[Changes] = Deferred(lambda _: None)

        def tell(result: Changes | Failure) -> None:
            if not waiting.called:
                waiting.callback(result)
            elif isinstance(result, Failure):
                _tellDefect(result)

        self._turns.run(lambda: Deferred.fromCoroutine(self._reload())).addBoth(tell)
        return waiting

    async def _reload(self) -> Changes:
        self._supervisor.reloading()
        before, status = self._gateway.settings, "Serving."
        try:
            fresh = self._reread()
            await self._apply(fresh, before)
        except SettingsError as error:
            status = f"The configuration was not read again; the old one stays: {error}"
            _log.error("{status}", status=status)
            raise
        finally:
            self._supervisor.ready(status)
        return changesOf(before, self._gateway.settings, fresh)

    async def _apply(self, fresh: Settings, before: Settings) -> None:
        self._logs.reconfigure(fresh.log, _secretsOf(fresh))
        try:
            await self._gateway.reload(fresh)
        except SettingsError:
            self._logs.reconfigure(before.log, _secretsOf(before))
            raise


def _tellDefect(reason: Failure) -> None:
    """Tell of a failed reload what has not been told."""
    if not reason.check(SettingsError):
        _log.failure("Defect while reading the configuration again", reason)


def warnOfRoot() -> None:
    """Say what to do instead, where the process is still root after its privileges were dropped, if they were."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        _log.warn(
            "The gateway runs as root and needs nothing that only root may do: whatever is wrong with it is then wrong with "
            "the whole machine. Run it as a user of its own, by systemd's DynamicUser= or User=, or by twistd's --uid and --gid."
        )


def announceInLog(announcement: Announcement) -> None:
    """Tell the addresses."""
    for address in announcement.addresses:
        _log.info("Serving at {address}", address=address)


def printKey(key: str) -> None:
    """Show a key that was made just now, on standard output: a log is kept, and this must be seen once only."""
    print(f"A key was made for this gateway. It is shown only now, keep it: {key}", flush=True)  # noqa: T201 - see above


def makeService(options: Options) -> MultiService:
    """
    Make the service of these options, for ``twistd``.

    :param options: parsed.
    """
    from twisted.internet import reactor

    def make() -> MultiService:
        settings = options.settings
        try:
            output = twistdOutput(options.parent, settings.log, sys.stdout)
        except SettingsError as error:
            raise SystemExit(f"lmgateway: {error}") from None
        # Standard output is twistd's log from the moment on that it starts the service, and nowhere once it is a daemon.
        return gatewayService(
            settings, reactor, announce=announceInLog, reread=options.reload, output=output, keyMade=printKey
        )

    return asWhoeverRuns(options.parent or {}, make)


def asWhoeverRuns(twistd: Mapping[str, Any], make: Callable[[], T]) -> T:
    """
    Do something as the user that ``twistd`` was told to become: what root had made, that user could not use later.

    :param twistd: its options.
    """
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is None and gid is None:
        return make()
    made: T = runAsEffectiveUser(os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid, make)
    return made


def gatewayService(
    settings: Settings,
    reactor: Any,
    *,
    announce: Callable[[Announcement], None],
    reread: Callable[[], Settings],
    output: Output | None,
    keyMade: Callable[[str], None] = lambda _: None,
) -> MultiService:
    """
    Make the service that a whole process runs.

    :param announce: told once all listeners listen.
    :param reread: gives the settings anew, for SIGHUP; raises SettingsError where they are bad.
    :param output: where the process log goes, or None if somebody else keeps it.
    :param keyMade: told at once of a key that was made just now; the announcement tells it, too.
    :raise SystemExit: the state or a log cannot be opened, or an address not be listened on; the text says why, in one
        line.
    """
    try:
        logs = LogService(settings.log, reactor, output, _secretsOf(settings))
        store = StateStore.open(settings.state.directory, reactor)
    except (SettingsError, StateError) as error:
        raise SystemExit(f"lmgateway: {error}") from None
    try:
        gateway = Gateway(settings, reactor, store, announce, logs.access.record)
        key = gateway.restore()
        if key is not None:
            keyMade(key)
        gateway.listen()
    except (SettingsError, StartError) as error:
        raise SystemExit(f"lmgateway: {error}") from None
    return GatewayProcess(gateway, logs, reactor, reread, Supervisor(os.environ, reactor, os.getpid()))


def _secretsOf(settings: Settings) -> tuple[str | None, ...]:
    return settings.access.apiKey, settings.upstream.apiToken
