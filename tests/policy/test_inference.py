"""What an admin may say of a model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest
from lmgateway.message import ActiveModel
from lmgateway.policy.checks import ValidationFailed, decodeObject, members
from lmgateway.policy.dialects import OPENAI, Defaults
from lmgateway.policy.inference import DEFAULT_INFERENCE, decodeActivation
from twisted.trial.unittest import SynchronousTestCase

from tests.policy.inferences import GOOD
from tests.strategies import jsonObjects, mutations


class DefaultInferenceTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The names are those of the contract's table, in its order."""
        self.assertEqual(list(DEFAULT_INFERENCE), list(GOOD))

    @given(
        st.dictionaries(
            st.sampled_from(tuple(GOOD)),
            st.one_of(st.booleans(), st.integers(), st.floats(), st.lists(st.text(st.characters(codec="utf-8")))),
        )
    )
    def test_injectable(self, value: dict[str, Any]) -> None:
        """Whatever passes can be injected: it survives JSON as the value that it is."""
        if not list(members(DEFAULT_INFERENCE)(value, ())):
            for one in OPENAI.injections(None, [Defaults("a", value)]):
                self.assertEqual(json.loads(one.value), value[one.name])


class DecodeActivationTests(SynchronousTestCase):
    def test_full(self) -> None:
        """All three members make an active model, whose defaults can be stored and shown as JSON."""
        body = (
            b'{"modelKey":"qwen/qwen3-8b","instanceId":"q1","defaultInference":{"topP":0.5,"stopStrings":["\\u00e9"]}}'
        )
        model = decodeActivation(body)
        self.assertEqual(model, ActiveModel("qwen/qwen3-8b", "q1", {"topP": 0.5, "stopStrings": ["é"]}))
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(model.defaultInference)), model.defaultInference)

    def test_least(self) -> None:
        """The key alone will do, and ``null`` for the rest is as good as nothing."""
        expected = ActiveModel("m", None, {})
        for body in (b'{"modelKey":"m"}', b'{"modelKey":"m","instanceId":null,"defaultInference":null}'):
            self.assertEqual(decodeActivation(body), expected)

    def test_faults(self) -> None:
        """What is missing, unknown or wrong is told all at once, each by its path."""
        for body, paths in (
            (b"{}", [["modelKey"]]),
            (b'{"modelKey":""}', [["modelKey"]]),
            (b'{"modelKey":" "}', [["modelKey"]]),
            (b'{"modelKey":null}', [["modelKey"]]),
            (b'{"modelKey":"m","instanceId":""}', [["instanceId"]]),
            (b'{"modelKey":"m","instanceId":7}', [["instanceId"]]),
            (b'{"modelKey":"m","defaultInference":[]}', [["defaultInference"]]),
            (b'{"modelKey":"m","ttl":1}', [["ttl"]]),
            (
                b'{"modelkey":"m","defaultInference":{"topP":2,"topK":-1}}',
                [["modelKey"], ["modelkey"], ["defaultInference", "topP"], ["defaultInference", "topK"]],
            ),
        ):
            error = self.assertRaises(ValidationFailed, decodeActivation, body)
            self.assertEqual([one["path"] for one in error.details or ()], paths)

    def test_notJson(self) -> None:
        """What is no JSON object is refused as such, numbers beyond all bounds, bad text and deep nesting included."""
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'"modelKey"',
            b'{"modelKey":"\xff"}',
            b'{"modelKey":"\\ud83d"}',
            b'{"modelKey":"m","defaultInference":{"topP":1e999}}',
            b'{"modelKey":"m","defaultInference":{"topK":' + b"9" * 10_000 + b"}}",
            b'{"modelKey":' + b"[" * 100_000,
        ):
            error = self.assertRaises(BadRequest, decodeActivation, body)
            self.assertNotIsInstance(error, ValidationFailed)
            self.assertEqual(error.code, "invalid_json")

    @given(st.one_of(st.binary(max_size=30), mutations(jsonObjects("modelKey", "instanceId", "defaultInference"))))
    def test_total(self, body: bytes) -> None:
        """Nothing but BadRequest ever comes out of arbitrary bytes, and no model without a key."""
        try:
            model = decodeActivation(body)
        except BadRequest:
            return
        self.assertTrue(model.modelKey.strip())
        self.assertEqual(model.modelKey, decodeObject(body)["modelKey"])
