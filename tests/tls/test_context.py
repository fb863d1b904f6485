"""Contexts: what is spoken and what is not, with Python's own TLS at the other end; and which files are refused."""

from __future__ import annotations

import ssl
import warnings
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.tls.authority import TlsError, makeAuthority, makeLeaf
from lmgateway.tls.context import CIPHERS, SUITES, ClientTrust, Identity, makeContext, readCertificates, readIdentity
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.support import NOW, SUBJECTS, MemoryClient, clientContext

AUTHORITY = makeAuthority(SUBJECTS, NOW)
LEAF = makeLeaf(AUTHORITY, SUBJECTS, NOW)
IDENTITY = Identity((LEAF.certificate,), LEAF.key)
KEY, CERTIFICATE = LEAF.pem.partition(b"-----BEGIN CERT")[0], LEAF.certificatePem


def serverWith(clients: ClientTrust | None = None) -> SSL.Connection:
    """A server's end."""
    return SSL.Connection(makeContext(IDENTITY, clients), None)


class SpokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.context = clientContext(AUTHORITY.certificatePem)

    def shake(self) -> MemoryClient:
        """Connect."""
        client = MemoryClient(self.context)
        client.handshake(serverWith())
        return client

    def test_versions(self) -> None:
        """TLS 1.3 where the client has it, 1.2 where that is its best, and nothing older."""
        self.assertEqual(self.shake().tls.version(), "TLSv1.3")
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual(self.shake().tls.version(), "TLSv1.2")
        # The client's own OpenSSL must be talked into what is older, and Python warns of it.
        self.context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.context.minimum_version = self.context.maximum_version = ssl.TLSVersion.TLSv1_1
        # So must the server's: what refuses is then the version that was set, and no default of that OpenSSL's.
        context = makeContext(IDENTITY, None)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        error = self.assertRaises(
            (ssl.SSLError, SSL.Error), MemoryClient(self.context).handshake, SSL.Connection(context, None)
        )
        self.assertIn("unsupported protocol", str(error))

    def test_ciphers(self) -> None:
        """Each cipher is ephemeral and authenticated, and a client that has none of them is turned away."""
        for name in (CIPHERS + b":" + SUITES).decode().split(":"):
            self.assertTrue("ECDHE" in name or name.startswith("TLS_"), name)
            self.assertTrue("GCM" in name or "POLY1305" in name, name)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
            self.context.set_ciphers(weak)
            self.assertRaises((ssl.SSLError, SSL.Error), self.shake)

    def test_curves(self) -> None:
        """P-256 and P-384 are taken, P-521 is not, and neither is a curve that only few look at."""
        for curve, isTaken in (("prime256v1", True), ("secp384r1", True), ("secp521r1", False)):
            self.context = clientContext(AUTHORITY.certificatePem)
            self.context.set_ecdh_curve(curve)
            if isTaken:
                self.shake()
            else:
                self.assertRaises((ssl.SSLError, SSL.Error), self.shake)

    def test_protocol(self) -> None:
        """By ALPN there is HTTP/1.1 and nothing else."""
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.assertEqual(self.shake().tls.selected_alpn_protocol(), "http/1.1")
        self.context.set_alpn_protocols(["h2"])
        self.assertIsNone(self.shake().tls.selected_alpn_protocol())

    def test_notCompressed(self) -> None:
        """Nothing is compressed, whatever the client offers (CRIME)."""
        self.context.options &= ~ssl.OP_NO_COMPRESSION
        self.assertIsNone(self.shake().tls.compression())

    def test_noTickets(self) -> None:
        """A client cannot come back by a ticket: there is no key of tickets that could be stolen."""
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        session = self.shake().tls.session
        self.assertFalse(session is not None and session.has_ticket)


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.context = clientContext(AUTHORITY.certificatePem)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2

    def test_required(self) -> None:
        """Where a certificate is required, a client without one is turned away in the handshake; where it is optional, not."""
        MemoryClient(self.context).handshake(serverWith(ClientTrust((AUTHORITY.certificate,), isRequired=False)))
        server = serverWith(ClientTrust((AUTHORITY.certificate,), isRequired=True))
        self.assertRaises(SSL.Error, MemoryClient(self.context).handshake, server)


class ReadTests(SynchronousTestCase):
    def refusal(self, certificate: bytes, key: bytes) -> str:
        """Why two files cannot be used."""
        return str(self.assertRaises(TlsError, readIdentity, certificate, key))

    def test_chain(self) -> None:
        """A chain is read in its order, and a file may hold the key as well."""
        identity = readIdentity(CERTIFICATE + AUTHORITY.certificatePem, KEY)
        self.assertEqual(identity.chain, (LEAF.certificate, AUTHORITY.certificate))
        self.assertEqual(readIdentity(LEAF.pem, LEAF.pem).chain, (LEAF.certificate,))
        makeContext(identity, None)

    def test_wrongOrder(self) -> None:
        """A chain that begins with the authority is told from a key that belongs to none of it."""
        self.assertIn("must come first", self.refusal(AUTHORITY.certificatePem + CERTIFICATE, KEY))
        self.assertIn("is not the key of", self.refusal(AUTHORITY.certificatePem, KEY))

    def test_unusable(self) -> None:
        """Text, a key with a password, a key of a kind that browsers do not take: each is refused with a sentence of its own."""
        encrypted = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
        odd = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for certificate, key, words in (
            (b"text", KEY, "tls.certificate holds no certificate"),
            (b"", KEY, "tls.certificate holds no certificate"),
            (CERTIFICATE, b"text", "tls.key holds no private key"),
            (CERTIFICATE, CERTIFICATE, "tls.key holds no private key"),
            (CERTIFICATE, encrypted, "tls.key is encrypted"),
            (CERTIFICATE, odd, "neither an RSA nor an elliptic curve key"),
        ):
            self.assertIn(words, self.refusal(certificate, key))

    def test_otherKey(self) -> None:
        """A key that belongs to nothing here is refused."""
        other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.assertIn("is not the key of", self.refusal(CERTIFICATE, other))

    def test_tooShort(self) -> None:
        """A key that OpenSSL thinks too short is refused with OpenSSL's own words."""
        key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is the point
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "short")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
        identity = Identity((builder.sign(key, SHA256()),), key)
        self.assertRegex(str(self.assertRaises(TlsError, makeContext, identity, None)), "OpenSSL refuses .* too small")

    @given(st.binary(), st.binary())
    def test_anyBytes(self, before: bytes, after: bytes) -> None:
        """Whatever stands in the files, there is an identity or a sentence that names the setting."""
        for certificate, key in ((before + CERTIFICATE + after, KEY), (CERTIFICATE, before + KEY + after)):
            try:
                readIdentity(certificate, key)
            except TlsError as error:
                self.assertRegex(str(error), r"^tls\.(certificate|key) ")

    @given(st.binary())
    def test_anyCertificates(self, pem: bytes) -> None:
        """No bytes are taken for certificates that are none."""
        self.assertRaises(TlsError, readCertificates, pem, "tls.clientCa")
