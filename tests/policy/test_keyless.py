"""Clients that need no key."""

from __future__ import annotations

from lmgateway.errors import Unauthenticated
from lmgateway.interfaces import IAuthenticator
from lmgateway.message import Principal, RequestHead, Scope
from lmgateway.policy.addresses import AddressPolicy
from lmgateway.policy.authentication import OpenAuthenticator
from lmgateway.policy.keyless import KeylessAuthenticator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

KEYLESS = Principal("keyless", frozenset({Scope.INFERENCE}), isKeyless=True)


@implementer(IAuthenticator)
class Nobody:
    """Knows nobody."""

    realm = "nowhere"

    def authenticate(self, head: RequestHead) -> Principal:
        raise Unauthenticated("No.")


class KeylessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authenticator = KeylessAuthenticator(AddressPolicy(("10.0.0.0/8", "fd00::/8")), KEYLESS, Nobody())

    def ask(self, peer: str, *fields: tuple[bytes, bytes]) -> Principal:
        """Authenticate a request."""
        return self.authenticator.authenticate(RequestHead.build(b"GET", b"/", fields, peer=peer))

    def test_interface(self) -> None:
        """It is an authenticator, of the inner one's realm."""
        verifyObject(IAuthenticator, self.authenticator)
        self.assertEqual(self.authenticator.realm, "nowhere")

    def test_address(self) -> None:
        """Who comes from there without a credential is let in, in every spelling of an address; nobody else is."""
        for peer in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0"):
            self.assertIs(self.ask(peer), KEYLESS)
        for peer in ("11.0.0.1", "127.0.0.1", "fe80::1", "x"):
            self.assertRaises(Unauthenticated, self.ask, peer)

    def test_credential(self) -> None:
        """A credential that is sent decides, even an empty one: a wrong key is not forgiven for where it comes from."""
        for field in (b"Authorization", b"X-API-Key"):
            for value in (b"Bearer x", b""):
                self.assertRaises(Unauthenticated, self.ask, "10.0.0.1", (field, value))

    def test_forwarded(self) -> None:
        """What a client says about where it comes from is nothing."""
        self.assertRaises(Unauthenticated, self.ask, "11.0.0.1", (b"X-Forwarded-For", b"10.0.0.1"))

    def test_inner(self) -> None:
        """Others are whoever the inner one says."""
        other = Principal("other", frozenset())
        authenticator = KeylessAuthenticator(AddressPolicy(("10.0.0.1",)), KEYLESS, OpenAuthenticator(other))
        self.assertIs(authenticator.authenticate(RequestHead.build(b"GET", b"/", (), peer="1.1.1.1")), other)
