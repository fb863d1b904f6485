# -*- test-case-name: tests.tls.test_authority -*-
"""
A certificate authority of this gateway's own, and the certificates that it signs (RFC 5280).

What people trust is the authority, once; the certificate of the gateway itself (the leaf) can then be renewed without anybody
noticing. The authority may only vouch for names that mean something on a private network, so that whoever steals its key
cannot pass for a bank.

Pure: the time is an argument, and files are the business of :mod:`lmgateway.tls.folder`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from lmgateway.configuration.units import SettingsError
from lmgateway.tls.addresses import LOOPBACK_NAME, MULTICAST_DOMAIN, Subjects

AUTHORITY_LIFE = timedelta(days=3652)
"""Ten years: trusting it is work for people, on each of their machines."""

LEAF_LIFE = timedelta(days=365)
"""Apple's platforms refuse more than 398 days, Mozilla's guideline more than 366."""

RENEW_BEFORE = timedelta(days=30)
"""How long before its end a leaf is renewed."""

BACKDATED = timedelta(hours=24)
"""How far a certificate's beginning lies back: clocks on a LAN are off, and often by a time zone."""

PRIVATE_DOMAINS = (MULTICAST_DOMAIN, LOOPBACK_NAME, "home.arpa", "internal", "lan", "home", "localdomain", "test")
"""Domains that are nobody's on the internet, in which private networks have their names (RFC 6761, 6762, 8375)."""

_SHOWN_NAME = 40
"""Characters of the host name in the authority's name, of which X.520 allows 64."""


class TlsError(SettingsError):
    """What TLS needs cannot be had or used. A sentence or two: which file or setting, what is wrong, what to do."""


class Pair(Struct, frozen=True):
    """
    A certificate and its private key.

    :param certificate: says whose key it is.
    :param key: never leaves the machine.
    """

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def certificatePem(self) -> bytes:
        """The certificate, for everybody."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """Both, for one file that is replaced whole."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificatePem

    @classmethod
    def fromPem(cls, pem: bytes) -> Pair:
        """
        Read what :attr:`pem` wrote.

        :raise ValueError: it is something else, or its halves do not belong together.
        """
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, None)
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            msg = "the key is not the certificate's"
            raise ValueError(msg)
        return cls(certificate, key)


def fingerprintOf(certificate: x509.Certificate) -> str:
    """The SHA-256 fingerprint, as browsers and ``openssl`` show it: pairs of hexadecimal digits between colons."""
    return certificate.fingerprint(SHA256()).hex(":").upper()


def makeAuthority(subjects: Subjects, now: datetime) -> Pair:
    """
    Make a new authority.

    :param subjects: the machine that it is for: its names are among those that the authority may vouch for.
    :param now: aware of its time zone.
    """
    key = generate_private_key(SECP256R1())
    # OpenSSL looks for an issuer by its name: two authorities of the same name, the old one and the new, would be mixed up.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lmgateway"),
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"lmgateway {subjects.names[0][:_SHOWN_NAME]} {now:%Y-%m-%d %H:%M:%S}"
            ),
        ]
    )
    domains = dict.fromkeys((*PRIVATE_DOMAINS, *subjects.names))
    usage = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})
    builder = (
        _builder(name, key, now, AUTHORITY_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        # "This extension MUST … be marked as critical" (RFC 5280 section 4.2.1.10). Addresses are not limited by it: IPv6 ones
        # are given out by providers, and change.
        .add_extension(x509.NameConstraints([x509.DNSName(domain) for domain in domains], None), critical=True)
    )
    return Pair(builder.sign(key, SHA256()), key)


def makeLeaf(authority: Pair, subjects: Subjects, now: datetime) -> Pair:
    """
    Make a new certificate for the gateway.

    :param authority: signs it.
    :param subjects: what it is for. Names that the authority may not vouch for are left out: with one of them in it, clients
        would refuse the whole certificate.
    :param now: aware of its time zone.
    """
    key = generate_private_key(SECP256R1())
    names = [name for name in subjects.names if mayVouchFor(authority, name)]
    alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, subjects.addresses)]
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    usage = x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True})
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lmgateway")])
    builder = (
        _builder(subject, key, now, LEAF_LIFE)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(signer, critical=False)
    )
    return Pair(builder.sign(authority.key, SHA256()), key)


_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def _builder(
    subject: x509.Name, key: EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def mayVouchFor(authority: Pair, name: str) -> bool:
    """Whether a DNS name is one of those, or below one of those, that the authority may vouch for."""
    constraints = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    domains = [domain.value for domain in constraints.permitted_subtrees or ()]
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def subjectsIn(certificate: x509.Certificate) -> Subjects:
    """What a certificate says it is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return Subjects(
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(names.get_values_for_type(x509.IPAddress)),  # type: ignore[arg-type]  # networks stand in constraints only
    )


def whyDue(leaf: Pair, authority: Pair, subjects: Subjects, now: datetime) -> str | None:
    """
    Why a leaf must be renewed, in the middle of a sentence; None while it need not be.

    That the machine has lost an address is no reason: it often comes back.

    :param subjects: what the machine is called now.
    """
    try:
        leaf.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return "another authority has signed it"
    ends = leaf.certificate.not_valid_after_utc
    if ends - now < RENEW_BEFORE:
        return f"it ends on {ends:%Y-%m-%d}"
    if now < leaf.certificate.not_valid_before_utc:
        return f"it begins on {leaf.certificate.not_valid_before_utc:%Y-%m-%d} only"
    held = subjectsIn(leaf.certificate)
    lacking = [name for name in subjects.names if name not in held.names and mayVouchFor(authority, name)]
    lacking += [str(address) for address in subjects.addresses if address not in held.addresses]
    return f"it does not name {', '.join(lacking)}" if lacking else None
