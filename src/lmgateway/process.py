# -*- test-case-name: tests.test_process -*-
"""
The process and its signals (contract, section 7).

Twisted's own answer to SIGTERM ends with the process killing itself by that signal, so that a supervisor sees a failure.
Ours stops the reactor, which drains the gateway, and exits with 0.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service


class Signals(Service):
    """
    Answers SIGTERM, SIGINT and SIGHUP while the service runs.

    :param reactor: is stopped, and carries the signal into its own thread.
    :param reload: what SIGHUP does.
    :param hurry: what a second SIGTERM does: cut off what still runs.
    """

    def __init__(self, reactor: Any, reload: Callable[[], None], hurry: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._hurry = hurry
        self._stopping = False

    def startService(self) -> None:
        """Take the signals over once the reactor has installed its own answers."""
        super().startService()
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        for name, action in (("SIGTERM", self.terminate), ("SIGINT", self.terminate), ("SIGHUP", self._reload)):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None:
                signal.signal(number, lambda *_, action=action: self._reactor.callFromThread(action))

    def terminate(self) -> None:
        """Stop in good order; asked a second time, stop at once."""
        if self._stopping:
            self._hurry()
        else:
            self._stopping = True
            self._reactor.stop()
