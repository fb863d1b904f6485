# -*- test-case-name: tests.policy.test_acts -*-
"""
Which requests are administrative acts, what each is called in the audit, and what may be asked of the audit.

It goes by the scope of a route and by the method, not by a list of paths: an act that is added later cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from lmgateway.message import Scope
from lmgateway.policy.checks import Fault, refuse
from lmgateway.policy.routes import Route

READING = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

REFUSALS = frozenset({401, 403, 429})
"""Statuses of who may not do what they asked for."""

LARGEST_VALUE = 4096
"""Bytes of JSON that one line tells of the state before an act, and of that after it."""

LONGEST_TEXT = 512
"""Characters of a text in a line."""

DEEPEST = 20
"""Objects and arrays within each other that a line tells."""

USUAL_LINES = 100
MOST_LINES = 1000

_NAMES: Mapping[tuple[bytes, str], str] = {
    (b"POST", "/admin/keys"): "keys.add",
    (b"PATCH", "/admin/keys/*"): "keys.change",
    (b"POST", "/admin/keys/*"): "keys.rotate",
    (b"DELETE", "/admin/keys/*"): "keys.revoke",
    (b"DELETE", "/debug/requests/*"): "requests.cancel",
}
"""What acts are called whose path does not say it all."""

_PARAMETERS = ("limit", "action", "key")


class ActDetails(Struct, frozen=True):
    """
    What a line tells of an act beside who and when.

    :param target: what it was done to: a key's name, a model.
    :param before: the state before it, as JSON would have it; None where there was none.
    :param after: the state after it; likewise.
    """

    target: str | None = None
    before: Any = None
    after: Any = None


class AuditQuery(Struct, frozen=True):
    """
    Which lines are wanted.

    :param limit: the most of them.
    :param action: their action, or its beginning up to a dot: ``keys`` finds ``keys.add``.
    :param key: the name of the key that asked.
    """

    limit: int = USUAL_LINES
    action: str | None = None
    key: str | None = None

    def matches(self, line: Mapping[str, Any]) -> bool:
        """Whether a line is wanted."""
        if self.key is not None and line.get("key") != self.key:
            return False
        return self.action is None or f"{line.get('action')}.".startswith(f"{self.action}.")


def isAdministrative(method: bytes, route: Route) -> bool:
    """Whether only an administrator may do what is asked: then a refusal of it is told in the audit."""
    return route.scopeFor(method) is Scope.ADMIN


def isAct(method: bytes, route: Route) -> bool:
    """Whether what is asked is an administrative act: then it is told in the audit, whatever comes of it."""
    return isAdministrative(method, route) and method not in READING


def actionOf(method: bytes, route: Route) -> str:
    """What an act is called: ``keys.add``, ``models.load``, ``api.v1.models.load``."""
    named = _NAMES.get((method, route.name))
    if named is not None:
        return named
    words = route.name.strip("/*").removeprefix("admin/").replace("/", ".")
    return f"{words}.read" if method in READING else words


def parseAuditQuery(query: bytes) -> AuditQuery:
    """
    Read what is asked of the audit.

    :param query: of the request target: what stands after its question mark.
    :raise ValidationFailed: something of it is unknown or not allowed.
    """
    faults: list[Fault] = []
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
        if name not in _PARAMETERS:
            faults.append(((name,), f"Is unknown. Known here: {', '.join(_PARAMETERS)}."))
        elif name in given:
            faults.append(((name,), "Must be given once."))
        given[name] = value
    spelled = given.get("limit", str(USUAL_LINES))
    isNumber = spelled.isascii() and spelled.isdecimal() and len(spelled) <= len(str(MOST_LINES))
    limit = int(spelled) if isNumber else 0
    if not 1 <= limit <= MOST_LINES:
        faults.append((("limit",), f"Must be a whole number from 1 to {MOST_LINES}."))
    refuse(faults)
    return AuditQuery(limit, given.get("action"), given.get("key"))


def tellable(value: Any, mask: Callable[[str], str]) -> Any:
    """
    Give a value as a line may hold it: without secrets, and not too large.

    :param value: as JSON has it.
    :param mask: masks the secrets in a text.
    """
    masked = _masked(value, mask)
    size = len(msgspec.json.encode(masked))
    return masked if size <= LARGEST_VALUE else {"omittedBytes": size}


def _masked(value: Any, mask: Callable[[str], str], depth: int = 0) -> Any:
    if isinstance(value, str):
        # What is no text of Unicode's (a lone surrogate) cannot be written.
        return mask(value[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8"))
    if depth == DEEPEST and isinstance(value, Mapping | list | tuple):
        return "…"
    if isinstance(value, Mapping):
        return {_masked(str(name), mask): _masked(each, mask, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each, mask, depth + 1) for each in value]
    return value
