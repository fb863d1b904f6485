"""What the source must not do, whatever it is told, and what it may bring along."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lmgateway"

PROGRAMS = frozenset({"subprocess", "multiprocessing", "pty", "pexpect", "twisted.internet.utils", "twisted.runner"})
"""Modules that are there to run other programs."""

STARTING = re.compile(r"os\.(?:system|popen|exec\w+|spawn\w+|posix_spawn\w*)|(?:\w+\.)*spawnProcess")
"""Calls that do."""

EVALUATING = re.compile(
    r"eval|exec|compile|__import__|(?:pickle|marshal|shelve|dill)\.loads?|yaml\.(?:unsafe_)?load|runpy\.\w+"
)
"""Calls that make code of data."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the gateway."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text("utf-8"))


def importsOf(tree: ast.Module) -> set[str]:
    """Every module that one imports, or imports something of."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def callsOf(tree: ast.Module) -> set[str]:
    """What one calls, as it is spelled."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


class SourceTests(SynchronousTestCase):
    def test_noPrograms(self) -> None:
        """It starts no other program, so that nothing that a client sends can become one's arguments."""
        seen = 0
        for name, tree in trees():
            seen += 1
            self.assertEqual(importsOf(tree) & PROGRAMS, set(), name)
            self.assertEqual([call for call in callsOf(tree) if STARTING.fullmatch(call)], [], name)
        self.assertGreater(seen, 100)

    def test_noEvaluation(self) -> None:
        """It makes no code of data."""
        for name, tree in trees():
            self.assertEqual([call for call in callsOf(tree) if EVALUATING.fullmatch(call)], [], name)

    def test_noTemporaryFiles(self) -> None:
        """It puts nothing of a request into a file of its own: a large body would fill the disk."""
        for name, tree in trees():
            # The state is looked at in a copy, once and before anybody can ask, where looking would change it.
            found = importsOf(tree) & {"tempfile", "twisted.python.filepath"}
            self.assertTrue(not found or name == "statefile.py", name)

    def test_dependencies(self) -> None:
        """Whatever is installed with it has its reason in the documentation, and nothing else stands there."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", "utf-8")
        required = {
            re.split(r"[><=~!]", line)[0].strip() for line in setup["options"]["install_requires"].split("\n") if line
        }
        rows = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.MULTILINE)
        self.assertEqual(sorted(rows), sorted(required))
