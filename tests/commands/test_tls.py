"""``lmgateway tls``, on a state folder of the test's."""

from __future__ import annotations

from click.testing import CliRunner, Result
from lmgateway.commands.tls import authorityUrl, qrCode, tls
from lmgateway.settings import loadSettings
from lmgateway.tls.authority import fingerprintOf
from lmgateway.tls.folder import TlsFolder
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.tls.support import SUBJECTS


class TlsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = temporaryFolder(self) / "state"
        self.folder = TlsFolder(self.state)

    def ask(self, *arguments: str) -> Result:
        """Run a command."""
        environ = {"GATEWAY_STATE_DIR": str(self.state), "GATEWAY_TLS": None, "GATEWAY_HOST": None}
        return CliRunner().invoke(tls, arguments, env=environ)

    def test_init(self) -> None:
        """Both are made, and the fingerprint of what is on the disk is told, with what to do with it."""
        result = self.ask("init")
        authority = self.folder.authority()
        assert authority is not None
        self.assertEqual(result.exit_code, 0)
        for words in (
            fingerprintOf(authority.certificate),
            "certutil",
            "NODE_EXTRA_CA_CERTS",
            "SSL_CERT_FILE",
            "\u2588",
        ):
            self.assertIn(words, result.output)
        self.assertEqual(self.ask("show").output, result.output)

    def test_notTwice(self) -> None:
        """An authority that people trust is replaced only on demand."""
        self.ask("init")
        before = self.folder.certificatePath.read_bytes()
        refused = self.ask("init")
        self.assertEqual(refused.exit_code, 1)
        self.assertIn("lmgateway tls init --force", refused.output)
        self.assertEqual(self.folder.certificatePath.read_bytes(), before)
        self.assertEqual(self.ask("init", "--force").exit_code, 0)
        self.assertNotEqual(self.folder.certificatePath.read_bytes(), before)

    def test_renew(self) -> None:
        """Another leaf, of the same authority."""
        self.ask("init")
        before, authority = self.folder.leaf(), self.folder.certificatePath.read_bytes()
        self.assertIn("This machine's certificate", self.ask("renew").output)
        after = self.folder.leaf()
        assert before is not None
        assert after is not None
        self.assertNotEqual(after.certificate, before.certificate)
        self.assertEqual(self.folder.certificatePath.read_bytes(), authority)

    def test_nothingThere(self) -> None:
        """Without an authority there is nothing to renew or show, and it is said how to have one."""
        for command in ("renew", "show"):
            result = self.ask(command)
            self.assertEqual((result.exit_code, result.output.count("\n")), (1, 1))
            self.assertIn("lmgateway tls init", result.output)


class UrlTests(SynchronousTestCase):
    def test_port(self) -> None:
        """The address of the authority is at the listener with TLS, else where lmgateway run has it."""
        for options, port in (({}, 8443), ({"listen": ["tcp:8001:interface=127.0.0.1", "tcp:9443"]}, 9443)):
            self.assertEqual(
                authorityUrl(loadSettings(options=options), SUBJECTS), f"https://192.168.1.7:{port}/ca.crt"
            )

    def test_qrCode(self) -> None:
        """It fits a terminal of 80 columns."""
        lines = qrCode("https://192.168.100.100:8443/ca.crt").splitlines()
        self.assertLess(max(map(len, lines)), 80)
        self.assertGreater(len(lines), 10)
