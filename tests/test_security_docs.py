"""
The table of threats in the documentation names tests that exist, and leaves no threat out; and for each of these tests there is
something to take out that it is known to notice (``bench/faults/mutants.py``, which also tries it).
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]

ROW = re.compile(r"^\| (T[0-9]+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
NAMED = re.compile(r"`((?:tests|bench)/[^`:]+?)(?:::(\w+))?`")
MODULE = re.compile(r"`((?:\w+/)*\w+\.py)`")


def namesIn(path: Path) -> set[str]:
    """The name of every test in a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


class ThreatTests(SynchronousTestCase):
    def setUp(self) -> None:
        text = (ROOT / "docs" / "security.md").read_text("utf-8")
        self.rows = ROW.findall(text.partition("\n## Threats\n")[2])

    def test_everyThreat(self) -> None:
        """There is one row for each threat, in order."""
        self.assertEqual([number for number, *_ in self.rows], [f"T{number}" for number in range(1, 29)])

    def test_everyTest(self) -> None:
        """Each row names at least one test of the suite, and whatever it names is there."""
        for number, _, _, tests in self.rows:
            named = NAMED.findall(tests)
            self.assertTrue(any(name.startswith("test_") for _, name in named), number)
            for path, name in named:
                self.assertTrue((ROOT / path).is_file(), f"{number}: {path}")
                if name:
                    self.assertIn(name, namesIn(ROOT / path), f"{number}: {path}")

    def test_everyModule(self) -> None:
        """The modules that are named as a defence exist."""
        for number, _, defence, _ in self.rows:
            for path in MODULE.findall(defence):
                self.assertTrue((ROOT / "src" / "lmgateway" / path).is_file(), f"{number}: {path}")

    def test_everyMutant(self) -> None:
        """
        What shows that the tests notice is about these very tests, none too few and none too many, and what it takes out is
        there to be taken out, once.
        """
        mutants = tomllib.loads((ROOT / "bench" / "faults" / "mutants.toml").read_text("utf-8"))["mutant"]
        for number, _, _, tests in self.rows:
            named = {f"{path}::{name}" for path, name in NAMED.findall(tests) if name}
            tried = {test for mutant in mutants if mutant["threat"] == number for test in mutant["tests"]}
            self.assertEqual(named, tried, number)
        for mutant in mutants:
            text = (ROOT / "src" / "lmgateway" / mutant["file"]).read_text("utf-8")
            self.assertEqual(text.count(mutant["old"]), 1, mutant["what"])
            self.assertTrue(mutant["tests"], mutant["what"])
