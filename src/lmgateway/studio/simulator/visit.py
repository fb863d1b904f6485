# -*- test-case-name: tests.studio.simulator.test_visit -*-
"""One HTTP request on its way through the simulator: switches, token, route, and what LM Studio's log says of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from lmgateway.studio.simulator import listings
from lmgateway.studio.simulator.anthropic import Message
from lmgateway.studio.simulator.behaviour import HEADER, Behaviour, overridden
from lmgateway.studio.simulator.encoding import Reply, parse
from lmgateway.studio.simulator.errors import (
    BAD_JSON,
    FieldError,
    StudioError,
    tokenRefusal,
    unexpectedEndpoint,
)
from lmgateway.studio.simulator.exchange import Died, Exchange
from lmgateway.studio.simulator.logtext import SERVER, pretty, received
from lmgateway.studio.simulator.management import DOWNLOAD, LOAD, STATUS, UNLOAD, Management, forbidden, refusal
from lmgateway.studio.simulator.native import Chat, ChatCompletionV0, EmbeddingsV0, TextCompletionV0
from lmgateway.studio.simulator.openai import ChatCompletion, Embeddings, TextCompletion
from lmgateway.studio.simulator.prediction import Prediction
from lmgateway.studio.simulator.responses import Response
from lmgateway.studio.simulator.simulator import Received, Simulator
from lmgateway.studio.simulator.speech import Speech

_log = Logger()

_MESSAGES = "/v1/messages"

SPEECHES: dict[str, type[Speech]] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": TextCompletion,
    "/v1/embeddings": Embeddings,
    "/v1/responses": Response,
    _MESSAGES: Message,
    "/api/v0/chat/completions": ChatCompletionV0,
    "/api/v0/completions": TextCompletionV0,
    "/api/v0/embeddings": EmbeddingsV0,
    "/api/v1/chat": Chat,
}
"""What is asked by POST."""

_LISTINGS = {
    "/v1/models": listings.openAIModels,
    "/api/v0/models": listings.v0Models,
    "/api/v1/models": listings.v1Models,
}
_GREETING = "/lmstudio-greeting"
_V0_MODEL = "/api/v0/models/"
_NATIVE = "/api/v1/"


class Visit:
    """One request on its way through the simulator."""

    def __init__(self, simulator: Simulator, clock: IReactorTime, request: Request, exchange: Exchange) -> None:
        assert request.content is not None  # noqa: S101 - Twisted has read the body
        self._simulator = simulator
        self._clock = clock
        self._exchange = exchange
        self._began = clock.seconds()
        self._method = request.method.decode("latin-1")
        self._target = request.uri.decode("latin-1")
        self._body: bytes = request.content.read()
        simulator.received.append(Received(request.method, request.uri, exchange.headers, self._body))
        simulator.downloads.settle(self._began)

    @property
    def _reads(self) -> bool:
        return self._method in {"GET", "HEAD"}

    async def run(self) -> None:
        """Answer; whatever happens, there is a line in the log at the end."""
        end = ""
        if self._simulator.studioLog is not None:
            self._tell("DEBUG", received(self._method, self._target, self._body))
        try:
            await self._serve()
            end = ", the client left" if self._exchange.gone else ""
        except CancelledError:
            end = ", the client left"
        except Died:
            end = ", cut off"
        except Exception:  # noqa: BLE001 - a defect of the simulator must not leave its client without an answer
            _log.failure(
                "The simulator failed at {method} {target}", Failure(), method=self._method, target=self._target
            )
            end = ", a defect of the simulator"
            self._exchange.close()
        self._simulator.log(self._line(end))

    def _answer(self, reply: Reply, *tags: str) -> None:
        """Answer, and log it as LM Studio does."""
        if self._simulator.studioLog is not None:
            error = reply.value.get("error") if isinstance(reply.value, dict) else None
            if isinstance(error, str) and error.startswith("Unexpected endpoint"):
                self._tell("ERROR", f"{error}. Returning {reply.status} anyway")
            elif error is not None:
                self._tell("ERROR", f"{'' if tags else '[Server Error] '}{pretty(reply.value)}", *tags)
            else:
                self._tell("INFO", f"Returning {pretty(reply.value)}")
        self._exchange.answer(reply)

    def _tell(self, level: str, message: str, *tags: str) -> None:
        """Log something where LM Studio does."""
        if self._simulator.studioLog is not None:
            self._simulator.studioLog.write(level, message, *tags)

    def _line(self, end: str) -> str:
        """What the log says of this request."""
        exchange = self._exchange
        chunks = f", {exchange.chunks} chunks" if exchange.streaming else ""
        took = self._clock.seconds() - self._began
        return f"{self._method} {self._target} {exchange.status or '-'}{chunks}, {took:.3f} s{end}"

    async def _serve(self) -> None:
        """From the switches to the route."""
        try:
            behaviour = overridden(self._simulator.behaviour, self._exchange.header(HEADER) or "")
        except ValueError as error:
            self._exchange.answer(Reply(400, {"error": str(error)}))
            return
        self._exchange.dieAfter = behaviour.dieAfterChunks
        if behaviour.delay:
            await deferLater(self._clock, behaviour.delay)
        path = _matched(self._target)
        # Before 0.4 there was nothing below /api/v1.
        route = "" if path.lower().startswith(_NATIVE) and not behaviour.apiV1 else path.lower()
        unauthorized = self._unauthorized(path.lower(), behaviour.requireToken)
        if unauthorized is not None:
            self._answer(unauthorized, SERVER)
        elif self._method == "POST" and route in SPEECHES:
            await self._speak(SPEECHES[route], behaviour)
        elif self._manages(route):
            await self._manage(path, behaviour)
        else:
            self._answer(self._lookUp(path, behaviour))

    def _unauthorized(self, path: str, token: str | None) -> Reply | None:
        """What a request without the token gets; the greeting needs none, and Anthropic's clients have a field of their own."""
        if token is None or path == _GREETING:
            return None
        if path == _MESSAGES and self._exchange.header(b"X-API-Key") == token:
            return None
        return tokenRefusal(self._exchange.header(b"Authorization"), token)

    def _manages(self, route: str) -> bool:
        """Whether this is a request to do something to the models, or to see how it goes."""
        return route in {LOAD, UNLOAD, DOWNLOAD} if self._method == "POST" else self._reads and route.startswith(STATUS)

    async def _manage(self, path: str, behaviour: Behaviour) -> None:
        """Do it; a load goes on although the client leaves, as nothing in Express would stop it."""
        if behaviour.forbidManagement:
            self._answer(forbidden())
            return
        if behaviour.muteManagement:
            await Deferred(_never)
        self._exchange.hold()
        try:
            reply = await self._managed(path, behaviour)
        except StudioError as error:
            reply = refusal(error)
        finally:
            self._exchange.release()
        if self._exchange.gone:
            self._exchange.close()
        else:
            self._answer(reply)

    async def _managed(self, path: str, behaviour: Behaviour) -> Reply:
        """
        The answer to a request that manages models.

        :raise StudioError: it is not done.
        """
        management = Management(self._clock, self._simulator.shelf, self._simulator.downloads)
        route = path.lower()
        if route.startswith(STATUS):
            return management.status(unquote(path[len(STATUS) :]))
        body = self._readBody()
        if route == UNLOAD:
            return management.unload(body)
        if route == DOWNLOAD:
            return management.download(body, behaviour)
        return await management.load(body, behaviour)

    def _lookUp(self, path: str, behaviour: Behaviour) -> Reply:
        """What needs no model: lists, the greeting, and everything that LM Studio does not know."""
        lower = path.lower()
        now = self._clock.seconds()
        shelf = self._simulator.shelf
        native = lower.startswith(_NATIVE)
        if self._reads and lower == _GREETING:
            return Reply(200, {"lmstudio": True})
        if self._reads and lower in _LISTINGS and (behaviour.apiV1 or not native):
            return Reply(200, _LISTINGS[lower](shelf, now, behaviour), 2)
        if self._reads and lower.startswith(_V0_MODEL):
            name = unquote(path[len(_V0_MODEL) :])
            model = listings.v0ModelNamed(name, shelf, now, behaviour)
            return Reply(404, {"error": f"Model '{name}' not found"}) if model is None else Reply(200, model, 2)
        return unexpectedEndpoint(self._method, self._target, behaviour.unknownPathStatus if native else 200)

    async def _speak(self, route: type[Speech], behaviour: Behaviour) -> None:
        """Have a model answer."""
        try:
            speech = route(self._readBody(), self._simulator.memory)
            prediction = self._predict(speech, behaviour)
        except StudioError as error:
            self._answer(route.refuse(error))
            return
        self._simulator.predictions.add(prediction)
        try:
            await prediction.run()
        except StudioError as error:
            self._fail(speech, prediction, error)
        finally:
            self._simulator.predictions.discard(prediction)

    def _predict(self, speech: Speech, behaviour: Behaviour) -> Prediction:
        """
        Find the model.

        :raise StudioError: there is none, or it cannot do what is asked.
        """
        now = self._clock.seconds()
        instance = self._simulator.shelf.obtain(speech.model, speech.kinds, now, behaviour, speech.ttl)
        speech.meet(instance, int(now))
        return Prediction(self._clock, instance, speech, self._exchange, behaviour, self._simulator.studioLog)

    def _fail(self, speech: Speech, prediction: Prediction, error: StudioError) -> None:
        """Tell that the model failed: in the stream if it has begun, or would have (the status of a stream is 200)."""
        if not speech.stream:
            self._answer(speech.refuse(error))
            return
        for chunk in speech.breaking(error, prediction.said):
            self._exchange.send(chunk)
        self._exchange.finish()

    def _readBody(self) -> dict[str, Any]:
        """
        The request's JSON object; anything else that is JSON has none of the fields that a route wants.

        :raise FieldError: it is no JSON.
        """
        try:
            value = parse(self._body)
        except ValueError as error:
            self._tell("ERROR", f"Received request for {self._target} with invalid JSON: {error}", SERVER)
            raise FieldError(BAD_JSON, code="invalid_json") from None
        return value if isinstance(value, dict) else {}


def _never(deferred: Deferred[None]) -> None:
    """What never fires can be given up."""


def _matched(target: str) -> str:
    """The path of a target, without the one slash at its end that Express overlooks."""
    path = target.partition("?")[0]
    return path[:-1] if path.endswith("/") and path != "/" else path
