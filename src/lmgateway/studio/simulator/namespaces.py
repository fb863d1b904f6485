# -*- test-case-name: tests.studio.simulator.test_namespaces -*-
"""The namespaces that LM Studio offers its SDKs, with the endpoints that manage models and have them answer."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from lmgateway.studio.simulator import sdkerrors
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.errors import MODEL_UNLOADED, PredictionError
from lmgateway.studio.simulator.generation import StopReason, tokenize
from lmgateway.studio.simulator.loadconfig import fromStack, toFields
from lmgateway.studio.simulator.loading import LoadError, Loading
from lmgateway.studio.simulator.modelinfo import domainOf, instanceInfo, modelInfo
from lmgateway.studio.simulator.models import EMBEDDING, LANGUAGE, Kind, Model
from lmgateway.studio.simulator.port import Call, Channel, Namespace, Nothing, Talk
from lmgateway.studio.simulator.predict import SdkPrediction, turnOf
from lmgateway.studio.simulator.prediction import Phase, Prediction
from lmgateway.studio.simulator.shelf import JIT_TTL, IdentifierTaken, Instance
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.vectors import vector

VERSION = "0.4.25"
"""The version of LM Studio that this is like."""

OTHERS = ("diagnostics", "files", "plugins", "repository", "runtime")
"""Namespaces that clients may connect to, and that have nothing here."""

_VOCABULARY = 151_936
Milliseconds = Annotated[int, Meta(ge=1)]


class Query(Struct, frozen=True):
    """Which loaded model is meant; what is not said does not matter."""

    domain: str | None = None
    identifier: str | None = None
    path: str | None = None
    vision: bool | None = None


class ByQuery(Struct, frozen=True, tag_field="type", tag="query"):
    """A model by what it is like."""

    query: Query


class ByReference(Struct, frozen=True, tag_field="type", tag="instanceReference"):
    """A model by its instance."""

    instanceReference: str


Specifier = ByQuery | ByReference


class LoadModel(Struct, frozen=True):
    """What ``loadModel`` is created with."""

    modelKey: str
    loadConfigStack: dict[str, Any]
    identifier: str | None = None
    ttlMs: Milliseconds | None = None


class GetOrLoad(Struct, frozen=True):
    """What ``getOrLoad`` is created with."""

    identifier: str
    loadConfigStack: dict[str, Any]
    loadTtlMs: Milliseconds | None = None


class Identified(Struct, frozen=True):
    """The parameter of ``unloadModel``."""

    identifier: str


class Specified(Struct, frozen=True):
    """The parameter of calls about one model."""

    specifier: Specifier
    throwIfNotFound: bool = True


class Text(Struct, frozen=True):
    """The parameter of ``tokenize`` and ``countTokens``."""

    specifier: Specifier
    inputString: str


class Embed(Struct, frozen=True):
    """The parameter of ``embedString``."""

    modelSpecifier: Specifier
    inputString: str


class Predict(Struct, frozen=True):
    """What ``predict`` is created with."""

    modelSpecifier: Specifier
    history: dict[str, Any]
    predictionConfigStack: dict[str, Any]


class Template(Struct, frozen=True):
    """The parameter of ``applyPromptTemplate``."""

    specifier: Specifier
    history: dict[str, Any]


class ModelEndpoints:
    """
    What ``/llm`` and ``/embedding`` have in common, and each of its own.

    :param clock: what loads and predictions go by.
    :param kinds: the models of this namespace.
    :param behaviour: tells how to behave from now on.
    """

    def __init__(
        self, simulator: Simulator, clock: IReactorTime, kinds: frozenset[Kind], behaviour: Callable[[], Behaviour]
    ) -> None:
        self._simulator = simulator
        self._clock = clock
        self._kinds = kinds
        self._behaviour = behaviour

    @property
    def namespace(self) -> Namespace:
        """The endpoints by their names."""
        calls = {
            "listLoaded": Call(Nothing, self._listLoaded),
            "getModelInfo": Call(Specified, self._getModelInfo),
            "getLoadConfig": Call(Specified, self._getLoadConfig),
            "getInstanceProcessingState": Call(Specified, self._getProcessingState),
            "unloadModel": Call(Identified, self._unloadModel),
            "tokenize": Call(Text, self._tokenize),
            "countTokens": Call(Text, self._countTokens),
        }
        talks = {"loadModel": Talk(LoadModel, self._loadModel), "getOrLoad": Talk(GetOrLoad, self._getOrLoad)}
        if self._kinds == EMBEDDING:
            return Namespace({**calls, "embedString": Call(Embed, self._embedString)}, talks)
        calls["applyPromptTemplate"] = Call(Template, self._applyPromptTemplate)
        return Namespace(calls, {**talks, "predict": Talk(Predict, self._predict)})

    async def _listLoaded(self, parameter: Nothing) -> object:
        return [instanceInfo(instance) for instance in self._loaded()]

    async def _getModelInfo(self, parameter: Specified) -> object:
        try:
            return instanceInfo(self._find(parameter.specifier))
        except sdkerrors.SdkError:
            if parameter.throwIfNotFound:
                raise
            return None

    async def _getLoadConfig(self, parameter: Specified) -> object:
        return toFields(self._find(parameter.specifier).config)

    async def _getProcessingState(self, parameter: Specified) -> object:
        instance = self._find(parameter.specifier)
        phases = [each.phase for each in self._simulator.predictions if each.instance is instance]
        status = "idle"
        if Phase.SPEAKING in phases:
            status = "generating"
        elif Phase.READING in phases:
            status = "processingPrompt"
        return {"status": status, "queued": len(phases)}

    async def _unloadModel(self, parameter: Identified) -> object:
        self._permit()
        for instance in self._loaded():
            if instance.id == parameter.identifier:
                self._simulator.shelf.unload(instance)
                return None
        raise sdkerrors.identifierUnknown(parameter.identifier, self._names())

    async def _tokenize(self, parameter: Text) -> object:
        self._find(parameter.specifier)
        tokens = tokenize(parameter.inputString)
        return {"tokens": [zlib.crc32(token.encode("utf-8", "surrogatepass")) % _VOCABULARY for token in tokens]}

    async def _countTokens(self, parameter: Text) -> object:
        self._find(parameter.specifier)
        return {"tokenCount": len(tokenize(parameter.inputString))}

    async def _embedString(self, parameter: Embed) -> object:
        instance = self._find(parameter.modelSpecifier)
        instance.lastUsed = self._clock.seconds()
        return {"embedding": vector(parameter.inputString, instance.model.dimensions)}

    async def _applyPromptTemplate(self, parameter: Template) -> object:
        self._find(parameter.specifier)
        messages = parameter.history.get("messages")
        turns = [turn for message in messages or () if isinstance(message, dict) for turn in turnOf(message)]
        return {"formatted": "".join(f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n" for turn in turns)}

    async def _loadModel(self, parameter: LoadModel, channel: Channel) -> None:
        """Always one more instance."""
        self._permit()
        model = self._downloaded(parameter.modelKey)
        ttl = None if parameter.ttlMs is None else parameter.ttlMs / 1000
        config = fromStack(parameter.loadConfigStack)
        channel.say("resolved", info=modelInfo(model))
        try:
            instance = self._simulator.shelf.load(
                model,
                self._clock.seconds(),
                self._behaviour(),
                ttl=ttl,
                jit=False,
                identifier=parameter.identifier,
                config=config,
            )
        except IdentifierTaken:
            raise sdkerrors.identifierTaken(parameter.identifier or "") from None
        await self._load(instance, channel, "progress")
        channel.say("success", info=instanceInfo(instance))

    async def _getOrLoad(self, parameter: GetOrLoad, channel: Channel) -> None:
        """One that is there, or one just in time."""
        for instance in self._loaded():
            if parameter.identifier in {instance.id, *instance.model.names}:
                channel.say("alreadyLoaded", info=instanceInfo(instance))
                return
        self._permit()
        model = self._downloaded(parameter.identifier)
        ttl = JIT_TTL if parameter.loadTtlMs is None else parameter.loadTtlMs / 1000
        channel.say("startLoading", identifier=parameter.identifier, info=modelInfo(model))
        shelf, now, behaviour = self._simulator.shelf, self._clock.seconds(), self._behaviour()
        for other in shelf.evictedBy(now, behaviour):
            channel.say("unloadingOtherJITModel", info=instanceInfo(other))
        config = fromStack(parameter.loadConfigStack)
        instance = shelf.load(model, now, behaviour, ttl=ttl, jit=True, config=config)
        await self._load(instance, channel, "loadProgress")
        channel.say("loadSuccess", info=instanceInfo(instance))

    async def _load(self, instance: Instance, channel: Channel, kind: str) -> None:
        """Tell the progress of a load until it is done; it goes on though the connection be lost."""
        drop = self._behaviour().dropSocket

        def report(progress: float) -> None:
            channel.say(kind, progress=progress)
            if drop is not None and progress >= drop:
                channel.cut()

        channel.outlives = True
        try:
            await Loading(self._clock, self._simulator.shelf, instance).run(report)
        except LoadError as error:
            raise sdkerrors.loadFailed(error.cause) from None
        except CancelledError:
            raise sdkerrors.loadAborted() from None

    async def _predict(self, parameter: Predict, channel: Channel) -> None:
        instance = self._find(parameter.modelSpecifier)
        speech = SdkPrediction(parameter.history, parameter.predictionConfigStack)
        speech.meet(instance, int(self._clock.seconds()))
        simulator = self._simulator
        prediction = Prediction(self._clock, instance, speech, channel, self._behaviour(), simulator.studioLog)
        simulator.predictions.add(prediction)
        try:
            await prediction.run()
        except PredictionError as error:
            gone = error.message == MODEL_UNLOADED
            raise (sdkerrors.modelGone() if gone else sdkerrors.SdkError(error.message)) from None
        except CancelledError:
            if not channel.cancelled:
                raise
        finally:
            simulator.predictions.discard(prediction)
        if channel.cancelled:
            channel.say("success", **speech.success(prediction.said, StopReason.USER))

    def _permit(self) -> None:
        """
        See that the client may manage models.

        :raise SdkError: it may not.
        """
        if self._behaviour().forbidManagement:
            raise sdkerrors.denied()

    def _loaded(self) -> list[Instance]:
        if self._behaviour().noModels:
            return []
        return self._simulator.shelf.ready(self._clock.seconds(), self._kinds)

    def _names(self) -> list[str]:
        return [instance.id for instance in self._loaded()]

    def _find(self, specifier: Specifier) -> Instance:
        """
        The loaded model that is meant.

        :raise SdkError: it is not loaded.
        """
        if isinstance(specifier, ByReference):
            for instance in self._loaded():
                if instance.reference == specifier.instanceReference:
                    return instance
            raise sdkerrors.modelGone()
        query = specifier.query
        for instance in self._loaded():
            if _fits(instance, query):
                return instance
        wanted = {name: value for name in query.__struct_fields__ if (value := getattr(query, name)) is not None}
        raise sdkerrors.noModelMatches(wanted, self._names())

    def _downloaded(self, key: str) -> Model:
        """
        A downloaded model by its key or its variant: SDKs find no model by half of its name.

        :raise SdkError: there is none, or it is of the other kind.
        """
        models = () if self._behaviour().noModels else self._simulator.shelf.downloaded
        for model in models:
            if key in {model.key, model.variant}:
                if model.kind not in self._kinds:
                    expected = "llm" if self._kinds == LANGUAGE else "embedding"
                    raise sdkerrors.wrongDomain(key, domainOf(model), expected)
                return model
        raise sdkerrors.pathUnknown(key, [model.key for model in models if model.kind in self._kinds])


class SystemEndpoints:
    """
    ``/system``: what is downloaded, and who is asked.

    :param behaviour: tells how to behave from now on.
    """

    def __init__(self, simulator: Simulator, behaviour: Callable[[], Behaviour]) -> None:
        self._simulator = simulator
        self._behaviour = behaviour

    @property
    def namespace(self) -> Namespace:
        """The endpoints by their names."""
        calls = {"listDownloadedModels": self._listDownloaded, "version": self._version, "info": self._info}
        return Namespace({name: Call(Nothing, function) for name, function in calls.items()})

    async def _listDownloaded(self, parameter: Nothing) -> object:
        models = () if self._behaviour().noModels else self._simulator.shelf.downloaded
        return [modelInfo(model) for model in models]

    async def _version(self, parameter: Nothing) -> object:
        return {"version": VERSION, "build": 1}

    async def _info(self, parameter: Nothing) -> object:
        return {"pid": 1, "isDaemon": True, "version": VERSION}


def namespaces(simulator: Simulator, clock: IReactorTime, behaviour: Callable[[], Behaviour]) -> dict[str, Namespace]:
    """Every namespace that can be connected to, by the name that its path has."""
    return {
        "llm": ModelEndpoints(simulator, clock, LANGUAGE, behaviour).namespace,
        "embedding": ModelEndpoints(simulator, clock, EMBEDDING, behaviour).namespace,
        "system": SystemEndpoints(simulator, behaviour).namespace,
        **{name: Namespace() for name in OTHERS},
    }


def _fits(instance: Instance, query: Query) -> bool:
    """Whether an instance is what a query asks for."""
    if query.domain is not None and query.domain != domainOf(instance.model):
        return False
    if query.identifier is not None and query.identifier not in {instance.id, *instance.model.names}:
        return False
    if query.path is not None and query.path not in instance.model.names:
        return False
    return query.vision is None or query.vision == (instance.model.kind == "vlm")
