# -*- test-case-name: tests.web.test_followers -*-
"""
Who follows the journal, and how all of them are served without anybody else noticing.

A few followers are served in a turn of the reactor, and turns have a distance, so that hundreds of followers delay a
proxied request by no more than those few do. What streams are sent is written once in a round, however many are sent it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from lmgateway.telemetry.journal import KINDS, Batch, Journal, encodeData
from lmgateway.telemetry.sse import encodeComment, encodeEvent, encodeRetry
from lmgateway.wire.request import GatewayRequest

_log = Logger()

HEARTBEAT_SECONDS = 15.0
"""How often each stream is sent a comment, so that nobody on the way takes it for dead."""

PROGRESS_SECONDS = 1.0
"""About how often those who watch are told how far the answers are that pass."""

LEAST_PROGRESS_SECONDS = 0.9 * PROGRESS_SECONDS
"""After how long the progress goes along with events that come, so that it is seldom written by itself."""

RETRY_MS = 2000
"""After how long a client that lost its stream comes back."""

TURN = 4
"""Followers that are served in one turn of the reactor."""

TURN_SECONDS = 0.004
"""Between two such turns: with a thousand followers, each is served once a second."""

WRITE_EVENTS = 500
WRITE_SIZE = 64 * 1024
"""What a stream is sent at once. A client that is behind gets more when it has taken that."""

HEAD = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    # nginx would hold events back until a buffer is full.
    (b"X-Accel-Buffering", b"no"),
)

Kinds = frozenset[str] | None


class Frames(Struct, frozen=True):
    """
    A piece of the journal as streams have it.

    :param data: whole events.
    :param next: the position after it.
    :param more: whether there was more than fits in one write.
    """

    data: bytes
    next: int
    more: bool


class Edition:
    """
    What streams are sent in one round.

    :param journal: where it comes from.
    :param now: tells the time for gaps.
    :param comment: goes to every stream.
    :param progress: goes to those that want it.
    """

    _KEPT = 16

    def __init__(self, journal: Journal, now: Callable[[], float], comment: bytes = b"", progress: bytes = b"") -> None:
        self.journal = journal
        self.comment = comment
        self.progress = progress
        self._now = now
        self._frames: dict[tuple[int, Kinds], Frames] = {}

    def framesAt(self, position: int, kinds: Kinds) -> Frames:
        """Give what a stream at a position is sent next. Streams at the same position share it."""
        frames = self._frames.get((position, kinds))
        if frames is None:
            if len(self._frames) == self._KEPT:
                self._frames.clear()
            self._frames[position, kinds] = frames = self._write(position, kinds)
        return frames

    def _write(self, position: int, kinds: Kinds) -> Frames:
        journal = self.journal
        batch = journal.read(position, kinds, WRITE_EVENTS, WRITE_SIZE)
        pieces = [encodeEvent(event.data, event.kind, str(event.id)) for event in batch.events]
        if batch.gap:
            lost = encodeData({"lost": batch.gap}, self._now())
            # Its id is that of the last event that is lost, so that it is not told again.
            pieces.insert(0, encodeEvent(lost, "gap", str(position + batch.gap - 1)))
        return Frames(b"".join(pieces), batch.next, batch.next < journal.nextId)


class IFollower(Protocol):
    """Somebody who follows."""

    def serve(self, edition: Edition) -> bool:
        """Take what is new. :return: whether there is more, and room for it."""

    def end(self) -> None:
        """Be answered to the end, now."""


class Rounds:
    """
    Serves all followers in turn.

    :param journal: what they follow.
    :param clock: its turns.
    :param tellProgress: writes how far the answers are that pass, or nothing.
    """

    def __init__(self, journal: Journal, clock: IReactorTime, tellProgress: Callable[[], bytes]) -> None:
        self.journal = journal
        self._clock = clock
        self._tellProgress = tellProgress
        self._followers: dict[IFollower, None] = {}
        self._watching: set[IFollower] = set()
        self._due: deque[IFollower] = deque()
        self._edition = Edition(journal, clock.seconds)
        self._isWanted = False
        self._comment = self._progress = b""
        self._turnCall: IDelayedCall | None = None
        self._beatCall: IDelayedCall | None = None
        self._progressCall: IDelayedCall | None = None
        self._nextProgress = 0.0
        self._nextTurn = 0.0

    def __len__(self) -> int:
        return len(self._followers)

    def join(self, follower: IFollower, *, isWatching: bool = False) -> None:
        """
        Serve somebody from now on.

        :param isWatching: whether to tell them how far the answers are that pass.
        """
        self._followers[follower] = None
        if isWatching:
            self._watching.add(follower)
            if self._progressCall is None:
                self._progressCall = self._clock.callLater(PROGRESS_SECONDS, self._progressDue)
                self._nextProgress = self._clock.seconds() + LEAST_PROGRESS_SECONDS
        if self._beatCall is None:
            self._beatCall = self._clock.callLater(HEARTBEAT_SECONDS, self._beat)
        self.ask()

    def leave(self, follower: IFollower) -> None:
        """Serve somebody no more. Nothing goes on when nobody is left."""
        self._followers.pop(follower, None)
        self._watching.discard(follower)
        if not self._watching and self._progressCall is not None:
            self._progressCall.cancel()
            self._progressCall = None
        if not self._followers:
            self._rest()

    def endAll(self) -> None:
        """End all, each with what is there for it."""
        edition = Edition(self.journal, self._clock.seconds)
        for follower in list(self._followers):
            self._serve(follower, edition)
            follower.end()

    def ask(self) -> None:
        """Have another round: there is news, or somebody can take more."""
        self._isWanted = True
        if self._turnCall is None:
            delay = max(0.0, self._nextTurn - self._clock.seconds())
            self._turnCall = self._clock.callLater(delay, self._turn)

    def _turn(self) -> None:
        self._turnCall = None
        if not self._due:
            self._beginRound()
        served = 0
        while self._due and served < TURN:
            served += 1
            follower = self._due.popleft()
            if follower in self._followers and self._serve(follower, self._edition):
                self._due.append(follower)
        self._nextTurn = self._clock.seconds() + TURN_SECONDS
        if (self._due or self._isWanted) and self._turnCall is None:
            self._turnCall = self._clock.callLater(TURN_SECONDS, self._turn)

    def _beginRound(self) -> None:
        self._isWanted = False
        self._due.extend(self._followers)
        self._takeProgress()
        self._edition = Edition(self.journal, self._clock.seconds, self._comment, self._progress)
        self._comment = self._progress = b""
        # What happens from here on is for the next round.
        self.journal.forgetWaiter(self.ask)
        self.journal.awaitEvent(self.ask)

    def _beat(self) -> None:
        self._beatCall = self._clock.callLater(HEARTBEAT_SECONDS, self._beat)
        self._comment = encodeComment()
        self.ask()

    def _progressDue(self) -> None:
        self._progressCall = self._clock.callLater(PROGRESS_SECONDS, self._progressDue)
        self._takeProgress()
        if self._progress:
            self.ask()

    def _takeProgress(self) -> None:
        now = self._clock.seconds()
        if self._watching and now >= self._nextProgress:
            self._nextProgress = now + LEAST_PROGRESS_SECONDS
            self._progress = self._tellProgress()

    def _serve(self, follower: IFollower, edition: Edition) -> bool:
        try:
            return follower.serve(edition)
        except Exception:  # noqa: BLE001 - a defect met with one follower must not take the events from all others
            _log.failure("Defect while serving a follower of the events")
            follower.end()
            return False

    def _rest(self) -> None:
        for call in (self._turnCall, self._beatCall):
            if call is not None and call.active():
                call.cancel()
        self._turnCall = self._beatCall = None
        self._isWanted = False
        self._due.clear()
        self._edition = Edition(self.journal, self._clock.seconds)
        self.journal.forgetWaiter(self.ask)


@implementer(IPushProducer)
class StreamFollower:
    """
    One event stream.

    While its client does not read it is not written to; when the client reads again it goes on from where it was.

    :param request: is answered with the stream.
    :param rounds: serve it.
    :param position: where it begins.
    :param kinds: the types that it wants.
    :param isWatching: whether it wants to know how far the answers are that pass.
    :ivar done: fires when the stream has ended; cancelling it leaves the answer as it is.
    """

    def __init__(
        self, request: GatewayRequest, rounds: Rounds, position: int, kinds: Kinds, *, isWatching: bool
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._leave())
        self._request = request
        self._rounds = rounds
        self._position = position
        self._kinds = kinds
        self._isWatching = isWatching
        self._isPaused = False

    def begin(self, hello: bytes) -> None:
        """
        Say hello, and follow.

        :param hello: what ``connected`` says. Its id is that of the event before the first one to come, so that a client
            that loses the connection right after it comes back to the same place.
        """
        request = self._request
        request.sendHead(200, b"OK", HEAD, None)
        request.registerProducer(self, True)
        request.sendBody(encodeRetry(RETRY_MS) + encodeEvent(hello, "connected", str(self._position - 1)))
        self._rounds.join(self, isWatching=self._isWatching)

    def serve(self, edition: Edition) -> bool:
        """Send what is new, unless the client is behind."""
        if self._isPaused:
            return False
        frames = edition.framesAt(self._position, self._kinds)
        self._position = frames.next
        progress = edition.progress if self._isWatching else b""
        self._request.sendBody(edition.comment + progress + frames.data)
        return frames.more and not self._isPaused

    def end(self) -> None:
        """End the answer, so that nothing seems to be missing; a client that is behind is not waited for."""
        request = self._request
        self._leave()
        if request.ended:
            return
        request.unregisterProducer()
        if self._isPaused:
            # Whoever waits for ``done`` is told by the loss of the connection.
            request.cut = True
            request.channel.abortConnection()
            return
        # With this the handler returns, and Klein finishes the answer.
        self.done.callback(None)

    def pauseProducing(self) -> None:
        """The client is behind."""
        self._isPaused = True

    def resumeProducing(self) -> None:
        """The client has caught up."""
        self._isPaused = False
        self._rounds.ask()

    def stopProducing(self) -> None:
        """The client is gone; the request says so to whoever waits."""

    def _leave(self) -> None:
        self._rounds.leave(self)


class PollFollower:
    """
    One long poll.

    :param rounds: serve it.
    :param batch: what was there, which was not enough.
    :param kinds: the types that it wants.
    :param limit: events, at most.
    :ivar done: fires with what there is, once there is anything, or when there is no more waiting.
    """

    def __init__(self, rounds: Rounds, batch: Batch, kinds: Kinds, limit: int) -> None:
        self.done: Deferred[Batch] = Deferred(lambda _: self._leave())
        self._rounds = rounds
        self._batch = batch
        self._kinds = kinds
        self._limit = limit
        self._late: IDelayedCall | None = None

    def begin(self, clock: IReactorTime, seconds: float) -> None:
        """Wait, for so many seconds at most."""
        self._late = clock.callLater(seconds, self.end)
        self._rounds.join(self)

    def serve(self, edition: Edition) -> bool:
        """Look whether there is something by now."""
        self._batch = edition.journal.read(self._batch.next, self._kinds, self._limit)
        if self._batch.events or self._batch.gap:
            self.end()
        return False

    def end(self) -> None:
        """Wait no longer."""
        self._leave()
        if not self.done.called:
            self.done.callback(self._batch)

    def _leave(self) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._rounds.leave(self)


def helloOf(position: int, asked: int | None, kinds: Kinds, moment: float) -> bytes:
    """
    Write what ``connected`` says.

    :param position: where the stream begins.
    :param asked: the position that the client asked for, where it did.
    :param kinds: the types that it wants.
    """
    sentences = [f"Connected. Events follow from {position} on."]
    if asked is not None and asked > position:
        sentences.append(f"{asked - 1} is no id of this run of the gateway, so all that is held of it follows.")
    unknown = sorted((kinds or frozenset()) - KINDS)
    if unknown:
        sentences.append(f"No event has the type {', '.join(unknown)}.")
    return encodeData({"message": " ".join(sentences)}, moment)
