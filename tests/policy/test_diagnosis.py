"""What facts mean: each finding, good and bad, with what to do where it is bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.diagnosis import (
    CLOCK_SECONDS,
    Finding,
    Seen,
    certificateFinding,
    clockFinding,
    descriptorFinding,
    exposureFinding,
    modeFinding,
    spaceFinding,
    upstreamFinding,
)
from twisted.trial.unittest import SynchronousTestCase

URL = "http://127.0.0.1:1234"
LISTING = Seen(200, body=b'{"object": "list", "data": []}')
NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class DiagnosisTestCase(SynchronousTestCase):
    def check(self, finding: Finding, level: str, words: str = "", remedy: str = "") -> None:
        """A finding is of this level and says this; what is not well says what to do."""
        self.assertEqual(finding.level, level, finding)
        self.assertIn(words, finding.message)
        self.assertEqual(finding.remedy is None, level == "ok", finding)
        self.assertIn(remedy, finding.remedy or "")


class UpstreamTests(DiagnosisTestCase):
    def test_levels(self) -> None:
        """LM Studio answers; or is not there, asks for a token, refuses the one it got, or is somebody else."""
        for seen, hasToken, level, words, remedy in (
            (LISTING, False, "ok", "answers at", ""),
            (Seen(fault="Connection refused"), False, "error", "(Connection refused)", "lms server start"),
            (Seen(401), False, "error", "none is set", "LMSTUDIO_API_TOKEN"),
            (Seen(401), True, "error", "refuses the API token", "LMSTUDIO_API_TOKEN"),
            (Seen(200, body=b"<html>"), False, "error", "no LM Studio", "LMSTUDIO_BASE_URL"),
            (Seen(200, body=b'{"error": "Unexpected endpoint"}'), False, "error", "no LM Studio", "LMSTUDIO_BASE_URL"),
            (Seen(500, body=LISTING.body), False, "error", "(500)", "LMSTUDIO_BASE_URL"),
        ):
            self.check(upstreamFinding(URL, seen, hasToken=hasToken), level, words, remedy)

    @given(st.binary(max_size=200))
    def test_anyBody(self, body: bytes) -> None:
        """Whatever an answer holds, it is a list of models or not."""
        self.assertIn(Seen(200, body=body).isLmStudio, (True, False))

    def test_deep(self) -> None:
        """Not even one that nests without end."""
        self.assertFalse(Seen(200, body=b"[" * 200_000).isLmStudio)


class ExposureTests(DiagnosisTestCase):
    def test_levels(self) -> None:
        """LM Studio on loopback alone is well; at another address it is walked around; on another machine it may be."""
        for elsewhere, isHere, level, words, remedy in (
            ({}, True, "ok", "cannot be reached", ""),
            ({"10.0.0.7": LISTING}, True, "error", "10.0.0.7, port 1234", "--bind 127.0.0.1"),
            ({"10.0.0.7": Seen(401), "10.0.0.8": Seen(401)}, True, "warning", "10.0.0.7, 10.0.0.8", "--bind"),
            ({}, False, "warning", "another machine", "firewall"),
        ):
            self.check(exposureFinding(1234, elsewhere, isHere=isHere), level, words, remedy)


class ClockTests(DiagnosisTestCase):
    def test_levels(self) -> None:
        """A clock that is years off is an error, one that another clock disagrees with a warning."""
        there = NOW.timestamp()
        for now, others, level, words in (
            (NOW, {}, "ok", "2027-01-15 08:00"),
            (NOW, {"LM Studio": there + CLOCK_SECONDS}, "ok", ""),
            (NOW, {"LM Studio": there, "the gateway": there - 3600}, "warning", "that of the gateway are 3600 seconds"),
            (datetime(1970, 1, 1, tzinfo=UTC), {}, "error", "1970-01-01"),
        ):
            self.check(clockFinding(now, others), level, words, "" if level == "ok" else "NTP")


class CertificateTests(DiagnosisTestCase):
    def test_levels(self) -> None:
        """A certificate is good; or not yet, no more, not for long, or not for this machine."""
        for begins, ends, missing, level, words in (
            (NOW - DAY, NOW + 31 * DAY, (), "ok", "good until 2027-02-15"),
            (NOW + DAY, NOW + 31 * DAY, (), "error", "not valid before 2027-01-16"),
            (NOW - 2 * DAY, NOW - DAY, (), "error", "ended on 2027-01-14"),
            (NOW - DAY, NOW + 29 * DAY, (), "warning", "ends on 2027-02-13"),
            (NOW - DAY, NOW + 99 * DAY, ("10.0.0.7", "box"), "warning", "10.0.0.7, box"),
        ):
            self.check(certificateFinding("certificate", begins, ends, NOW, missing, "renew"), level, words)


class MachineTests(DiagnosisTestCase):
    @given(st.integers(0, 0o777))
    def test_modes(self, mode: int) -> None:
        """What anybody but its owner can do anything with is an error, and nothing else is."""
        finding = modeFinding("file", "/state/x", mode)
        self.check(finding, "error" if mode & 0o77 else "ok")

    def test_remedies(self) -> None:
        """A folder and a file are put right in different ways."""
        self.check(modeFinding("file", "/x", 0o644), "error", "/x", "chmod 600 /x")
        self.check(modeFinding("folder", "/x", 0o755, isFolder=True), "error", "/x", "chmod 700 /x")

    def test_space(self) -> None:
        """A disk with next to nothing free is an error, one with little a warning; a small disk may have less."""
        giga = 1 << 30
        self.check(spaceFinding(50 * giga, 100 * giga), "ok", "51,200 MB")
        self.check(spaceFinding(giga // 2, 100 * giga), "warning", "512 MB", "Make room")
        self.check(spaceFinding(giga // 2, giga), "ok")
        self.check(spaceFinding(giga // 20, giga), "error")

    def test_descriptors(self) -> None:
        """Few descriptors are a warning."""
        self.check(descriptorFinding(None, 65536), "ok")
        self.check(descriptorFinding(1024, 480), "ok")
        self.check(descriptorFinding(256, 96), "warning", "only 96", "ulimit -n")
