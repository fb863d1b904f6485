"""Which requests are administrative acts, what they are called, and what may be asked about them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.message import Scope
from lmgateway.policy.acts import (
    LARGEST_VALUE,
    MOST_LINES,
    READING,
    AuditQuery,
    actionOf,
    isAct,
    isAdministrative,
    parseAuditQuery,
    tellable,
)
from lmgateway.policy.checks import ValidationFailed
from lmgateway.policy.routes import ROUTES, RouteTable
from twisted.trial.unittest import SynchronousTestCase

SECRET = "lmg_secret"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.just(f"a {SECRET} b"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just(SECRET), inner, max_size=4),
    max_leaves=20,
)


def mask(text: str) -> str:
    """Mask the one secret."""
    return text.replace(SECRET, "…")


class ActTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Each route that needs an admin to change something is an act, and no other is: none can be forgotten."""
        for route in ROUTES:
            for method in route.methods or (b"GET", b"POST", b"DELETE", b"PUT"):
                needsAdmin = route.scopeFor(method) is Scope.ADMIN
                self.assertEqual(isAdministrative(method, route), needsAdmin)
                self.assertEqual(isAct(method, route), needsAdmin and method not in READING, (method, route.name))

    def test_names(self) -> None:
        """Each act has a short name that says what was done to what."""
        table = RouteTable()
        for method, path, name in (
            (b"POST", b"/admin/keys", "keys.add"),
            (b"GET", b"/admin/keys", "keys.read"),
            (b"PATCH", b"/admin/keys/key_1", "keys.change"),
            (b"DELETE", b"/admin/keys/key_1", "keys.revoke"),
            (b"POST", b"/admin/keys/key_1/rotate", "keys.rotate"),
            (b"POST", b"/admin/models/load", "models.load"),
            (b"POST", b"/admin/models/load/cancel", "models.load.cancel"),
            (b"DELETE", b"/debug/requests/req_1", "requests.cancel"),
            (b"POST", b"/api/v1/models/download", "api.v1.models.download"),
            (b"POST", b"/API/v1/models/LOAD/", "api.v1.models.load"),
        ):
            self.assertEqual(actionOf(method, table.resolve(method, path)), name)


class QueryTests(SynchronousTestCase):
    def test_read(self) -> None:
        """What is asked is read; what is not has its usual value."""
        self.assertEqual(parseAuditQuery(b""), AuditQuery())
        self.assertEqual(parseAuditQuery(b"limit=5&action=keys&key=a+b"), AuditQuery(5, "keys", "a b"))

    def test_faults(self) -> None:
        """A question that is misspelled is refused, with each fault."""
        for query, names in (
            (b"limit=0", ["limit"]),
            (b"limit=%d" % (MOST_LINES + 1), ["limit"]),
            (b"limit=" + b"9" * 5000, ["limit"]),
            (b"limit=x&colour=1", ["colour", "limit"]),
            (b"key=a&key=b", ["key"]),
        ):
            error = self.assertRaises(ValidationFailed, parseAuditQuery, query)
            self.assertEqual([fault["path"] for fault in error.details or ()], [[name] for name in names])

    @given(st.binary(max_size=60))
    def test_anything(self, query: bytes) -> None:
        """Whatever is asked, it is a question within the limits or refused."""
        try:
            limit = parseAuditQuery(query).limit
        except ValidationFailed:
            return
        self.assertTrue(1 <= limit <= MOST_LINES)

    def test_matches(self) -> None:
        """An action is found by its whole name or by its beginning up to a dot, a key by its name."""
        line = {"action": "keys.add", "key": "alice"}
        for query, isWanted in (
            (AuditQuery(), True),
            (AuditQuery(action="keys"), True),
            (AuditQuery(action="keys.add", key="alice"), True),
            (AuditQuery(action="key"), False),
            (AuditQuery(action="keys.ad"), False),
            (AuditQuery(key="bob"), False),
        ):
            self.assertEqual(query.matches(line), isWanted, query)
        self.assertFalse(AuditQuery(key="alice").matches({"action": "start"}))


class TellableTests(SynchronousTestCase):
    @given(VALUES)
    def test_noSecret(self, value: Any) -> None:
        """Whatever a client sends, what is told of it is JSON of a bounded size without the secret in it."""
        told = tellable(value, mask)
        text = msgspec.json.encode(told)
        self.assertNotIn(SECRET.encode(), text)
        self.assertLessEqual(len(text), LARGEST_VALUE)

    def test_plain(self) -> None:
        """What is small and holds no secret is told as it is; what is large by its size."""
        value = {"models": ["qwen/*"], "parallel": 2, "expires": None}
        self.assertEqual(tellable(value, mask), value)
        large = {str(number): "x" * 100 for number in range(100)}
        self.assertEqual(tellable(large, mask), {"omittedBytes": len(json.dumps(large, separators=(",", ":")))})

    def test_deep(self) -> None:
        """What nests deeper than any order does is told down to there: no body may keep its line from being written."""
        deep: Any = "end"
        for _ in range(900):
            deep = [{"a": deep}]
        told = json.dumps(tellable(deep, str), ensure_ascii=False)
        self.assertEqual(told.strip('[{"a: }]'), "…")
        self.assertEqual(tellable([[[["end"]]]], str), [[[["end"]]]])

    def test_surrogate(self) -> None:
        """A lone surrogate, which JavaScript clients send, can be told."""
        self.assertEqual(tellable("\ud83d", mask), "?")
