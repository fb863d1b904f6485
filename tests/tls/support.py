"""What tests of TLS have in common: a time, a machine, TLS within memory."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from lmgateway.settings import TlsSettings
from lmgateway.tls.addresses import Subjects
from msgspec.structs import replace
from OpenSSL import SSL

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
SUBJECTS = Subjects(
    ("box.lan", "box.local", "box", "localhost"),
    tuple(map(ip_address, ("192.168.1.7", "fd00::7", "127.0.0.1", "::1"))),
)
SETTINGS = TlsSettings(certificate=None, key=None, names=(), clientCa=None, clientCertificates="off", hsts=0.0)


def settingsWith(**changes: Any) -> TlsSettings:
    """The defaults, but for these."""
    return replace(SETTINGS, **changes)


class MemoryClient:
    """
    A TLS client of the standard library, which shares no code with the server under test.

    :ivar tls: the ``SSLObject``.
    """

    def __init__(self, context: ssl.SSLContext, name: str = "box.local") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def handshake(self, server: SSL.Connection) -> None:
        """
        Shake hands with a server that has no socket.

        :raise ssl.SSLError: the client does not like the server.
        :raise OpenSSL.SSL.Error: the server does not like the client.
        """
        server.set_accept_state()
        clientDone = serverDone = False
        for _ in range(20):
            if not clientDone:
                try:
                    self.tls.do_handshake()
                    clientDone = True
                except ssl.SSLWantReadError:
                    pass
            if data := self._outgoing.read():
                server.bio_write(data)
            if not serverDone:
                try:
                    server.do_handshake()
                    serverDone = True
                except SSL.WantReadError:
                    pass
            self._take(server)
            if clientDone and serverDone:
                return
        raise AssertionError("the handshake does not end")

    def say(self, server: SSL.Connection, data: bytes) -> bytes:
        """Send something, and tell what the server reads."""
        self.tls.write(data)
        server.bio_write(self._outgoing.read())
        return server.recv(1 << 16)

    def _take(self, server: SSL.Connection) -> None:
        with suppress(SSL.WantReadError):
            self._incoming.write(server.bio_read(1 << 16))


def clientContext(pem: bytes) -> ssl.SSLContext:
    """What trusts one authority, as strictly as Python can (RFC 5280)."""
    context = ssl.create_default_context(cadata=pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # The tests live in a time of their own.
    context.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    return context
