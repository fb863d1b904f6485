# -*- test-case-name: tests.studio.simulator.test_prediction -*-
"""
One generation, from the model's loading to the last token, in LM Studio's time: load, wait for a slot, read the prompt,
speak.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.encoding import Reply
from lmgateway.studio.simulator.errors import MODEL_UNLOADED, LoadFault, PredictionError
from lmgateway.studio.simulator.generation import Generation, StopReason
from lmgateway.studio.simulator.logfiles import StudioLog
from lmgateway.studio.simulator.logtext import LEFT, SERVER, accumulated, engine, pretty, shortened
from lmgateway.studio.simulator.shelf import Instance
from lmgateway.studio.simulator.speech import Speech, thousandths


class Phase(Enum):
    """Where a generation is."""

    LOADING = "loading"
    QUEUED = "queued"
    READING = "reading"
    SPEAKING = "speaking"


class Audience(Protocol):
    """
    Where an answer goes: an HTTP exchange, or a channel of an SDK.

    :ivar work: what is being done for it, cancelled when that is wanted no more.
    """

    work: Deferred[None] | None

    @property
    def gone(self) -> bool:
        """Whether nobody wants the answer any more."""

    def hold(self) -> None:
        """From now on :attr:`work` is not cancelled."""

    def release(self) -> None:
        """End :meth:`hold`."""

    def answer(self, reply: Reply) -> None:
        """Give an answer that is no stream."""

    def send(self, chunk: bytes) -> None:
        """Give a part of a stream."""

    async def room(self) -> None:
        """Wait until what was sent has been taken."""

    def finish(self) -> None:
        """End the stream."""

    def close(self) -> None:
        """End without an answer, as nobody wants it."""


class Prediction:
    """
    A model's answer to one request.

    :param instance: the model that answers.
    :param speech: what is asked, and how the answer is spelled.
    :param exchange: where the answer goes.
    :param log: where LM Studio would tell of it, or None.
    :ivar instance: the model that answers.
    :ivar phase: where it is.
    """

    def __init__(
        self,
        clock: IReactorTime,
        instance: Instance,
        speech: Speech,
        exchange: Audience,
        behaviour: Behaviour,
        log: StudioLog | None = None,
    ) -> None:
        self._clock = clock
        self.instance = instance
        self._speech = speech
        self._exchange = exchange
        self._behaviour = behaviour
        self._log = log
        self._evicted = False
        self._spoken = 0
        self._generation = Generation(promptTokens=speech.question.tokens)
        self.phase = Phase.LOADING

    @property
    def said(self) -> Generation:
        """As much of the answer as is out."""
        return self._generation.first(self._spoken, StopReason.EOS)

    def evict(self) -> None:
        """The model was unloaded: the request fails, wherever it is."""
        self._evicted = True
        if self._exchange.work is not None:
            self._exchange.work.cancel()

    async def run(self) -> None:
        """
        Answer. Cancelling whatever this waits for ends it, and frees its slot.

        :raise PredictionError: the model failed, or was unloaded.
        :raise LoadFault: it could not be loaded.
        :raise Died: the connection was cut.
        """
        self.instance.users.add(self)
        self._tell(lambda: self._speech.announcement)
        try:
            self._show(*self._speech.opening())
            await self._load()
            self.phase = Phase.QUEUED
            await self.instance.slots.acquire()
            try:
                await self._answer()
            finally:
                self.instance.slots.release()
        except CancelledError:
            if self._evicted:
                raise PredictionError(MODEL_UNLOADED) from None
            self._note("INFO", LEFT, SERVER)
            raise
        finally:
            self.instance.users.discard(self)
            self.instance.lastUsed = self._clock.seconds()

    async def _load(self) -> None:
        """
        Wait until the model is loaded.

        :raise LoadFault: it could not be.
        """
        seconds = self.instance.readyAt - self._clock.seconds()
        if seconds > 0:
            self._show(*self._speech.loading())
            await self._sleep(seconds)
        if self.instance.failure is not None:
            raise LoadFault(self.instance.model.key, self.instance.failure)
        if seconds > 0:
            self._speech.timing.loadSeconds = thousandths(seconds)
            self._show(*self._speech.loaded())

    async def _answer(self) -> None:
        """With a slot: read the prompt, then speak."""
        timing = self._speech.timing
        timing.started = self._clock.seconds()
        await self._read()
        if self._exchange.gone:
            self._note("INFO", LEFT, SERVER)
            self._exchange.close()
            return
        self.phase = Phase.SPEAKING
        timing.firstToken = timing.finished = self._clock.seconds()
        if not self._behaviour.emptyStream:
            self._generation = self._speech.think()
        if self._speech.stream:
            await self._stream()
        else:
            await self._whole()
        self._speech.conclude(self._generation)

    async def _read(self) -> None:
        """Read the prompt, which nothing stops: LM Studio finishes it even for a client that has left."""
        self.phase = Phase.READING
        self._show(*self._speech.reading())
        self._tellReading()
        self._exchange.hold()
        try:
            await self._sleep(self._behaviour.prefill)
        finally:
            self._exchange.release()
        self._tell(lambda: "Prompt processing progress: 100.0%")
        if not self._exchange.gone:
            self._show(*self._speech.hasRead())

    async def _stream(self) -> None:
        """Send the tokens as they come."""
        for piece in self._speech.pieces(self._generation):
            if piece.token:
                await self._nextToken()
            await self._exchange.room()
            self._exchange.send(piece.data)
            self._speech.sent += 1
        self._exchange.finish()
        self._tell(lambda: f"Finished streaming {self._speech.brand}response")

    async def _whole(self) -> None:
        """Wait for the last token, then answer."""
        if self._behaviour.errorInsideStream is not None:
            raise self._doesNotFit()
        self._spoken = self._generation.completionTokens
        await self._pace()
        answer = self._speech.whole(self._generation)
        self._tell(lambda: f"Generated prediction: {pretty(shortened(answer))}")
        self._exchange.answer(Reply(200, answer, self._speech.indent))

    async def _nextToken(self) -> None:
        """Wait for one more token to be generated."""
        if self._spoken == self._behaviour.errorInsideStream:
            raise self._doesNotFit()
        await self._pace()
        self._spoken += 1
        if self._spoken == 1:
            self._tell(lambda: "First token generated. Continuing to stream response..")
        if self._behaviour.logTokens:
            self._tell(lambda: accumulated(self._spoken, self.said.text))

    async def _pace(self) -> None:
        """Wait until as many tokens as were spoken may be out; by the time of the first, so that no delay adds up."""
        timing = self._speech.timing
        if self._behaviour.tokensPerSecond > 0:
            due = timing.firstToken + self._spoken / self._behaviour.tokensPerSecond
            await self._sleep(due - self._clock.seconds())
        timing.finished = self._clock.seconds()

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await deferLater(self._clock, seconds)

    def _show(self, *chunks: bytes) -> None:
        """Send what only a stream shows."""
        if self._speech.stream:
            for chunk in chunks:
                self._exchange.send(chunk)

    def _tellReading(self) -> None:
        """Log what LM Studio does when it turns to a prompt."""
        question, instance = self._speech.question, self.instance
        if self._speech.stream:
            self._tell(lambda: f"Streaming {self._speech.brand}response...")
        if instance.model.generates and instance.model.format == "gguf":
            for said in engine(question.tokens, instance.contextLength, question.maxTokens):
                self._note("DEBUG", said)
        self._tell(lambda: "Prompt processing progress: 0.0%")

    def _tell(self, message: Callable[[], str]) -> None:
        """Log something in the model's name, which costs nothing where nobody reads it."""
        if self._log is not None:
            self._log.write("INFO", message(), self.instance.id)

    def _note(self, level: str, message: str, *tags: str) -> None:
        """Log something."""
        if self._log is not None:
            self._log.write(level, message, *tags)

    def _doesNotFit(self) -> PredictionError:
        """The fault that LM Studio tells inside of a stream."""
        tokens = self._speech.question.tokens
        return PredictionError(
            f"Input does not fit in context length. The input has {tokens} tokens, but the context length only supports "
            f"{tokens - 1} tokens."
        )
