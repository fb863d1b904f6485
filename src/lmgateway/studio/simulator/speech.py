# -*- test-case-name: tests.studio.simulator.test_speech -*-
"""
How a route reads a question and says the answer: what all of them have in common. No bytes move here; a
:class:`Speech` only spells them.
"""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, ClassVar

from msgspec import Struct

from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.encoding import Reply
from lmgateway.studio.simulator.errors import StudioError, openAIRefusal
from lmgateway.studio.simulator.generation import Generation, Question, Turn, generate
from lmgateway.studio.simulator.models import LANGUAGE, Kind
from lmgateway.studio.simulator.shelf import Instance

_ALPHABET = string.ascii_lowercase + string.digits


class Piece(Struct, frozen=True):
    """
    One chunk of a stream.

    :param token: whether it carries a token, and so takes the time of one.
    """

    data: bytes
    token: bool = False


class Timing(Struct):
    """
    How long an answer took, in seconds of the clock.

    :param loadSeconds: what loading the model took, or None if it was loaded already.
    :param started: when the model began to read the prompt.
    :param firstToken: when its first token came.
    :param finished: when its last token came.
    """

    loadSeconds: float | None = None
    started: float = 0.0
    firstToken: float = 0.0
    finished: float = 0.0

    @property
    def toFirstToken(self) -> float:
        """Seconds from the prompt to the first token."""
        return thousandths(self.firstToken - self.started)

    @property
    def generating(self) -> float:
        """Seconds from the first token to the last."""
        return thousandths(self.finished - self.firstToken)

    def tokensPerSecond(self, tokens: int) -> float:
        """The speed; 0 where no time passed."""
        seconds = self.finished - self.firstToken
        return thousandths(tokens / seconds) if seconds > 0 else 0


class Memory:
    """
    What was said under the id of a response, for those that go on from it. It forgets the oldest.

    :param capacity: how many responses it holds.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._conversations: OrderedDict[str, tuple[Turn, ...]] = OrderedDict()

    def remember(self, responseId: str, conversation: tuple[Turn, ...]) -> None:
        """Keep the conversation that a response ended."""
        self._conversations[responseId] = conversation
        while len(self._conversations) > self._capacity:
            self._conversations.popitem(last=False)

    def recall(self, responseId: str) -> tuple[Turn, ...] | None:
        """The conversation that a response ended, or None if it is not known."""
        return self._conversations.get(responseId)


class Speech:
    """
    One request of one route, from its body to the spelling of its answer.

    :param body: the request's JSON object.
    :param memory: earlier responses.
    :raise StudioError: the request is not what the route takes.
    :ivar question: what it asks the model for.
    :ivar model: the model that it names, or None.
    :ivar stream: whether it wants a stream.
    :ivar ttl: how many seconds a model that it loads stays, or None.
    :ivar instance: the loaded model that answers, once :meth:`meet` has told it.
    :ivar created: the time of the answer, in whole seconds.
    :cvar brand: what LM Studio's log calls its streams, followed by a space if anything.
    :ivar sent: how many of its :meth:`pieces` are out.
    """

    kinds: ClassVar[frozenset[Kind]] = LANGUAGE
    indent: ClassVar[int | None] = 2
    brand: ClassVar[str] = ""
    question: Question
    instance: Instance
    created: int

    def __init__(self, body: dict[str, Any], memory: Memory) -> None:
        self.body = body
        self.memory = memory
        self.timing = Timing()
        self.sent = 0
        self.model = fields.string(body, "model")
        self.ttl = fields.integer(body, "ttl")
        self.stream = fields.flag(body, "stream")
        fields.checkSampling(body)
        self.question = self.read(body)

    def read(self, body: dict[str, Any]) -> Question:
        """
        What the body asks the model for.

        :raise StudioError: it is not what the route takes.
        """
        raise NotImplementedError

    def meet(self, instance: Instance, created: int) -> None:
        """Learn which model answers, and when."""
        self.instance = instance
        self.created = created

    def think(self) -> Generation:
        """All that the model will say."""
        return generate(self.question, reasons=self.reasons)

    @property
    def announcement(self) -> str:
        """What LM Studio's log says when a model starts on it."""
        return f"Running chat completion on conversation with {len(self.question.turns)} messages."

    @property
    def reasons(self) -> bool:
        """Whether the model thinks aloud."""
        return self.instance.model.reasoningField is not None

    def opening(self) -> Iterator[bytes]:
        """Chunks of a stream that go out at once, before a model is loaded or the prompt read. Most have none."""
        yield from ()

    def loading(self) -> Iterator[bytes]:
        """Chunks that go out as the loading of the model starts."""
        yield from ()

    def loaded(self) -> Iterator[bytes]:
        """Chunks that go out when it is loaded."""
        yield from ()

    def reading(self) -> Iterator[bytes]:
        """Chunks that go out as the model starts to read the prompt."""
        yield from ()

    def hasRead(self) -> Iterator[bytes]:
        """Chunks that go out when it has read it."""
        yield from ()

    def pieces(self, generation: Generation) -> Iterator[Piece]:
        """The rest of the stream. Taken one by one, so that the last ones know :attr:`timing`."""
        raise NotImplementedError

    def breaking(self, error: StudioError, said: Generation) -> Iterator[bytes]:
        """How a stream tells that it failed after ``said``, and ends."""
        raise NotImplementedError

    def whole(self, generation: Generation) -> object:
        """The answer that is no stream."""
        raise NotImplementedError

    def conclude(self, generation: Generation) -> None:
        """The answer is out."""

    @staticmethod
    def refuse(error: StudioError) -> Reply:
        """How the route tells that it will not."""
        return openAIRefusal(error)


def thousandths(number: float) -> float:
    """A number with at most three decimals; without any it is an integer, as JavaScript spells it."""
    rounded = round(number, 3)
    return int(rounded) if rounded.is_integer() else rounded


def responseId() -> str:
    """The id of a response that can be gone on from: 48 hexadecimal digits."""
    return "resp_" + secrets.token_hex(24)


def randomId(prefix: str, length: int) -> str:
    """An id as LM Studio makes them: a prefix and lower-case letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))
