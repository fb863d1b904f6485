# -*- test-case-name: tests.studio.test_watching -*-
"""
Knowing what LM Studio has without being asked: looked at every few seconds, less often while nobody asks anything of the
gateway, and ever more rarely while LM Studio is down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from lmgateway.errors import GatewayError, UpstreamBroken, UpstreamFailed, UpstreamSilent, UpstreamUnavailable
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import Inventory, Management
from lmgateway.studio.sharing import Shared
from lmgateway.telemetry.upstreams import UpstreamState

T = TypeVar("T")

POLL_SECONDS = 5.0
"""Between two looks."""

IDLE_POLL_SECONDS = 30.0
"""Between two looks while nothing is asked of the gateway."""

IDLE_AFTER = 60.0
"""Seconds without a request after which nothing is being asked of the gateway."""

BACKOFF = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds until the next look while LM Studio is down: after the first failure, the second, …."""

LOOK_SECONDS = 15.0
"""How long LM Studio may take over one look, choosing how to ask included."""

CHOICE_SECONDS = 60.0
"""For how long it counts that LM Studio offers no model management. It may be told to, or updated, without being away."""

FRESH_SECONDS = 1.0
"""For how long a look is good enough for those who ask: clients must not be able to drive requests into LM Studio."""

_log = Logger()


class Choice(Protocol):
    """
    Finds out how LM Studio's models can be managed.

    :ivar reason: why the last choice was as it was: sentences for people.
    """

    reason: str | None

    def choose(self) -> Deferred[IModelManager]:
        """Ask LM Studio. Fails with :class:`~lmgateway.errors.UpstreamUnavailable` if it is not there."""


class ModelWatch:
    """
    Looks at what LM Studio has.

    :param choice: finds whom to ask, once and again whenever LM Studio was away.
    :param state: is told whether LM Studio answers.
    :param clock: all waiting is on it.
    :param seen: told of each inventory, from within the look.
    :param dropped: told of whom is asked no more.
    :ivar inventory: the last one, or None.
    :ivar knownAt: the Unix time of it.
    :ivar management: how models are managed, as far as is known.
    :ivar error: why the last look saw nothing; None where it did, or there was none yet.
    :ivar chosen: whom to ask, or None while that is not known.
    """

    def __init__(
        self,
        choice: Choice,
        state: UpstreamState,
        clock: IReactorTime,
        seen: Callable[[Inventory], None],
        dropped: Callable[[IModelManager], None],
    ) -> None:
        self.inventory: Inventory | None = None
        self.knownAt: float | None = None
        self.management: Management | None = None
        self.error: GatewayError | None = None
        self.chosen: IModelManager | None = None
        self.choice = choice
        self._state = state
        self._clock = clock
        self._seen = seen
        self._dropped = dropped
        self._isRunning = self._isStopped = False
        self._chosenAt = self._lookedAt = self._endedAt = self._askedAt = 0.0
        self._failures = 0
        self._generation = 0
        self._isOutdated = True
        self._looking: Shared[bool] | None = None
        self._asking: Deferred[Inventory] | None = None
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Look, now and from now on."""
        self._isRunning = True
        self._askedAt = self._clock.seconds()
        self._schedule(0.0)

    def stop(self) -> None:
        """Look no more."""
        self._isRunning, self._isStopped = False, True
        self._breakOff()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop()

    def replace(self, choice: Choice, state: UpstreamState) -> None:
        """Look at another LM Studio from now on. Of this one nothing is known any more."""
        self.choice = choice
        self._state = state
        self.inventory = self.knownAt = self.management = self.error = None
        self._failures = 0
        self._drop()
        self._breakOff()
        if self._isRunning:
            self.look()

    def outdate(self) -> None:
        """What is known, or being asked at this moment, is out of date: something was done about it. Look again."""
        isLooking = self._looking is not None
        self._breakOff()
        if self._isRunning and not isLooking:
            self.look()

    def asked(self) -> None:
        """Somebody asks something of the gateway."""
        now = self._askedAt = self._clock.seconds()
        if now - self._lookedAt >= POLL_SECONDS:
            self.wake()

    def wake(self) -> None:
        """Look soon: at once, unless that was done within the last second."""
        if self._looking is None and self._timer is not None:
            soon = max(0.0, self._lookedAt + FRESH_SECONDS - self._clock.seconds())
            if self._timer.getTime() > self._clock.seconds() + soon:
                self._timer.reset(soon)

    def look(self) -> Deferred[bool]:
        """
        Look now, or wait for the look that is under way.

        :return: fires with whether LM Studio answered; never fails.
        """
        looking = self._looking
        if looking is None:
            looking = self._looking = Shared()
            self._lookedAt = self._clock.seconds()
            looking.run(self._look())
        return looking.wait()

    @property
    def isFresh(self) -> bool:
        """Whether it was looked within the last second, with or without success, and nothing was done since."""
        return not self._isOutdated and self._clock.seconds() - self._endedAt < FRESH_SECONDS

    async def obtain(self) -> IModelManager:
        """
        Give whom to ask, looking for them if need be.

        :raise GatewayError: nobody is there.
        """
        if self.chosen is None:
            await self.look()
        if self.chosen is None:
            raise self.reason()
        return self.chosen

    def reason(self) -> GatewayError:
        """Make an error that says why nothing can be asked of LM Studio."""
        error = self.error
        if error is None:
            return UpstreamUnavailable("It is not known yet whether LM Studio is there. Try again in a moment.")
        # An exception is raised once: it remembers where.
        return type(error)(error.message, code=error.code)

    async def _look(self) -> bool:
        try:
            while True:
                generation = self._generation
                try:
                    inventory: Inventory | None = await self._askInTime()
                except GatewayError as error:
                    inventory, failure = None, error
                if generation == self._generation or self._isStopped:
                    break
        finally:
            self._looking = None
        if self._isStopped:
            return False
        self._isOutdated = False
        self._endedAt = self._clock.seconds()
        if inventory is None:
            self._failed(failure)
        else:
            self._succeeded(inventory)
        if self._isRunning:
            self._schedule(self._pause())
        return inventory is not None

    def _succeeded(self, inventory: Inventory) -> None:
        self.error = None
        self._failures = 0
        self.inventory = inventory
        self.knownAt = self._clock.seconds()
        self._state.answered()
        try:
            self._seen(inventory)
        except Exception:  # noqa: BLE001 - a defect must not end the watching
            _log.failure("Defect in what is told of LM Studio's models")

    def _failed(self, error: GatewayError) -> None:
        if self.error is None or self.error.message != error.message:
            _log.info("What LM Studio has could not be seen. {reason}", reason=error.message)
        self.error = error
        self._failures += 1
        self._drop()
        if isinstance(error, UpstreamUnavailable):
            self._state.failed(error.message)

    async def _askInTime(self) -> Inventory:
        """
        Ask, for so long and no longer.

        :raise GatewayError: there was no answer.
        """
        asking = self._asking = Deferred.fromCoroutine(self._ask())
        late = self._clock.callLater(LOOK_SECONDS, asking.cancel)
        try:
            return await asking
        except CancelledError:
            raise UpstreamSilent(f"LM Studio did not say within {LOOK_SECONDS:g} s what models it has.") from None
        except GatewayError:
            raise
        except Exception:  # noqa: BLE001 - a defect must not end the watching
            _log.failure("Defect while asking LM Studio what models it has")
            raise UpstreamBroken(
                "What LM Studio has could not be found out; the gateway's log has the details."
            ) from None
        finally:
            self._asking = None
            if late.active():
                late.cancel()

    async def _ask(self) -> Inventory:
        chosen = self.chosen
        if chosen is not None and not self._isOutworn(chosen):
            try:
                return await chosen.inventory()
            except (UpstreamBroken, UpstreamFailed):
                # Another version may have taken its place since, with which one speaks otherwise.
                self._drop()
        choice = self.choice
        chosen = await choice.choose()
        if choice is not self.choice or self._isStopped:
            self._dropped(chosen)
            raise UpstreamUnavailable("Another LM Studio is asked from now on.")
        self._drop()
        self.chosen = chosen
        self._chosenAt = self._clock.seconds()
        self.management = chosen.management
        return await chosen.inventory()

    def _isOutworn(self, chosen: IModelManager) -> bool:
        return chosen.management == "gateway" and self._clock.seconds() - self._chosenAt >= CHOICE_SECONDS

    def _drop(self) -> None:
        chosen, self.chosen = self.chosen, None
        if chosen is not None:
            self._dropped(chosen)

    def _breakOff(self) -> None:
        """Break off what is being asked, as its answer does not count any more."""
        self._isOutdated = True
        self._generation += 1
        if self._asking is not None:
            self._asking.cancel()

    def _pause(self) -> float:
        if self._failures:
            return BACKOFF[min(self._failures, len(BACKOFF)) - 1]
        return POLL_SECONDS if self._clock.seconds() - self._askedAt < IDLE_AFTER else IDLE_POLL_SECONDS

    def _schedule(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self.look()
