# -*- test-case-name: tests.commands.test_loading -*-
"""
Having the gateway load a model, and hearing meanwhile how far it is.

The answer comes when the model is loaded, which may take minutes, and the progress comes as events: so two threads listen,
one for each, and what they hear comes out in one order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any

from msgspec import Struct

from lmgateway.commands.follow import EventFollower
from lmgateway.commands.tail import dataOf
from lmgateway.commands.talk import Place, TalkError
from lmgateway.telemetry.sse import StreamEvent

PROGRESS = "model_load_progress"

_WAKE_SECONDS = 0.5
"""How often whoever waits wakes up: on Windows Ctrl-C is not seen before."""


class Progress(Struct, frozen=True):
    """
    How far a load is.

    :param percent: from 0 to 100.
    """

    percent: float


class Trouble(Struct, frozen=True):
    """
    The progress cannot be heard for a while; the load goes on.

    :param reason: a sentence.
    """

    reason: str


class _OverError(Exception):
    """Nobody listens any more."""


class Loading:
    """
    A model that is being loaded.

    :param place: the gateway that does it.
    :param order: the body of ``POST /admin/models/load``.
    """

    def __init__(self, place: Place, order: Mapping[str, Any]) -> None:
        self._place = place
        self._order = order
        self._news: SimpleQueue[Progress | Trouble | TalkError | dict[str, Any]] = SimpleQueue()
        self._over = threading.Event()
        self.answer: Mapping[str, Any] = {}

    def updates(self) -> Iterator[Progress | Trouble]:
        """
        Load, and give what is heard until it is loaded. :attr:`answer` is what the gateway answered then.

        :raise TalkError: it was not loaded, or nobody knows.
        """
        follower = EventFollower(self._place, f"/debug/stream?types={PROGRESS}", self._troubled, self._pause)
        events = follower.events()
        try:
            # The gateway greets whoever follows: after that no event is missed, so the load may begin.
            next(events)
        except TalkError as error:
            # Progress is good to have, but not what was asked for. What is wrong with the gateway, the load will tell.
            self._troubled(f"The progress cannot be shown. {error.message}")
        else:
            threading.Thread(target=self._follow, args=(events,), daemon=True).start()
        threading.Thread(target=self._load, daemon=True).start()
        try:
            yield from self._heard()
        finally:
            self._over.set()

    def cancel(self) -> Mapping[str, Any]:
        """
        Have the gateway cancel the load.

        :raise TalkError: it did not, or nobody knows.
        """
        self._over.set()
        names = ("modelKey", "instanceId")
        order = {name: self._order[name] for name in names if name in self._order}
        return self._place.post("/admin/models/load/cancel", order)

    def _heard(self) -> Iterator[Progress | Trouble]:
        while True:
            try:
                news = self._news.get(timeout=_WAKE_SECONDS)
            except Empty:
                continue
            if isinstance(news, TalkError):
                raise news
            if isinstance(news, dict):
                self.answer = news
                return
            yield news

    def _load(self) -> None:
        try:
            self._news.put(self._place.post("/admin/models/load", self._order, None))
        except TalkError as error:
            self._news.put(error)

    def _follow(self, events: Iterator[StreamEvent]) -> None:
        try:
            for event in events:
                percent = progressOf(event, self._order)
                if percent is not None:
                    self._news.put(Progress(percent))
        except _OverError:
            """The load has ended while the stream was lost."""
        except TalkError as error:
            self._troubled(error.message)

    def _troubled(self, reason: str) -> None:
        if not self._over.is_set():
            self._news.put(Trouble(reason))

    def _pause(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise _OverError


def progressOf(event: StreamEvent, order: Mapping[str, Any]) -> float | None:
    """
    Give how far a load is, in percent, where an event tells it.

    :param order: what was ordered; others may load models at the same time.
    """
    if event.kind != PROGRESS:
        return None
    data = dataOf(event)
    instance = order.get("instanceId")
    if data.get("modelKey") != order.get("modelKey") or (instance is not None and data.get("instanceId") != instance):
        return None
    percent = data.get("progress")
    if not isinstance(percent, int | float) or isinstance(percent, bool):
        return None
    return float(max(0, min(percent, 100)))
