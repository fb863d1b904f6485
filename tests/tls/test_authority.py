"""The authority and its leaves: what clients check of them, and when a leaf is due."""

from __future__ import annotations

import ssl
from datetime import timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.tls.addresses import Subjects
from lmgateway.tls.authority import Pair, fingerprintOf, makeAuthority, makeLeaf, mayVouchFor, subjectsIn, whyDue
from lmgateway.tls.context import Identity, makeContext
from msgspec.structs import replace
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.support import NOW, SUBJECTS, MemoryClient, clientContext

AUTHORITY = makeAuthority(SUBJECTS, NOW)
LEAF = makeLeaf(AUTHORITY, SUBJECTS, NOW)


def withNames(*names: str) -> Subjects:
    """The machine, called so, too."""
    return replace(SUBJECTS, names=(*SUBJECTS.names, *names))


class CertificateTests(SynchronousTestCase):
    def test_authority(self) -> None:
        """The authority may sign certificates, none that sign others, and for ten years; its key is on P-256."""
        extensions = AUTHORITY.certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertEqual((constraints.critical, constraints.value.ca, constraints.value.path_length), (True, True, 0))
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        self.assertTrue(usage.critical and usage.value.key_cert_sign)
        self.assertFalse(usage.value.digital_signature)
        self.assertEqual(AUTHORITY.certificate.not_valid_after_utc.year, 2037)
        self.assertEqual(AUTHORITY.key.curve.name, "secp256r1")

    def test_leaf(self) -> None:
        """The leaf is a server's, names everything that the machine is called, and lives shorter than any client demands."""
        certificate = LEAF.certificate
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usages), [ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertFalse(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        self.assertEqual(subjectsIn(certificate), SUBJECTS)
        self.assertLessEqual(certificate.not_valid_after_utc - certificate.not_valid_before_utc, timedelta(days=366))

    def test_othersOfItsName(self) -> None:
        """Two authorities of one machine are called differently, so that no client mixes them up; so are their fingerprints."""
        other = makeAuthority(SUBJECTS, NOW + timedelta(seconds=1))
        self.assertNotEqual(other.certificate.subject, AUTHORITY.certificate.subject)
        self.assertNotEqual(fingerprintOf(other.certificate), fingerprintOf(AUTHORITY.certificate))
        self.assertRegex(fingerprintOf(other.certificate), r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")

    def test_file(self) -> None:
        """A pair is read as it was written; halves of two pairs are refused."""
        again = Pair.fromPem(LEAF.pem)
        self.assertEqual((again.certificate, again.pem), (LEAF.certificate, LEAF.pem))
        mixed = LEAF.pem.partition(b"-----BEGIN CERT")[0] + AUTHORITY.certificatePem
        self.assertRaises(ValueError, Pair.fromPem, mixed)


class ClientTests(SynchronousTestCase):
    """Python's own TLS, in its strictest mode, as the client."""

    def shake(self, leaf: Pair, name: str) -> None:
        """Connect to a server that has this leaf, by this name, trusting the authority."""
        server = SSL.Connection(makeContext(Identity((leaf.certificate,), leaf.key), None), None)
        MemoryClient(clientContext(AUTHORITY.certificatePem), name).handshake(server)

    def test_trusted(self) -> None:
        """By each name and address of the machine, a client that trusts the authority connects."""
        for name in (*SUBJECTS.names, *map(str, SUBJECTS.addresses)):
            self.shake(LEAF, name)

    def test_otherName(self) -> None:
        """By any other it does not."""
        for name in ("other.local", "192.168.1.8"):
            self.assertRaises(ssl.SSLCertVerificationError, self.shake, LEAF, name)

    def test_stolen(self) -> None:
        """Whoever has the authority's key cannot pass for a name on the internet."""
        permissive = replace(AUTHORITY, certificate=makeAuthority(withNames("bank.example"), NOW).certificate)
        forged = makeLeaf(permissive, withNames("bank.example"), NOW)
        self.assertIn("bank.example", subjectsIn(forged.certificate).names)
        signed = replace(forged, certificate=self.signedBy(AUTHORITY, forged))
        error = self.assertRaises(ssl.SSLCertVerificationError, self.shake, signed, "bank.example")
        self.assertIn("permitted subtree violation", str(error))

    def signedBy(self, authority: Pair, leaf: Pair) -> x509.Certificate:
        """The leaf, as the authority would sign it if it were not careful."""
        from cryptography.hazmat.primitives.hashes import SHA256

        made = leaf.certificate
        builder = (
            x509.CertificateBuilder(
                authority.certificate.subject,
                made.subject,
                leaf.key.public_key(),
                made.serial_number,
                made.not_valid_before_utc,
                made.not_valid_after_utc,
            )
            .add_extension(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
        )
        return builder.sign(authority.key, SHA256())


class VouchingTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The authority vouches for private names and for those that it was made for, not for what merely ends like them."""
        for name, may in (
            ("box.lan", True),
            ("a.local", True),
            ("box", True),
            ("x.home.arpa", True),
            ("bank.example", False),
            ("notlocal", False),
            ("evilbox.com", False),
        ):
            self.assertEqual(mayVouchFor(AUTHORITY, name), may, name)

    def test_leftOut(self) -> None:
        """A name that it may not vouch for is left out of the leaf, and does not make it due forever."""
        subjects = withNames("llm.example.org")
        leaf = makeLeaf(AUTHORITY, subjects, NOW)
        self.assertEqual(subjectsIn(leaf.certificate).names, SUBJECTS.names)
        self.assertIsNone(whyDue(leaf, AUTHORITY, subjects, NOW))


class DueTests(SynchronousTestCase):
    def test_fresh(self) -> None:
        """A new leaf is not due, and it is not until 30 days before its end."""
        end = LEAF.certificate.not_valid_after_utc
        self.assertIsNone(whyDue(LEAF, AUTHORITY, SUBJECTS, NOW))
        self.assertIsNone(whyDue(LEAF, AUTHORITY, SUBJECTS, end - timedelta(days=30)))
        self.assertEqual(
            whyDue(LEAF, AUTHORITY, SUBJECTS, end - timedelta(days=30) + timedelta(seconds=1)),
            f"it ends on {end:%Y-%m-%d}",
        )

    def test_newAddress(self) -> None:
        """Another address or name makes it due, and the reason names it; one that is gone does not."""
        moved = replace(SUBJECTS, addresses=(*SUBJECTS.addresses, ip_address("10.0.0.9")), names=("new.lan",))
        self.assertEqual(whyDue(LEAF, AUTHORITY, moved, NOW), "it does not name new.lan, 10.0.0.9")
        self.assertIsNone(whyDue(LEAF, AUTHORITY, replace(SUBJECTS, addresses=SUBJECTS.addresses[:1]), NOW))

    def test_otherAuthority(self) -> None:
        """Where the authority was replaced, its old leaf is due."""
        other = makeAuthority(SUBJECTS, NOW + timedelta(seconds=1))
        self.assertEqual(whyDue(LEAF, other, SUBJECTS, NOW), "another authority has signed it")

    def test_clockSetBack(self) -> None:
        """Where the clock says that it has not begun, it is due."""
        self.assertEqual(whyDue(LEAF, AUTHORITY, SUBJECTS, NOW - timedelta(days=3)), "it begins on 2027-01-14 only")

    @given(st.lists(st.ip_addresses(), max_size=5), st.integers(0, 10_000))
    def test_renewed(self, addresses: list[object], days: int) -> None:
        """Whatever the machine's addresses and whenever it is, a leaf that was just made is not due."""
        now = NOW + timedelta(days=days)
        subjects = replace(SUBJECTS, addresses=tuple(dict.fromkeys(addresses)))
        self.assertIsNone(whyDue(makeLeaf(AUTHORITY, subjects, now), AUTHORITY, subjects, now))
