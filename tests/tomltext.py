"""TOML as text, for files that tests write."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
"""Every string that TOML can hold."""


def toml(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, str):
        return (
            '"' + "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08X}" for char in value) + '"'
        )
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(name)} = {toml(item)}' for name, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool | float) else str(value)


TOML_VALUES = st.recursive(
    TEXTS | st.integers() | st.floats() | st.booleans() | st.dates() | st.times() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=8,
)
"""Values of every type that TOML has."""
