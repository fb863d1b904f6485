"""What a service manager is told, over a real datagram socket: that datagrams arrive whole and at once is the point."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.supervision import Supervisor, watchdogSeconds
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

PID = 4321


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.path = str(temporaryFolder(self) / "notify")
        self.manager = self.listen(self.path)

    def listen(self, address: str) -> socket.socket:
        """Be the manager at an address."""
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(address)
        manager.setblocking(False)
        return manager

    def told(self, manager: socket.socket | None = None) -> list[str]:
        """What the manager has been told since it was last asked."""
        datagrams = []
        while True:
            try:
                datagrams.append((manager or self.manager).recv(65536).decode())
            except BlockingIOError:
                return datagrams

    def supervisor(self, **environ: str) -> Supervisor:
        return Supervisor({"NOTIFY_SOCKET": self.path, **environ}, self.clock, PID, lambda: 5_000_999)

    def test_life(self) -> None:
        """Each turn of a process's life is a datagram of its own, as sd_notify(3) spells it."""
        supervisor = self.supervisor()
        supervisor.ready("Serving.")
        supervisor.reloading()
        supervisor.ready("A\nREADY=0\nlie")
        supervisor.stopping(30)
        supervisor.ended()
        self.assertEqual(
            self.told(),
            [
                "READY=1\nSTATUS=Serving.",
                "RELOADING=1\nMONOTONIC_USEC=5000",
                "READY=1\nSTATUS=A READY=0 lie",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\nSTATUS=Running answers may finish.",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_watchdog(self) -> None:
        """Signs of life come twice in each interval, from readiness on until the end: while it stops, too."""
        supervisor = self.supervisor(WATCHDOG_USEC="2000000", WATCHDOG_PID=str(PID))
        self.clock.advance(5)
        self.assertEqual(self.told(), [])
        supervisor.ready("")
        self.clock.pump([1, 1])
        supervisor.stopping(30)
        self.clock.advance(1)
        self.assertEqual(self.told().count("WATCHDOG=1"), 4)
        supervisor.ended()
        self.clock.advance(5)
        self.assertEqual(self.told(), [])

    def test_abstract(self) -> None:
        """A name that begins with ``@`` is a socket that is in no file system."""
        if sys.platform != "linux":
            self.skipTest("Linux alone has abstract sockets")
        name = f"lmgateway-{self.id()}-{id(self)}"
        manager = self.listen(f"\0{name}")
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}, self.clock, PID).ready("Serving.")
        self.assertEqual(self.told(manager), ["READY=1\nSTATUS=Serving."])

    def test_nobody(self) -> None:
        """Where nobody watches, nothing is sent and no timer runs, whatever the watchdog's variable says."""
        for address in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "relative"}):
            supervisor = Supervisor({**address, "WATCHDOG_USEC": "1000000"}, self.clock, PID)
            supervisor.ready("Serving.")
            supervisor.stopping(1)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.told(), [])

    def test_gone(self) -> None:
        """A manager that has left is told of in the log, once; nothing else comes of it."""
        events: list[Mapping[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.manager.close()
        supervisor = self.supervisor()
        for _ in range(3):
            supervisor.ready("Serving.")
        said = [formatEvent(dict(event)) for event in events]
        self.assertEqual(said, ["The service manager could not be told: Connection refused."])

    def test_full(self) -> None:
        """A manager that does not read holds nothing up."""
        supervisor = self.supervisor()
        for _ in range(5000):
            supervisor.ready("Serving.")
        self.assertLess(len(self.told()), 5000)


class WatchdogTests(SynchronousTestCase):
    @given(st.text(), st.text())
    def test_whatever(self, microseconds: str, pid: str) -> None:
        """Whatever the variables hold, the interval is a number that is not negative, and 0 for another process."""
        environ = {"WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}
        self.assertGreaterEqual(watchdogSeconds(environ, PID), 0)
        self.assertEqual(watchdogSeconds({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": f"{pid}0"}, PID), 0)

    def test_interval(self) -> None:
        """The variable is in microseconds, and meant for everybody who is told nothing else."""
        self.assertEqual(watchdogSeconds({"WATCHDOG_USEC": "1500000"}, PID), 1.5)
        self.assertEqual(watchdogSeconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(PID)}, PID), 1.5)
