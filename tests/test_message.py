"""The frozen values that a request is made of."""

from __future__ import annotations

from hypothesis import given
from lmgateway.message import ActiveModel, Grant, HeaderPairs, Principal, RequestHead, Scope, indexHeaders
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import HEADER_PAIRS


class RequestHeadTests(SynchronousTestCase):
    def test_build(self) -> None:
        """A head made of pairs finds each field by its name in lower case, the first value and all of them."""
        headers = ((b"X-A", b"1"), (b"Host", b"h"), (b"x-a", b"2"))
        head = RequestHead.build(b"GET", b"/v1/models", headers)
        self.assertEqual(head.headers, headers)
        self.assertEqual(head.fields[b"x-a"], (b"1", b"2"))
        self.assertEqual(head.first(b"x-a"), b"1")
        self.assertIsNone(head.first(b"x-b"))

    def test_path(self) -> None:
        """The path ends at the first question mark."""
        for target, path in ((b"/a", b"/a"), (b"/a?", b"/a"), (b"/a?b?c", b"/a"), (b"?", b"")):
            self.assertEqual(RequestHead.build(b"GET", target, ()).path, path)

    def test_frozen(self) -> None:
        """Nobody changes a head once it is judged."""
        head = RequestHead.build(b"GET", b"/", ())
        with self.assertRaises(AttributeError):
            head.target = b"/admin"  # type: ignore[misc]  # that it fails is the point

    @given(HEADER_PAIRS)
    def test_index(self, headers: HeaderPairs) -> None:
        """The index holds every value once, in order, under the one lower-case name."""
        fields = indexHeaders(headers)
        for lower, values in fields.items():
            self.assertEqual(values, tuple(value for name, value in headers if name.lower() == lower))
        self.assertEqual(sum(map(len, fields.values())), len(headers))


class PrincipalTests(SynchronousTestCase):
    def test_holds(self) -> None:
        """A principal holds the scopes it has, and all of them if one is admin."""
        monitor = Principal("m", frozenset({Scope.MONITOR}))
        self.assertTrue(monitor.holds(Scope.MONITOR))
        self.assertFalse(monitor.holds(Scope.INFERENCE))
        self.assertTrue(all(Principal("a", frozenset({Scope.ADMIN})).holds(scope) for scope in Scope))
        self.assertFalse(any(Principal("n", frozenset()).holds(scope) for scope in Scope))


class GrantTests(SynchronousTestCase):
    def test_outlasts(self) -> None:
        """What never ends outlasts what does, a later end an earlier one, and nothing itself."""
        grants = [Grant(expires=None), Grant(expires=2.0), Grant(expires=1.0)]
        found = [[one.outlasts(other) for other in grants] for one in grants]
        self.assertEqual(found, [[False, True, True], [False, False, True], [False, False, False]])


class ActiveModelTests(SynchronousTestCase):
    def test_modelName(self) -> None:
        """Requests are addressed to the instance where there is one, else to the key."""
        self.assertEqual(ActiveModel("qwen/qwen3-8b", "qwen3:2").modelName, "qwen3:2")
        self.assertEqual(ActiveModel("qwen/qwen3-8b").modelName, "qwen/qwen3-8b")

    def test_noDefaults(self) -> None:
        """A model without default parameters has none, and cannot be given any through another's."""
        model = ActiveModel("m")
        self.assertEqual(dict(model.defaultInference), {})
        with self.assertRaises(TypeError):
            model.defaultInference["topP"] = 1  # type: ignore[index]  # that it fails is the point
