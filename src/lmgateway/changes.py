# -*- test-case-name: tests.test_changes -*-
"""What a reload changed, by the keys of the settings. Their values are nobody's business: some are secrets."""

from __future__ import annotations

from msgspec import Struct

from lmgateway.configuration.table import SPECS
from lmgateway.settings import Settings, valueOf


class Changes(Struct, frozen=True):
    """
    What came of reading the settings again.

    :param changed: the keys of those that count from now on and did not before.
    :param needsRestart: the keys of those that were read and count only after the next start.
    """

    changed: tuple[str, ...]
    needsRestart: tuple[str, ...]


def changesOf(before: Settings, after: Settings, read: Settings) -> Changes:
    """
    Compare settings.

    :param before: those that counted.
    :param after: those that count now.
    :param read: those that would, had the process been started with them.
    """
    return Changes(_differing(before, after), _differing(after, read))


def _differing(one: Settings, other: Settings) -> tuple[str, ...]:
    return tuple(spec.key for spec in SPECS if valueOf(one, spec.key) != valueOf(other, spec.key))
