# -*- test-case-name: tests.web.test_feed -*-
"""
The journal's two faces: an event stream, and a long poll (contract, section 5).

A stream that is asked with ``?progress=1`` also tells, once a second, how far the answers are that pass.

A stream resumes after an id: ``Last-Event-ID`` and ``?since`` name the last event that was seen. A poll reads on from
``?since``, which is ``next`` of the answer before. In both, ``since=0`` is all that is held.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import msgspec
from klein import Klein
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lmgateway.errors import BadRequest, TooManyRequests
from lmgateway.policy.sessions import Sessions, decidingToken
from lmgateway.telemetry.exchanges import Exchanges
from lmgateway.telemetry.journal import Batch, Journal
from lmgateway.telemetry.progress import encodeProgress
from lmgateway.telemetry.sse import encodeRetry
from lmgateway.web.followers import HEAD, RETRY_MS, IFollower, Kinds, PollFollower, Rounds, StreamFollower, helloOf
from lmgateway.web.responses import answerErrors, respondJson
from lmgateway.wire.request import GatewayRequest

LONGEST_POLL = 60.0
USUAL_POLL = 30.0
"""Seconds that a poll waits, at most and unless it says."""

MOST_EVENTS = 1000
USUAL_EVENTS = 100
"""Events that a poll gives, at most and unless it says."""

_COME_BACK_SECONDS = 10
_LONGEST_CALL = 86_400.0
"""Seconds after which a stream of a key that ends is ended, however late that is: its client comes back."""
_SWITCH = re.compile(r"[01]")
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII)


class FeedApi:
    """
    ``/debug/stream`` and ``/debug/poll``.

    :param journal: what happened.
    :param exchanges: the requests in flight.
    :param sessions: who is signed in to the dashboard.
    :param clock: for heartbeats and timeouts.
    :param most: who may follow at the same time.
    :param mostPerKey: the same, of one key.
    """

    app = Klein()
    answerErrors(app)

    def __init__(
        self,
        journal: Journal,
        exchanges: Exchanges,
        sessions: Sessions,
        clock: IReactorTime,
        most: int,
        mostPerKey: int,
    ) -> None:
        inFlight = exchanges.inFlight
        self.rounds = Rounds(journal, clock, lambda: encodeProgress(inFlight.values(), clock.seconds()))
        self._journal = journal
        self._sessions = sessions
        self._clock = clock
        self._most = most
        self._mostPerKey = mostPerKey
        self._following: Counter[str] = Counter()
        self._followers: dict[IFollower, str | None] = {}
        self._isClosed = False

    def configure(self, most: int, mostPerKey: int) -> None:
        """Allow others from now on. Who follows already goes on."""
        self._most, self._mostPerKey = most, mostPerKey

    def closeAll(self) -> None:
        """
        End every stream and answer every poll, now and from now on: the gateway is stopping.

        A stream ends as if it were complete, so that its client comes back; an error would keep an EventSource away.
        """
        self._isClosed = True
        self.rounds.endAll()

    def endFollowing(self, keyId: str) -> None:
        """
        End the streams and answer the polls of a key, which may be good no more. Whoever still may follow comes back.

        :param keyId: the key's id.
        """
        for follower, follows in list(self._followers.items()):
            if follows == keyId:
                follower.end()

    @app.route("/debug/stream", methods=["GET"])
    async def stream(self, request: GatewayRequest) -> None:
        """Send events until somebody has had enough."""
        asked = streamPosition(request)
        kinds = kindsOf(request)
        isWatching = _parameter(request, "progress", _SWITCH, "0 or 1") == "1"
        if self._isClosed:
            request.sendWhole(200, HEAD, encodeRetry(RETRY_MS))
            return
        position = self._journal.nextId if asked is None else self._journal.locate(asked)
        with self._admitted(request):
            follower = StreamFollower(request, self.rounds, position, kinds, isWatching=isWatching)
            follower.begin(helloOf(position, asked, kinds, self._clock.seconds()))
            with self._whileGood(request, follower):
                await follower.done

    @app.route("/debug/poll", methods=["GET"])
    async def poll(self, request: GatewayRequest) -> None:
        """Give the next events, at once or when they come."""
        position = int(_parameter(request, "since", _ID, "a whole number, 0 or more") or "0")
        limit = int(_bounded(request, "limit", _ID, USUAL_EVENTS, 1, MOST_EVENTS))
        seconds = _bounded(request, "timeout", _SECONDS, USUAL_POLL, 0, LONGEST_POLL)
        kinds = kindsOf(request)
        batch = self._journal.read(position, kinds, limit)
        if seconds and not batch.events and not batch.gap and not self._isClosed:
            with self._admitted(request):
                follower = PollFollower(self.rounds, batch, kinds, limit)
                follower.begin(self._clock, seconds)
                with self._whileGood(request, follower):
                    batch = await follower.done
        respondJson(request, batchData(batch))

    @contextmanager
    def _admitted(self, request: GatewayRequest) -> Iterator[None]:
        """
        Count whoever follows, while they do.

        :raise TooManyRequests: there are too many.
        """
        key = request.principal.name if request.principal is not None else ""
        if self._following[key] >= self._mostPerKey:
            raise _tooMany(f"{self._mostPerKey} event streams and polls of this key are open", "maxSubscribersPerKey")
        if self._following.total() >= self._most:
            raise _tooMany(f"{self._most} event streams and polls are open", "maxSubscribers")
        self._following[key] += 1
        try:
            yield
        finally:
            self._following[key] -= 1
            if not self._following[key]:
                del self._following[key]

    @contextmanager
    def _whileGood(self, request: GatewayRequest, follower: IFollower) -> Iterator[None]:
        """Have a follower end when its key does, or its session."""
        principal = request.principal
        expires = principal.grant.expires if principal is not None else None
        self._followers[follower] = principal.keyId if principal is not None else None
        calls: list[IDelayedCall] = []
        try:
            with self._inSession(request, follower.end) as sessionEnds:
                for moment in (expires, sessionEnds):
                    if moment is not None:
                        seconds = min(moment - self._clock.seconds(), _LONGEST_CALL)
                        calls.append(self._clock.callLater(max(0.0, seconds), follower.end))
                yield
        finally:
            del self._followers[follower]
            for call in calls:
                if call.active():
                    call.cancel()

    def _inSession(self, request: GatewayRequest, cut: Callable[[], None]) -> AbstractContextManager[float | None]:
        token = decidingToken(request.head)
        return nullcontext() if token is None else self._sessions.lasting(token, cut)


def _tooMany(what: str, setting: str) -> TooManyRequests:
    message = f"{what}, which is as many as debug.{setting} allows. Close some, or come back later."
    return TooManyRequests(message, retryAfter=_COME_BACK_SECONDS)


def batchData(batch: Batch) -> dict[str, Any]:
    """Give a batch as a poll is answered with it."""
    return {
        "events": [{"id": event.id, "type": event.kind, "data": msgspec.Raw(event.data)} for event in batch.events],
        "next": batch.next,
        "gap": batch.gap,
    }


def streamPosition(request: GatewayRequest) -> int | None:
    """
    Give where a stream is to begin: after ``Last-Event-ID``, or else after ``?since``; None where neither is said.

    An EventSource that comes back sends the header and keeps its URL, so the header decides.

    :return: a position; 0 for all that is held.
    :raise BadRequest: what decides is no id.
    """
    header = (request.head.first(b"last-event-id") or b"").strip()
    if header:
        text = header.decode("latin-1")
        if not _ID.fullmatch(text):
            raise BadRequest("Last-Event-ID must be the id of an event: a whole number.", param="Last-Event-ID")
        return int(text) + 1
    since = _parameter(request, "since", _ID, "the id of an event, or 0")
    if since is None:
        return None
    return int(since) + 1 if int(since) else 0


def kindsOf(request: GatewayRequest) -> Kinds:
    """Give the types that ``?types=a,b`` names, or None where it does not."""
    values = request.args.get(b"types", [])
    names = b",".join(values).decode("utf-8", "replace").split(",")
    return frozenset(name.strip() for name in names if name.strip()) or None


def _parameter(request: GatewayRequest, name: str, form: re.Pattern[str], what: str) -> str | None:
    """
    Read a parameter of the query.

    :return: None where it is not there.
    :raise BadRequest: it is there twice, or has another form.
    """
    values = request.args.get(name.encode("ascii"), [])
    if not values:
        return None
    text = values[0].decode("latin-1")
    if len(values) > 1 or not form.fullmatch(text):
        raise BadRequest(f"{name} must be {what}, once.", param=name)
    return text


def _bounded(
    request: GatewayRequest, name: str, form: re.Pattern[str], usual: float, least: float, most: float
) -> float:
    """
    Read a number from the query.

    :raise BadRequest: it is none, or out of range.
    """
    what = f"a number from {least:g} to {most:g}"
    value = float(_parameter(request, name, form, what) or usual)
    if not least <= value <= most:
        raise BadRequest(f"{name} must be {what}.", param=name)
    return value
