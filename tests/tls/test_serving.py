"""The context that listeners share: what is loaded, what is refused, what is swapped, and what lives on."""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from unittest import skipIf

from lmgateway.settings import TlsSettings
from lmgateway.tls.addresses import Subjects
from lmgateway.tls.authority import Pair, TlsError, fingerprintOf, makeAuthority, makeLeaf
from lmgateway.tls.folder import TlsFolder
from lmgateway.tls.serving import ServerTls, strictTransport
from msgspec.structs import replace
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.folders import temporaryFolder
from tests.tls.support import NOW, SETTINGS, SUBJECTS, MemoryClient, clientContext, settingsWith

AUTHORITY = makeAuthority(SUBJECTS, NOW)


class ServingTestCase(SynchronousTestCase):
    """A server in a state folder of its own."""

    def setUp(self) -> None:
        self.state = temporaryFolder(self)
        self.clock = Clock()
        self.clock.rightNow = NOW.timestamp()
        self.subjects = SUBJECTS
        self.tls = ServerTls(str(self.state), self.clock, self.subjectsOf)
        self.said: list[str] = []

        def listen(event: object) -> None:
            self.said.append(formatEvent(event))  # type: ignore[arg-type]

        globalLogPublisher.addObserver(listen)
        self.addCleanup(globalLogPublisher.removeObserver, listen)

    def subjectsOf(self, names: tuple[str, ...]) -> Subjects:
        """What the machine is called, as the test says."""
        return replace(self.subjects, names=(*self.subjects.names, *names))

    def own(self, leaf: Pair, name: str = "own.pem") -> str:
        """Write a certificate with its key, as a user has it; return its path."""
        path = self.state / name
        path.write_bytes(leaf.pem)
        path.chmod(0o600)
        return str(path)

    def settings(self, leaf: Pair) -> TlsSettings:
        """Settings that name a user's own certificate."""
        return settingsWith(certificate=self.own(leaf))

    def connect(self, pem: bytes) -> tuple[MemoryClient, SSL.Connection]:
        """Connect, trusting one authority."""
        server = self.tls.serverConnectionForTLS(object())
        client = MemoryClient(clientContext(pem))
        client.handshake(server)
        return client, server

    def shown(self) -> bytes:
        """The certificate that a new connection is shown."""
        server = self.tls.serverConnectionForTLS(object())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = MemoryClient(context)
        client.handshake(server)
        return client.tls.getpeercert(binary_form=True) or b""


class LoadTests(ServingTestCase):
    def test_provides(self) -> None:
        """It is what Twisted asks for connections."""
        verifyObject(IOpenSSLServerConnectionCreator, self.tls)

    def test_first(self) -> None:
        """Where nothing is configured the certificates are made, and whoever trusts the authority that is told connects."""
        self.assertFalse(self.tls.isLoaded)
        self.tls.load(SETTINGS)
        assert self.tls.authority is not None
        self.connect(self.tls.authority)
        made = TlsFolder(self.state).authority()
        assert made is not None
        self.assertEqual(self.tls.fingerprint, fingerprintOf(made.certificate))

    def test_own(self) -> None:
        """A certificate of the user's own is shown, none is made, and there is no authority to hand out."""
        leaf = makeLeaf(AUTHORITY, SUBJECTS, NOW)
        self.tls.load(self.settings(leaf))
        self.connect(AUTHORITY.certificatePem)
        self.assertEqual((self.tls.authority, self.tls.fingerprint), (None, None))
        self.assertFalse((self.state / "tls").exists())

    def test_refused(self) -> None:
        """What cannot be used is refused, and what was there stays, for connections to come as well."""
        self.tls.load(SETTINGS)
        before = self.tls.authority
        assert before is not None
        bad = self.state / "bad.pem"
        bad.write_text("no certificate")
        for settings in (
            settingsWith(certificate=str(bad)),
            settingsWith(certificate=str(self.state / "missing.pem")),
            settingsWith(clientCa=str(bad), clientCertificates="required"),
        ):
            self.assertRaises(TlsError, self.tls.load, settings)
            self.connect(before)

    def test_names(self) -> None:
        """Names of the settings are in the certificate."""
        self.tls.load(settingsWith(names=("gateway.lan",)))
        self.assertIn(b"gateway.lan", self.shown())

    @skipIf(os.name != "posix", "Windows has no such bits")
    def test_readable(self) -> None:
        """A key of the user's own that others may read is served all the same, with a warning; one that they may not is not."""
        leaf = makeLeaf(AUTHORITY, SUBJECTS, NOW)
        settings = self.settings(leaf)
        self.tls.load(settings)
        self.assertEqual(self.said, [])
        Path(settings.certificate or "").chmod(0o644)
        self.tls.load(settings)
        self.assertIn("Others than its owner may read or change the file in tls.key.", self.said[0])

    def test_ending(self) -> None:
        """A certificate of the user's own that ends soon, or has, is warned of."""
        settings = self.settings(makeLeaf(AUTHORITY, SUBJECTS, NOW - timedelta(days=340)))
        self.tls.load(settings)
        self.clock.advance(40 * 86400)
        self.tls.load(settings)
        self.assertEqual([line.split(" on ")[0].split()[-1] for line in self.said], ["ends", "ended"])


class SwapTests(ServingTestCase):
    def test_whileOneLives(self) -> None:
        """A connection goes on over a swap; one that comes after it is shown the new certificate."""
        settings = self.settings(makeLeaf(AUTHORITY, SUBJECTS, NOW))
        self.tls.load(settings)
        client, server = self.connect(AUTHORITY.certificatePem)
        before = self.shown()
        self.own(makeLeaf(AUTHORITY, SUBJECTS, NOW))
        self.tls.reloadChanged()
        self.assertNotEqual(self.shown(), before)
        self.assertEqual(client.say(server, b"still here"), b"still here")
        self.assertEqual(client.tls.getpeercert(binary_form=True), before)
        self.assertEqual(self.said, ["The certificates were read again."])

    def test_unchanged(self) -> None:
        """Files that are as they were are not read again."""
        self.tls.load(self.settings(makeLeaf(AUTHORITY, SUBJECTS, NOW)))
        self.tls.reloadChanged()
        self.assertEqual(self.said, [])

    def test_bad(self) -> None:
        """A file that was replaced by a bad one is told of once, and the old certificate is shown on."""
        settings = self.settings(makeLeaf(AUTHORITY, SUBJECTS, NOW))
        self.tls.load(settings)
        before = self.shown()
        Path(settings.certificate or "").write_text("half a cert")
        self.tls.reloadChanged()
        self.tls.reloadChanged()
        self.assertEqual(self.shown(), before)
        (line,) = self.said
        self.assertRegex(line, "^The certificates were not read again; the old ones stay. tls.certificate holds no")

    def test_renewed(self) -> None:
        """Near its end the gateway's own leaf is renewed and shown, under the authority of before."""
        self.tls.load(SETTINGS)
        before, authority = self.shown(), self.tls.authority
        self.tls.renewDue()
        self.tls.reloadChanged()
        self.assertEqual(self.shown(), before)
        self.clock.advance(336 * 86400)
        self.tls.renewDue()
        self.tls.reloadChanged()
        self.assertNotEqual(self.shown(), before)
        self.assertEqual(self.tls.authority, authority)

    def test_moved(self) -> None:
        """So it is when the machine has another address."""
        self.tls.load(SETTINGS)
        self.subjects = replace(SUBJECTS, addresses=(ip_address("10.11.12.13"),))
        self.tls.renewDue()
        self.tls.reloadChanged()
        self.assertIn(bytes([10, 11, 12, 13]), self.shown())

    def test_unwritable(self) -> None:
        """Where it cannot be renewed the log says why, and the old one is shown on."""
        self.tls.load(SETTINGS)
        before = self.shown()
        TlsFolder(self.state).leafPath.write_text("damaged")
        self.tls.renewDue()
        self.assertRegex(
            self.said[-1], r"^The gateway's certificate was not renewed\. The file tls/leaf\.pem .* damaged"
        )
        self.assertEqual(self.shown(), before)


class StrictTransportTests(SynchronousTestCase):
    def test_field(self) -> None:
        """The field has whole seconds; without a time there is none."""
        self.assertEqual(strictTransport(63072000.0), ((b"Strict-Transport-Security", b"max-age=63072000"),))
        self.assertEqual(strictTransport(0.0), ())
