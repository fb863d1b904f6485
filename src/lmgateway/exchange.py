# -*- test-case-name: tests.test_exchange -*-
"""
One inference request as it is watched: who asks what of which model, when each thing happened, how it ended.

Everything is counted from Unix times that are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Phase = Literal["reading", "waiting", "answering", "ended"]
"""Where an exchange is: its body is read, LM Studio is silent, the answer passes, it is over."""

Ending = Literal["complete", "cancelled", "cut", "failed"]
"""
How it ended: answered whole (whatever the status), left by its client, broken off in the midst of its answer, or never
answered by LM Studio.
"""


def _nothing() -> None:
    """Cancel what is over."""


def _untold() -> None:
    """Nothing is told of the tokens."""


class TokenUsage(Struct, frozen=True):
    """
    The tokens of one answer.

    :param promptTokens: as LM Studio told; None where it did not.
    :param completionTokens: as LM Studio told, or else the pieces of text that passed.
    :param estimated: whether the completion tokens were counted rather than told.
    """

    promptTokens: int | None
    completionTokens: int | None
    estimated: bool = False

    @property
    def totalTokens(self) -> int | None:
        """Both together, where either is known."""
        if self.promptTokens is None and self.completionTokens is None:
            return None
        return (self.promptTokens or 0) + (self.completionTokens or 0)


class Exchange(Struct, gc=False, eq=False):
    """
    One inference request, from its complete head to the end of its answer. Times are Unix times, 0 where not yet.

    It holds no reference to anything that holds it, so the garbage collector need not look at it.

    :param requestId: what ``X-Request-Id`` tells the client.
    :param method: of the request.
    :param path: the path as the client spelled it, without its query.
    :param route: the route's name.
    :param key: the name of the key.
    :param keyId: the key's id, where it is a stored one.
    :param client: the client's address.
    :param startedAt: when the head was complete.
    :param cancel: ends it as if its client had left.
    :param model: what went upstream as ``model``.
    :param stream: whether a stream was asked for.
    :param injected: the names of what was injected.
    :param sentAt: when the request went upstream.
    :param answeredAt: when the answer's head came.
    :param firstTokenAt: when the first piece of generated text passed.
    :param endedAt: when it was over.
    :param status: of the answer that the client was sent.
    :param usage: its tokens, where they are known.
    :param tokensPerSecond: as LM Studio told, or else completion tokens over the time from the first one to the last.
    :param finishReason: why generation ended, as LM Studio told.
    :param error: what went wrong, as the client was told.
    :param ending: how it ended.
    :param usageSoFar: tells the tokens that have passed while its answer does.
    """

    requestId: str
    method: str
    path: str
    route: str
    key: str
    keyId: str | None
    client: str
    startedAt: float
    cancel: Callable[[], None]
    model: str | None = None
    stream: bool = False
    injected: tuple[str, ...] = ()
    sentAt: float = 0.0
    answeredAt: float = 0.0
    firstTokenAt: float = 0.0
    endedAt: float = 0.0
    status: int | None = None
    usage: TokenUsage | None = None
    tokensPerSecond: float | None = None
    finishReason: str | None = None
    error: str | None = None
    ending: Ending | None = None
    bytesIn: int = 0
    bytesOut: int = 0
    usageSoFar: Callable[[], TokenUsage | None] = _untold

    def release(self) -> None:
        """Hold on to nothing of the request any more: it is over, and there is nothing left to cancel."""
        self.cancel = _nothing
        self.usageSoFar = _untold

    @property
    def phase(self) -> Phase:
        """Where it is now."""
        if self.endedAt:
            return "ended"
        if self.answeredAt:
            return "answering"
        return "waiting" if self.sentAt else "reading"

    @property
    def ttftMs(self) -> float | None:
        """Milliseconds from the complete head to the first piece of generated text."""
        return round((self.firstTokenAt - self.startedAt) * 1000, 1) if self.firstTokenAt else None

    def totalTimeMs(self, now: float) -> float:
        """Milliseconds from the complete head to the end, or to ``now`` while there is none."""
        return round(((self.endedAt or now) - self.startedAt) * 1000, 1)
