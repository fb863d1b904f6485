"""The names in a client's certificate."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from lmgateway.tls.identities import identitiesIn
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.support import NOW


def certificateOf(commonNames: Iterable[str], alternatives: Iterable[x509.GeneralName] = ()) -> x509.Certificate:
    """A certificate with these names."""
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in commonNames])
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), NOW, NOW + timedelta(days=1)
    )
    names = list(alternatives)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256())


class IdentitiesTests(SynchronousTestCase):
    def test_all(self) -> None:
        """The common name comes first, then addresses of people, names of hosts, and URIs; each once; an IP address is no name."""
        certificate = certificateOf(
            ["alice"],
            [
                x509.UniformResourceIdentifier("spiffe://office/alice"),
                x509.DNSName("alice"),
                x509.DNSName("alice.lan"),
                x509.RFC822Name("alice@example.org"),
            ],
        )
        self.assertEqual(
            identitiesIn(certificate), ("alice", "alice@example.org", "alice.lan", "spiffe://office/alice")
        )

    def test_none(self) -> None:
        """A certificate without names has none."""
        self.assertEqual(identitiesIn(certificateOf([])), ())

    def test_commonNameAlone(self) -> None:
        """Many clients' certificates have nothing but a common name."""
        self.assertEqual(identitiesIn(certificateOf(["build server 3"])), ("build server 3",))
