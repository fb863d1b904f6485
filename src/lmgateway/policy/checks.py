# -*- test-case-name: tests.policy.test_checks -*-
"""
What the bodies of an admin's requests are checked by.

A check tells all that is wrong at once, each fault with its path, so that a form can show them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from sys import float_info
from typing import Any

import msgspec

from lmgateway.errors import BadRequest

Path = tuple[str, ...]
Fault = tuple[Path, str]
Check = Callable[[object, Path], Iterable[Fault]]
"""Given a value and its path, what is wrong with it: each fault's path, and a sentence."""


class ValidationFailed(BadRequest):
    """
    Fields of an admin's body that are not as they must be. Nothing has changed.

    :param faults: what is wrong: each fault's path, and a sentence.
    """

    code = "validation_failed"

    def __init__(self, faults: Iterable[Fault]) -> None:
        details: list[dict[str, object]] = [{"path": list(path), "message": message} for path, message in faults]
        super().__init__("Validation failed", details=details)


def number(least: float, most: float = float_info.max, *, above: bool = False) -> Check:
    """
    :param least: the lowest value allowed.
    :param most: the highest value allowed; else whatever a double holds.
    :param above: whether ``least`` itself is too low.
    :return: a check for a number in a range. A boolean is no number, nor is NaN.
    """
    lowest = f"above {least}" if above else f"of at least {least}"
    allowed = f"a number {lowest}" if most == float_info.max else f"a number from {least} to {most}"

    def check(value: object, path: Path) -> Iterable[Fault]:
        isRight = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and least <= value <= most
            and not (above and value == least)
        )
        if not isRight:
            yield path, f"Must be {allowed}."

    return check


def integer(least: int) -> Check:
    """
    :param least: the lowest value allowed.
    :return: a check for an integer, written as one: ``5``, not ``5.0``. A boolean is none.
    """

    def check(value: object, path: Path) -> Iterable[Fault]:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield path, f"Must be an integer of at least {least}."

    return check


def boolean(value: object, path: Path) -> Iterable[Fault]:
    """Check for ``true`` or ``false``."""
    if not isinstance(value, bool):
        yield path, "Must be true or false."


def name(value: object, path: Path) -> Iterable[Fault]:
    """Check for a string that is not blank."""
    if not isinstance(value, str) or not value.strip():
        yield path, "Must be a string that is not empty."


def strings(value: object, path: Path) -> Iterable[Fault]:
    """Check for a list of strings; a fault names the place of the element."""
    if not isinstance(value, list | tuple):
        yield path, "Must be a list of strings."
        return
    for index, element in enumerate(value):
        if not isinstance(element, str):
            yield (*path, str(index)), "Must be a string."


def members(known: Mapping[str, Check], required: Iterable[str] = ()) -> Check:
    """
    :param known: a check for each member that there may be.
    :param required: those that there must be.
    :return: a check for an object of these members and no others.
    """
    mustBe = tuple(required)
    names = ", ".join(known)

    def check(value: object, path: Path) -> Iterable[Fault]:
        if not isinstance(value, Mapping):
            yield path, "Must be an object."
            return
        for key in mustBe:
            if key not in value:
                yield (*path, key), "Is required."
        for key, member in value.items():
            if key in known:
                yield from known[key](member, (*path, key))
            else:
                yield (*path, str(key)), f"Is not known here. Known are: {names}."

    return check


def optional(check: Check) -> Check:
    """Let ``null`` through, as saying nothing."""
    return lambda value, path: () if value is None else check(value, path)


def refuse(faults: Iterable[Fault]) -> None:
    """
    Let pass what nothing is wrong with.

    :raise ValidationFailed: something is.
    """
    found = list(faults)
    if found:
        raise ValidationFailed(found)


def decodeObject(body: bytes) -> dict[str, Any]:
    """
    Decode the body of an admin's request.

    :raise BadRequest: it is not one JSON object, not UTF-8, nested too deeply, or holds a number or text that cannot be
        held here: one beyond a double or some thousand digits, half of a surrogate pair.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The request body is not valid JSON. Send one JSON object.", code="invalid_json") from None
    if not isinstance(decoded, dict):
        raise BadRequest("The request body must be one JSON object. Send one, in braces.", code="invalid_json")
    return decoded


def decodeFields(body: bytes, check: Check) -> dict[str, Any]:
    """
    Decode the body of an admin's request, and check it.

    :raise BadRequest: as :func:`decodeObject`.
    :raise ValidationFailed: something is wrong with its members.
    """
    fields = decodeObject(body)
    refuse(check(fields, ()))
    return fields
