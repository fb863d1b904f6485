# -*- test-case-name: tests.configuration.test_table -*-
"""What there is to say of a single setting: a row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from lmgateway.configuration.kinds import Kind


class Spec(Struct, frozen=True):
    """
    One setting.

    :param key: its section and its name, as in ``limits.maxBody``.
    :param kind: what it may be.
    :param default: its value when nobody says; or what computes it from the values of the settings above it, by key.
    :param meaning: for people.
    :param variable: its environment variable, if it has one.
    :param option: its long option, without the dashes, if it has one. A secret's takes the name of a file.
    :param defaultMeaning: for people, where the default is computed.
    """

    key: str
    kind: Kind
    default: Any
    meaning: str
    variable: str | None = None
    option: str | None = None
    defaultMeaning: str | None = None

    def defaultFor(self, values: Mapping[str, Any]) -> Any:
        """The default, given the values of the settings above."""
        return self.default(values) if callable(self.default) else self.default
