"""
Figures beside what was promised, a line each. The time that something took is told, and no more: on another machine it is another.
What was lost, damaged or let through breaks a promise anywhere.
"""

from __future__ import annotations


def told(name: str, value: float, unit: str, most: float, least: float = 0.0) -> bool:
    """
    Print a figure that is promised on any machine.

    :return: whether it is within its bounds.
    """
    isReached = least <= value <= most
    _show("ok  " if isReached else "MISS", name, value, unit, most, least)
    return isReached


def timed(name: str, value: float, unit: str, most: float) -> None:
    """Print a figure that depends on the machine, and on what else it does."""
    _show("ok  " if value <= most else "slow", name, value, unit, most, 0.0)


def _show(verdict: str, name: str, value: float, unit: str, most: float, least: float) -> None:
    bound = f"{most:g}" if least == most else f"{least:g} to {most:g}" if least else f"at most {most:g}"
    print(f"{verdict} {name}: {value:.4g} {unit}".rstrip() + f" ({bound})", flush=True)
