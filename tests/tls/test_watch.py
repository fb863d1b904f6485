"""The watch over certificates: when it looks, and that nothing ends it."""

from __future__ import annotations

from collections.abc import Callable

from lmgateway.tls.watch import CertificateWatch
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase


class Certificates:
    """Counts what is asked of it."""

    isLoaded = True

    def __init__(self) -> None:
        self.looks = self.renewals = 0
        self.fault: Exception | None = None

    def reloadChanged(self) -> None:
        self.looks += 1

    def renewDue(self) -> None:
        self.renewals += 1
        if self.fault is not None:
            raise self.fault


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.certificates = Certificates()
        self.watch = CertificateWatch(self.certificates, self.clock, self.inThread)  # type: ignore[arg-type]
        self.watch.startService()

    def inThread(self, work: Callable[[], None]) -> Deferred[None]:
        """Do it at once."""
        return execute(work)

    def wait(self, minutes: int) -> None:
        """Let time pass."""
        self.clock.pump([60.0] * minutes)

    def test_eachMinute(self) -> None:
        """Files are looked at each minute, the leaf and the addresses each hour, and then what was renewed is taken up."""
        self.wait(59)
        self.assertEqual((self.certificates.looks, self.certificates.renewals), (59, 0))
        self.wait(1)
        self.assertEqual((self.certificates.looks, self.certificates.renewals), (60, 1))
        self.wait(120)
        self.assertEqual(self.certificates.renewals, 3)

    def test_defect(self) -> None:
        """What goes wrong unexpectedly is logged, and the next hour it is tried again."""
        self.certificates.fault = RuntimeError("unexpected")
        self.wait(60)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.certificates.fault = None
        self.wait(60)
        self.assertEqual(self.certificates.renewals, 2)

    def test_withoutTls(self) -> None:
        """Where nothing has TLS, nothing is looked at, and above all nothing made."""
        self.certificates.isLoaded = False
        self.wait(120)
        self.assertEqual((self.certificates.looks, self.certificates.renewals), (0, 0))

    def test_stopped(self) -> None:
        """Stopped, it leaves no timer behind."""
        self.watch.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
