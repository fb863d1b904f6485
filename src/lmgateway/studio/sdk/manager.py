# -*- test-case-name: tests.studio.sdk.test_manager -*-
"""
LM Studio's models, managed over the WebSockets of its own SDKs: with progress, names, times to live and the whole
configuration of a load. LM Studio 0.3 and 0.4 have them, for guests and for those with an API token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from lmgateway.errors import GatewayError, UpstreamBroken, UpstreamUnavailable
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import DownloadedModel, Inventory, LoadOrder, LoadOutcome, Management
from lmgateway.settings import Settings, SettingsError
from lmgateway.studio.bodies import isName
from lmgateway.studio.loadconfig import flatten, fromSdk, notApplied, toSdk
from lmgateway.studio.sdk.connection import Connection, credentialsOf
from lmgateway.studio.sdk.listings import (
    KINDS,
    contextLengthIn,
    fractionIn,
    instancesIn,
    kindOf,
    readDownloaded,
    readInstance,
    referenceIn,
    specifierOf,
)
from lmgateway.studio.sdk.namespace import Namespace
from lmgateway.studio.sdk.refusals import StudioRefusal, explain
from lmgateway.wire.upstream import UpstreamEndpoints

T = TypeVar("T")

CALL_SECONDS = 10.0
"""How long LM Studio may take to tell something."""

CONFIG_SECONDS = 3.0
"""How long it may take to tell what an instance was loaded with, which is not worth more."""

UNLOAD_SECONDS = 60.0
"""How long it may take to unload an instance."""

_SYSTEM = "system"
_LISTING = "list its models"

Configs = dict[str, Mapping[str, Any]]
"""What instances were loaded with, by their references. It does not change while they are there."""


@implementer(IModelManager)
class SdkManager:
    """
    Speaks as LM Studio's SDKs do.

    :param endpoints: how to reach LM Studio.
    :param baseUrl: its scheme, host and port; ``https`` is TLS.
    :param apiToken: LM Studio's own token; without one it is spoken to as a guest.
    :param clock: for what is awaited only so long.
    """

    management: Management = "sdk"

    def __init__(
        self, endpoints: IAgentEndpointFactory, baseUrl: str, apiToken: str | None, clock: IReactorTime
    ) -> None:
        self._secret = apiToken
        credentials = credentialsOf(apiToken)
        self._configs: Configs = {}
        self._last: tuple[object, tuple[DownloadedModel, ...]] | None = None

        def namespace(name: str) -> Namespace:
            secrets = apiToken, credentials.passkey
            return Namespace(lambda: Connection(endpoints, baseUrl, name, clock, *secrets), credentials)

        self._namespaces = {name: namespace(name) for name in (_SYSTEM, *KINDS)}

    def inventory(self) -> Deferred[Inventory]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return Deferred.fromCoroutine(self._inventory())

    def load(self, order: LoadOrder, progress: Callable[[float], None]) -> Deferred[LoadOutcome]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return Deferred.fromCoroutine(self._load(order, progress))

    def unload(self, identifier: str) -> Deferred[None]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return Deferred.fromCoroutine(self._unload(identifier))

    def close(self) -> Deferred[None]:
        """See :class:`~lmgateway.interfaces.IModelManager`."""
        return gatherResults([each.close() for each in self._namespaces.values()]).addCallback(lambda _: None)

    async def _inventory(self) -> Inventory:
        listing = self._call(_SYSTEM, "listDownloadedModels", None, _LISTING)
        answer, *loaded = await _together([listing, *self._listLoaded()])
        told = [(kind, info) for kind, infos in zip(KINDS, loaded, strict=True) for info in instancesIn(infos)]
        configs = await _together([self._configOf(kind, info) for kind, info in told])
        self._retain(info for _, info in told)
        instances = [readInstance(info, kind, config) for (kind, info), config in zip(told, configs, strict=True)]
        if self._last is None or self._last[0] != answer:
            # Reading ten thousand models takes a tenth of a second, and mostly nothing has changed between two looks.
            self._last = answer, readDownloaded(answer)
        return Inventory(self._last[1], tuple(instances))

    async def _load(self, order: LoadOrder, progress: Callable[[float], None]) -> LoadOutcome:
        downloaded = readDownloaded(await self._call(_SYSTEM, "listDownloadedModels", None, _LISTING))
        kind = kindOf(order.modelKey, downloaded)
        fields, unsayable = toSdk(order.loadConfig, kind)
        info = await self._loaded(kind, _parameterOf(order, fields), progress, f'load the model "{order.modelKey}"')
        try:
            config = await self._configOf(kind, info)
        except CancelledError:
            # Whoever cancels has not been told that it is loaded, and expects that it is not.
            self._call(kind, "unloadModel", {"identifier": info["identifier"]}, "", UNLOAD_SECONDS).addErrback(_ignore)
            raise
        context = contextLengthIn(info)
        applied = config or ({} if context is None else {"contextLength": context})
        return LoadOutcome(info["identifier"], applied, _differences(order, info, applied, config, unsayable))

    async def _loaded(
        self, kind: str, parameter: object, progress: Callable[[float], None], doing: str
    ) -> Mapping[str, Any]:
        """
        Have a model loaded.

        :return: what LM Studio tells of the instance.
        :raise GatewayError: it is not loaded.
        """

        def heard(message: dict[str, Any]) -> None:
            fraction = fractionIn(message) if message.get("type") == "progress" else None
            if fraction is not None:
                progress(fraction)

        connection = await self._namespaces[kind].use()
        try:
            message = await connection.converse("loadModel", parameter, heard, last="success")
        except StudioRefusal as refusal:
            raise explain(refusal.error, doing, self._secret) from refusal
        info = message.get("info")
        if not isinstance(info, dict) or not isName(info.get("identifier")):
            raise UpstreamBroken("LM Studio says that the model is loaded, and not what the instance is called.")
        return info

    async def _unload(self, identifier: str) -> None:
        loaded = await _together(self._listLoaded())
        kinds = [
            kind
            for kind, infos in zip(KINDS, loaded, strict=True)
            if any(info["identifier"] == identifier for info in instancesIn(infos))
        ]
        # Where none is listed LM Studio says so itself, unless it knows better.
        kind = kinds[0] if kinds else KINDS[0]
        await self._call(kind, "unloadModel", {"identifier": identifier}, f'unload "{identifier}"', UNLOAD_SECONDS)

    def _listLoaded(self) -> list[Deferred[Any]]:
        """Ask what is loaded, of each kind."""
        return [self._call(kind, "listLoaded", None, _LISTING) for kind in KINDS]

    def _configOf(self, kind: str, info: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """Give what an instance was loaded with, asked for once; nothing where LM Studio does not tell."""
        return Deferred.fromCoroutine(self._readConfig(kind, info))

    async def _readConfig(self, kind: str, info: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = referenceIn(info)
        if reference is not None and reference in self._configs:
            return self._configs[reference]
        parameter = {"specifier": specifierOf(info)}
        try:
            answer = await self._call(
                kind, "getLoadConfig", parameter, "tell what a model was loaded with", CONFIG_SECONDS
            )
        except GatewayError:
            # That the rest is known is worth more than that it is whole. It is asked for again in the next inventory.
            return {}
        config = fromSdk(answer.get("fields") if isinstance(answer, dict) else None)
        if reference is not None:
            self._configs[reference] = config
        return config

    def _retain(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Forget what is known of instances that are gone."""
        references = {referenceIn(info) for info in infos}
        self._configs = {name: config for name, config in self._configs.items() if name in references}

    def _call(
        self, namespace: str, endpoint: str, parameter: object, doing: str, seconds: float = CALL_SECONDS
    ) -> Deferred[Any]:
        """
        Call an endpoint.

        :param doing: what LM Studio is to do, for people.
        """
        return Deferred.fromCoroutine(self._answer(namespace, endpoint, parameter, doing, seconds))

    async def _answer(self, namespace: str, endpoint: str, parameter: object, doing: str, seconds: float) -> Any:
        connection = await self._namespaces[namespace].use()
        try:
            return await connection.call(endpoint, parameter, seconds=seconds)
        except StudioRefusal as refusal:
            raise explain(refusal.error, doing, self._secret) from refusal


def makeSdkManager(settings: Settings, reactor: Any) -> SdkManager:
    """
    Make the one for the LM Studio that the settings name.

    :raise UpstreamUnavailable: the file of certificates, which was there at the start, can no longer be read.
    """
    upstream = settings.upstream
    try:
        endpoints = UpstreamEndpoints(reactor, upstream.connectTimeout, upstream.caFile)
    except SettingsError as error:
        msg = "The certificates to trust for LM Studio (upstream.caFile) cannot be read any more. Put the file back."
        raise UpstreamUnavailable(msg) from error
    return SdkManager(endpoints, upstream.baseUrl, upstream.apiToken, reactor)


def _parameterOf(order: LoadOrder, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Say what is to be loaded, as the SDKs do."""
    stack = {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}
    parameter: dict[str, Any] = {"modelKey": order.modelKey, "loadConfigStack": stack}
    if order.instanceId is not None:
        parameter["identifier"] = order.instanceId
    if order.ttlSeconds is not None:
        parameter["ttlMs"] = order.ttlSeconds * 1000
    return parameter


def _differences(
    order: LoadOrder,
    info: Mapping[str, Any],
    applied: Mapping[str, Any],
    config: Mapping[str, Any],
    unsayable: tuple[str, ...],
) -> tuple[str, ...]:
    """
    Tell what was ordered and is not so, in the order of the order.

    :param applied: what is known of the configuration.
    :param config: what was read back; nothing where that did not work, and then only what is known can be told.
    """
    missing = set(notApplied(order.loadConfig, applied))
    known = missing if config else missing & set(flatten(applied))
    names = [name for name in flatten(order.loadConfig) if name in known or name in unsayable]
    if order.instanceId is not None and info["identifier"] != order.instanceId:
        names.append("instanceId")
    if order.ttlSeconds is not None and info.get("ttlMs", order.ttlSeconds * 1000) != order.ttlSeconds * 1000:
        names.append("ttlSeconds")
    return tuple(names)


async def _together(waiting: list[Deferred[T]]) -> list[T]:
    """
    Wait for all of them, or the first failure. Cancelling cancels them.

    :raise Exception: what the first one that failed did.
    """
    try:
        return await gatherResults(waiting, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


def _ignore(_: object) -> None:
    """Nobody waits for it."""
