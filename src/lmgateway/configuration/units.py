# -*- test-case-name: tests.configuration.test_units -*-
"""
Durations and sizes as people write them: ``"30s"``, ``"256MB"``. And the one exception of everything to do with settings.

A number without a unit has made many a gateway wait for thirty milliseconds, or for eight hours; so a duration is
refused without one.
"""

from __future__ import annotations

import re

_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KB|MB|GB)?")

_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}


class SettingsError(Exception):
    """
    A setting that cannot be used as given. The message is one line, whatever the setting held.

    :param message: which file, variable or option, which key, its value (unless it is secret), and what is allowed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(oneLine(message))


def oneLine(text: str) -> str:
    """``text`` with everything that could break a line or upset a terminal written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def parseDuration(text: str) -> float:
    """
    :param text: a whole number and its unit, ``ms``, ``s``, ``m`` or ``h``, without a space.
    :return: seconds.
    :raise SettingsError: it is something else.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SettingsError('must be a whole number with its unit (ms, s, m or h), such as "30s"')
    return int(match[1]) * _MILLISECONDS[match[2]] / 1000


def formatDuration(seconds: float) -> str:
    """
    :param seconds: a whole number of milliseconds, in seconds.
    :return: what :func:`parseDuration` reads as ``seconds``, in the largest unit that needs no fraction.
    """
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    unit = next(unit for unit, factor in _MILLISECONDS.items() if milliseconds % factor == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parseSize(text: str) -> int:
    """
    :param text: a whole number and ``B``, ``KB`` (1024 bytes), ``MB`` or ``GB``; a number alone is bytes.
    :return: bytes.
    :raise SettingsError: it is something else.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SettingsError('must be a whole number of bytes, or one with its unit (B, KB, MB or GB), such as "64KB"')
    return int(match[1]) * _BYTES[match[2] or "B"]


def formatSize(size: int) -> str:
    """
    :param size: bytes.
    :return: what :func:`parseSize` reads as ``size``, in the largest unit that needs no fraction.
    """
    if size == 0:
        return "0B"
    unit = next(unit for unit, factor in _BYTES.items() if size % factor == 0)
    return f"{size // _BYTES[unit]}{unit}"
