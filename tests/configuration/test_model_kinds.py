"""The tables of the settings whose keys are not ours."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.model_kinds import Aliases, Models
from lmgateway.configuration.units import SettingsError
from lmgateway.policy.completion import Alias, ModelDefaults
from twisted.trial.unittest import SynchronousTestCase

from tests.tomltext import TEXTS, TOML_VALUES

NAMES = TEXTS.filter(lambda text: bool(text.strip()))


class AliasesTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """An alias is a key, or a table with a key and parameters."""
        read = Aliases().fromFile({"a": "b", "c": {"model": "d", "defaultInference": {"topK": 1}}})
        self.assertEqual(dict(read), {"a": Alias("b"), "c": Alias("d", {"topK": 1})})

    def test_refused(self) -> None:
        """What is wrong is told with its place."""
        for value, words in (
            ({"a": 5}, "a: Must be a string"),
            ({"a": {"model": "b", "defaultInference": {"topP": 2}}}, "a.defaultInference.topP: Must be a number"),
            ({"a": {"defaultInference": {}}}, "a.model: Is required"),
            ({" ": "b"}, "Must be a string that is not empty"),
            ({"a": "b", "b": "c"}, "a stands for b, which is an alias itself"),
            ("b", "must be names"),
        ):
            self.assertIn(words, str(self.assertRaises(SettingsError, Aliases().fromFile, value)))

    @given(st.dictionaries(NAMES, NAMES))
    def test_written(self, table: dict[str, str]) -> None:
        """Aliases, written and read again, are the same; one that stands for another is refused."""
        if set(table.values()) & set(table):
            self.assertRaises(SettingsError, Aliases().fromFile, table)
        else:
            self.assertEqual(Aliases().format(Aliases().fromFile(table)), table)

    @given(st.one_of(TOML_VALUES, st.dictionaries(NAMES, TOML_VALUES)))
    def test_total(self, value: Any) -> None:
        """Any TOML is read, or refused in a sentence."""
        for kind in (Aliases(), Models()):
            try:
                kind.format(kind.fromFile(value))
            except SettingsError as error:
                self.assertIn(kind.allowed, str(error))


class ModelsTests(SynchronousTestCase):
    def test_read(self) -> None:
        """A model has default parameters and a configuration, either or none."""
        table: dict[str, Any] = {
            "a": {"defaultInference": {"topK": 1}, "loadConfig": {"gpu": {"ratio": 0.5}}},
            "b": {"loadConfig": {"contextLength": 9}},
            "c": {},
        }
        read = Models().fromFile(table)
        self.assertEqual(read["a"], ModelDefaults({"topK": 1}, {"gpu": {"ratio": 0.5}}))
        self.assertEqual(Models().format(read), table)

    def test_refused(self) -> None:
        """What is wrong is told with its place."""
        for value, words in (
            ({"a": 5}, "a: Must be an object"),
            ({"a": {"loadConfig": {"gpu": {"ratio": 2}}}}, "a.loadConfig.gpu.ratio: Must be a number"),
            ({"a": {"more": 1}}, "a.more: Is not known here"),
        ):
            self.assertIn(words, str(self.assertRaises(SettingsError, Models().fromFile, value)))
