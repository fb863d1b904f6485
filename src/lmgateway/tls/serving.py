# -*- test-case-name: tests.tls.test_serving -*-
"""
The one TLS context that all listeners share, and what swaps it: a reload, a renewed leaf, a file that has changed.

Connections that are there keep the context that they were made with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.endpoints import wrapServerTLS
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from lmgateway.message import HeaderPairs
from lmgateway.settings import TlsSettings
from lmgateway.tls.addresses import Address, Subjects, machineSubjects
from lmgateway.tls.authority import RENEW_BEFORE, TlsError, fingerprintOf
from lmgateway.tls.context import ClientTrust, Identity, makeContext, readCertificates, readIdentity
from lmgateway.tls.folder import TlsFolder
from lmgateway.tls.identities import identitiesIn

_log = Logger()
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

Signature = tuple[tuple[int, int, int] | None, ...]
"""Of each file its inode, size and time of change in nanoseconds: what tells that it was replaced."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """
    Secures connections.

    :param stateDirectory: where the gateway's own authority and leaf are.
    :param clock: tells when a certificate ends.
    :param subjectsOf: what this machine is called, given ``tls.names``.
    :ivar authority: the PEM of the authority that clients must trust, where it is the gateway's own.
    """

    def __init__(
        self,
        stateDirectory: str,
        clock: IReactorTime,
        subjectsOf: Callable[[tuple[str, ...]], Subjects] = machineSubjects,
    ) -> None:
        self.authority: bytes | None = None
        self._folder = TlsFolder(stateDirectory)
        self._clock = clock
        self._subjectsOf = subjectsOf
        self._settings: TlsSettings | None = None
        self._context: SSL.Context | None = None
        self._signature: Signature = ()

    @property
    def isLoaded(self) -> bool:
        """Whether there is anything to serve with, and so anything to keep fresh."""
        return self._context is not None

    @property
    def fingerprint(self) -> str | None:
        """The SHA-256 fingerprint of the gateway's own authority, where it is in use."""
        return None if self.authority is None else fingerprintOf(x509.load_pem_x509_certificate(self.authority))

    def now(self) -> datetime:
        """The time, as certificates have it."""
        return datetime.fromtimestamp(self._clock.seconds(), UTC)

    def load(self, settings: TlsSettings) -> None:
        """
        Read the certificates, make what is missing of the gateway's own, and secure connections to come with them.

        :raise TlsError: something cannot be used; then nothing has changed.
        """
        signature = _signatureOf(self._filesOf(settings))
        authority = None
        if settings.certificate is None:
            authority = self._ensure(settings)
            signature = _signatureOf(self._filesOf(settings))
        context = makeContext(self._identity(settings), _clientTrust(settings))
        context.set_app_data(self)
        self._context, self._settings, self._signature, self.authority = context, settings, signature, authority

    def reloadChanged(self) -> None:
        """Take up files that were replaced meanwhile. Where they are bad, the log says why, once, and the old ones stay."""
        settings = self._settings
        if settings is None:
            return
        signature = _signatureOf(self._filesOf(settings))
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self.load(settings)
        except TlsError as error:
            _log.error("The certificates were not read again; the old ones stay. {reason}", reason=str(error))
        else:
            _log.info("The certificates were read again.")

    def renewDue(self) -> None:
        """
        Renew the gateway's own leaf where that is due; :meth:`reloadChanged` takes it up. Blocks for as long as a disk takes.
        """
        settings = self._settings
        if settings is None or settings.certificate is not None:
            return
        try:
            self._ensure(settings)
        except TlsError as error:
            _log.error("The gateway's certificate was not renewed. {reason}", reason=str(error))

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Give a new connection the context of now."""
        if self._context is None:
            msg = "nothing was loaded"
            raise TlsError(msg)
        return SSL.Connection(self._context, None)

    def secure(self, endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
        """Have an endpoint listen with TLS."""
        secured: IStreamServerEndpoint = wrapServerTLS(self, endpoint, self._clock)
        return secured

    def identitiesOf(self, transport: Any) -> tuple[str, ...]:
        """
        The names in the certificate of a connection's client, once the handshake is done.

        Only what our own context has verified counts: an ``ssl:`` endpoint has authorities of its own.

        :param transport: of any connection.
        """
        getHandle = getattr(transport, "getHandle", None)
        connection = getHandle() if getHandle is not None else None
        if not isinstance(connection, SSL.Connection) or connection.get_context().get_app_data() is not self:
            return ()
        certificate = connection.get_peer_certificate(as_cryptography=True)
        return () if certificate is None else identitiesIn(certificate)

    def _ensure(self, settings: TlsSettings) -> bytes:
        reason = self._folder.ensure(self._subjectsOf(settings.names), self.now())
        if reason is not None:
            _log.info("The gateway made itself a new certificate: {reason}.", reason=reason)
        authority = self._folder.authority()
        if authority is None:
            msg = "The certificate authority in the state folder was taken away just now. Start again."
            raise TlsError(msg)
        return authority.certificatePem

    def _filesOf(self, settings: TlsSettings) -> tuple[str | None, ...]:
        if settings.certificate is None:
            return os.fspath(self._folder.leafPath), settings.clientCa
        return settings.certificate, settings.key, settings.clientCa

    def _identity(self, settings: TlsSettings) -> Identity:
        if settings.certificate is None:
            leaf = self._folder.leaf()
            if leaf is None:
                msg = "The gateway's certificate was taken away just now. Start again."
                raise TlsError(msg)
            return Identity((leaf.certificate,), leaf.key)
        keyFile = settings.key or settings.certificate
        identity = readIdentity(_contentOf(settings.certificate, "tls.certificate"), _contentOf(keyFile, "tls.key"))
        warnOf(identity.chain[0], keyFile, self.now())
        return identity


def strictTransport(seconds: float) -> HeaderPairs:
    """The header field by which browsers ask this host for nothing without TLS any more (RFC 6797), or none for 0 seconds."""
    return ((b"Strict-Transport-Security", b"max-age=%d" % seconds),) if seconds else ()


def listenerUrl(port: IListeningPort, lan: Iterable[Address], *, isSecured: bool) -> str | None:
    """
    The URL of a listener; None of one that has none, such as a unix socket.

    One that listens on all addresses is told by an address that works: with TLS by one that other machines can use, for it
    is there for them; else by this machine's own.

    :param lan: the machine's addresses that other machines can use.
    """
    address: Any = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return None
    if ip_address(host).is_unspecified:
        version = ip_address(host).version
        usable = lan if isSecured else ()
        host = next((str(each) for each in usable if each.version == version), _LOOPBACK[version])
    return _urlOf(host, address.port, isSecured=isSecured)


def reachableUrls(port: IListeningPort, lan: Iterable[Address], *, isSecured: bool) -> tuple[str, ...]:
    """
    Every URL by which a listener can be reached, those for other machines first; nothing of a unix socket.

    :param lan: the machine's addresses that other machines can use.
    """
    address: Any = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return ()
    hosts = [host]
    if ip_address(host).is_unspecified:
        version = ip_address(host).version
        hosts = [*(str(each) for each in lan if each.version == version), _LOOPBACK[version]]
    return tuple(_urlOf(each, address.port, isSecured=isSecured) for each in hosts)


def _urlOf(host: str, port: int, *, isSecured: bool) -> str:
    return f"{'https' if isSecured else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def warnOf(certificate: x509.Certificate, keyFile: str, now: datetime) -> None:
    """Tell the log what is dubious about a certificate and key that the user has brought."""
    left = certificate.not_valid_after_utc - now
    if left < RENEW_BEFORE:
        end = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        state = "ended" if left < timedelta() else "ends"
        _log.warn("The certificate in tls.certificate {state} on {end}. Replace it.", state=state, end=end)
    if os.name == "posix" and Path(keyFile).stat().st_mode & 0o077:
        _log.warn("Others than its owner may read or change the file in tls.key. Take that from them: chmod 600")


def _clientTrust(settings: TlsSettings) -> ClientTrust | None:
    if settings.clientCertificates == "off" or settings.clientCa is None:
        return None
    authorities = readCertificates(_contentOf(settings.clientCa, "tls.clientCa"), "tls.clientCa")
    return ClientTrust(authorities, isRequired=settings.clientCertificates == "required")


def _contentOf(path: str, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(f"The file in {setting} cannot be read ({error.strerror}).") from error


def _signatureOf(paths: tuple[str | None, ...]) -> Signature:
    return tuple(_signatureOfFile(path) for path in paths)


def _signatureOfFile(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
