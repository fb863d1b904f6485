"""Keys: found, not found, and everything that is no key."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, Unauthenticated
from lmgateway.interfaces import IAuthenticator, IAuthorizer
from lmgateway.message import Grant, HeaderPairs, Principal, RequestHead, Scope
from lmgateway.policy.authentication import (
    ApiKeyAuthenticator,
    KeyForm,
    OpenAuthenticator,
    ScopeAuthorizer,
    checkKeyForm,
    digestOf,
    generateKey,
)
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import HEADER_PAIRS

ALICE = Principal("alice", frozenset({Scope.INFERENCE}), "key_1")
BOB = Principal("bob", frozenset({Scope.ADMIN}), "key_2")
ALICES = b"lmg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
BOBS = b"lmg_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

KNOWN = "lmg_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abcde6FeVVA"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def headOf(*headers: tuple[bytes, bytes]) -> RequestHead:
    """A request with these fields."""
    return RequestHead.build(b"GET", b"/v1/models", headers)


def keyRing() -> ApiKeyAuthenticator:
    """An authenticator that knows Alice and Bob."""
    return ApiKeyAuthenticator({digestOf(ALICES): ALICE, digestOf(BOBS): BOB}, lambda: 0.0)


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
        empty = ApiKeyAuthenticator({}, lambda: 0.0)
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


class GrantTests(SynchronousTestCase):
    """What a key is held to where it is shown."""

    def authenticate(self, grant: Grant, moment: float = 0.0, peer: str = "127.0.0.1") -> Principal:
        """Show a key that has this grant."""
        ring = ApiKeyAuthenticator({digestOf(ALICES): replace(ALICE, grant=grant)}, lambda: moment)
        return ring.authenticate(RequestHead.build(b"GET", b"/", ((b"X-API-Key", ALICES),), peer=peer))

    def test_expires(self) -> None:
        """A key is good up to the very moment from which it is not, and is then told apart from one that never was."""
        grant = Grant(expires=100.0)
        self.assertEqual(self.authenticate(grant, 99.9).name, "alice")
        for moment in (100.0, 1e9):
            error = self.assertRaises(Unauthenticated, self.authenticate, grant, moment)
            self.assertEqual(error.code, "expired_api_key")  # type: ignore[attr-defined]
            self.assertIn("expired", str(error))

    def test_addresses(self) -> None:
        """A key is good from its addresses and from no other, an address in IPv6's clothes included."""
        grant = Grant(addresses=("10.1.0.0/16", "fd00::/8", "192.0.2.7"))
        for peer in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "192.0.2.7"):
            self.assertEqual(self.authenticate(grant, peer=peer).name, "alice")
        for peer in ("10.2.0.1", "::1", "192.0.2.8", "nonsense"):
            error = self.assertRaises(Forbidden, self.authenticate, grant, peer=peer)
            self.assertEqual(error.code, "address_not_allowed_for_key")  # type: ignore[attr-defined]


class KeyTests(SynchronousTestCase):
    def test_generated(self) -> None:
        """A generated key is lmg_, 43 characters and a checksum of 6, never the same one, and usable at once."""
        keys = {generateKey() for _ in range(50)}
        self.assertEqual(len(keys), 50)
        for key in keys:
            self.assertTrue(re.fullmatch(r"lmg_[A-Za-z0-9_-]{49}", key))
            self.assertEqual(checkKeyForm(key), KeyForm.WHOLE)
        key = keys.pop()
        ring = ApiKeyAuthenticator({digestOf(key): ALICE}, lambda: 0.0)
        self.assertEqual(ring.authenticate(headOf((b"X-API-Key", key.encode()))), ALICE)

    def test_forms(self) -> None:
        """The key of an earlier version is no mistake, nor is any text that somebody chose; a part of a key is one."""
        self.assertEqual(checkKeyForm(ALICES), KeyForm.UNCHECKED)
        for text in ("", "secret", "LMG_x", "lmg-x", "sk-lmg_x", "\ud83d"):
            self.assertEqual(checkKeyForm(text), KeyForm.FOREIGN, text)
        for text in (
            KNOWN[:-1],
            f"{KNOWN}A",
            "lmg_",
            f"{KNOWN[:20]}…",
            f"{KNOWN[:20]} {KNOWN[21:]}",
            f"{KNOWN[:52]}\n",
        ):
            self.assertEqual(checkKeyForm(text), KeyForm.MISTYPED, text)

    def test_forGood(self) -> None:
        """The checksum is the CRC-32 of what is before it: keys that were made once stay good."""
        self.assertEqual(checkKeyForm(KNOWN), KeyForm.WHOLE)

    @given(st.integers(4, 52), st.sampled_from(ALPHABET))
    def test_oneCharacter(self, position: int, character: str) -> None:
        """A key with any one character wrong is known for mistyped, without asking anybody."""
        typed = KNOWN[:position] + character + KNOWN[position + 1 :]
        self.assertEqual(checkKeyForm(typed), KeyForm.WHOLE if typed == KNOWN else KeyForm.MISTYPED)

    @given(st.integers(4, 51))
    def test_swapped(self, position: int) -> None:
        """A key with two neighbours in each other's place is known for mistyped."""
        typed = KNOWN[:position] + KNOWN[position + 1] + KNOWN[position] + KNOWN[position + 2 :]
        self.assertEqual(checkKeyForm(typed), KeyForm.WHOLE if typed == KNOWN else KeyForm.MISTYPED)

    @given(st.binary(max_size=80))
    def test_anyBytes(self, data: bytes) -> None:
        """Whatever is looked at, something is told, and none of it is whole by accident."""
        for key in (data, b"lmg_" + data, data.decode("latin-1")):
            self.assertIsNot(checkKeyForm(key), KeyForm.WHOLE)

    def test_told(self) -> None:
        """Whoever sends a mistyped key is told so; whoever sends one that could be right is told what all are told."""
        for key, said in ((KNOWN[:-1], "mistyped"), (KNOWN, "not one of"), ("x", "not one of"), ("lmg_x", "mistyped")):
            error = self.assertRaises(Unauthenticated, keyRing().authenticate, headOf((b"X-API-Key", key.encode())))
            self.assertIn(said, str(error))
            self.assertEqual(error.code, "invalid_api_key")  # type: ignore[attr-defined]
            self.assertNotIn(key, str(error).split())

    def test_anyText(self) -> None:
        """A key that somebody chose is good though it look like a mistyped one."""
        ring = ApiKeyAuthenticator({digestOf("lmg_mine"): ALICE}, lambda: 0.0)
        self.assertEqual(ring.authenticate(headOf((b"X-API-Key", b"lmg_mine"))), ALICE)

    def test_digest(self) -> None:
        """The digest is SHA-256 of the key's bytes, text counting as UTF-8."""
        self.assertEqual(digestOf(b"abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        self.assertEqual(digestOf("schlüssel"), digestOf("schlüssel".encode()))
