"""The ``lmgateway`` command: its subcommands, imported only when asked for."""

from __future__ import annotations

import importlib.util

import click
from click.testing import CliRunner
from lmgateway import __version__
from lmgateway.cli import COMMANDS, LazyGroup, main
from twisted.trial.unittest import SynchronousTestCase

from tests.subprocesses import runPython

LAZY = """
import sys
from lmgateway.cli import main
print(sorted(name for name in sys.modules if name.startswith("lmgateway.commands")))
"""


class MainTests(SynchronousTestCase):
    def test_version(self) -> None:
        """--version tells the gateway's."""
        result = CliRunner().invoke(main, ["--version"])
        self.assertEqual(result.exit_code, 0)
        self.assertIn(__version__, result.output)

    def test_places(self) -> None:
        """Each subcommand's module exists where the table says."""
        self.assertTrue(COMMANDS)
        for place in COMMANDS.values():
            self.assertIsNotNone(importlib.util.find_spec(place.partition(":")[0]), place)

    def test_lazy(self) -> None:
        """Importing the command imports no subcommand."""
        self.assertEqual(runPython(LAZY).strip(), "[]")

    def test_unknown(self) -> None:
        """An unknown subcommand is refused."""
        result = CliRunner().invoke(main, ["chekc"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("chekc", result.output)


class LazyGroupTests(SynchronousTestCase):
    def test_listed(self) -> None:
        """Subcommands are listed by name, and found by their places."""
        group = LazyGroup("group", places={"version": "lmgateway.cli:main", "check": "lmgateway.commands.check:check"})
        context = click.Context(group)
        self.assertEqual(group.list_commands(context), ["check", "version"])
        self.assertIs(group.get_command(context, "version"), main)
        self.assertIsNone(group.get_command(context, "other"))
