# -*- test-case-name: tests.policy.test_minting -*-
"""
What may be asked of keys: the bodies that make, change and rotate one, and the rule that nobody makes a key which may do more
than they may themselves.

A key's right is a scope, or the absence of a limit. An administrator whose own key has limits passes them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lmgateway.errors import Forbidden
from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.addresses import Network, parseNetwork
from lmgateway.policy.checks import (
    Check,
    Fault,
    Path,
    boolean,
    decodeFields,
    decodeObject,
    integer,
    members,
    number,
    optional,
    refuse,
)
from lmgateway.policy.inference import DEFAULT_INFERENCE

LONGEST_NAME = 64
LONGEST_GLOB = 200
MOST_ENTRIES = 100
"""Characters of a key's name and of a glob; globs or addresses of one key."""

LONGEST_SECONDS = 100 * 366 * 86_400
"""How far ahead a key may end: a hundred years."""

GRACE_SECONDS = 86_400
"""How long the old secret of a rotated key stays good, unless somebody says otherwise."""

RESERVED = frozenset({"GATEWAY_API_KEY", "local", "keyless"})
"""Names that usage goes by and that no stored key has: the configured key, and everybody where no key is needed."""

_HIGHEST = 2**53 - 1
_WILD = "*?["
_LIMITS = ("requestsPerMinute", "tokensPerDay", "parallel")


class Mint(Struct, frozen=True):
    """
    A key that is to be made.

    :param name: what logs, events and usage are to call it.
    :param scopes: what it may do.
    :param grant: what it is held to.
    """

    name: str
    scopes: frozenset[Scope]
    grant: Grant


class Edit(Struct, frozen=True):
    """
    What is to be changed about a key.

    :param scopes: what it may do from now on; None for what it may do already.
    :param members: the members of its grant that are to be others.
    """

    scopes: frozenset[Scope] | None
    members: Mapping[str, Any]

    def grantAfter(self, grant: Grant) -> Grant:
        """Give what a key is held to from now on that was held to ``grant``."""
        return replace(grant, **self.members)


def _name(value: object, path: Path) -> Iterable[Fault]:
    """Check the name of a key: it stands in logs, in events and in spreadsheets."""
    isRight = (
        isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable() and value == value.strip()
    )
    if not isRight:
        yield path, f"Must be 1 to {LONGEST_NAME} printable characters, without space around them."
    elif value in RESERVED:
        yield path, "Is the name of something else. Choose another one."


def _count(value: object, path: Path) -> Iterable[Fault]:
    faults = list(integer(1)(value, path))
    if not faults and isinstance(value, int) and value > _HIGHEST:
        faults = [(path, f"Must be at most {_HIGHEST}.")]
    return faults


def _listOf(checkEach: Check, most: int = MOST_ENTRIES) -> Check:
    def check(value: object, path: Path) -> Iterable[Fault]:
        if not isinstance(value, list | tuple) or len(value) > most:
            yield path, f"Must be a list of at most {most} strings."
            return
        for index, element in enumerate(value):
            yield from checkEach(element, (*path, str(index)))

    return check


def _scope(value: object, path: Path) -> Iterable[Fault]:
    known = [scope.value for scope in Scope]
    if value not in known:
        yield path, f"Must be one of {', '.join(known)}."


def _scopes(value: object, path: Path) -> Iterable[Fault]:
    yield from _listOf(_scope)(value, path)
    if value == []:
        yield path, "Must name a scope: a key without one may do nothing."


def _glob(value: object, path: Path) -> Iterable[Fault]:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_GLOB:
        yield path, f"Must be the name of a model, or a glob such as qwen/*, of at most {LONGEST_GLOB} characters."


def _address(value: object, path: Path) -> Iterable[Fault]:
    if not isinstance(value, str):
        yield path, "Must be a string."
        return
    try:
        parseNetwork(value)
    except ValueError as error:
        yield path, str(error)


def _moment(value: object, path: Path) -> Iterable[Fault]:
    if _momentOf(value) is None:
        yield path, "Must be a time of ISO 8601 with its zone, such as 2027-01-31T12:00:00Z."


def _momentOf(value: object) -> float | None:
    """Read a time; None where it is none, or where nobody can say of which zone it is."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


_HELD: Mapping[str, Check] = MappingProxyType(
    {
        "models": optional(_listOf(_glob)),
        "addresses": optional(_listOf(_address)),
        "requestsPerMinute": optional(_count),
        "tokensPerDay": optional(_count),
        "parallel": optional(_count),
        "defaultInference": optional(members(DEFAULT_INFERENCE)),
        "capture": optional(boolean),
    }
)
"""The members of a grant but for its end, which is said in other ways than it is kept."""

_SAID: Mapping[str, Check] = MappingProxyType(
    {
        "scopes": _scopes,
        "expires": optional(_moment),
        "expiresInSeconds": optional(number(0, LONGEST_SECONDS, above=True)),
        **_HELD,
    }
)
_KEPT = members({"expires": optional(number(0)), **_HELD})
_MINT = members({"name": _name, **_SAID}, ["name"])
_EDIT = members(_SAID)
_ROTATION = members({"graceSeconds": optional(number(0, LONGEST_SECONDS))})


def decodeMint(body: bytes, now: float) -> Mint:
    """
    Read the body that makes a key. ``null`` is as good as leaving a member out.

    :param now: Unix time.
    :raise BadRequest: it is no JSON object.
    :raise ValidationFailed: a member is missing, unknown or not as it must be.
    """
    fields = _decoded(_MINT, body, now)
    edit = _editOf(fields, now)
    return Mint(fields["name"], edit.scopes or frozenset({Scope.INFERENCE}), edit.grantAfter(Grant()))


def decodeEdit(body: bytes, now: float) -> Edit:
    """
    Read the body that changes a key. What it leaves out stays; ``null`` takes a limit away.

    :param now: Unix time.
    :raise BadRequest: it is no JSON object.
    :raise ValidationFailed: a member is unknown or not as it must be. The name cannot be changed: usage goes by it.
    """
    return _editOf(_decoded(_EDIT, body, now), now)


def decodeRotation(body: bytes) -> float:
    """
    Read the body that rotates a key, which may be empty.

    :return: the seconds for which the old secret stays good.
    :raise BadRequest: it is no JSON object.
    :raise ValidationFailed: a member is unknown or not as it must be.
    """
    fields = decodeFields(body or b"{}", _ROTATION)
    grace = fields.get("graceSeconds")
    return float(GRACE_SECONDS if grace is None else grace)


def grantOf(fields: object) -> Grant:
    """
    Read a grant as it is kept (:func:`fieldsOf`).

    :raise ValidationFailed: it is none.
    """
    refuse(_KEPT(fields, ()))
    return _heldTo(fields) if isinstance(fields, Mapping) else Grant()


def fieldsOf(grant: Grant) -> dict[str, Any]:
    """Give what a grant says as JSON can keep it: only what is said."""
    said = {name: getattr(grant, name) for name in Grant.__struct_fields__}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    plain["defaultInference"] = dict(grant.defaultInference)
    return {name: value for name, value in plain.items() if value not in (None, [], {})}


def within(minter: Principal, scopes: frozenset[Scope], grant: Grant) -> Grant:
    """
    Have a key hold no right that its minter does not hold.

    :param minter: who makes it, or changes it.
    :param scopes: what it is to do.
    :param grant: what it is to be held to. Where it says nothing, what the minter is held to counts.
    :return: what it is held to.
    :raise Forbidden: the minter does not hold a scope, or something is beyond the minter's own limit.
    """
    missing = sorted(scope.value for scope in scopes if not minter.holds(scope))
    if missing:
        raise _beyond(f"the scope {missing[0]}")
    own = minter.grant
    inherited = {
        name: getattr(own, name)
        for name in ("expires", "models", "addresses", *_LIMITS)
        if getattr(grant, name) in (None, ())
    }
    grant = replace(grant, **inherited)
    for name, isCovered in _COVERING.items():
        limit = getattr(own, name)
        if limit not in (None, ()) and not isCovered(limit, getattr(grant, name)):
            raise _beyond(f"more than its {name}")
    return grant


def requireWithin(minter: Principal, scopes: frozenset[Scope], grant: Grant) -> None:
    """
    Refuse to have a key changed or given a new secret that may do more than whoever asks for it.

    :raise Forbidden: the key holds a right that ``minter`` does not hold.
    """
    if within(minter, scopes, grant) != grant:
        raise _beyond("a key that is held to less")


def _beyond(what: str) -> Forbidden:
    return Forbidden(
        f"The key that asks for this cannot give {what}: nobody makes or changes a key that may do more than their own. "
        "Use a key that may do it.",
        code="exceeds_own_key",
    )


def _coversNumber(limit: float, wanted: float) -> bool:
    return wanted <= limit


def _coversModels(limit: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return all(any(_globCovers(own, glob) for own in limit) for glob in wanted)


def _globCovers(own: str, glob: str) -> bool:
    """Whether all that ``glob`` matches is matched by ``own``, as far as that is plain to see."""
    if own == glob:
        return True
    if not any(mark in glob for mark in _WILD):
        return fnmatchcase(glob, own)
    start = own[:-1]
    return own.endswith("*") and not any(mark in start for mark in _WILD) and glob.startswith(start)


def _coversAddresses(limit: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    networks = [parseNetwork(entry) for entry in limit]
    return all(any(_isIn(parseNetwork(entry), network) for network in networks) for entry in wanted)


def _isIn(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # of the same version


_COVERING: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "expires": _coversNumber,
        "models": _coversModels,
        "addresses": _coversAddresses,
        **dict.fromkeys(_LIMITS, _coversNumber),
    }
)
"""For each member that is a limit: whether that of the minter leaves room for another."""


def _decoded(check: Check, body: bytes, now: float) -> dict[str, Any]:
    fields = decodeObject(body)
    faults = list(check(fields, ()))
    expires = _momentOf(fields.get("expires"))
    if expires is not None and not now < expires <= now + LONGEST_SECONDS:
        faults.append((("expires",), "Must be in the future. A key that is to end now is revoked."))
    if fields.get("expires") is not None and fields.get("expiresInSeconds") is not None:
        faults.append((("expiresInSeconds",), "Says the same as expires. Send one of them."))
    refuse(faults)
    return fields


def _editOf(fields: Mapping[str, Any], now: float) -> Edit:
    held = {name: value for name, value in fields.items() if name in _HELD or name == "expires"}
    if held.get("expires") is not None:
        held["expires"] = _momentOf(held["expires"])
    if fields.get("expiresInSeconds") is not None:
        held["expires"] = now + fields["expiresInSeconds"]
    grant = _heldTo(held)
    scopes = frozenset(Scope(word) for word in fields["scopes"]) if "scopes" in fields else None
    return Edit(scopes, {name: getattr(grant, name) for name in held})


def _heldTo(fields: Mapping[str, Any]) -> Grant:
    """Make a grant of members that are as they must be."""
    return Grant(
        expires=fields.get("expires"),
        models=tuple(fields.get("models") or ()),
        addresses=tuple(str(parseNetwork(entry)) for entry in fields.get("addresses") or ()),
        requestsPerMinute=fields.get("requestsPerMinute"),
        tokensPerDay=fields.get("tokensPerDay"),
        parallel=fields.get("parallel"),
        defaultInference=fields.get("defaultInference") or {},
        capture=fields.get("capture"),
    )
