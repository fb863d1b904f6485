# -*- test-case-name: tests.test_options -*-
"""
The options of ``twistd lmgateway``: one for each row of :mod:`lmgateway.configuration.table` that names one, and two for files.

No option takes a secret itself: everybody on the machine can read a command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.python import usage

from lmgateway.configuration.spec import Spec
from lmgateway.configuration.table import SPECS
from lmgateway.settings import Settings, SettingsError, loadSettings


def _describe(spec: Spec) -> str:
    meaning = f"a file that holds {spec.meaning}" if spec.kind.secret else spec.meaning
    often = "; may be given several times" if spec.kind.repeatable else ""
    variable = f" [{spec.variable}]" if spec.variable else ""
    return f"{meaning}{often}{variable}"


class Options(usage.Options):
    """
    What ``twistd lmgateway`` was told.

    :param environ: the variables; the process's own unless given.
    """

    settings: Settings

    optParameters = [
        ["config", "c", None, "a TOML file with settings"],
        ["env-file", None, None, "an .env file with variables, which the environment overrides"],
        *([spec.option, None, None, _describe(spec)] for spec in SPECS if spec.option and not spec.kind.repeatable),
    ]

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self._environ = environ
        self._directory = str(Path.cwd())

    def postOptions(self) -> None:
        """
        Read all layers into ``settings``.

        :raise usage.UsageError: as :class:`~lmgateway.settings.SettingsError`, with its one line.
        """
        try:
            self.reload()
        except SettingsError as error:
            raise usage.UsageError(str(error)) from None

    def reload(self) -> Settings:
        """
        Read the same layers again, and from the same places even if the process has changed its folder.

        :return: the new ``settings``.
        :raise SettingsError: something is wrong with them; ``settings`` are then the old ones.
        """
        self.settings = loadSettings(
            configFile=self["config"] or None,
            envFile=self["env-file"] or None,
            environ=self._environ,
            options=self,
            directory=self._directory,
        )
        return self.settings


def _collector(option: str, meaning: str) -> Callable[[Options, str], None]:
    """The method through which ``usage.Options`` takes an option that may be given several times."""

    def collect(options: Options, value: str) -> None:
        options[option] = (*options.get(option, ()), value)

    collect.__doc__ = meaning
    return collect


for _spec in SPECS:
    if _spec.option and _spec.kind.repeatable:
        setattr(Options, f"opt_{_spec.option.replace('-', '_')}", _collector(_spec.option, _describe(_spec)))
