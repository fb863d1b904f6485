"""Whom a client's certificate stands for, and when it counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, Unauthenticated
from lmgateway.interfaces import IAuthenticator
from lmgateway.message import Grant, HeaderPairs, Principal, RequestHead, Scope
from lmgateway.policy.authentication import ApiKeyAuthenticator, digestOf
from lmgateway.policy.client_certificates import CertificateAuthenticator, principalFor
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

NOW = 1_800_000_000.0
INFER = frozenset({Scope.INFERENCE})
ALICE = Principal("alice", INFER, "key_1")
BOB = Principal("bob", INFER, "key_2", Grant(expires=NOW, addresses=()))
CAROL = Principal("carol", INFER, "key_3", Grant(addresses=("10.0.0.0/8",)))
TWINS = (Principal("twin", INFER, "key_4"), Principal("twin", INFER, "key_5"))
UNSTORED = Principal("GATEWAY_API_KEY", frozenset(Scope))
EVERYBODY = (ALICE, BOB, CAROL, *TWINS, UNSTORED)


def headWith(*identities: str, headers: HeaderPairs = (), peer: str = "192.168.1.9") -> RequestHead:
    """A request over a connection whose client has a certificate of these names."""
    return replace(RequestHead.build(b"GET", b"/v1/models", headers, peer=peer, secure=True), identities=identities)


class CertificateTests(SynchronousTestCase):
    def setUp(self) -> None:
        keys = ApiKeyAuthenticator({digestOf("carols-key"): CAROL}, lambda: NOW)
        self.authenticator = CertificateAuthenticator(EVERYBODY, lambda: NOW, keys)

    def test_provides(self) -> None:
        """It is an authenticator, of the same realm as the one within."""
        verifyObject(IAuthenticator, self.authenticator)
        self.assertEqual(self.authenticator.realm, "lmgateway")

    def test_named(self) -> None:
        """Any of its names may be that of a key, whose rights it then has; and web pages cannot make use of it."""
        principal = self.authenticator.authenticate(headWith("alice@example.org", "alice"))
        self.assertEqual(principal, replace(ALICE, isKeyless=True))

    def test_keyDecides(self) -> None:
        """A credential that is sent decides, be it good or not."""
        head = headWith("alice", headers=((b"X-API-Key", b"carols-key"),), peer="10.0.0.1")
        self.assertEqual(self.authenticator.authenticate(head), CAROL)
        wrong = headWith("alice", headers=((b"Authorization", b"Bearer wrong"),))
        self.assertRaises(Unauthenticated, self.authenticator.authenticate, wrong)

    def test_noCertificate(self) -> None:
        """Without a certificate it is as if there were none anywhere."""
        error = self.assertRaises(Unauthenticated, self.authenticator.authenticate, headWith())
        self.assertEqual(error.code, "missing_api_key")

    def test_unknown(self) -> None:
        """A name of no key, of two keys, or of the key of the settings lets nobody in; neither do two people's names."""
        for identities in (("dave",), ("twin",), ("GATEWAY_API_KEY",), ("alice", "carol")):
            error = self.assertRaises(Unauthenticated, self.authenticator.authenticate, headWith(*identities))
            self.assertEqual(error.code, "unknown_certificate")

    def test_held(self) -> None:
        """The key's end and its addresses count for the certificate, too."""
        expired = self.assertRaises(Unauthenticated, self.authenticator.authenticate, headWith("bob"))
        self.assertEqual(expired.code, "expired_api_key")
        self.assertRaises(Forbidden, self.authenticator.authenticate, headWith("carol"))
        inside = self.authenticator.authenticate(headWith("carol", peer="10.0.0.1"))
        self.assertEqual(inside.keyId, "key_3")

    @given(st.permutations((None, NOW - 60, NOW + 60)))
    def test_rotated(self, ends: list[float | None]) -> None:
        """The key counts, and none of the secrets that it had: a certificate outlives their grace, in whatever order they come."""
        ofKey = [replace(ALICE, grant=Grant(expires=end)) for end in ends]
        authenticator = CertificateAuthenticator(ofKey, lambda: NOW, self.authenticator)
        self.assertEqual(authenticator.authenticate(headWith("alice")), replace(ALICE, isKeyless=True))

    @given(st.lists(st.sampled_from(["alice", "carol", "twin", "dave", ""])), st.randoms())
    def test_anyOrder(self, identities: list[str], random: object) -> None:
        """Whom a certificate stands for does not depend on the order of its names."""
        byName = {"alice": (ALICE,), "carol": (CAROL,), "twin": TWINS}
        shuffled = list(identities)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        self.assertEqual(principalFor(identities, byName), principalFor(shuffled, byName))
