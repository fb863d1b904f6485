# -*- test-case-name: tests.test_supervision -*-
"""
What systemd, or another service manager, is told of the process: sd_notify(3), without libsystemd.

A datagram of ``NAME=value`` lines goes to the socket that ``NOTIFY_SOCKET`` names; where it names none, nothing is sent.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

SPARE_SECONDS = 10.0
"""What a stop may take beyond the drain."""

LONGEST_STATUS = 500
"""Characters of a status."""

_log = Logger()


class Supervisor:
    """
    Whoever watches over the process.

    :param environ: variables: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    :param clock: the reactor, which gives signs of life for as long as it turns.
    :param pid: of this process.
    :param monotonic: the machine's monotonic clock, in nanoseconds.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        clock: IReactorTime,
        pid: int,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = _addressOf(environ.get("NOTIFY_SOCKET", ""))
        self._interval = 0.0 if self._address is None else watchdogSeconds(environ, pid) / 2
        self._monotonic = monotonic
        self._isBroken = False
        self._life = LoopingCall(self._tell, "WATCHDOG=1")
        self._life.clock = clock

    def ready(self, status: str) -> None:
        """
        Tell that the gateway serves, at the start and after each reload; and from then on, again and again, that it lives.

        :param status: a sentence for people.
        """
        self._tell("READY=1", _statusLine(status))
        if self._interval and not self._life.running:
            self._life.start(self._interval).addErrback(_tellDefect)

    def reloading(self) -> None:
        """Tell that the configuration is being read; :meth:`ready` tells the end of it, whatever came of it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={self._monotonic() // 1000}")

    def stopping(self, seconds: float) -> None:
        """
        Tell that the gateway is about to end. Signs of life go on until :meth:`ended`.

        :param seconds: how long running answers have to finish.
        """
        allowed = int((seconds + SPARE_SECONDS) * 1_000_000)
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={allowed}", "STATUS=Running answers may finish.")

    def ended(self) -> None:
        """Say nothing more."""
        if self._life.running:
            self._life.stop()

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A manager that does not read must not hold up the gateway.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._isBroken:
                _log.warn("The service manager could not be told: {reason}.", reason=error.strerror)
            self._isBroken = True
        else:
            self._isBroken = False


def watchdogSeconds(environ: Mapping[str, str], pid: int) -> float:
    """
    How often the manager wants a sign of life (sd_watchdog_enabled(3)).

    :return: 0 where it wants none, or not from this process.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not (microseconds.isascii() and microseconds.isdigit()):
        return 0.0
    return int(microseconds[:18]) / 1_000_000


def _tellDefect(reason: Failure) -> None:
    _log.failure("Defect while telling the service manager that the gateway lives; it is told no more", reason)


def _addressOf(text: str) -> str | None:
    """The address of a socket in the file system, or of an abstract one (``@``); None where there is no such thing."""
    if text.startswith("@"):
        return f"\0{text[1:]}"
    return text if text.startswith("/") else None


def _statusLine(status: str) -> str:
    """One line, whatever is in it."""
    return "STATUS=" + " ".join(status.split())[:LONGEST_STATUS]
