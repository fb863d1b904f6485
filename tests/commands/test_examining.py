"""The facts that the doctor goes by, each gathered from a thing that is as it is described."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lmgateway.commands import examining
from lmgateway.commands.talk import Place
from lmgateway.policy.diagnosis import Finding
from lmgateway.settings import Settings, loadSettings
from lmgateway.statefile import takeFolder
from lmgateway.tls.addresses import Subjects, subjectsOf
from lmgateway.tls.folder import TlsFolder
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import LittleGateway, Said, json200
from tests.folders import selfSigned, temporaryFolder

MODELS = json200({"object": "list", "data": []})
NOBODY = subjectsOf("box", [], [])


class ExaminingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)
        self.state = self.folder / "state"

    def settings(self, **environ: str) -> Settings:
        """Settings with a state folder of the test's."""
        return loadSettings(environ={"GATEWAY_STATE_DIR": str(self.state), **environ})

    def levels(self, findings: object) -> list[tuple[str, str]]:
        """What was found, by subject and level."""
        return [(each.subject, each.level) for each in findings]  # type: ignore[attr-defined]


class UpstreamTests(ExaminingTestCase):
    def find(self, said: Said, subjects: Subjects = NOBODY, **environ: str) -> tuple[list[Finding], dict[str, float]]:
        """Look at an LM Studio that says this."""
        self.little = LittleGateway(self, {"/v1/models": [said]})
        clocks: dict[str, float] = {}
        settings = self.settings(LMSTUDIO_BASE_URL=self.little.url, **environ)
        return list(examining.upstreamFindings(settings, subjects, clocks)), clocks

    def test_well(self) -> None:
        """LM Studio is asked with its token, and its clock is looked at."""
        findings, clocks = self.find(MODELS, LMSTUDIO_API_TOKEN="sk-lm-x")
        self.assertEqual(self.levels(findings), [("LM Studio", "ok"), ("LM Studio's port", "ok")])
        self.assertEqual(self.little.asked[0][1]["Authorization"], "Bearer sk-lm-x")
        self.assertLess(abs(clocks["LM Studio"] - time.time()), 60)

    def test_refused(self) -> None:
        """One that asks for a token is told so."""
        self.assertEqual(self.levels(self.find(Said(401))[0])[0], ("LM Studio", "error"))

    def test_gone(self) -> None:
        """Where nobody listens, there is no LM Studio."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        seen = examining.ask(f"http://127.0.0.1:{port}", "/", None, None)
        self.assertEqual((seen.status, seen.fault), (None, "Connection refused"))

    def test_noHttp(self) -> None:
        """What speaks no HTTP, or not in time, is told as such."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            seen = examining.ask(f"http://127.0.0.1:{server.getsockname()[1]}", "/", None, None, 0.05)
        self.assertEqual(seen.fault, "no answer in time")

    def test_elsewhere(self) -> None:
        """Whoever answers at the same port of another address is found, by asking without a token."""
        little = LittleGateway(self, {"/v1/models": [MODELS]})
        port = int(little.url.rpartition(":")[2])
        found = examining.elsewhereOf(["127.0.0.1", "127.0.0.9"], port)
        self.assertEqual({address: seen.isLmStudio for address, seen in found.items()}, {"127.0.0.1": True})
        self.assertNotIn("Authorization", little.asked[0][1])

    def test_dates(self) -> None:
        """A date that cannot be read is none."""
        self.assertEqual(examining.dateOf("Fri, 15 Jan 2027 08:00:00 GMT"), 1_800_000_000.0)
        for field in (None, "", "yesterday", "Fri, 99 Jan 99999 08:00:00 GMT"):
            self.assertIsNone(examining.dateOf(field))


class StateTests(ExaminingTestCase):
    def test_unused(self) -> None:
        """A folder that nobody has used is left alone."""
        finding, isRunning = examining.stateFinding(str(self.state))
        self.assertEqual((finding.level, isRunning, self.state.exists()), ("ok", False, False))

    def test_used(self) -> None:
        """One that a gateway holds is known by its lock; once it is let go of, it is free."""
        lock = takeFolder(self.state)
        finding, isRunning = examining.stateFinding(str(self.state))
        self.assertEqual((finding.level, isRunning), ("ok", True))
        os.close(lock)
        finding, isRunning = examining.stateFinding(str(self.state))
        self.assertEqual((finding.level, isRunning), ("ok", False))

    def test_unusable(self) -> None:
        """One whose lock cannot be opened is an error."""
        (self.state / "state.lock").mkdir(parents=True)
        finding, isRunning = examining.stateFinding(str(self.state))
        self.assertEqual((finding.level, isRunning), ("error", False))

    def test_gateway(self) -> None:
        """A gateway that runs is asked for its clock; one that does not answer is an error."""
        little = LittleGateway(self, {"/health": [json200({"status": "ok"})]})
        clocks: dict[str, float] = {}
        self.assertEqual(examining.gatewayFinding(Place(little.url), clocks).level, "ok")
        self.assertEqual(list(clocks), ["the gateway"])
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.assertEqual(examining.gatewayFinding(Place(url), clocks).level, "error")

    def test_disk(self) -> None:
        """The disk is that which the folder will be on."""
        self.assertIn("MB free", examining.diskFinding(str(self.state / "a" / "b")).message)

    def test_descriptors(self) -> None:
        """The limit is that of this process."""
        self.assertEqual(examining.descriptorsFinding().subject, "descriptors")


class PortTests(ExaminingTestCase):
    def test_taken(self) -> None:
        """A port that somebody listens on is taken, and one that nobody does is free."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            description = f"tcp:{server.getsockname()[1]}:interface=127.0.0.1"
            finding = examining.portFinding(description)
            self.assertEqual(finding.level, "error")
            self.assertIn("Another program", finding.remedy or "")
        self.assertEqual(examining.portFinding(description).level, "ok")

    def test_foreign(self) -> None:
        """An address of another machine's cannot be listened on."""
        self.assertIn("address of this machine", examining.portFinding("tcp:0:interface=192.0.2.1").remedy or "")

    def test_unix(self) -> None:
        """A socket in the file system is not looked at."""
        self.assertEqual(examining.portFinding("unix:/run/x").level, "ok")


class ModeTests(ExaminingTestCase):
    def test_readable(self) -> None:
        """The folder, the files in it, the key of one's own certificate and a file that holds a key are looked at."""
        self.state.mkdir(mode=0o755)
        (self.state / "state.sqlite3").touch(0o644)
        (self.state / "audit.jsonl").touch(0o600)
        key, config, other = (self.folder / name for name in ("key.pem", "lmgateway.toml", "other.env"))
        key.write_bytes(selfSigned())
        config.write_text(f'[access]\napiKey = "abc-def-ghi"\n[tls]\ncertificate = "{key}"\n')
        other.write_text("X=1\n")
        for path in (key, config, other):
            path.chmod(0o644)
        settings = loadSettings(configFile=str(config), environ={"GATEWAY_STATE_DIR": str(self.state)})
        findings = examining.modeFindings(settings, [str(config), str(other), str(self.folder / "none")])
        self.assertEqual(
            self.levels(findings),
            [
                ("state folder's rights", "error"),
                ("state file's rights", "error"),
                ("audit's rights", "ok"),
                ("tls.key", "error"),
                ("settings with a key", "error"),
            ],
        )


class CertificateTests(ExaminingTestCase):
    now = datetime(2027, 1, 15, tzinfo=UTC)

    def find(self, subjects: Subjects, now: datetime, settings: Settings | None = None) -> list[tuple[str, str]]:
        """Look at the certificates."""
        settings = settings or self.settings(GATEWAY_HOST="0.0.0.0")
        return self.levels(examining.certificateFindings(settings, subjects, now))

    def test_own(self) -> None:
        """The gateway's own are good; or near their end, at their end, or not for all that the machine is called."""
        self.assertEqual(self.find(NOBODY, self.now), [("certificate", "ok")])
        TlsFolder(self.state).begin(NOBODY, self.now)
        good, more = ("certificate authority", "ok"), subjectsOf("box", ["192.168.1.7"], [])
        for subjects, days, level in (
            (NOBODY, 1, "ok"),
            (more, 1, "warning"),
            (NOBODY, 350, "warning"),
            (NOBODY, 400, "error"),
        ):
            found = self.find(subjects, self.now + timedelta(days=days))
            self.assertEqual(found, [good, ("certificate", level)], days)
        found = self.find(NOBODY, self.now + timedelta(days=4000))
        self.assertEqual(found, [("certificate authority", "error"), ("certificate", "error")])

    def test_damaged(self) -> None:
        """A damaged one is an error."""
        (self.state / "tls").mkdir(parents=True)
        (self.state / "tls" / "ca.pem").write_text("nonsense")
        self.assertEqual(self.find(NOBODY, self.now), [("certificate", "error")])

    def test_notNeeded(self) -> None:
        """Where no listener has TLS, there is nothing to look at."""
        TlsFolder(self.state).begin(NOBODY, self.now)
        self.assertEqual(self.find(NOBODY, self.now + timedelta(days=400), self.settings()), [("certificate", "ok")])

    def test_brought(self) -> None:
        """One's own certificate is looked at, too: this one is good for a day."""
        path = self.folder / "own.pem"
        path.write_bytes(selfSigned())
        for now, level in (
            (datetime.now(UTC) + timedelta(hours=1), "warning"),
            (self.now + timedelta(days=9000), "error"),
        ):
            (finding,) = examining._broughtFindings(str(path), now)
            self.assertEqual(finding.level, level)


class LogTests(ExaminingTestCase):
    def test_folder(self) -> None:
        """LM Studio's log folder must be there where it is followed."""
        there = str(self.folder)
        for environ, levels in (
            ({}, []),
            ({"ENABLE_LOG_MONITORING": "true", "LMSTUDIO_LOG_DIR": there}, ["ok"]),
            ({"ENABLE_LOG_MONITORING": "true", "LMSTUDIO_LOG_DIR": str(Path(there) / "none")}, ["error"]),
        ):
            found = examining.logFindings(self.settings(**environ))
            self.assertEqual([each.level for each in found], levels)
