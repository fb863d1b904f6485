# -*- test-case-name: tests.configuration.test_reference -*-
"""The table of all settings as ``docs/configuration.md`` shows it."""

from __future__ import annotations

from lmgateway.configuration.spec import Spec
from lmgateway.configuration.table import SPECS


def referenceTable() -> str:
    """The table of all settings in ``docs/configuration.md``, in Markdown."""
    rows = [("key", "variable", "option", "default", "allowed", "meaning"), ("---",) * 6, *map(_referenceRow, SPECS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _referenceRow(spec: Spec) -> tuple[str, ...]:
    return (
        f"`{spec.key}`",
        f"`{spec.variable}`" if spec.variable else "",
        f"`--{spec.option}`" if spec.option else "",
        spec.defaultMeaning or _referenceDefault(spec),
        spec.kind.allowed,
        spec.meaning,
    )


def _referenceDefault(spec: Spec) -> str:
    if spec.default is None or spec.default == ():
        return "none"
    return f"`{str(spec.kind.format(spec.default)).lower()}`"
