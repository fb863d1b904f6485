# -*- test-case-name: tests.telemetry.test_usage_figures -*-
"""
The figures that an answer tells of itself, in the words of each API, and how JSON is read that may be broken or cut off.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from zope.interface import implementer

from lmgateway.exchange import TokenUsage
from lmgateway.interfaces import IAnswerReader

HELD_LIMIT = 65_536
"""Bytes of an answer that are held at most: of one that is no stream its end, of a stream one line."""

MOST_TOKENS = 2**53
"""A number of tokens from here on is none: JavaScript could not count so far, nor could any sum of them be stored."""

KEY_ATTEMPTS = 8
"""How many places with the same key are tried in the end of an answer."""

T = TypeVar("T")


@implementer(IAnswerReader)
class Figures:
    """
    What is known of an answer so far. Every reader is one.

    :ivar promptTokens: as told, the cached ones among them.
    :ivar completionTokens: as told.
    :ivar texts: the events that carried text; of an answer that is no stream, none.
    :ivar timeToFirstToken: seconds, as LM Studio told where it did.
    """

    tokensPerSecond: float | None = None
    timeToFirstToken: float | None = None
    finishReason: str | None = None
    promptTokens: int | None = None
    completionTokens: int | None = None
    texts = 0

    def feed(self, data: bytes) -> bool:
        """See :class:`~lmgateway.interfaces.IAnswerReader`."""
        raise NotImplementedError

    def finish(self) -> None:
        """See :class:`~lmgateway.interfaces.IAnswerReader`."""
        raise NotImplementedError

    @property
    def usage(self) -> TokenUsage | None:
        """
        The tokens. Where the answer did not tell those that were generated, each event with text counts as one of them.

        :return: None where nothing was told and no text was seen.
        """
        prompt, completion = self.promptTokens, self.completionTokens
        if completion is None and self.texts:
            return TokenUsage(prompt, self.texts, estimated=True)
        return None if prompt is None and completion is None else TokenUsage(prompt, completion)

    def readUsage(self, told: Any) -> None:
        """
        Take in a ``usage`` object, or the ``stats`` of ``/api/v1/chat``, which count too. What is told again is told anew.

        :param told: any JSON value; one that is no such object tells nothing.
        """
        if not isinstance(told, dict):
            return
        prompt = promptTokensOf(told)
        if prompt is not None:
            self.promptTokens = prompt
        completion = completionTokensOf(told)
        if completion is not None:
            self.completionTokens = completion

    def readStats(self, told: Any) -> None:
        """
        Take in the ``stats`` of LM Studio's own APIs: ``/api/v0`` and ``/api/v1`` spell the same time differently.

        :param told: any JSON value.
        """
        if not isinstance(told, dict):
            return
        self.tokensPerSecond = _measure(told.get("tokens_per_second")) or self.tokensPerSecond
        seconds = told.get("time_to_first_token", told.get("time_to_first_token_seconds"))
        self.timeToFirstToken = _measure(seconds) or self.timeToFirstToken
        if self.finishReason is None:
            self.readReason(told.get("stop_reason"))

    def readReason(self, told: Any) -> None:
        """
        Take in why generation ended.

        :param told: any JSON value; only text that is not empty tells.
        """
        if isinstance(told, str) and told:
            self.finishReason = told


def promptTokensOf(told: dict[str, Any]) -> int | None:
    """
    The tokens of the whole prompt.

    "Total input tokens in a request is the summation of ``input_tokens``, ``cache_creation_input_tokens``, and
    ``cache_read_input_tokens``" (Anthropic's reference of the Messages API); in OpenAI's APIs the cached ones are counted in.

    :param told: a ``usage`` object of any API.
    """
    tokens = _count(told.get("prompt_tokens", told.get("input_tokens")))
    if tokens is None:
        return None
    cached = (_count(told.get(name)) for name in ("cache_creation_input_tokens", "cache_read_input_tokens"))
    return tokens + sum(count or 0 for count in cached)


def completionTokensOf(told: dict[str, Any]) -> int | None:
    """
    The tokens that were generated.

    :param told: a ``usage`` object of any API, or the ``stats`` of ``/api/v1/chat``.
    """
    for name in ("completion_tokens", "output_tokens", "total_output_tokens"):
        tokens = _count(told.get(name))
        if tokens is not None:
            return tokens
    return None


def decode(decoder: msgspec.json.Decoder[T], text: bytes) -> T | None:
    r"""
    Read JSON that may be anything.

    Half of a surrogate pair (``"\ud83d"``), which a cut emoji is in JavaScript, and bytes that are not UTF-8 are refused by
    the parser; but it is the figures that matter here, so the text around them is changed until it is read.

    :return: None where it cannot be read, or is not what the decoder expects.
    """
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    mended = text.decode("utf-8", "replace").encode().replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue")
    if mended == text:
        return None
    try:
        return decoder.decode(mended)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decodeEnd(decoder: msgspec.json.Decoder[T], end: bytes, key: bytes, opening: bytes) -> T | None:
    r"""
    Read the last members of a JSON text whose beginning is lost.

    That ``key`` is one of the object wanted, and not part of a text or of some object within, need not be believed: from
    there to the end, with ``opening`` before it, it must be JSON, so that every brace after it closes one of those in ``opening``.
    Nor can it stand inside a string: there its quotes would be written ``\"``.

    :param end: the last bytes of the text.
    :param key: the member to begin with, in its quotes.
    :param opening: the braces, and names, of the objects that the member is in.
    :return: None where there is no such member.
    """
    place = len(end)
    for _ in range(KEY_ATTEMPTS):
        place = end.rfind(key, 0, place)
        if place < 0:
            break
        found = decode(decoder, opening + end[place:])
        if found is not None:
            return found
    return None


def _count(value: Any) -> int | None:
    """A number of tokens, or None if it can be none. A boolean is none, though Python counts with it."""
    return value if type(value) is int and 0 <= value < MOST_TOKENS else None


def _measure(value: Any) -> float | None:
    """A time or a rate, or None if it was not measured: JSON has no infinity, and LM Studio's 0 is no time at all."""
    return float(value) if type(value) in {int, float} and 0 < value < MOST_TOKENS else None
