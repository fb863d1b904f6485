# -*- test-case-name: tests.configuration.test_kinds -*-
"""
The kinds of values that settings have: how each is read from the file, from a variable and from an option, what is
allowed, and how it is written again.

A kind refuses with :class:`~lmgateway.configuration.units.SettingsError`, saying only what is wrong; :mod:`lmgateway.configuration.layers` adds where.
"""

from __future__ import annotations

import json
import pathlib
import re
import ssl
from typing import Any

from lmgateway.configuration.units import SettingsError, formatDuration, formatSize, parseDuration, parseSize

_SHOWN = 60
"""How many characters of a refused value an error message shows."""

_ITEMS_SHOWN = 4
"""How many items of a refused list an error message shows."""

_VISIBLE = re.compile(r"[!-~]+")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Kind:
    """
    What every kind of value has in common: in the file it is a string, and read like one.

    ``allowed`` says what is, in the middle of a sentence. ``secret`` values are never shown. ``repeatable`` ones are
    options that may be given several times.
    """

    allowed: str = "a string"
    secret: bool = False
    repeatable: bool = False

    def fromText(self, text: str) -> Any:
        """
        Read a value that came as text.

        :raise SettingsError: it is not allowed.
        """
        raise NotImplementedError

    def fromOption(self, given: Any) -> Any:
        """
        Read an option.

        :param given: its text; of a repeatable one a list, of each text it was given.
        """
        return self.fromText(given)

    def fromVariable(self, text: str) -> Any:
        """Read an environment variable's value."""
        return self.fromText(text)

    def fromFile(self, value: object) -> Any:
        """Read a TOML value."""
        if not isinstance(value, str):
            raise self.refusal()
        return self.fromText(value)

    def resolve(self, value: Any, base: str) -> Any:
        """
        Finish a value that depends on the file system.

        :param base: the folder that relative paths start from.
        :raise SettingsError: something that must exist does not.
        """
        return value

    def format(self, value: Any) -> Any:
        """The value as the TOML file would have it; what :meth:`fromFile` reads as ``value``."""
        return value

    def show(self, raw: object) -> str:
        """A refused value, for the message that refuses it."""
        try:
            text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            return "(too long to show)"
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return f'"{text}"' if isinstance(raw, str) else text

    def refusal(self, why: str | None = None) -> SettingsError:
        """What to raise: what is allowed and, where there is more to say, what is wrong."""
        return SettingsError(f"must be {self.allowed}" + (f"; {why}" if why else ""))


class Flag(Kind):
    """Yes or no."""

    allowed = "true or false"

    def fromText(self, text: str) -> bool:
        """Read the words that people use in variables."""
        try:
            return _WORDS[text.lower()]
        except KeyError:
            raise self.refusal() from None

    def fromFile(self, value: object) -> bool:
        """Only TOML's own."""
        if not isinstance(value, bool):
            raise self.refusal()
        return value


class Choice(Kind):
    """
    One of a few words, in any case.

    :param words: in lower case.
    """

    def __init__(self, *words: str) -> None:
        self.words = words
        self.allowed = f"{', '.join(words[:-1])} or {words[-1]}"

    def fromText(self, text: str) -> str:
        """Find the word."""
        if text.lower() not in self.words:
            raise self.refusal()
        return text.lower()


class Name(Kind):
    """What somebody calls a thing: a short text of printable characters."""

    allowed = "a name of 1 to 100 printable characters"

    def fromText(self, text: str) -> str:
        """Take it as it is."""
        if not 1 <= len(text) <= 100 or not text.isprintable():
            raise self.refusal()
        return text


class Whole(Kind):
    """A whole number between two others, which are allowed."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.allowed = f"a whole number from {low} to {high}"

    def fromText(self, text: str) -> int:
        """Digits, and not too many."""
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise self.refusal()
        return self.fromFile(int(text))

    def fromFile(self, value: object) -> int:
        """Only an integer; ``true`` is none, and neither is ``"1"``."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise self.refusal()
        return value


class Duration(Kind):
    """
    A time with its unit, between two others, which are allowed. Its value is in seconds.

    :param zero: what a time of nothing means, where that is allowed as well.
    """

    def __init__(self, low: str, high: str, *, zero: str | None = None) -> None:
        self.low = parseDuration(low)
        self.high = parseDuration(high)
        self.zero = zero
        none = f" (or 0s: {zero})" if zero else ""
        self.allowed = f'a duration with its unit (ms, s, m or h), from "{low}" to "{high}"{none}'

    def fromText(self, text: str) -> float:
        """Read ``30s``."""
        try:
            seconds = parseDuration(text)
        except SettingsError:
            raise self.refusal() from None
        if self.low <= seconds <= self.high or (self.zero and seconds == 0):
            return seconds
        raise self.refusal()

    def fromVariable(self, text: str) -> float:
        """A number alone is milliseconds: so the variables of the existing gateways have it."""
        return self.fromText(f"{text}ms" if text.isdigit() else text)

    def fromFile(self, value: object) -> float:
        """A number alone is refused, for nobody would know its unit."""
        if isinstance(value, int | float):
            raise self.refusal('a number alone does not say its unit: write it as a string, such as "30s"')
        seconds: float = super().fromFile(value)
        return seconds

    def format(self, value: float) -> str:
        """With its unit."""
        return formatDuration(value)


class Size(Kind):
    """A number of bytes between two others, which are allowed."""

    def __init__(self, low: str, high: str) -> None:
        self.low = parseSize(low)
        self.high = parseSize(high)
        self.allowed = f'a size in bytes or with its unit (B, KB, MB or GB), from "{low}" to "{high}"'

    def fromText(self, text: str) -> int:
        """Read ``64KB``."""
        try:
            return self.fromFile(parseSize(text))
        except SettingsError:
            raise self.refusal() from None

    def fromFile(self, value: object) -> int:
        """A number alone is bytes."""
        if isinstance(value, str):
            return self.fromText(value)
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise self.refusal()
        return value

    def format(self, value: int) -> str:
        """With its unit."""
        return formatSize(value)


class Path(Kind):
    """A file or folder, which need not exist. Its value is absolute."""

    allowed = "the path of a file or folder"

    def fromText(self, text: str) -> str:
        """Refuse what no file system takes."""
        if "\0" in text:
            raise self.refusal()
        return text

    def resolve(self, value: str, base: str) -> str:
        """Make it absolute; ``~`` is the home folder."""
        try:
            return str(pathlib.Path(base) / pathlib.Path(value).expanduser())
        except RuntimeError:
            raise self.refusal("whose home folder ~ is, is not known") from None


class PemBundle(Path):
    """A file of certificates to trust."""

    allowed = "a PEM file with at least one certificate"

    def resolve(self, value: str, base: str) -> str:
        """Look whether OpenSSL finds certificates in it."""
        path = super().resolve(value, base)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except ssl.SSLError:
            raise self.refusal("no certificate was found in it") from None
        except OSError as error:
            raise self.refusal(f"it cannot be read ({error.strerror})") from None
        return path


class Secret(Kind):
    """
    A key or token: never shown, and on the command line only as the name of a file.

    It goes into a header field, so a space or a line end in it would do harm.
    """

    secret = True

    def __init__(self, shortest: int, longest: int) -> None:
        self.shortest = shortest
        self.longest = longest
        self.allowed = f"{shortest} to {longest} visible ASCII characters without a space"

    def fromText(self, text: str) -> str:
        """Take it to the letter."""
        if not self.shortest <= len(text) <= self.longest or _VISIBLE.fullmatch(text) is None:
            raise self.refusal()
        return text

    def show(self, raw: object) -> str:
        """Nothing but its length."""
        return f"({len(raw)} characters, not shown)" if isinstance(raw, str) else "(not shown)"


class Many(Kind):
    """
    Several values of a kind; a list in the file, a tuple in the settings.

    :param what: what they are, in the plural.
    :param separator: what stands between them in a variable or an option, or None if an option holds just one.
    :param fewest: how many there must be.
    """

    repeatable = True

    def __init__(self, item: Kind, what: str, *, separator: str | None = None, fewest: int = 0) -> None:
        self.item = item
        self.separator = separator
        self.fewest = fewest
        self.allowed = f"{what}, each {item.allowed}"

    def fromText(self, text: str) -> tuple[Any, ...]:
        """Read the items of one text."""
        items = [text] if self.separator is None else text.split(self.separator)
        return self.fromFile([item.strip() for item in items])

    def fromOption(self, given: list[str]) -> tuple[Any, ...]:
        """Read the items of all texts together."""
        return tuple(item for text in given for item in self.fromText(text))

    def fromFile(self, value: object) -> tuple[Any, ...]:
        """Read each item."""
        if not isinstance(value, list) or len(value) < self.fewest:
            raise self.refusal()
        return tuple(self._item(item) for item in value)

    def _item(self, item: object) -> Any:
        try:
            return self.item.fromFile(item)
        except SettingsError as error:
            raise SettingsError(f"{self.item.show(item)} {error}") from None

    def format(self, value: tuple[Any, ...]) -> list[Any]:
        """As a list."""
        return [self.item.format(item) for item in value]

    def show(self, raw: object) -> str:
        """Each item as its own kind shows it, as long as they are few."""
        if not isinstance(raw, list):
            return super().show(raw)
        items = [self.item.show(item) for item in raw[:_ITEMS_SHOWN]]
        return f"[{', '.join(items if len(raw) <= _ITEMS_SHOWN else [*items, '…'])}]"
