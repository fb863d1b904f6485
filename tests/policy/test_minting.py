"""Bodies about keys, and that nobody makes a key which may do more than their own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest, Forbidden
from lmgateway.message import UNLIMITED, Grant, Principal, Scope
from lmgateway.policy.addresses import AddressPolicy
from lmgateway.policy.checks import ValidationFailed
from lmgateway.policy.minting import (
    GRACE_SECONDS,
    Mint,
    decodeEdit,
    decodeMint,
    decodeRotation,
    fieldsOf,
    grantOf,
    requireWithin,
    within,
)
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

NOW = 1_800_000_000.0
INFERENCE = frozenset({Scope.INFERENCE})
MODELS = ("m", "qwen/a", "qwen/b", "qwen/ab", "gemma", "g", "qwen/[a]")
MOMENTS = (NOW - 1, NOW, NOW + 5, NOW + 20)
PEERS = ("10.0.0.1", "10.1.2.3", "192.0.2.1", "::1", "fd00::1", "::ffff:10.0.0.1")

GLOBS = st.sampled_from(("*", "qwen/*", "qwen/a*", "qwen/?", "qwen/[ab]", "qwen/a", "g*", "gemma", "m", "*b", "q*/a*"))
NETWORKS = st.sampled_from(("10.0.0.0/8", "10.1.0.0/16", "10.0.0.1", "192.0.2.0/24", "::/0", "0.0.0.0/0", "fd00::/8"))
COUNTS = st.none() | st.integers(1, 5)
GRANTS = st.builds(
    Grant,
    expires=st.none() | st.floats(NOW, NOW + 10),
    models=st.lists(GLOBS, max_size=3).map(tuple),
    addresses=st.lists(NETWORKS, max_size=3).map(tuple),
    requestsPerMinute=COUNTS,
    tokensPerDay=COUNTS,
    parallel=COUNTS,
    defaultInference=st.sampled_from(({}, {"topP": 0.5})),
    capture=st.sampled_from((None, True, False)),
)
SCOPES = st.frozensets(st.sampled_from(Scope))
MINTERS = st.builds(Principal, name=st.just("minter"), scopes=SCOPES, grant=GRANTS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ("name", "scopes", "expires", "expiresInSeconds", "models", "addresses", "parallel", "defaultInference", "capture")
)


def mintOf(**members: Any) -> Mint:
    """Read a body that makes a key."""
    return decodeMint(json.dumps({"name": "alice", **members}).encode(), NOW)


def rightsOf(scopes: Iterable[Scope], grant: Grant) -> set[tuple[str, object]]:
    """All that a key may do, of what this module knows: what to ask, when, from where and how often."""
    counted = ("requestsPerMinute", "tokensPerDay", "parallel")
    addresses = AddressPolicy(grant.addresses or ("*",))
    held: set[tuple[str, object]] = {
        (scope.value, "") for scope in Scope if Principal("", frozenset(scopes)).holds(scope)
    }
    held |= {("moment", moment) for moment in MOMENTS if grant.expires is None or moment < grant.expires}
    held |= {("model", each) for each in MODELS if any(fnmatchcase(each, glob) for glob in grant.models or ("*",))}
    held |= {("peer", peer) for peer in PEERS if addresses.permits(peer)}
    return held | {(name, count) for name in counted for count in range(8) if count <= (getattr(grant, name) or 8)}


class MintTests(SynchronousTestCase):
    def faults(self, **members: Any) -> list[list[str]]:
        """The paths of what is wrong with a body."""
        error = self.assertRaises(ValidationFailed, mintOf, **members)
        return [detail["path"] for detail in error.details or ()]  # type: ignore[attr-defined]

    def test_usual(self) -> None:
        """A name is enough, and null is as good as nothing."""
        expected = Mint("alice", INFERENCE, UNLIMITED)
        self.assertEqual(mintOf(), expected)
        nothing = dict.fromkeys(("expires", "expiresInSeconds", "models", "addresses", "parallel", "capture"))
        self.assertEqual(mintOf(**nothing, defaultInference=None), expected)

    def test_all(self) -> None:
        """Everything that is said counts; addresses are told as they are understood."""
        mint = mintOf(
            scopes=["admin", "monitor"],
            expires="2027-01-15T09:00:01+01:00",
            models=["a", "b*"],
            addresses=["::ffff:10.0.0.0/104", "::1"],
            requestsPerMinute=1,
            tokensPerDay=2**53 - 1,
            parallel=3,
            defaultInference={"topP": 1},
            capture=True,
        )
        self.assertEqual(mint.scopes, {Scope.ADMIN, Scope.MONITOR})
        self.assertEqual(
            mint.grant,
            Grant(NOW + 1, ("a", "b*"), ("10.0.0.0/8", "::1/128"), 1, 2**53 - 1, 3, {"topP": 1}, capture=True),
        )
        self.assertEqual(mintOf(expiresInSeconds=0.5).grant.expires, NOW + 0.5)

    def test_names(self) -> None:
        """A name can be shown anywhere, and is nobody else's."""
        for name in (
            "",
            " x",
            "x ",
            "a\nb",
            "a\x1b[2J",
            "\u202ex",
            "x" * 65,
            7,
            None,
            "GATEWAY_API_KEY",
            "local",
            "keyless",
        ):
            self.assertEqual(self.faults(name=name), [["name"]], name)
        for name in ("a", "Jürgen's laptop", "x" * 64, "first"):
            self.assertEqual(mintOf(name=name).name, name)

    def test_wrong(self) -> None:
        """Each fault is told with its path."""
        for name, value, path in (
            ("scopes", [], ["scopes"]),
            ("scopes", "admin", ["scopes"]),
            ("scopes", None, ["scopes"]),
            ("scopes", ["admin", "root"], ["scopes", "1"]),
            ("scopes", [["admin"]], ["scopes", "0"]),
            ("expires", "2027-01-15T09:00:01", ["expires"]),
            ("expires", "tomorrow", ["expires"]),
            ("expires", NOW + 5, ["expires"]),
            ("expires", "2027-01-15T08:00:00Z", ["expires"]),
            ("expires", "9999-01-15T08:00:00Z", ["expires"]),
            ("expires", "0001-01-01T00:00:00+23:59", ["expires"]),
            ("expiresInSeconds", 0, ["expiresInSeconds"]),
            ("expiresInSeconds", 1e300, ["expiresInSeconds"]),
            ("models", "qwen", ["models"]),
            ("models", ["m"] * 101, ["models"]),
            ("models", ["m", " "], ["models", "1"]),
            ("models", ["m" * 201], ["models", "0"]),
            ("addresses", ["*"], ["addresses", "0"]),
            ("addresses", ["10.0.0.1/8"], ["addresses", "0"]),
            ("addresses", [7], ["addresses", "0"]),
            ("requestsPerMinute", 0, ["requestsPerMinute"]),
            ("tokensPerDay", 2**53, ["tokensPerDay"]),
            ("parallel", 1.0, ["parallel"]),
            ("parallel", True, ["parallel"]),
            ("defaultInference", {"topP": 2}, ["defaultInference", "topP"]),
            ("capture", 1, ["capture"]),
            ("id", "key_1", ["id"]),
            ("digest", "x", ["digest"]),
        ):
            self.assertEqual(self.faults(**{name: value}), [path], (name, value))

    def test_bothEnds(self) -> None:
        """An end that is said in two ways is refused: nobody can say which one counts."""
        said = {"expires": "2027-01-16T08:00:00Z", "expiresInSeconds": 5}
        self.assertEqual(self.faults(**said), [["expiresInSeconds"]])

    def test_noName(self) -> None:
        """A name must be said."""
        self.assertRaises(ValidationFailed, decodeMint, b"{}", NOW)

    @given(st.dictionaries(NAMES, JSON, max_size=4) | JSON)
    def test_anyBody(self, body: Any) -> None:
        """Whatever JSON is sent, it is a key that can be kept, or refused as a client's mistake."""
        data = json.dumps(body).encode()
        for decode in (decodeMint, decodeEdit):
            try:
                order = decode(data, NOW)
            except BadRequest:
                continue
            grant = order.grant if isinstance(order, Mint) else order.grantAfter(UNLIMITED)
            self.assertEqual(grantOf(json.loads(json.dumps(fieldsOf(grant)))), grant)
            AddressPolicy(grant.addresses)


class EditTests(SynchronousTestCase):
    def edited(self, **members: Any) -> Grant:
        """Change a key that has all limits."""
        before = Grant(NOW + 9, ("m",), ("10.0.0.0/8",), 1, 2, 3, {"topP": 1}, capture=True)
        return decodeEdit(json.dumps(members).encode(), NOW).grantAfter(before)

    def test_stays(self) -> None:
        """What is left out stays."""
        self.assertEqual(self.edited(parallel=7), replace(self.edited(), parallel=7))
        self.assertIsNone(decodeEdit(b"{}", NOW).scopes)
        self.assertEqual(decodeEdit(b'{"scopes":["monitor"]}', NOW).scopes, {Scope.MONITOR})

    def test_taken(self) -> None:
        """Null, or an empty list, takes a limit away."""
        names = ("expires", "models", "addresses", "requestsPerMinute", "tokensPerDay", "parallel", "capture")
        self.assertEqual(self.edited(**dict.fromkeys(names), defaultInference=None), UNLIMITED)
        self.assertEqual(self.edited(models=[], addresses=[]), replace(self.edited(), models=(), addresses=()))

    def test_end(self) -> None:
        """An end that is counted from now replaces one that was a moment."""
        self.assertEqual(self.edited(expiresInSeconds=100).expires, NOW + 100)

    def test_name(self) -> None:
        """The name is no part of it: usage goes by it."""
        self.assertRaises(ValidationFailed, self.edited, name="bob")


class RotationTests(SynchronousTestCase):
    def test_grace(self) -> None:
        """The grace is a day unless something else is said; none at all is something."""
        for body, grace in ((b"", GRACE_SECONDS), (b"{}", GRACE_SECONDS), (b'{"graceSeconds":null}', GRACE_SECONDS)):
            self.assertEqual(decodeRotation(body), grace)
        self.assertEqual(decodeRotation(b'{"graceSeconds":0}'), 0)
        for body in (b'{"graceSeconds":-1}', b'{"graceSeconds":"1"}', b'{"grace":1}', b"[]", b"{"):
            self.assertRaises(BadRequest, decodeRotation, body)


class KeptTests(SynchronousTestCase):
    @given(GRANTS)
    def test_roundTrip(self, grant: Grant) -> None:
        """What a key is held to is kept whole, but for the spelling of addresses."""
        kept = grantOf(json.loads(json.dumps(fieldsOf(grant))))
        self.assertEqual(replace(kept, addresses=()), replace(grant, addresses=()))
        for peer in PEERS:
            self.assertEqual(AddressPolicy(kept.addresses).permits(peer), AddressPolicy(grant.addresses).permits(peer))

    def test_unknown(self) -> None:
        """What nobody can understand is not taken for nothing."""
        for fields in (
            [],
            None,
            {"rights": 1},
            {"parallel": 0},
            {"expires": "soon"},
            {"models": "x"},
            {"addresses": ["x"]},
        ):
            self.assertRaises(ValidationFailed, grantOf, fields)


class WithinTests(SynchronousTestCase):
    @given(MINTERS, SCOPES, GRANTS)
    def test_neverMore(self, minter: Principal, scopes: frozenset[Scope], grant: Grant) -> None:
        """Each right of a key that was made is held by whoever made it, and each limit that was asked for is there."""
        try:
            made = within(minter, scopes, grant)
        except Forbidden:
            return
        self.assertLessEqual(rightsOf(scopes, made), rightsOf(minter.scopes, minter.grant))
        self.assertLessEqual(rightsOf(scopes, made), rightsOf(scopes, grant))

    @given(SCOPES, GRANTS)
    def test_unlimited(self, scopes: frozenset[Scope], grant: Grant) -> None:
        """Whoever is an administrator without limits makes any key, just as it was asked for."""
        self.assertEqual(within(Principal("root", frozenset({Scope.ADMIN})), scopes, grant), grant)

    @given(MINTERS)
    def test_own(self, minter: Principal) -> None:
        """Everybody may make a key like their own, and change or rotate it."""
        self.assertEqual(within(minter, minter.scopes, minter.grant), minter.grant)
        requireWithin(minter, minter.scopes, minter.grant)

    @given(MINTERS, SCOPES, GRANTS)
    def test_stronger(self, minter: Principal, scopes: frozenset[Scope], grant: Grant) -> None:
        """A key that may do more than whoever asks is neither changed nor rotated, where a key like it could not be made."""
        try:
            requireWithin(minter, scopes, grant)
        except Forbidden:
            return
        self.assertEqual(within(minter, scopes, grant), grant)

    def test_narrower(self) -> None:
        """Where it is plain that something is narrower it is allowed; where it is not, it is refused."""
        boss = Principal(
            "boss", frozenset({Scope.ADMIN}), "key_1", Grant(models=("qwen/*", "g?"), addresses=("10.0.0.0/8",))
        )
        for models in (("qwen/a",), ("qwen/a*", "gx"), ("qwen/?",), ("qwen/*",), ("g?",)):
            self.assertEqual(within(boss, INFERENCE, Grant(models=models)).models, models)
        for models in (("*",), ("qwen*",), ("q*",), ("gxy",), ("g[ab]",), ("qwen/a", "m")):
            self.assertRaises(Forbidden, within, boss, INFERENCE, Grant(models=models))
        odd = replace(boss, grant=Grant(models=("[a*",)))
        self.assertRaises(Forbidden, within, odd, INFERENCE, Grant(models=("[a]b",)))
        self.assertEqual(within(boss, INFERENCE, Grant(addresses=("10.1.0.0/16",))).addresses, ("10.1.0.0/16",))
        for address in ("0.0.0.0/0", "11.0.0.0/8", "::1"):
            self.assertRaises(Forbidden, within, boss, INFERENCE, Grant(addresses=(address,)))

    def test_told(self) -> None:
        """The refusal names what cannot be given, and its code."""
        clerk = Principal("clerk", frozenset({Scope.MONITOR}), "key_1", Grant(parallel=2))
        error = self.assertRaises(Forbidden, within, clerk, frozenset({Scope.ADMIN, Scope.MONITOR}), UNLIMITED)
        self.assertIn("the scope admin", str(error))
        error = self.assertRaises(Forbidden, within, clerk, frozenset({Scope.MONITOR}), Grant(parallel=3))
        self.assertIn("parallel", str(error))
        self.assertEqual(error.code, "exceeds_own_key")  # type: ignore[attr-defined]
