"""A certificate authority of our own, for tests of TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    BasicConstraints,
    CertificateBuilder,
    DNSName,
    GeneralName,
    IPAddress,
    Name,
    NameAttribute,
    SubjectAlternativeName,
    random_serial_number,
)
from cryptography.x509.oid import NameOID
from twisted.internet.ssl import CertificateOptions


class Authority:
    """
    Signs certificates.

    :ivar pem: its own certificate, to be trusted.
    """

    def __init__(self) -> None:
        self._key = generate_private_key(SECP256R1())
        # OpenSSL looks for an authority by its name, so each has its own.
        self._name = Name([NameAttribute(NameOID.COMMON_NAME, f"Authority {random_serial_number():x}"[:64])])
        builder = self._builder(self._name, self._key.public_key())
        own = builder.add_extension(BasicConstraints(ca=True, path_length=0), critical=True).sign(self._key, SHA256())
        self.pem = own.public_bytes(Encoding.PEM)

    def serve(self, name: str) -> CertificateOptions:
        """Make what a server needs that is called so: a host name or an IP address."""
        key = generate_private_key(SECP256R1())
        subject = Name([NameAttribute(NameOID.COMMON_NAME, "A server of the tests")])
        names = SubjectAlternativeName([_generalName(name)])
        certificate = (
            self._builder(subject, key.public_key()).add_extension(names, critical=False).sign(self._key, SHA256())
        )
        return CertificateOptions(privateKey=key, certificate=certificate)

    def _builder(self, subject: Name, key: EllipticCurvePublicKey) -> CertificateBuilder:
        now = datetime.now(UTC)
        return (
            CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


def _generalName(name: str) -> GeneralName:
    try:
        return IPAddress(ip_address(name))
    except ValueError:
        return DNSName(name)
