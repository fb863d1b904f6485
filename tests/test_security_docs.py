"""The table of threats in the documentation names tests that exist, and leaves no threat out."""

from __future__ import annotations

import ast
import re
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
