# -*- test-case-name: tests.studio.sdk.test_connection -*-
"""
One namespace of LM Studio's SDKs' protocol, in conversation (``lms-communication-client`` of lmstudio-js): calls, which have
one answer, and channels, which have several.

LM Studio never answers what it does not understand; it warns that there was something. And it may be busy for minutes with a
load without a word, while its connection has long been gone. So every call is awaited only so long, and while anything is
awaited the connection is asked for a sign of life.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.iweb import IAgentEndpointFactory

from lmgateway.errors import GatewayError, UpstreamBroken, UpstreamSilent
from lmgateway.studio.quoting import quoted
from lmgateway.studio.sdk import packets
from lmgateway.studio.sdk.link import Link
from lmgateway.studio.sdk.packets import ChannelClosed, ChannelFailed, ChannelMessage, RpcError, RpcResult, Warned
from lmgateway.studio.sdk.refusals import StudioRefusal, refused

KEEP_ALIVE_SECONDS = 5.0
"""Between two questions whether LM Studio is there, while something is awaited."""

DEAD_SECONDS = 15.0
"""Seconds without a packet after which it is not. Both are those of LM Studio's own SDKs."""

ADMISSION_SECONDS = 10.0
"""How long LM Studio may take to let a client in."""

_TOKEN = "sk-lm-"  # noqa: S105 - how each begins
_HALF = 256
"""Characters that either half of the credentials may have."""


class Credentials(Struct, frozen=True):
    """
    Who connects.

    :param identifier: of the client: a guest, or the first half of an API token.
    :param passkey: by which LM Studio knows it again: the second half.
    """

    identifier: str
    passkey: str


def credentialsOf(apiToken: str | None) -> Credentials:
    """
    Make the credentials.

    :param apiToken: ``sk-lm-A:B``. Without one, or with one that is none, the client is a new guest: versions before 0.4
        know no tokens.
    """
    if apiToken is not None and apiToken.startswith(_TOKEN):
        identifier, colon, passkey = apiToken.removeprefix(_TOKEN).partition(":")
        if colon and 0 < len(identifier) <= _HALF and 0 < len(passkey) <= _HALF:
            return Credentials(identifier, passkey)
    return Credentials(f"guest:{secrets.token_hex(12)}", secrets.token_hex(24))


class _Wait:
    """
    A call or a channel that has not ended.

    :param result: fires with the result of a call, or the last message of a channel.
    :param heard: takes the other messages of a channel; None for a call.
    :param last: the type of the last message.
    :ivar isAnswered: whether anything came on it.
    """

    def __init__(
        self,
        endpoint: str,
        result: Deferred[Any],
        heard: Callable[[dict[str, Any]], None] | None = None,
        last: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.result = result
        self.heard = heard
        self.last = last
        self.isAnswered = False


class Connection:
    """
    A connection to one namespace.

    :param endpoints: how to reach LM Studio.
    :param baseUrl: scheme, host and port of it.
    :param namespace: ``llm``, ``embedding``, ``system``, ….
    :param clock: for what is awaited only so long.
    :param secrets: what messages must not quote.
    :ivar isOpen: whether it can be used.
    """

    def __init__(
        self,
        endpoints: IAgentEndpointFactory,
        baseUrl: str,
        namespace: str,
        clock: IReactorTime,
        *secrets: str | None,
    ) -> None:
        self.isOpen = False
        self._namespace = namespace
        self._clock = clock
        self._secrets = secrets
        self._link = Link(endpoints, baseUrl, f"/{namespace}", clock, self._received, self._lost)
        self._admission: Deferred[None] | None = None
        self._waits: dict[int, _Wait] = {}
        self._next = 1
        self._heardAt = 0.0
        self._beat: IDelayedCall | None = None

    async def open(self, credentials: Credentials) -> None:
        """
        Connect, and be let in. To be called once.

        :raise GatewayError: it did not work: ``UpstreamUnavailable``, ``UpstreamSilent``, ``UpstreamBroken`` or ``Forbidden``.
        """
        await self._link.open()
        self._admission = Deferred()
        self._link.send(packets.authentication(credentials.identifier, credentials.passkey))
        try:
            await self._admission.addTimeout(ADMISSION_SECONDS, self._clock, self._unadmitted)
        except BaseException:
            self._admission = None
            self._link.abort(self._silent())
            raise
        self.isOpen = True

    def call(self, endpoint: str, parameter: object = None, *, seconds: float) -> Deferred[Any]:
        """
        Call an endpoint.

        :param seconds: for how long to wait.
        :return: fires with its result. Fails with :exc:`~lmgateway.studio.sdk.refusals.StudioRefusal`, ``UpstreamSilent`` or
            ``UpstreamBroken``. Cancelling ends the waiting.
        """
        identifier = self._take()

        def cancel(_: Deferred[Any]) -> None:
            self._forget(identifier)

        result: Deferred[Any] = Deferred(cancel)
        self._begin(identifier, _Wait(endpoint, result), packets.rpcCall(endpoint, identifier, parameter))
        return result.addTimeout(seconds, self._clock, partial(self._unanswered, self._clock.seconds()))

    def converse(
        self, endpoint: str, parameter: object, heard: Callable[[dict[str, Any]], None], *, last: str
    ) -> Deferred[dict[str, Any]]:
        """
        Open a channel. It may take as long as it will, while LM Studio shows that it is there.

        :param heard: takes each message before the last.
        :param last: the type of the last message.
        :return: fires with the last message. Fails as :meth:`call` does. Cancelling takes back what the channel was opened
            for, and does not wait for what LM Studio says to that.
        """
        identifier = self._take()

        def cancel(_: Deferred[dict[str, Any]]) -> None:
            self._forget(identifier)
            self._link.send(packets.channelSend(identifier, packets.CANCEL))

        result: Deferred[dict[str, Any]] = Deferred(cancel)
        wait = _Wait(endpoint, result, heard, last)
        self._begin(identifier, wait, packets.channelCreate(endpoint, identifier, parameter))
        return result

    def close(self) -> Deferred[None]:
        """Close it, and fail whatever waits. Fires when it is closed."""
        self.isOpen = False
        return self._link.close()

    def _take(self) -> int:
        """Take an id that none has had: calls and channels share them, though they need not."""
        identifier, self._next = self._next, self._next + 1
        return identifier

    def _begin(self, identifier: int, wait: _Wait, packet: str) -> None:
        """Say it, and wait for what comes of it."""
        if not self.isOpen:
            wait.result.errback(UpstreamBroken(f"LM Studio's WebSocket /{self._namespace} was lost. Try again."))
            return
        self._waits[identifier] = wait
        if self._beat is None:
            self._heardAt = self._clock.seconds()
            self._beat = self._clock.callLater(KEEP_ALIVE_SECONDS, self._keepAlive)
        self._link.send(packet)

    def _forget(self, identifier: int) -> _Wait | None:
        """Wait for it no more, and ask for no sign of life if that was the last."""
        wait = self._waits.pop(identifier, None)
        if not self._waits:
            self._rest()
        return wait

    def _rest(self) -> None:
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.cancel()

    def _keepAlive(self) -> None:
        """Ask for a sign of life, unless there has been none for too long."""
        self._beat = None
        if self._clock.seconds() - self._heardAt >= DEAD_SECONDS:
            self._link.abort(self._silent())
            return
        self._link.send(packets.keepAlive())
        self._beat = self._clock.callLater(KEEP_ALIVE_SECONDS, self._keepAlive)

    def _received(self, text: str) -> None:
        self._heardAt = self._clock.seconds()
        if not self.isOpen:
            self._admit(text)
            return
        packet = packets.readPacket(text)
        if isinstance(packet, RpcResult | RpcError):
            self._answered(packet)
        elif isinstance(packet, ChannelMessage):
            self._spoken(packet)
        elif isinstance(packet, ChannelClosed | ChannelFailed):
            self._ended(packet)
        elif isinstance(packet, Warned):
            self._misunderstood(packet.warning)

    def _admit(self, text: str) -> None:
        """Read the answer to the authentication."""
        admission = packets.readAdmission(text)
        waiting, self._admission = self._admission, None
        if waiting is None or waiting.called:
            return
        if admission is None:
            waiting.errback(self._nonsense("It does not say whether it lets this gateway in."))
        elif admission.refusal is not None:
            waiting.errback(refused(admission.refusal, *self._secrets))
        else:
            waiting.callback(None)

    def _answered(self, packet: RpcResult | RpcError) -> None:
        wait = self._waits.get(packet.callId)
        if wait is None or wait.heard is not None:
            return
        self._forget(packet.callId)
        if isinstance(packet, RpcError):
            wait.result.errback(StudioRefusal(packet.error))
        else:
            wait.result.callback(packet.result)

    def _spoken(self, packet: ChannelMessage) -> None:
        wait = self._waits.get(packet.channelId)
        if wait is None or wait.heard is None:
            return
        wait.isAnswered = True
        if packet.message.get("type") == wait.last:
            self._forget(packet.channelId)
            wait.result.callback(packet.message)
        else:
            wait.heard(packet.message)

    def _ended(self, packet: ChannelClosed | ChannelFailed) -> None:
        wait = self._waits.get(packet.channelId)
        if wait is None or wait.heard is None:
            return
        self._forget(packet.channelId)
        if isinstance(packet, ChannelFailed):
            wait.result.errback(StudioRefusal(packet.error))
        else:
            wait.result.errback(self._nonsense(f"It ended {wait.endpoint} without a result."))

    def _misunderstood(self, warning: str) -> None:
        """Fail what LM Studio did not understand, where its warning names it: there will be no other answer."""
        for identifier, wait in tuple(self._waits.items()):
            if not wait.isAnswered and f" = {wait.endpoint}" in warning:
                self._forget(identifier)
                wait.result.errback(self._nonsense(f"It warns: {quoted(warning, *self._secrets)}"))

    def _lost(self, reason: GatewayError) -> None:
        """Fail whatever waits."""
        self.isOpen = False
        self._rest()
        waits, self._waits = self._waits, {}
        if self._admission is not None:
            self._admission.errback(reason)
            self._admission = None
        for wait in waits.values():
            wait.result.errback(reason)

    def _unadmitted(self, _: object, __: float) -> None:
        raise self._silent()

    def _unanswered(self, since: float, _: object, __: float) -> None:
        """
        Give up a call; and the connection, where it has been silent ever since and nobody else waits on it.

        :raise UpstreamSilent: always.
        """
        silent = self._silent()
        if not self._waits and self._heardAt <= since:
            self._link.abort(silent)
        raise silent

    def _silent(self) -> UpstreamSilent:
        return UpstreamSilent(
            f"LM Studio did not answer in time on its WebSocket /{self._namespace}. It may be busy or hang; try again in a moment."
        )

    def _nonsense(self, what: str) -> UpstreamBroken:
        return UpstreamBroken(
            f"What LM Studio says on its WebSocket /{self._namespace} makes no sense. {what} "
            "It may be of a version that this gateway does not know."
        )
