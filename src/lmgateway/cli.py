# -*- test-case-name: tests.test_cli -*-
"""
The ``lmgateway`` command. Each subcommand is a module in :mod:`lmgateway.commands`, imported only when it is asked for:
some install the reactor, and none should wait for another's imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from lmgateway import __version__

COMMANDS: Mapping[str, str] = {
    "activate": "lmgateway.commands.activate:activate",
    "audit": "lmgateway.commands.audit:audit",
    "check": "lmgateway.commands.check:check",
    "deactivate": "lmgateway.commands.activate:deactivate",
    "doctor": "lmgateway.commands.doctor:doctor",
    "keys": "lmgateway.commands.keys:keys",
    "load": "lmgateway.commands.load:load",
    "models": "lmgateway.commands.models:models",
    "reload": "lmgateway.commands.reload:reload",
    "run": "lmgateway.commands.run:run",
    "simulate": "lmgateway.commands.simulate:simulate",
    "status": "lmgateway.commands.status:status",
    "tail": "lmgateway.commands.tail:tail",
    "tls": "lmgateway.commands.tls:tls",
    "unload": "lmgateway.commands.unload:unload",
    "usage": "lmgateway.commands.usage:usage",
}
"""Where each subcommand is, as ``module:attribute``."""


class LazyGroup(click.Group):
    """
    A group that imports a subcommand when it is asked for.

    :param places: where each is, by its name.
    """

    def __init__(self, *args: Any, places: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, in alphabetical order."""
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or say that there is none of that name."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="lmgateway")
def main() -> None:
    """LM Studio, safely on a LAN."""
