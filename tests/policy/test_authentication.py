"""Keys: found, not found, and everything that is no key."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, Unauthenticated
from lmgateway.interfaces import IAuthenticator, IAuthorizer
from lmgateway.message import HeaderPairs, Principal, RequestHead, Scope
from lmgateway.policy.authentication import (
    ApiKeyAuthenticator,
    OpenAuthenticator,
    ScopeAuthorizer,
    digestOf,
    generateKey,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import HEADER_PAIRS

ALICE = Principal("alice", frozenset({Scope.INFERENCE}), "key_1")
BOB = Principal("bob", frozenset({Scope.ADMIN}), "key_2")
ALICES = b"lmg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
BOBS = b"lmg_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"


def headOf(*headers: tuple[bytes, bytes]) -> RequestHead:
    """A request with these fields."""
    return RequestHead.build(b"GET", b"/v1/models", headers)


def keyRing() -> ApiKeyAuthenticator:
    """An authenticator that knows Alice and Bob."""
    return ApiKeyAuthenticator({digestOf(ALICES): ALICE, digestOf(BOBS): BOB})


class ApiKeyAuthenticatorTests(SynchronousTestCase):
    def refusal(self, *headers: tuple[bytes, bytes]) -> Unauthenticated:
        """Why a request with these fields is refused."""
        error = self.assertRaises(Unauthenticated, keyRing().authenticate, headOf(*headers))
        assert isinstance(error, Unauthenticated)
        return error

    def test_interface(self) -> None:
        """Both authenticators are what the gate asks for."""
        verifyObject(IAuthenticator, keyRing())
        verifyObject(IAuthenticator, OpenAuthenticator(ALICE))

    def test_known(self) -> None:
        """A key is taken from either field, and its principal returned, whatever the case of the scheme."""
        ring = keyRing()
        for header in (
            (b"X-API-Key", ALICES),
            (b"x-api-key", b" " + ALICES + b"\t"),
            (b"Authorization", b"Bearer " + ALICES),
            (b"Authorization", b" \tBearer " + ALICES),
            (b"AUTHORIZATION", b"bEARER   " + ALICES + b" "),
        ):
            self.assertEqual(ring.authenticate(headOf(header)), ALICE, header)

    def test_apiKeyDecides(self) -> None:
        """Where X-API-Key is present it decides, though it be wrong or empty and the other right."""
        ring = keyRing()
        right = (b"Authorization", b"Bearer " + ALICES)
        self.assertEqual(ring.authenticate(headOf(right, (b"X-API-Key", BOBS))), BOB)
        self.assertIn("not one of this gateway's", self.refusal(right, (b"X-API-Key", b"wrong")).message)
        self.assertIn("empty", self.refusal(right, (b"X-API-Key", b" ")).message)

    def test_none(self) -> None:
        """Whoever sends no key is told how to send one, with the challenge that a 401 must have."""
        error = self.refusal()
        self.assertIn('"Authorization: Bearer KEY"', error.message)
        self.assertIn('"X-API-Key: KEY"', error.message)
        self.assertEqual(error.code, "missing_api_key")
        self.assertIn((b"WWW-Authenticate", b'Bearer realm="lmgateway"'), error.headers)

    def test_several(self) -> None:
        """Two credentials of one kind are refused, even where they agree: nobody can say which one counts."""
        for header in ((b"X-API-Key", ALICES), (b"Authorization", b"Bearer " + ALICES)):
            self.assertIn("several", self.refusal(header, header).message)
        self.assertIn(
            "several", self.refusal((b"Authorization", b"a"), (b"authorization", b"b"), (b"X-API-Key", ALICES)).message
        )

    def test_malformed(self) -> None:
        """Another scheme, and a scheme without a key, are told apart from a wrong key."""
        self.assertIn("no bearer key", self.refusal((b"Authorization", b"Basic " + ALICES)).message)
        self.assertIn("no bearer key", self.refusal((b"Authorization", ALICES)).message)
        self.assertIn("no bearer key", self.refusal((b"Authorization", b"")).message)
        self.assertIn("empty", self.refusal((b"Authorization", b"Bearer")).message)
        self.assertIn("empty", self.refusal((b"Authorization", b"Bearer  \t")).message)

    def test_sameWords(self) -> None:
        """An unknown key and one that is nearly right get the same answer, and neither sees itself in it."""
        unknown = self.refusal((b"X-API-Key", b"nonsense"))
        near = self.refusal((b"X-API-Key", ALICES[:-1] + b"B"))
        self.assertEqual((unknown.message, unknown.code), (near.message, near.code))
        self.assertNotIn("AAAA", near.message)

    def test_digestIsNoKey(self) -> None:
        """Whoever reads the digests from the disk cannot get in with them."""
        digest = digestOf(ALICES)
        for stolen in (digest, digest.hex().encode()):
            self.refusal((b"X-API-Key", stolen))

    def test_noKeys(self) -> None:
        """An authenticator without keys lets nobody in."""
        empty = ApiKeyAuthenticator({})
        for head in (headOf(), headOf((b"X-API-Key", b"")), headOf((b"X-API-Key", b"x"))):
            self.assertRaises(Unauthenticated, empty.authenticate, head)

    @given(st.integers(0, len(ALICES) - 1), st.integers(1, 255))
    def test_oneByte(self, position: int, difference: int) -> None:
        """Any key that differs from a right one in one byte is refused."""
        wrong = bytearray(ALICES)
        wrong[position] ^= difference
        for header in ((b"X-API-Key", bytes(wrong)), (b"Authorization", b"Bearer " + bytes(wrong))):
            self.refusal(header)

    @given(st.one_of(st.binary(max_size=60), st.integers(0, len(ALICES) - 1).map(lambda length: ALICES[:length])))
    def test_anyKey(self, key: bytes) -> None:
        """Arbitrary bytes, and any beginning of a right key, are refused in the one way."""
        for header in ((b"X-API-Key", key), (b"Authorization", b"Bearer " + key), (b"Authorization", key)):
            self.refusal(header)

    @given(HEADER_PAIRS)
    def test_anyHead(self, headers: HeaderPairs) -> None:
        """No head, however odd, brings anything but a refusal out of an authenticator whose keys it does not hold."""
        self.refusal(*headers)


class OpenAuthenticatorTests(SynchronousTestCase):
    def test_everybody(self) -> None:
        """Everybody is the one principal, with any key or none."""
        everybody = OpenAuthenticator(BOB)
        self.assertEqual(everybody.authenticate(headOf()), BOB)
        self.assertEqual(everybody.authenticate(headOf((b"X-API-Key", b"x"), (b"X-API-Key", b"y"))), BOB)


class ScopeAuthorizerTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The authorizer is what the gate asks for."""
        verifyObject(IAuthorizer, ScopeAuthorizer())

    def test_everyPair(self) -> None:
        """A scope allows itself and nothing else, but for admin, which allows everything."""
        for held in Scope:
            for needed in Scope:
                principal = Principal("p", frozenset({held}))
                if held in {needed, Scope.ADMIN}:
                    ScopeAuthorizer().permit(principal, needed)
                else:
                    self.assertRaises(Forbidden, ScopeAuthorizer().permit, principal, needed)

    def test_message(self) -> None:
        """The refusal names what is needed and what the key has."""
        principal = Principal("p", frozenset({Scope.MONITOR, Scope.INFERENCE}))
        error = self.assertRaises(Forbidden, ScopeAuthorizer().permit, principal, Scope.ADMIN)
        self.assertIn('"admin"', error.message)
        self.assertIn("inference, monitor", error.message)
        nothing = self.assertRaises(Forbidden, ScopeAuthorizer().permit, Principal("p", frozenset()), Scope.MONITOR)
        self.assertIn("none", nothing.message)


class KeyTests(SynchronousTestCase):
    def test_generated(self) -> None:
        """A generated key is lmg_ and 43 characters, never the same one, and usable at once."""
        keys = {generateKey() for _ in range(50)}
        self.assertEqual(len(keys), 50)
        for key in keys:
            self.assertTrue(re.fullmatch(r"lmg_[A-Za-z0-9_-]{43}", key))
        key = keys.pop()
        self.assertEqual(
            ApiKeyAuthenticator({digestOf(key): ALICE}).authenticate(headOf((b"X-API-Key", key.encode()))), ALICE
        )

    def test_digest(self) -> None:
        """The digest is SHA-256 of the key's bytes, text counting as UTF-8."""
        self.assertEqual(digestOf(b"abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        self.assertEqual(digestOf("schlüssel"), digestOf("schlüssel".encode()))
