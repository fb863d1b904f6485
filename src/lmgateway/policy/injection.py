# -*- test-case-name: tests.policy.test_injection -*-
"""
Splice missing members into the one JSON object of a request body, and leave the rest to the letter.

The body is never decoded and encoded again: that would respell numbers, escapes and white space. It is split into its
top-level members, which also proves it valid JSON, and what is missing is written right after its opening brace. There,
whatever reads only the beginning of a request, a log or a proxy, finds ``model``; and white space at the end, which may be
long, is not searched.

What a body costs: its own bytes, those of the result, and some dozens of bytes per top-level member.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8, utf_8_decode
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from zope.interface import implementer

from lmgateway.errors import BadRequest
from lmgateway.interfaces import IRequestRewriter
from lmgateway.message import Completing, Completion, Injection, Rewritten

SMALL_BODY = 65_536
"""
Bytes up to which a body is read without counting its members. Longer ones are checked for UTF-8 in slices of this size,
since text beyond ASCII takes up to four times its bytes once decoded.
"""

MEMBERS_LIMIT = 16_384
"""
Top-level members that a body may have. The APIs know fewer than a hundred; but a member takes 5 bytes to send and some
200 to hold, so that without a limit they could cost forty times their body. No small body can reach it.
"""

SHORTEST_MEMBER = len(b'"":0,')
"""Bytes that a member takes at least, if it is not the only one."""


class _Key(str):
    """
    The decoded key of one member, equal to no other object, so that a dict keeps every member of a repeated key.

    ``msgspec`` keeps only the last one under plain keys, and tells nobody.
    """

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _CountedKeys:
    """Makes the keys of one body, as many as are allowed."""

    def __init__(self) -> None:
        self._left = MEMBERS_LIMIT

    def __call__(self, keyType: type, text: Any) -> Any:
        """
        :param keyType: :class:`_Key`.
        :param text: the key, decoded.
        :raise BadRequest: there were too many before it.
        """
        self._left -= 1
        if self._left < 0:
            raise BadRequest(
                f"The request body has more than {MEMBERS_LIMIT} top-level members. Send only those that the API knows."
            )
        return _Key(text)


_PLAIN = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEYED = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=str.__new__)
_TEXT = msgspec.json.Decoder(str)
_KEY = re.compile(rb'[\s,{]*"(?:[^"\\]|\\.)*"\s*:\s*', re.DOTALL)
"""What stands before a value in an object that is known to be valid."""


@implementer(IRequestRewriter)
class MemberSplicer:
    """
    Adds what the body lacks and copies the rest.

    Nesting is followed as deep as the JSON parser goes and refused beyond: 512 levels pass on every Python (tool schemas
    seldom have ten), and the end is near 1,000 on Python 3.11, 10,000 on 3.13. The parser counts its levels,
    so no depth can exhaust the stack.

    Names of injections and watched members are ASCII, as those of the APIs are.
    """

    def rewrite(self, body: bytes, complete: Completing, watch: frozenset[str] = frozenset()) -> Rewritten:
        r"""
        :param body: the request body, whole.
        :param complete: tells what to add, in its order. What has a member or an ``unless`` that an earlier one added
            is not added.
        :param watch: further top-level names whose presence is to be told.
        :return: the body to send. In a body with an escaped half of a surrogate pair, ``model`` is told with any
            character that is itself written as ``\udXXX`` replaced.
        :raise BadRequest: as :class:`~lmgateway.interfaces.IRequestRewriter` says, or too many top-level members.
        """
        _requireUtf8(body)
        values = readQuickly(body)
        repeated: frozenset[str] = frozenset()
        if values is None:
            values, repeated = readCarefully(body)
            _refuseRepeats(repeated, {"model", "stream", *watch})
        model = _textOf(values["model"]) if "model" in values else None
        completion = complete(model)
        if repeated:
            _refuseRepeats(repeated, _membersOf(completion))
        stream = "stream" in values and _isTrue(values["stream"])
        present = set(values)
        replaced = None
        if completion.alias is not None and model is not None:
            model = _textOf(completion.alias)
            replaced = _placeOfModel(body, values, isRepeating=bool(repeated))
        del values  # they may hold a copy of the body, and another is about to be made

        missing = _missingOf(completion, present)
        for injection in missing:
            if injection.member == "model":
                model = _textOf(injection.value)
            elif injection.member == "stream":
                stream = _isTrue(injection.value)
        new = _spelled(missing, isEmpty=not present)
        if replaced is not None:
            body = _exchanged(body, new, replaced, completion.alias or b"")
        elif new:
            body = _splice(body, new)
        return Rewritten(body, tuple([each.name for each in missing]), model, stream, watch & present)


def _missingOf(completion: Completion, present: set[str]) -> list[Injection]:
    """What of a completion an object lacks that has the members of ``present``."""
    missing: list[Injection] = []
    added: set[str] = set()
    for injection in completion.injections:
        names = {injection.member, *injection.unless}
        if present.isdisjoint(names) and added.isdisjoint(names):
            added.add(injection.member)
            missing.append(injection)
    return missing


def _spelled(missing: list[Injection], *, isEmpty: bool) -> bytes:
    """
    Write members as they stand at the beginning of an object.

    :param isEmpty: whether the object has no members of its own, so that no comma is to follow.
    """
    new = b",".join([msgspec.json.encode(each.member) + b":" + each.value for each in missing])
    return new + b"," if new and not isEmpty else new


def _membersOf(completion: Completion) -> set[str]:
    """Every member that decides about an injection."""
    return {name for injection in completion.injections for name in (injection.member, *injection.unless)}


def _placeOfModel(body: bytes, values: dict[str, msgspec.Raw], *, isRepeating: bool) -> tuple[int, int]:
    """
    Where the value of ``model`` begins and ends.

    :param isRepeating: whether ``values`` has not every member, because some have the same name.
    """
    pairs = membersOf(body) if isRepeating else values.items()
    start = placeOf("model", body, pairs)
    return start, start + len(values["model"])


def _requireUtf8(body: bytes) -> None:
    """
    JSON text exchanged between systems MUST be encoded using UTF-8 (RFC 8259 section 8.1).

    Implementations MUST NOT add a byte order mark to the beginning of networked-transmitted JSON text (the same section).

    :raise BadRequest: it is not, or has one.
    """
    if body.isascii():
        return
    if body.startswith(BOM_UTF8):
        raise _badJson("it begins with a byte order mark. Send plain UTF-8")
    view = memoryview(body)
    offset = 0
    try:
        while offset < len(body):
            end = offset + SMALL_BODY
            offset += utf_8_decode(view[offset:end], "strict", end >= len(body))[1]
    except UnicodeDecodeError as error:
        raise _badJson(f"it is not UTF-8 (byte {offset + error.start})") from None


def readQuickly(body: bytes) -> dict[str, msgspec.Raw] | None:
    """
    The members of a body as most clients write it: small, compact, and with no key twice.

    The parser drops all but the last member of a repeated key and tells nobody. But the keys, values and punctuation that
    it did find then fall short of the body by a whole member. White space and escapes in keys let them fall short, too.

    :param body: UTF-8.
    :return: each key's value; None where the quick look cannot tell.
    """
    if len(body) > SMALL_BODY:
        return None
    try:
        values = _PLAIN.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    written = len("".join(values)) + len(b"".join(values.values())) + len('"":,') * len(values) + len("{}") - 1
    return values if len(body) - written < SHORTEST_MEMBER else None


def readCarefully(body: bytes) -> tuple[dict[str, msgspec.Raw], frozenset[str]]:
    r"""
    The members of any body that is UTF-8.

    Half of a surrogate pair (``"\ud83d"``), what JavaScript makes of a cut emoji, is refused by the parser but must
    pass. The parser then reads a copy in which each ``\udXXX`` stands in the private use area: valid where the original is
    valid apart from pairing, since both are four hexadecimal digits, and as long, so that the parser's positions hold.
    An escaped backslash before ``ud`` is respelled too, which changes text but never structure. Of two names that differ only in
    whether such a character is escaped, nobody can then tell that they are one; no name that decides anything here has any.

    :return: each key's last value, and the keys that are there more than once.
    :raise BadRequest: it is not valid JSON, no object, nested too deeply, or has too many members.
    """
    try:
        return _told(_parse(body))
    except msgspec.DecodeError as error:
        unpaired = _unpaired(body)
        if unpaired == body:
            raise _refusal(error) from None
    try:
        return _told(_parse(unpaired))
    except msgspec.DecodeError as error:
        raise _refusal(error) from None


def membersOf(body: bytes) -> list[tuple[str, msgspec.Raw]]:
    """
    Every member of an object, in its order, however often its name is there.

    :param body: known to be sound. Values may differ from it in escaped surrogates, but not in length.
    """
    try:
        return _parse(body)
    except msgspec.DecodeError:
        return _parse(_unpaired(body))


def placeOf(name: str, body: bytes, members: Iterable[tuple[str, msgspec.Raw]]) -> int:
    """
    Where the value of a member begins.

    The parser tells each value, but not where it is. Between one value and the next there is only a key.

    :param members: all members of ``body``, in their order, ``name`` among them.
    """
    place = 0
    for key, value in members:
        found = _KEY.match(body, place)
        assert found is not None, "A member has a key."  # noqa: S101
        place = found.end()
        if key == name:
            break
        place += len(value)
    return place


def _parse(text: bytes) -> list[tuple[str, msgspec.Raw]]:
    """
    :return: each member, in order.
    :raise msgspec.DecodeError: it is not valid JSON, or no object.
    :raise BadRequest: it is nested too deeply, or has too many members.
    """
    try:
        if len(text) <= SMALL_BODY:
            members = _KEYED.decode(text)
        else:
            members = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=_CountedKeys()).decode(text)
    except RecursionError:
        raise BadRequest(
            "The request body is nested too deeply. Send arrays and objects of at most 512 levels.", code="invalid_json"
        ) from None
    return [(str(key), value) for key, value in members.items()]


def _told(members: list[tuple[str, msgspec.Raw]]) -> tuple[dict[str, msgspec.Raw], frozenset[str]]:
    """The last value of each name, and the names that are there more than once."""
    values = dict(members)
    if len(values) == len(members):
        return values, frozenset()
    return values, frozenset(name for name, times in Counter(name for name, _ in members).items() if times > 1)


def _unpaired(body: bytes) -> bytes:
    """The body with each escaped surrogate in the private use area."""
    return body.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue")


def _refusal(error: msgspec.DecodeError) -> BadRequest:
    """What to tell the client of a parser's error."""
    if isinstance(error, msgspec.ValidationError):
        return BadRequest("The request body must be one JSON object. Send one, in braces.", code="invalid_json")
    reason = str(error).removeprefix("JSON is malformed: ")
    return _badJson(reason[:1].lower() + reason[1:])


def _badJson(reason: str) -> BadRequest:
    return BadRequest(f"The request body is not valid JSON: {reason}.", code="invalid_json")


def _refuseRepeats(repeated: frozenset[str], read: set[str]) -> None:
    """
    Refuse a repeated key that the gateway reads: LM Studio might take the other one. The rest is LM Studio's business.

    :raise BadRequest: there is one.
    """
    for name in sorted(read & repeated):
        raise BadRequest(
            f'The request body names "{name}" more than once. Send it once.', param=name, code="repeated_member"
        )


def _textOf(value: bytes) -> str | None:
    """
    :param value: one JSON value.
    :return: its text if it is a string, else None.
    """
    try:
        return _TEXT.decode(value)
    except msgspec.ValidationError:
        return None


def _isTrue(value: bytes) -> bool:
    return len(value) == 4 and bytes(value) == b"true"


def _splice(body: bytes, members: bytes) -> bytes:
    """The body with something written after its opening brace, in one copy."""
    start = body.index(b"{") + 1
    rest = memoryview(body)
    return b"".join((rest[:start], members, rest[start:]))


def _exchanged(body: bytes, members: bytes, place: tuple[int, int], value: bytes) -> bytes:
    """The body with something written after its opening brace, and another value in a place behind it, in one copy."""
    start = body.index(b"{") + 1
    rest = memoryview(body)
    return b"".join((rest[:start], members, rest[start : place[0]], value, rest[place[1] :]))
