"""Saying what came of an order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.commands.results import linesOf
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.test_talk import VALUES

LOADED = {
    "status": "loaded",
    "message": "qwen is loaded.",
    "loadConfig": {"contextLength": 8192, "gpu": {"ratio": 0.5, "layers": 20}, "flashAttention": True},
    "notApplied": ["cpuThreads", "ttlSeconds"],
}

NOTED: dict[str, Any] = {
    "status": "activated",
    "message": "Model activated in gateway.",
    "workflow": {"step1": "Load the model manually.", "step2": "Send\x1b[2J requests."},
    "loadConfig": {"contextLength": 8192},
    "notApplied": ["contextLength"],
}


class LinesTests(SynchronousTestCase):
    def test_loaded(self) -> None:
        """What was loaded is told with the settings that it really has, by their whole names, and those it has not."""
        self.assertEqual(
            list(linesOf(LOADED)),
            [
                "qwen is loaded.",
                "Loaded with contextLength 8192, gpu.ratio 0.5, gpu.layers 20, flashAttention true.",
                "Not applied, as this LM Studio cannot: cpuThreads, ttlSeconds.",
            ],
        )

    def test_noted(self) -> None:
        """What the gateway could only note is told with what is left to be done, and with no setting that nothing has."""
        self.assertEqual(
            list(linesOf(NOTED)),
            [
                "Model activated in gateway.",
                "Not applied, as this LM Studio cannot: contextLength.",
                "1. Load the model manually.",
                r"2. Send\x1b[2J requests.",
            ],
        )

    def test_silent(self) -> None:
        """An answer without a message is told by its status, and one without either by that."""
        self.assertEqual(list(linesOf({"status": "cleared"})), ["cleared"])
        self.assertEqual(list(linesOf({})), ["The gateway did not say what it did."])

    @given(
        st.dictionaries(
            st.sampled_from(sorted({*LOADED, *NOTED})), VALUES | st.sampled_from([*LOADED.values(), *NOTED.values()])
        )
    )
    def test_total(self, answer: dict[str, Any]) -> None:
        """Whatever a gateway answers, each line is one, of characters that a terminal shows."""
        lines = list(linesOf(answer))
        self.assertTrue(lines)
        for line in lines:
            self.assertTrue(line.isprintable())
