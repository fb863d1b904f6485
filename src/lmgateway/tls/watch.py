# -*- test-case-name: tests.tls.test_watch -*-
"""
Keeps certificates fresh: every minute it looks whether files have changed, every hour whether the gateway's own leaf is due.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.tls.serving import ServerTls

_log = Logger()

LOOK_SECONDS = 60.0
"""How soon a file that was replaced is taken up without a SIGHUP."""

LOOKS_PER_RENEWAL = 60
"""How many looks there are between two in which the machine's addresses and the leaf's end are checked: an hour."""


class CertificateWatch(Service):
    """
    The service that looks.

    :param tls: is kept fresh.
    :param clock: wakes it.
    :param inThread: does what blocks, elsewhere; fires when it is done.
    """

    def __init__(
        self, tls: ServerTls, clock: IReactorTime, inThread: Callable[[Callable[[], None]], Deferred[None]]
    ) -> None:
        self._tls = tls
        self._inThread = inThread
        self._looks = 0
        self._looping = LoopingCall(self.look)
        self._looping.clock = clock

    def startService(self) -> None:
        """Look from now on."""
        super().startService()
        self._looping.start(LOOK_SECONDS, now=False).addErrback(_tell)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._looping.running:
            self._looping.stop()

    def look(self) -> Deferred[None] | None:
        """Do what is due. Fires when it is done; until then nobody looks again."""
        self._looks += 1
        if not self._tls.isLoaded:
            return None
        looking = succeed(None) if self._looks % LOOKS_PER_RENEWAL else self._inThread(self._tls.renewDue)
        return looking.addCallback(lambda _: self._tls.reloadChanged()).addErrback(_tell)


def _tell(reason: Failure) -> None:
    _log.failure("Defect while looking after certificates", reason)
