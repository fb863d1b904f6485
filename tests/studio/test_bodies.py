"""Reading JSON of whatever server there is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.bodies import decodeObject, isGreeting, readNames
from twisted.trial.unittest import SynchronousTestCase

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_KEYS = st.sampled_from(("data", "id", "lmstudio")) | st.text(max_size=4)
_JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=12
)


class BodyTests(SynchronousTestCase):
    @given(st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode()))
    def test_anything(self, body: bytes) -> None:
        """Whatever comes is read without an error, and names are strings that are not empty, each once."""
        names = readNames(body)
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(isinstance(name, str) and name for name in names))
        self.assertIn(isGreeting(body), (True, False))

    def test_deep(self) -> None:
        """What is nested deeper than anybody can read is no object."""
        self.assertIsNone(decodeObject(b'{"a":' * 100_000))

    def test_names(self) -> None:
        """The names of an OpenAI-like list, each once."""
        self.assertEqual(readNames(b'{"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": 1}, 2]}'), ("a", "b"))

    def test_greeting(self) -> None:
        """LM Studio's greeting is that and nothing more."""
        self.assertTrue(isGreeting(b'{"lmstudio":true}'))
        for other in (b'{"lmstudio":1}', b'{"lmstudio":true,"x":1}', b"true", b"", b'{"error":"x"}'):
            self.assertFalse(isGreeting(other), other)
