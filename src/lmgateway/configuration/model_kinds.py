# -*- test-case-name: tests.configuration.test_model_kinds -*-
"""
The two tables of the settings that have names of their own for keys: ``[aliases]`` and ``[models."KEY"]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from lmgateway.configuration.kinds import Kind
from lmgateway.configuration.units import SettingsError
from lmgateway.policy.checks import Check, Fault, Path, members, name
from lmgateway.policy.completion import Alias, ModelDefaults
from lmgateway.policy.inference import DEFAULT_INFERENCE
from lmgateway.policy.loading import checkLoadConfig

_INFERENCE = members(DEFAULT_INFERENCE)
_ALIAS = members({"model": name, "defaultInference": _INFERENCE}, ["model"])
_MODEL = members({"defaultInference": _INFERENCE, "loadConfig": checkLoadConfig})


def _alias(value: object, path: Path) -> Iterable[Fault]:
    """Check for a model's key, alone or in a table."""
    return name(value, path) if not isinstance(value, Mapping) else _ALIAS(value, path)


class _Names(Kind):
    """A table of names that are not ours."""

    _check: Check

    def fromText(self, text: str) -> Any:
        """Refuse: no variable and no option holds a table."""
        raise self.refusal()

    def _checked(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refusal()
        for key, entry in value.items():
            for path, message in [*name(key, (key,)), *self._check(entry, (key,))]:
                raise SettingsError(f"must be {self.allowed}; {'.'.join(path)}: {message}")
        return value


class Aliases(_Names):
    """Other names for models."""

    allowed = 'names with a model\'s key each, or with { model = "KEY", defaultInference = {…} }'
    _check = staticmethod(_alias)

    def fromFile(self, value: object) -> Mapping[str, Alias]:
        """
        Read the table.

        :raise SettingsError: an entry is not as it must be, or stands for another alias.
        """
        table = self._checked(value)
        aliases = {
            key: Alias(entry) if isinstance(entry, str) else Alias(entry["model"], entry.get("defaultInference", {}))
            for key, entry in table.items()
        }
        for key, alias in aliases.items():
            if alias.model in aliases:
                raise self.refusal(f"{key} stands for {alias.model}, which is an alias itself")
        return MappingProxyType(aliases)

    def format(self, value: Mapping[str, Alias]) -> dict[str, Any]:
        """Write a plain key where there is no more."""
        return {
            key: {"model": alias.model, "defaultInference": dict(alias.defaultInference)}
            if alias.defaultInference
            else alias.model
            for key, alias in value.items()
        }


class Models(_Names):
    """What is set for single models."""

    allowed = "keys of models with { defaultInference = {…}, loadConfig = {…} } each"
    _check = staticmethod(_MODEL)

    def fromFile(self, value: object) -> Mapping[str, ModelDefaults]:
        """
        Read the table.

        :raise SettingsError: an entry is not as it must be.
        """
        return MappingProxyType({key: ModelDefaults(**entry) for key, entry in self._checked(value).items()})

    def format(self, value: Mapping[str, ModelDefaults]) -> dict[str, Any]:
        """Write what is set, and nothing else."""
        return {
            key: {
                part: dict(setting)
                for part, setting in (
                    ("defaultInference", model.defaultInference),
                    ("loadConfig", model.loadConfig),
                )
                if setting
            }
            for key, model in value.items()
        }
