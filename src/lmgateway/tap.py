# -*- test-case-name: tests.test_tap -*-
"""
``twistd lmgateway``: options in, a service out. The only module that touches the global reactor.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.usage import UsageError

from lmgateway import options as shared
from lmgateway.gateway import Announcement, Gateway, StartError
from lmgateway.logs import LoggedService, LogService, Output, twistdOutput
from lmgateway.process import Signals
from lmgateway.settings import Settings, SettingsError
from lmgateway.state import StateStore
from lmgateway.statefile import StateError

__all__ = ["Options", "gatewayService", "makeService"]

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
    The gateway, its logs and the signals of its process.

    :param reread: gives the settings anew; raises SettingsError where they are bad.
    """

    def __init__(self, gateway: Gateway, logs: LogService, reactor: Any, reread: Callable[[], Settings]) -> None:
        super().__init__(logs)
        self._gateway = gateway
        self._logs = logs
        self._reread = reread
        gateway.setServiceParent(self)
        Signals(reactor, self.reload, gateway.hurry).setServiceParent(self)

    def startService(self) -> None:
        """
        Start; then take what is there for good out of the garbage collector's rounds.

        Modules, tables and services are some 100,000 objects that never become garbage, and that each full round would
        look at again: with them in, rounds cost a fifth of the time of a busy gateway.
        """
        super().startService()
        gc.collect()
        gc.freeze()
        # A request makes a few dozen objects and no cycles: the rounds need not come every twenty requests.
        gc.set_threshold(10_000, 20, 20)

    def reload(self) -> None:
        """Go by what the configuration says now. Where it is bad, the log says why, and nothing changes."""
        reloading = Deferred.fromCoroutine(self._reload())
        reloading.addErrback(lambda reason: _log.failure("Defect while reading the configuration again", reason))

    async def _reload(self) -> None:
        try:
            fresh = self._reread()
            self._logs.reconfigure(fresh.log, _secretsOf(fresh))
        except SettingsError as error:
            self._tellRefused(error)
            return
        before = self._gateway.settings
        try:
            await self._gateway.reload(fresh)
        except SettingsError as error:
            self._logs.reconfigure(before.log, _secretsOf(before))
            self._tellRefused(error)

    def _tellRefused(self, error: SettingsError) -> None:
        _log.error("The configuration was not read again; the old one stays: {error}", error=str(error))


def announceInLog(announcement: Announcement) -> None:
    """Tell the addresses."""
    for address in announcement.addresses:
        _log.info("Serving at {address}", address=address)


def printKey(key: str) -> None:
    """Show a key that was made just now, on standard output: a log is kept, and this must be seen once only."""
    print(f"A key was made for this gateway. It is shown only now, keep it: {key}", flush=True)  # noqa: T201


def makeService(options: Options) -> MultiService:
    """
    Make the service of these options, for ``twistd``.

    :param options: parsed.
    """
    from twisted.internet import reactor

    settings = options.settings
    try:
        output = twistdOutput(options.parent, settings.log, sys.stdout)
    except SettingsError as error:
        raise SystemExit(f"lmgateway: {error}") from None
    # Standard output is twistd's log from the moment on that it starts the service, and nowhere once it is a daemon.
    return gatewayService(
        settings, reactor, announce=announceInLog, reread=options.reload, output=output, keyMade=printKey
    )


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
    gateway = Gateway(settings, reactor, store, announce, logs.access.record)
    try:
        key = gateway.restore()
        if key is not None:
            keyMade(key)
        gateway.listen()
    except StartError as error:
        raise SystemExit(f"lmgateway: {error}") from None
    return GatewayProcess(gateway, logs, reactor, reread)


def _secretsOf(settings: Settings) -> tuple[str | None, ...]:
    return settings.access.apiKey, settings.upstream.apiToken
