# -*- test-case-name: tests.policy.test_stream_options -*-
"""
Asking for the usage of a stream whose client did not: ``stream_options.include_usage``, which OpenAI's completions have.

Without it LM Studio's streams tell no tokens at all. The chunk that comes of it is taken out again by
:mod:`lmgateway.telemetry.usage_chunk`.
"""

from __future__ import annotations

import msgspec

from lmgateway.errors import BadRequest
from lmgateway.message import Rewritten
from lmgateway.policy.injection import placeOf, readCarefully, readQuickly

STREAM_OPTIONS = "stream_options"
WATCHED = frozenset({STREAM_OPTIONS})
"""What the rewriter must watch for, so that :func:`askForUsage` need not read the body again."""

ASKABLE_DIALECTS = frozenset({"openai", "native_v0"})
"""The dialects whose completions take ``stream_options``; the others tell their usage unasked."""

_OPTION = b'"include_usage":true'
_MEMBER = b'"stream_options":{' + _OPTION + b"}"


def askForUsage(rewritten: Rewritten) -> bytes | None:
    """
    Ask for the usage, if that takes asking.

    :param rewritten: a request for a completion, rewritten with :data:`WATCHED` watched.
    :return: the body that asks; None where the one at hand must do: it asks for no stream, or says itself whether it
        wants the usage.
    """
    if not rewritten.stream:
        return None
    if STREAM_OPTIONS in rewritten.members:
        return withUsage(rewritten.body)
    # It has a member, ``stream``.
    return _opened(rewritten.body, 0, _MEMBER + b",")


def withUsage(body: bytes) -> bytes | None:
    """
    Splice ``stream_options.include_usage`` into a request. Every byte of it stays, in order.

    :param body: the body, one JSON object. One that is not, or names a member twice, is left alone.
    :return: the body with it; None where ``stream_options`` has ``include_usage``, whatever its value, or is no object.
    """
    try:
        members = _read(body)
        if members is None:
            return None
        options = members.get(STREAM_OPTIONS)
        if options is None:
            return _opened(body, 0, _MEMBER + (b"," if members else b""))
        return _withOption(body, members, bytes(options))
    except (BadRequest, UnicodeDecodeError):
        return None


def _withOption(body: bytes, members: dict[str, msgspec.Raw], options: bytes) -> bytes | None:
    """Splice ``include_usage`` into the options that are there."""
    inner = _read(options) if options.startswith(b"{") else None
    if inner is None or "include_usage" in inner:
        return None
    return _opened(body, placeOf(STREAM_OPTIONS, body, members.items()), _OPTION + (b"," if inner else b""))


def _read(text: bytes) -> dict[str, msgspec.Raw] | None:
    """
    The members of an object in their order; None where one is there twice.

    :raise BadRequest: it is no object.
    """
    values = readQuickly(text)
    if values is not None:
        return values
    values, repeated = readCarefully(text)
    return None if repeated else values


def _opened(body: bytes, place: int, members: bytes) -> bytes:
    """The body with something written after the first brace from ``place`` on."""
    start = body.index(b"{", place) + 1
    rest = memoryview(body)
    return b"".join((rest[:start], members, rest[start:]))


def refusesUsage(status: int, body: bytes) -> bool:
    """
    Whether an answer refuses a request for being asked for the usage.

    :param status: of the answer.
    :param body: its body, or enough of its beginning. An error names the member that it is about.
    """
    return status in {400, 422} and (b"stream_options" in body or b"include_usage" in body)


class UsageAsking:
    """
    Remembers which upstreams are asked for the usage of streams.

    :param isWanted: whether any is.
    """

    def __init__(self, *, isWanted: bool = True) -> None:
        self.isWanted = isWanted
        self._refusing: set[str] = set()

    def asks(self, upstream: str) -> bool:
        """
        Whether to ask.

        :param upstream: its URL.
        """
        return self.isWanted and upstream not in self._refusing

    def refused(self, upstream: str) -> None:
        """
        Never ask it again: it refused a request that asked, and took the same one without.

        :param upstream: its URL.
        """
        self._refusing.add(upstream)
