# -*- test-case-name: tests.tls.test_context -*-
"""
PEM files to an OpenSSL context: which certificate is shown, what is spoken, whose certificates are asked for.

Mozilla's guideline for servers ("intermediate", version 5.8) without its finite-field key exchange: TLS 1.2 and 1.3, forward
secrecy and authenticated encryption only. A context is never changed once it is in use; another takes its place.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct
from OpenSSL import SSL
from OpenSSL._util import lib
from OpenSSL.crypto import X509

from lmgateway.tls.authority import TlsError

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey

CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""For TLS 1.2: authenticated encryption (AEAD), keys that are forgotten (ECDHE)."""

SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""For TLS 1.3."""

GROUPS = (b"X25519MLKEM768:X25519:P-256:P-384", b"X25519:P-256:P-384")
"""For key exchange, preferred first; OpenSSL has the hybrid with ML-KEM since 3.5."""

HTTP = b"http/1.1"
"""The one protocol offered by ALPN."""

_OPTIONS = (
    SSL.OP_NO_COMPRESSION  # CRIME
    | SSL.OP_NO_RENEGOTIATION  # a client could have the handshake's cost spent again and again
    | SSL.OP_NO_TICKET  # the key of tickets would have to be changed daily, or it undoes forward secrecy
    | SSL.OP_SINGLE_ECDH_USE
)


class Identity(Struct, frozen=True):
    """
    What a server shows.

    :param chain: its own certificate, then those that signed it, up to one that clients know.
    :param key: of the first.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


class ClientTrust(Struct, frozen=True):
    """
    Whose clients' certificates count.

    :param authorities: the certificates that must have signed them.
    :param isRequired: whether a client without one is turned away.
    """

    authorities: tuple[x509.Certificate, ...]
    isRequired: bool


def readIdentity(certificatePem: bytes, keyPem: bytes) -> Identity:
    """
    Read a chain and its key.

    :param certificatePem: one or more certificates, the server's own first.
    :param keyPem: its key, without a password.
    :raise TlsError: one of them cannot be used, or they do not belong together.
    """
    chain = readCertificates(certificatePem, "tls.certificate")
    key = _readKey(keyPem)
    if key.public_key() != chain[0].public_key():
        if any(key.public_key() == certificate.public_key() for certificate in chain):
            raise TlsError("tls.certificate has its certificates in another order: the gateway's own must come first.")
        raise TlsError(
            "tls.key is not the key of the first certificate in tls.certificate. Name the two that belong together."
        )
    return Identity(chain, key)


def readCertificates(pem: bytes, setting: str) -> tuple[x509.Certificate, ...]:
    """
    Read certificates.

    :param setting: what the user calls the file.
    :raise TlsError: there is none.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise TlsError(f"{setting} holds no certificate that can be read. It must be a PEM file.") from error


def _readKey(pem: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise TlsError(
            "tls.key is encrypted, and nobody is there to type its password. Store it without one."
        ) from None
    except ValueError as error:
        raise TlsError("tls.key holds no private key that can be read. It must be a PEM file.") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise TlsError("tls.key is neither an RSA nor an elliptic curve key. Browsers take no other.")
    return key


def makeContext(identity: Identity, clients: ClientTrust | None) -> SSL.Context:
    """
    Make a context for connections to come.

    :param clients: whose certificates are asked for; None asks for none.
    :raise TlsError: OpenSSL refuses something, such as a key that is too short.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    context.set_tls13_ciphersuites(SUITES)
    _setGroups(context)
    context.set_alpn_select_callback(_selectProtocol)
    try:
        context.use_certificate(identity.chain[0])
        for certificate in identity.chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(identity.key)
        if clients is not None:
            _askForCertificates(context, clients)
    except SSL.Error as error:
        reason = error.args[0][0][2] if error.args and error.args[0] else "it gives no reason"
        raise TlsError(f"OpenSSL refuses the certificates or the key ({reason}). Use others.") from error
    return context


def _setGroups(context: SSL.Context) -> None:
    """Allow the curves, which pyOpenSSL has no method for; left alone, OpenSSL takes some that nobody needs."""
    for groups in GROUPS:
        if lib.SSL_CTX_set1_curves_list(context._context, groups) == 1:  # noqa: SLF001 - no other way to set them
            return
        lib.ERR_clear_error()
    msg = "OpenSSL knows none of the usual curves"
    raise TlsError(msg)


def _selectProtocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    return HTTP if HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _askForCertificates(context: SSL.Context, clients: ClientTrust) -> None:
    store = context.get_cert_store()
    for authority in clients.authorities:
        if store is not None:
            store.add_cert(X509.from_cryptography(authority))
        context.add_client_ca(authority)
    context.set_session_id(b"lmgateway")
    context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if clients.isRequired else 0))
