"""
Which module may import which, and that what decides needs no reactor.

The first half reads the sources; the second imports modules in a fresh interpreter, where nothing else has been imported.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import lmgateway
from twisted.trial.unittest import SynchronousTestCase

from tests.subprocesses import runPython

ROOT = Path(lmgateway.__file__).parent

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"tap", "cli", "commands", "options", "gateway", "assembly", "supervision", "process"}),
    frozenset({"web", "dashboard"}),
    frozenset({"wire", "tls", "studio", "state", "statefile", "keys", "keydesk", "ledger", "logs", "logfile", "audit"}),
    frozenset(
        {
            "policy",
            "telemetry",
            "settings",
            "changes",
            "configuration",
        }
    ),
    frozenset({"message", "exchange", "errors", "interfaces", "inventory"}),
)
"""From the top down. A module may import from its own layer and from those below it."""

UNTESTED = ("lmgateway.interfaces",)
"""Modules in which nothing happens."""

PURE = (3, 4)
"""The layers that decide and remember."""

FORBIDDEN = ("twisted.internet.reactor", "klein")
"""What a pure module must not bring along. ``twisted.web.iweb`` is allowed: it holds interfaces alone."""

PROBE = """
import importlib, json, sys
brought = []
for module in sys.argv[1:]:
    importlib.import_module(module)
    brought += [(module, name) for name in %r if name in sys.modules]
print(json.dumps(brought[:1]))
"""


def layerOf(module: str) -> int | None:
    """
    The index of a module's layer.

    :param module: dotted, such as ``lmgateway.wire.body``.
    :return: None for the package itself, which holds nothing but its version.
    """
    parts = module.split(".")
    if len(parts) == 1:
        return None
    for index, names in enumerate(LAYERS):
        if parts[1] in names:
            return index
    raise AssertionError(f"{module} has no layer: add it to LAYERS, where architecture has it")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, with its file."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("lmgateway", *path.relative_to(ROOT).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def importsOf(source: str) -> Iterator[str]:
    """Each module of ours that a source imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError("relative imports hide the direction")
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "lmgateway" else [module]
        else:
            continue
        yield from (
            name for name in names if name.partition(".")[0] == "lmgateway" and not name.startswith("lmgateway.__")
        )


class DirectionTests(SynchronousTestCase):
    def test_neverUp(self) -> None:
        """No module imports from a layer above its own."""
        upward = []
        for module, path in modules():
            own = layerOf(module)
            for imported in importsOf(path.read_text("utf-8")):
                other = layerOf(imported)
                if own is not None and other is not None and other < own:
                    upward.append(f"{module} imports {imported}")
        self.assertEqual(upward, [])

    def test_found(self) -> None:
        """The reader of imports finds each form of them: otherwise nothing would ever be upward."""
        source = (
            "import lmgateway.web.tree\n"
            "from lmgateway import tap, __version__\n"
            "def f():\n    from lmgateway.wire.body import Body\n"
            "import twisted.web\n"
        )
        self.assertEqual(list(importsOf(source)), ["lmgateway.web.tree", "lmgateway.tap", "lmgateway.wire.body"])


class TestCaseNameTests(SynchronousTestCase):
    def test_exist(self) -> None:
        """Each module that does something names the tests that are about it, and they are there."""
        lacking = []
        for module, path in modules():
            named = re.match(r"# -\*- test-case-name: ([\w.]+) -\*-\n", path.read_text("utf-8"))
            exists = named is not None and importlib.util.find_spec(named[1]) is not None
            if not exists and path.name != "__init__.py" and module not in UNTESTED:
                lacking.append(module)
        self.assertEqual(lacking, [])


class PureTests(SynchronousTestCase):
    def test_noReactor(self) -> None:
        """What decides and what remembers imports neither the reactor nor Klein, in a fresh interpreter."""
        pure = [module for module, _ in modules() if layerOf(module) in PURE]
        self.assertIn("lmgateway.policy", pure)
        self.assertEqual(firstBrought(*pure), [])

    def test_probe(self) -> None:
        """The probe sees what an import brings along."""
        self.assertEqual(firstBrought("json", "klein"), [["klein", "twisted.internet.reactor"]])


def firstBrought(*modules: str) -> list[list[str]]:
    """The first of ``modules``, imported one after the other, to bring along what is forbidden, and what it brought."""
    brought: list[list[str]] = json.loads(runPython(PROBE % (FORBIDDEN,), *modules))
    return brought
