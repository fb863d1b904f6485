# -*- test-case-name: tests.tls.test_identities -*-
"""
What a client's certificate calls its holder. Pure; whether the certificate is to be believed, OpenSSL has decided before.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

_KINDS = (x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier)


def identitiesIn(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    Every name in a certificate: its common names, then the e-mail addresses, DNS names and URIs of its alternative names.

    :return: each once. What the certificate holds that cannot be read is left out: nobody is let in by it.
    """
    names = [attribute.value for attribute in _commonNames(certificate)]
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return _unique(names)
    for kind in _KINDS:
        names += alternatives.get_values_for_type(kind)
    return _unique(names)


def _commonNames(certificate: x509.Certificate) -> list[x509.NameAttribute[str]]:
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return []
    return [attribute for attribute in found if isinstance(attribute.value, str)]  # type: ignore[misc]  # some are bytes


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))
