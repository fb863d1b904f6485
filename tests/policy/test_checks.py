"""What bodies are checked by, shown by the check of ``defaultInference``, which has every kind of member."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest
from lmgateway.policy.checks import ValidationFailed, members, refuse
from lmgateway.policy.dialects import GATEWAY
from lmgateway.policy.inference import DEFAULT_INFERENCE
from twisted.trial.unittest import SynchronousTestCase

from tests.policy.inferences import BAD, GOOD

CHECK = members(DEFAULT_INFERENCE)


def faultsOf(value: object) -> list[tuple[list[str], str]]:
    """What is told to be wrong with a ``defaultInference``."""
    return [(list(path), message) for path, message in CHECK(value, ("defaultInference",))]


class CheckTests(SynchronousTestCase):
    def test_good(self) -> None:
        """What is within the ranges passes, their ends included."""
        for name, values in GOOD.items():
            for value in values:
                self.assertEqual(faultsOf({name: value}), [])
        self.assertEqual(faultsOf({}), [])

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
        error = self.assertRaises(ValidationFailed, refuse, CHECK({"topP": 2, "topK": 1, "x": 1, "stream": 0}, ()))
        self.assertIsInstance(error, BadRequest)
        told = json.loads(GATEWAY.errorBody(error))
        self.assertEqual(told["error"], "Validation failed")
        self.assertEqual([one["path"] for one in told["details"]], [["topP"], ["x"], ["stream"]])
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
