# -*- test-case-name: tests.studio.simulator.test_port -*-
"""
One namespace to one client: calls, channels and warnings, as ``ServerPort`` of lmstudio-js handles them.

What is not understood is not answered but warned of, five times at most: a client that calls what does not exist waits
for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct, ValidationError, convert
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.studio.simulator import packets
from lmgateway.studio.simulator.encoding import Reply, render
from lmgateway.studio.simulator.packets import (
    ChannelCreate,
    ChannelSend,
    KeepAlive,
    RpcCall,
    SignalSubscribe,
    WritableSignalSubscribe,
)
from lmgateway.studio.simulator.sdkerrors import SdkError

WARNINGS = 5
"""After so many there are no more."""

_log = Logger()


class Nothing(Struct, frozen=True):
    """The parameter of endpoints that need none."""


class Cancel(Struct, frozen=True, tag_field="type", tag="cancel"):
    """The only message that a client sends on a channel."""


class Call(Struct, frozen=True):
    """
    An endpoint that is called.

    :param parameter: the structure of its parameter.
    :param function: takes it and returns the result; raises :exc:`SdkError`.
    """

    parameter: type[Any]
    function: Callable[[Any], Awaitable[object]]


class Talk(Struct, frozen=True):
    """
    An endpoint that is talked with over a channel.

    :param parameter: the structure of its creation parameter.
    :param function: takes it and the channel, and returns at the end of the conversation; raises :exc:`SdkError`.
    """

    parameter: type[Any]
    function: Callable[[Any, Channel], Awaitable[None]]


class Namespace(Struct, frozen=True):
    """What there is to call and to talk with, by name."""

    calls: Mapping[str, Call] = {}
    talks: Mapping[str, Talk] = {}


class Line:
    """
    The connection that packets go out on.

    :param send: sends one; after the connection has gone it does nothing.
    :param cut: breaks the connection at once.
    :param room: waits until the client has taken what was sent.
    """

    def __init__(
        self, send: Callable[[bytes], None], cut: Callable[[], None], room: Callable[[], Awaitable[None]]
    ) -> None:
        self.send = send
        self.cut = cut
        self.room = room


class Channel:
    """
    One conversation, and an :class:`~lmgateway.studio.simulator.prediction.Audience`.

    :ivar work: what is being done for it.
    :ivar cancelled: whether the client has taken back its wish.
    :ivar outlives: whether it goes on when the connection is lost.
    """

    def __init__(self, line: Line, channelId: int) -> None:
        self._line = line
        self._id = channelId
        self._lost = False
        self._holding = False
        self.work: Deferred[None] | None = None
        self.cancelled = False
        self.outlives = False

    @property
    def gone(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self.cancelled or self._lost

    def say(self, kind: str, /, **members: object) -> None:
        """Send a message."""
        self.send(render({"type": kind, **members}))

    def send(self, chunk: bytes) -> None:
        """Send a message that is JSON already."""
        self._line.send(packets.channelSend(self._id, chunk))

    async def room(self) -> None:
        """Wait until the client has taken what was sent."""
        await self._line.room()

    def cut(self) -> None:
        """Break the connection."""
        self._line.cut()

    def cancel(self) -> None:
        """The client wants no more."""
        self.cancelled = True
        self._stop()

    def lose(self) -> None:
        """The connection is gone."""
        self._lost = True
        if not self.outlives:
            self._stop()

    def hold(self) -> None:
        """From now on nothing stops the work."""
        self._holding = True

    def release(self) -> None:
        """End :meth:`hold`."""
        self._holding = False

    def answer(self, reply: Reply) -> None:
        """Nothing: here every answer is a stream."""

    def finish(self) -> None:
        """Nothing: the end of the work is the end of the channel."""

    def close(self) -> None:
        """Nothing, as above."""

    def _stop(self) -> None:
        if self.work is not None and not self._holding:
            self.work.cancel()


class Port:
    """
    A namespace in conversation with one client.

    :param complain: is called with the name of an endpoint and the title of an error that goes to the client.
    """

    def __init__(self, namespace: Namespace, line: Line, complain: Callable[[str, str], object]) -> None:
        self._namespace = namespace
        self._line = line
        self._complain = complain
        self._channels: dict[int, Channel] = {}
        self._calls: set[Deferred[None]] = set()
        self._warnings = 0

    def received(self, text: str) -> None:
        """Take a packet; what is none is overlooked."""
        packet = packets.readPacket(text)
        if isinstance(packet, RpcCall):
            self._receivedCall(packet)
        elif isinstance(packet, ChannelCreate):
            self._receivedCreate(packet)
        elif isinstance(packet, ChannelSend):
            self._receivedSend(packet)
        elif isinstance(packet, KeepAlive):
            self._line.send(packets.keepAliveAck())
        elif isinstance(packet, SignalSubscribe | WritableSignalSubscribe):
            kind = "signalSubscribe" if isinstance(packet, SignalSubscribe) else "writableSignalSubscribe"
            self._warn(f"Received {kind} for unknown endpoint, endpoint = {packet.endpoint}")

    def lose(self) -> None:
        """The connection is gone."""
        for channel in tuple(self._channels.values()):
            channel.lose()
        for call in tuple(self._calls):
            call.cancel()

    def _receivedCall(self, packet: RpcCall) -> None:
        call = self._namespace.calls.get(packet.endpoint)
        if call is None:
            self._warn(f"Received rpcCall for unknown endpoint, endpoint = {packet.endpoint}")
            return
        try:
            parameter = _converted(packet.parameter, call.parameter)
        except ValidationError as error:
            self._warn(f"Received invalid parameter for rpcCall, endpointName = {packet.endpoint}. {error}")
            return
        running = Deferred.fromCoroutine(self._call(packet, call, parameter))
        self._calls.add(running)
        running.addBoth(lambda _: self._calls.discard(running))

    async def _call(self, packet: RpcCall, call: Call, parameter: object) -> None:
        try:
            result = await call.function(parameter)
        except SdkError as error:
            self._complain(packet.endpoint, f"Error in RPC handler: Error: {error.title}")
            self._line.send(packets.rpcError(packet.callId, error.serialized))
        except CancelledError:
            return
        except Exception:  # noqa: BLE001 - a defect of the simulator must be seen, and not stop the rest
            _log.failure("The simulator failed at {endpoint}", Failure(), endpoint=packet.endpoint)
        else:
            self._line.send(packets.rpcResult(packet.callId, result))

    def _receivedCreate(self, packet: ChannelCreate) -> None:
        talk = self._namespace.talks.get(packet.endpoint)
        if talk is None:
            self._warn(f"Received channelCreate for unknown endpoint, endpoint = {packet.endpoint}")
            return
        if packet.channelId in self._channels:
            self._warn(f"Received channelCreate for already open channel, channelId = {packet.channelId}")
            return
        try:
            parameter = _converted(packet.creationParameter, talk.parameter)
        except ValidationError as error:
            self._warn(f"Received invalid creationParameter for channel, endpointName = {packet.endpoint}. {error}")
            return
        channel = self._channels[packet.channelId] = Channel(self._line, packet.channelId)
        # A conversation that ends at once has no need of cancelling.
        channel.work = Deferred.fromCoroutine(self._talk(packet, talk, parameter, channel))

    async def _talk(self, packet: ChannelCreate, talk: Talk, parameter: object, channel: Channel) -> None:
        try:
            await talk.function(parameter, channel)
        except SdkError as error:
            self._complain(packet.endpoint, f"Error in channel handler: Error: {error.title}")
            self._line.send(packets.channelError(packet.channelId, error.serialized))
        except CancelledError:
            self._line.send(packets.channelClose(packet.channelId))
        except Exception:  # noqa: BLE001 - as above
            _log.failure("The simulator failed at {endpoint}", Failure(), endpoint=packet.endpoint)
        else:
            self._line.send(packets.channelClose(packet.channelId))
        finally:
            del self._channels[packet.channelId]

    def _receivedSend(self, packet: ChannelSend) -> None:
        channel = self._channels.get(packet.channelId)
        if channel is None:
            self._warn(f"Received channelSend for unknown channel, channelId = {packet.channelId}")
            return
        try:
            _converted(packet.message, Cancel)
        except ValidationError as error:
            self._warn(f"Received invalid message for channel, channelId = {packet.channelId}. {error}")
            return
        channel.cancel()

    def _warn(self, text: str) -> None:
        """Say that the client was not understood."""
        if self._warnings < WARNINGS:
            self._warnings += 1
            self._line.send(packets.warning(text))


def _converted(value: object, kind: type[Any]) -> object:
    """
    A parameter in its structure; where none is needed anything will do.

    :raise ValidationError: it does not fit.
    """
    if kind is Nothing:
        return Nothing()
    try:
        return convert(value, kind)
    except UnicodeError:
        # So msgspec complains of a lone surrogate where it looks for something else than a string.
        raise ValidationError("Invalid string") from None
