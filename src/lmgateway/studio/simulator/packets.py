# -*- test-case-name: tests.studio.simulator.test_packets -*-
"""
The packets of the protocol of LM Studio's SDKs, JSON objects in text messages of a WebSocket. Pure.

Those that the client sends are read here by the schemas of lmstudio-js (``lms-communication``); those that the server sends
are made here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from lmgateway.studio.simulator.encoding import parse, render

Half = Annotated[str, Meta(max_length=256)]
"""One half of what a client authenticates with."""


class Authentication(Struct, frozen=True):
    """
    The first packet: two strings of the client's own, or the halves of an API token.

    :param clientIdentifier: for a token ``sk-lm-A:B`` it is A.
    :param clientPasskey: for a token it is B.
    """

    authVersion: Literal[1]
    clientIdentifier: Half
    clientPasskey: Half


class RpcCall(Struct, frozen=True, tag_field="type", tag="rpcCall"):
    """A call that wants one result."""

    endpoint: str
    callId: int
    parameter: Any = None


class ChannelCreate(Struct, frozen=True, tag_field="type", tag="channelCreate"):
    """The beginning of a conversation with an endpoint."""

    endpoint: str
    channelId: int
    creationParameter: Any = None


class ChannelSend(Struct, frozen=True, tag_field="type", tag="channelSend"):
    """A message in such a conversation."""

    channelId: int
    message: Any = None
    ackId: int | None = None


class ChannelAck(Struct, frozen=True, tag_field="type", tag="channelAck"):
    """A message has arrived; nothing here waits for that."""

    channelId: int
    ackId: int


class KeepAlive(Struct, frozen=True, tag_field="type", tag="keepAlive"):
    """The client asks whether the server is there."""


class CommunicationWarning(Struct, frozen=True, tag_field="type", tag="communicationWarning"):
    """The client did not understand the server."""

    warning: str


class SignalSubscribe(Struct, frozen=True, tag_field="type", tag="signalSubscribe"):
    """The client wants to follow a value."""

    endpoint: str
    subscribeId: int
    creationParameter: Any = None


class WritableSignalSubscribe(Struct, frozen=True, tag_field="type", tag="writableSignalSubscribe"):
    """The client wants to follow a value, and to change it."""

    endpoint: str
    subscribeId: int
    creationParameter: Any = None


Packet = (
    RpcCall
    | ChannelCreate
    | ChannelSend
    | ChannelAck
    | KeepAlive
    | CommunicationWarning
    | SignalSubscribe
    | WritableSignalSubscribe
)
"""Whatever a client may send once it has authenticated, and is not overlooked."""


def readAuthentication(text: str) -> Authentication | None:
    """The first packet, or None if it is something else."""
    value: Authentication | None = _read(text, Authentication)
    return value


def readPacket(text: str) -> Packet | None:
    """A packet, or None if it is something else: LM Studio overlooks what it cannot read."""
    value: Packet | None = _read(text, Packet)
    return value


def rpcResult(callId: int, result: object) -> bytes:
    """The result of a call; a call without one has no member of that name."""
    packet = {"type": "rpcResult", "callId": callId}
    return render(packet if result is None else {**packet, "result": result})


def rpcError(callId: int, error: object) -> bytes:
    """A call failed."""
    return render({"type": "rpcError", "callId": callId, "error": error})


def channelSend(channelId: int, message: bytes) -> bytes:
    """
    A message in a conversation.

    :param message: JSON.
    """
    return b'{"type":"channelSend","channelId":%d,"message":%s}' % (channelId, message)


def channelClose(channelId: int) -> bytes:
    """A conversation has come to its end."""
    return render({"type": "channelClose", "channelId": channelId})


def channelError(channelId: int, error: object) -> bytes:
    """A conversation has failed."""
    return render({"type": "channelError", "channelId": channelId, "error": error})


def keepAliveAck() -> bytes:
    """The server is there."""
    return render({"type": "keepAliveAck"})


def warning(text: str) -> bytes:
    """The server did not understand the client."""
    return render({"type": "communicationWarning", "warning": text})


def authenticated() -> bytes:
    """The client is let in."""
    return render({"success": True})


def refused(error: str) -> bytes:
    """The client is not let in."""
    return render({"success": False, "error": error})


def _read(text: str, kind: Any) -> Any:
    """JSON of a certain kind, or None."""
    try:
        return convert(parse(text.encode("utf-8", "surrogatepass")), kind)
    except (ValueError, ValidationError):
        return None
