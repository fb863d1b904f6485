"""Tests for :mod:`lmgateway.studio.sdk.packets`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.sdk import packets
from lmgateway.studio.sdk.packets import (
    MOST,
    Admission,
    ChannelClosed,
    ChannelFailed,
    ChannelMessage,
    RpcError,
    RpcResult,
    StudioError,
    Warned,
)
from lmgateway.studio.simulator import packets as simulated
from lmgateway.studio.simulator import sdkerrors
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES, jsonObjects

_PACKETS = (RpcResult, RpcError, ChannelMessage, ChannelClosed, ChannelFailed, Warned)
_TEXTS = st.one_of(
    st.text(),
    JSON_VALUES,
    jsonObjects("type", "callId", "channelId", "message", "result", "error", "warning").map(bytes.decode),
)


class OutgoingTests(SynchronousTestCase):
    """What is said, read by the simulator's own schemas."""

    def test_authentication(self) -> None:
        """The first packet has both halves."""
        packet = simulated.readAuthentication(packets.authentication("guest:1", "p"))
        self.assertEqual(simulated.Authentication(1, "guest:1", "p"), packet)

    def test_calls(self) -> None:
        """A call has an endpoint and an id; without a parameter the member is missing, as in the SDKs."""
        self.assertEqual(
            simulated.RpcCall("unloadModel", 3, {"identifier": "a"}),
            simulated.readPacket(packets.rpcCall("unloadModel", 3, {"identifier": "a"})),
        )
        self.assertNotIn("parameter", packets.rpcCall("listLoaded", 4, None))

    def test_channels(self) -> None:
        """A channel is opened, and its wish taken back."""
        created = simulated.readPacket(packets.channelCreate("loadModel", 5, {"modelKey": "a"}))
        self.assertEqual(simulated.ChannelCreate("loadModel", 5, {"modelKey": "a"}), created)
        sent = simulated.readPacket(packets.channelSend(5, packets.CANCEL))
        self.assertEqual(simulated.ChannelSend(5, {"type": "cancel"}), sent)

    def test_keepAlive(self) -> None:
        """The question whether LM Studio is there has no member but its type."""
        self.assertEqual(simulated.KeepAlive(), simulated.readPacket(packets.keepAlive()))

    def test_loneSurrogate(self) -> None:
        """A name with half a character in it, as JavaScript clients may send, can be written as UTF-8."""
        text = packets.rpcCall("unloadModel", 1, {"identifier": "\ud83d"})
        self.assertEqual(b"\\ud83d", text.encode()[-9:-3])


class IncomingTests(SynchronousTestCase):
    """What is heard, said by the simulator's own functions."""

    def test_calls(self) -> None:
        """The end of a call is its result, which may be missing, or an error."""
        self.assertEqual(RpcResult(1, [2]), packets.readPacket(simulated.rpcResult(1, [2]).decode()))
        self.assertEqual(RpcResult(1), packets.readPacket(simulated.rpcResult(1, None).decode()))
        error = sdkerrors.pathUnknown("a", []).serialized
        self.assertEqual(
            RpcError(1, StudioError("Cannot find a model with path: a", code="generic.pathNotFound")),
            packets.readPacket(simulated.rpcError(1, error).decode()),
        )

    def test_channels(self) -> None:
        """A channel has messages, and an end or an error."""
        message = ChannelMessage(2, {"type": "progress", "progress": 0.5})
        said = simulated.channelSend(2, b'{"type":"progress","progress":0.5}')
        self.assertEqual(message, packets.readPacket(said.decode()))
        self.assertEqual(ChannelClosed(2), packets.readPacket(simulated.channelClose(2).decode()))
        failed = packets.readPacket(
            simulated.channelError(2, sdkerrors.loadFailed("Out of memory").serialized).decode()
        )
        assert isinstance(failed, ChannelFailed)
        self.assertEqual("Out of memory", failed.error.cause)

    def test_others(self) -> None:
        """A warning is read; a sign of life needs no reading."""
        self.assertEqual(Warned("What?"), packets.readPacket(simulated.warning("What?").decode()))
        self.assertIsNone(packets.readPacket(simulated.keepAliveAck().decode()))

    def test_admission(self) -> None:
        """The answer to the authentication is one of two, and a refusal without words is one, too."""
        self.assertEqual(Admission(None), packets.readAdmission(simulated.authenticated().decode()))
        self.assertEqual(Admission("No"), packets.readAdmission(simulated.refused("No").decode()))
        self.assertEqual(Admission("No"), packets.readAdmission('{"success":false,"error":{"title":"No"}}'))
        self.assertEqual(Admission(""), packets.readAdmission('{"success":false}'))
        self.assertIsNone(packets.readAdmission('{"success":1}'))

    def test_errorsInWords(self) -> None:
        """An error that is a string has a title and nothing else; one that is endless is cut."""
        failed = packets.readPacket('{"type":"rpcError","callId":0,"error":"No"}')
        self.assertEqual(RpcError(0, StudioError("No")), failed)
        endless = packets.readPacket(json.dumps({"type": "rpcError", "callId": 0, "error": {"cause": "x" * 2 * MOST}}))
        assert isinstance(endless, RpcError)
        self.assertEqual(MOST, len(endless.error.cause))

    def test_noId(self) -> None:
        """True is no id, although it equals 1."""
        self.assertIsNone(packets.readPacket('{"type":"rpcResult","callId":true}'))

    @given(_TEXTS)
    def test_total(self, text: str) -> None:
        """Whatever text comes, it is a packet or nothing, and never an error of another kind."""
        packet: Any = packets.readPacket(text)
        self.assertTrue(packet is None or isinstance(packet, _PACKETS))
        admission = packets.readAdmission(text)
        self.assertTrue(admission is None or isinstance(admission, Admission))

    def test_deep(self) -> None:
        """Nesting without end is nothing."""
        self.assertIsNone(packets.readPacket("[" * 100_000))
        self.assertIsNone(packets.readPacket('{"type":' * 100_000))
