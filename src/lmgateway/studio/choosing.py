# -*- test-case-name: tests.studio.test_choosing -*-
"""
Which of the three ways there are to manage LM Studio's models, found out by asking it.

What counts is what it says, never the status: an LM Studio that does not know a path answers with 200, and there are servers
besides LM Studio that have some of its paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.errors import Forbidden, GatewayError, UpstreamSilent, UpstreamUnavailable
from lmgateway.interfaces import IModelManager, IUpstream
from lmgateway.studio.asking import Asking, silent
from lmgateway.studio.bodies import isGreeting
from lmgateway.studio.gateway_only import GatewayManager
from lmgateway.studio.rest import RestManager

GREETING = b"/lmstudio-greeting"

PROBE_SECONDS = 4.0
"""How long LM Studio may take over each of the three questions: all of them are within what a look at it may take."""

MakeSdk = Callable[[], IModelManager]
"""Makes one that speaks as LM Studio's SDKs do. It connects when it is first asked something."""

_log = Logger()


class ManagerChoice:
    """
    Chooses who manages LM Studio's models.

    :param forced: ``sdk``, ``rest`` or ``gateway``, which is then taken unasked; or ``auto``.
    :param upstream: where LM Studio is.
    :param apiToken: LM Studio's own token, or None.
    :param reactor: its clock says for how long LM Studio may be silent.
    :param makeSdk: makes the manager that is tried first: it alone can set everything, and tells of progress.
    :ivar reason: why the last choice was as it was: sentences for the log and the admin.
    """

    def __init__(
        self, forced: str, upstream: IUpstream, apiToken: str | None, reactor: IReactorTime, makeSdk: MakeSdk
    ) -> None:
        self.reason: str | None = None
        self._forced = forced
        self._upstream = upstream
        self._apiToken = apiToken
        self._clock = reactor
        self._makeSdk = makeSdk
        self._asking = Asking(upstream, apiToken, reactor)

    def choose(self) -> Deferred[IModelManager]:
        """
        Find out who is to be asked from now on.

        :return: fails with :class:`~lmgateway.errors.UpstreamUnavailable` (nobody is there), ``UpstreamSilent`` or
            ``UpstreamBroken`` (somebody is, and does not say). Cancelling ends the asking.
        """
        return Deferred.fromCoroutine(self._choose())

    async def _choose(self) -> IModelManager:
        if self._forced != "auto":
            chosen, reason = self._make(self._forced), f'upstream.management is set to "{self._forced}".'
        else:
            chosen, reason = await self._find()
        if reason != self.reason:
            _log.info("LM Studio's models are managed by {way}. {reason}", way=chosen.management, reason=reason)
        self.reason = reason
        return chosen

    def _make(self, management: str) -> IModelManager:
        if management == "sdk":
            return self._makeSdk()
        if management == "rest":
            return RestManager(self._upstream, self._apiToken, self._clock)
        return GatewayManager(self._upstream, self._apiToken, self._clock)

    async def _find(self) -> tuple[IModelManager, str]:
        """
        Try each way in turn.

        :raise GatewayError: nobody is there, or nobody speaks.
        """
        greeting = await self._asking.ask(GREETING, seconds=PROBE_SECONDS)
        isStudio = isGreeting(greeting.body)
        sdkError: GatewayError | None = None
        if isStudio:
            sdk = self._make("sdk")
            sdkError = await self._whyNot(sdk)
            if sdkError is None:
                return sdk, "LM Studio speaks the protocol of its SDKs, by which everything can be set."
        rest = self._make("rest")
        restError = await self._whyNot(rest)
        if restError is None:
            return rest, "LM Studio has a REST API for it." + _because("The protocol of its SDKs failed", sdkError)
        # Who is not there, or does not say anything, may be able to do it.
        if isinstance(restError, UpstreamUnavailable | UpstreamSilent):
            raise restError
        return self._make("gateway"), _whyNeither(sdkError, restError, isStudio=isStudio)

    async def _whyNot(self, candidate: IModelManager) -> GatewayError | None:
        """Ask for a list of models; close the one that cannot give it, and say why it cannot."""
        works = False
        try:
            await candidate.inventory().addTimeout(PROBE_SECONDS, self._clock, silent)
            works = True
        except GatewayError as error:
            return error
        finally:
            if not works:
                _close(candidate)
        return None


def _whyNeither(sdkError: GatewayError | None, restError: GatewayError, *, isStudio: bool) -> str:
    for error in (restError, sdkError):
        if isinstance(error, Forbidden):
            return f"LM Studio offers to manage models, and forbids it to this gateway. {error.message}"
    if not isStudio:
        return "The server is not LM Studio, or an LM Studio that cannot be managed over the network."
    return "LM Studio cannot be managed." + _because("By its SDKs", sdkError) + _because("By REST", restError)


def _because(what: str, error: GatewayError | None) -> str:
    return "" if error is None else f" {what}: {error.message}"


def _close(candidate: IModelManager) -> None:
    """Let go of one that is not taken. Nobody waits for it."""
    closing: Deferred[Any] = maybeDeferred(candidate.close)
    closing.addErrback(_notClosed)


def _notClosed(reason: Failure) -> None:
    _log.warn("A connection to LM Studio did not close in good order: {reason}", reason=reason.getErrorMessage())
