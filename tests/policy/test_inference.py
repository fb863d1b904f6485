"""What an admin may say of a model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest
from lmgateway.message import ActiveModel
from lmgateway.policy.dialects import GATEWAY, OPENAI, Defaults
from lmgateway.policy.inference import (
    DEFAULT_INFERENCE,
    ValidationFailed,
    decodeActivation,
    decodeObject,
    validateInference,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import jsonObjects, mutations

GOOD: dict[str, tuple[object, ...]] = {
    "temperature": (0, 2, 0.7, 1),
    "maxTokens": (1, 10**20),
    "topP": (0, 1, 0.5),
    "topK": (0, 40),
    "repeatPenalty": (0.0001, 1, 1e300),
    "stopStrings": ([], ["a", ""]),
    "stream": (True, False),
}
BAD: dict[str, tuple[object, ...]] = {
    "temperature": (-0.1, 2.01, True, "1", None, [1], float("nan"), float("inf")),
    "maxTokens": (0, -1, 1.0, 1.5, True, "1", None),
    "topP": (-0.1, 1.01, False, "1", None, float("nan")),
    "topK": (-1, 1.0, True, None),
    "repeatPenalty": (0, 0.0, -1, True, None, float("inf"), float("nan"), 10**400),
    "stopStrings": ("a", None, {"a": 1}, 1),
    "stream": (0, 1, "true", None, []),
}


def faultsOf(value: object) -> list[tuple[Any, Any]]:
    """What is told to be wrong with a ``defaultInference``."""
    try:
        validateInference(value)
    except ValidationFailed as error:
        return [(one["path"], one["message"]) for one in error.details or ()]
    return []


class ValidateInferenceTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The names are those of the contract's table, in its order."""
        self.assertEqual(list(DEFAULT_INFERENCE), list(GOOD))

    def test_good(self) -> None:
        """What is within the ranges passes, their ends included, and comes back as it is."""
        for name, values in GOOD.items():
            for value in values:
                self.assertEqual(validateInference({name: value}), {name: value})
        self.assertEqual(validateInference({}), {})

    def test_bad(self) -> None:
        """What is out of range, of another type, or no number is refused, with the path of the field."""
        for name, values in BAD.items():
            for value in values:
                faults = faultsOf({name: value})
                self.assertEqual([path for path, _ in faults], [["defaultInference", name]], f"{name}: {value!r}")

    def test_message(self) -> None:
        """A message says what is allowed."""
        for name, value, message in (
            ("temperature", 3, "Must be a number from 0 to 2."),
            ("repeatPenalty", 0, "Must be a number above 0."),
            ("maxTokens", 0, "Must be an integer of at least 1."),
            ("stopStrings", "a", "Must be a list of strings."),
            ("stream", 1, "Must be true or false."),
        ):
            self.assertEqual(faultsOf({name: value}), [(["defaultInference", name], message)])

    def test_unknown(self) -> None:
        """A name that is not in the table is refused, and the names in it are told."""
        ((path, message),) = faultsOf({"top_p": 0.5})
        self.assertEqual(path, ["defaultInference", "top_p"])
        self.assertIn("topP", message)

    def test_elements(self) -> None:
        """Each stop string that is none is named by its place."""
        self.assertEqual(
            faultsOf({"stopStrings": ["a", 1, "b", None]}),
            [
                (["defaultInference", "stopStrings", "1"], "Must be a string."),
                (["defaultInference", "stopStrings", "3"], "Must be a string."),
            ],
        )

    def test_noObject(self) -> None:
        """What is no object at all is refused."""
        for value in (None, [], "a", 1, True):
            self.assertEqual(faultsOf(value), [(["defaultInference"], "Must be an object.")])

    def test_allFaults(self) -> None:
        """All faults are told at once, each once, and the body is the contract's."""
        error = self.assertRaises(ValidationFailed, validateInference, {"topP": 2, "topK": 1, "x": 1, "stream": 0})
        self.assertIsInstance(error, BadRequest)
        told = json.loads(GATEWAY.errorBody(error))
        self.assertEqual(told["error"], "Validation failed")
        self.assertEqual([one["path"][1] for one in told["details"]], ["topP", "x", "stream"])
        self.assertTrue(all(set(one) == {"path", "message"} for one in told["details"]))

    @given(
        st.dictionaries(
            st.sampled_from((*GOOD, "other")),
            st.one_of(
                st.booleans(), st.integers(-2, 3), st.floats(), st.text(max_size=2), st.lists(st.text(max_size=1))
            ),
        )
    )
    def test_independent(self, value: dict[str, Any]) -> None:
        """A field is refused exactly if it is refused alone: none hides or excuses another."""
        together = {
            name for name in value if any(["defaultInference", name] == path[:2] for path, _ in faultsOf(value))
        }
        self.assertEqual(together, {name for name, one in value.items() if faultsOf({name: one})})

    @given(
        st.dictionaries(
            st.sampled_from(tuple(GOOD)),
            st.one_of(st.booleans(), st.integers(), st.floats(), st.lists(st.text(st.characters(codec="utf-8")))),
        )
    )
    def test_injectable(self, value: dict[str, Any]) -> None:
        """Whatever passes can be injected: it survives JSON as the value that it is."""
        if not faultsOf(value):
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
