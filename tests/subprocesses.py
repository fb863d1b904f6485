"""Fresh interpreters, for what cannot be seen from within one that has imported everything and holds a reactor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
"""The ``twistd`` command, as code for :func:`runPython`."""


def runPython(
    code: str,
    *arguments: str,
    python: str = sys.executable,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """
    Run code that must succeed in an interpreter of its own.

    :param arguments: its ``sys.argv[1:]``.
    :param environ: its variables; this process's unless given.
    :return: what it printed.
    :raise AssertionError: it failed; the message holds what it printed.
    """
    return run(python, "-c", code, *arguments, cwd=cwd, environ=environ)


def run(*command: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """
    Run a command that must succeed.

    :return: what it printed.
    :raise AssertionError: it failed; the message holds what it printed.
    """
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
