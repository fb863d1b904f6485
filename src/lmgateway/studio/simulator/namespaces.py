# -*- test-case-name: tests.studio.simulator.test_namespaces -*-
"""The namespaces that LM Studio offers its SDKs, with the endpoints that manage models and have them answer."""

from __future__ import annotations

import zlib
from collections.abc import Callable

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
from lmgateway.studio.simulator.parameters import (
    ByReference,
    Embed,
    GetOrLoad,
    Identified,
    LoadModel,
    Predict,
    Query,
    Specified,
    Specifier,
    Template,
    Text,
)
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
        for instance in self._instances():
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
        """One that is there, one that is on its way, or one just in time."""
        name = parameter.identifier
        found = [each for each in self._instances() if name in {each.id, *each.model.names}]
        found.sort(key=lambda each: each.readyAt)
        if found and found[0].readyAt <= self._clock.seconds():
            channel.say("alreadyLoaded", info=instanceInfo(found[0]))
            return
        self._permit()
        model = found[0].model if found else self._downloaded(parameter.identifier)
        channel.say("startLoading", identifier=parameter.identifier, info=modelInfo(model))
        instance = found[0] if found else self._justInTime(model, parameter, channel)
        await self._load(instance, channel, "loadProgress")
        channel.say("loadSuccess", info=instanceInfo(instance))

    def _justInTime(self, model: Model, parameter: GetOrLoad, channel: Channel) -> Instance:
        """A new instance, for which another may have to go."""
        ttl = JIT_TTL if parameter.loadTtlMs is None else parameter.loadTtlMs / 1000
        shelf, now, behaviour = self._simulator.shelf, self._clock.seconds(), self._behaviour()
        for other in shelf.evictedBy(now, behaviour):
            channel.say("unloadingOtherJITModel", info=instanceInfo(other))
        return shelf.load(model, now, behaviour, ttl=ttl, jit=True, config=fromStack(parameter.loadConfigStack))

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

    def _instances(self) -> list[Instance]:
        """What is loaded or loading."""
        every = () if self._behaviour().noModels else self._simulator.shelf.instances(self._clock.seconds())
        return [instance for instance in every if instance.model.kind in self._kinds]

    def _loaded(self) -> list[Instance]:
        """What is loaded."""
        now = self._clock.seconds()
        return [instance for instance in self._instances() if instance.readyAt <= now]

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
