# -*- test-case-name: tests.studio.sdk.test_packets -*-
"""
The packets of the protocol of LM Studio's SDKs, JSON objects in text messages of a WebSocket (``lms-communication`` of
lmstudio-js). Those that a client sends are made here; those that a server sends are read here. Pure.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from lmgateway.studio.bodies import decodeObject

CANCEL = {"type": "cancel"}
"""The message on a channel that takes back what it was opened for."""

MOST = 4000
"""Characters that are read of each text in which LM Studio says what went wrong."""


class StudioError(Struct, frozen=True):
    """
    What LM Studio says when it will not.

    :param title: what went wrong.
    :param cause: why, or nothing.
    :param suggestion: what to do about it, or nothing.
    :param code: by which programs recognise some of them, such as ``generic.pathNotFound``; or nothing.
    """

    title: str
    cause: str = ""
    suggestion: str = ""
    code: str = ""


class RpcResult(Struct, frozen=True):
    """A call has been answered."""

    callId: int
    result: Any = None


class RpcError(Struct, frozen=True):
    """A call has failed."""

    callId: int
    error: StudioError


class ChannelMessage(Struct, frozen=True):
    """
    A message on a channel.

    :param message: an object with a ``type``.
    """

    channelId: int
    message: dict[str, Any]


class ChannelClosed(Struct, frozen=True):
    """A channel has come to its end."""

    channelId: int


class ChannelFailed(Struct, frozen=True):
    """A channel has failed."""

    channelId: int
    error: StudioError


class Warned(Struct, frozen=True):
    """LM Studio did not understand a packet. It does not say which: its text names an endpoint or an id."""

    warning: str


Packet = RpcResult | RpcError | ChannelMessage | ChannelClosed | ChannelFailed | Warned


class Admission(Struct, frozen=True):
    """
    The answer to the authentication.

    :param refusal: why the client is not let in; None where it is.
    """

    refusal: str | None


def authentication(identifier: str, passkey: str) -> str:
    """Make the first packet."""
    return _packet({"authVersion": 1, "clientIdentifier": identifier, "clientPasskey": passkey})


def rpcCall(endpoint: str, callId: int, parameter: object) -> str:
    """
    Make a call.

    :param parameter: None for an endpoint that takes none.
    """
    packet = {"type": "rpcCall", "endpoint": endpoint, "callId": callId}
    return _packet(packet if parameter is None else {**packet, "parameter": parameter})


def channelCreate(endpoint: str, channelId: int, parameter: object) -> str:
    """Open a channel."""
    return _packet(
        {"type": "channelCreate", "endpoint": endpoint, "channelId": channelId, "creationParameter": parameter}
    )


def channelSend(channelId: int, message: object) -> str:
    """Say something on a channel."""
    return _packet({"type": "channelSend", "channelId": channelId, "message": message})


def keepAlive() -> str:
    """Ask whether the server is there."""
    return _packet({"type": "keepAlive"})


def readAdmission(text: str) -> Admission | None:
    """Read the answer to the authentication; None where it is something else."""
    packet = _object(text)
    success = packet.get("success")
    if success is True:
        return Admission(None)
    if success is False:
        return Admission(_readError(packet.get("error")).title)
    return None


def readPacket(text: str) -> Packet | None:
    """Read a packet; None for one that is of no interest, and for everything else. Total."""
    packet = _object(text)
    kind = packet.get("type")
    if kind == "communicationWarning":
        warning = packet.get("warning")
        return Warned(warning[:MOST] if isinstance(warning, str) else "")
    if not isinstance(kind, str):
        return None
    identifier = packet.get("callId" if kind.startswith("rpc") else "channelId")
    if not isinstance(identifier, int) or isinstance(identifier, bool):
        return None
    return _readNumbered(kind, identifier, packet)


def _readNumbered(kind: str, identifier: int, packet: dict[str, Any]) -> Packet | None:
    """Read a packet that belongs to a call or a channel."""
    if kind == "rpcResult":
        return RpcResult(identifier, packet.get("result"))
    if kind == "rpcError":
        return RpcError(identifier, _readError(packet.get("error")))
    if kind == "channelClose":
        return ChannelClosed(identifier)
    if kind == "channelError":
        return ChannelFailed(identifier, _readError(packet.get("error")))
    message = packet.get("message")
    if kind == "channelSend" and isinstance(message, dict):
        return ChannelMessage(identifier, message)
    return None


def _readError(error: object) -> StudioError:
    """Read what LM Studio says went wrong, as far as it says anything."""
    if isinstance(error, str):
        return StudioError(error[:MOST])
    if not isinstance(error, dict):
        return StudioError("")
    display = error.get("displayData")
    code = display.get("code") if isinstance(display, dict) else None
    texts = (error.get("title"), error.get("cause"), error.get("suggestion"), code)
    return StudioError(*(text[:MOST] if isinstance(text, str) else "" for text in texts))


def _object(text: str) -> dict[str, Any]:
    """Decode an object; everything else is an empty one."""
    return decodeObject(text.encode("utf-8", "replace")) or {}


def _packet(packet: object) -> str:
    # The escapes of the standard library's encoder are those that carry lone surrogates, too, which a client may have sent.
    return json.dumps(packet, separators=(",", ":"))
