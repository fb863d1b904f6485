"""The packets of the SDKs: what is one, what is none, and that nothing is ever raised."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.studio.simulator import packets
from lmgateway.studio.simulator.packets import (
    Authentication,
    ChannelCreate,
    ChannelSend,
    CommunicationWarning,
    KeepAlive,
    Packet,
    RpcCall,
    readAuthentication,
    readPacket,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES, jsonObjects, mutations
from tests.studio.simulator.sdk import JSON

KINDS = st.sampled_from((
    "rpcCall", "channelCreate", "channelSend", "channelAck", "keepAlive", "communicationWarning", "signalSubscribe",
    "writableSignalSubscribe", "nope",
))  # fmt: skip
MEMBERS = ("type", "endpoint", "callId", "channelId", "parameter", "message", "warning", "subscribeId", "authVersion")


class ReadTests(SynchronousTestCase):
    def test_packets(self) -> None:
        """Each kind is read, with members that nobody knows, and without those that may be missing."""
        for text, packet in (
            ('{"type":"rpcCall","endpoint":"e","callId":0}', RpcCall("e", 0)),
            ('{"type":"rpcCall","endpoint":"e","callId":1,"parameter":{"a":[1]}}', RpcCall("e", 1, {"a": [1]})),
            (
                '{"endpoint":"e","x":1,"type":"channelCreate","channelId":7,"creationParameter":2}',
                ChannelCreate("e", 7, 2),
            ),
            (
                '{"type":"channelSend","channelId":7,"message":{"type":"cancel"},"ackId":3}',
                ChannelSend(7, {"type": "cancel"}, 3),
            ),
            ('{"type":"keepAlive"}', KeepAlive()),
            ('{"type":"communicationWarning","warning":"w"}', CommunicationWarning("w")),
        ):
            self.assertEqual(readPacket(text), packet)

    def test_none(self) -> None:
        """What is no JSON, no object, of no known kind or lacks a member is none."""
        for text in (
            "", "{", "[]", "null", '"rpcCall"', "{}", '{"type":"nope"}', '{"type":"rpcCall"}', '{"type":5}',
            '{"type":"rpcCall","endpoint":1,"callId":0}', '{"type":"rpcCall","endpoint":"e","callId":"0"}',
            '{"type":"rpcCall","endpoint":"e","callId":0.5}', "[" * 100_000,
        ):  # fmt: skip
            self.assertIsNone(readPacket(text), text[:50])

    def test_authentication(self) -> None:
        """It has a version and two strings of at most 256 characters."""
        halves = {"clientIdentifier": "a" * 256, "clientPasskey": ""}
        self.assertEqual(readAuthentication(json.dumps({"authVersion": 1, **halves})), Authentication(1, "a" * 256, ""))
        for wrong in (
            {**halves},
            {**halves, "authVersion": 2},
            {**halves, "authVersion": 1, "clientPasskey": "b" * 257},
            {**halves, "authVersion": 1, "clientPasskey": None},
        ):
            self.assertIsNone(readAuthentication(json.dumps(wrong)))

    def test_surrogate(self) -> None:
        """A lone surrogate passes, as JavaScript lets it."""
        text = '{"type":"communicationWarning","warning":"\\ud83d"}'
        self.assertEqual(readPacket(text), CommunicationWarning("\ud83d"))

    @given(
        st.one_of(
            st.text(), JSON_VALUES, mutations(jsonObjects(*MEMBERS)).map(lambda text: text.decode("utf-8", "replace"))
        )
    )
    @example("\ud800")
    def test_totality(self, text: str) -> None:
        """Whatever the text is, it is a packet or None, and nothing is raised."""
        packet = readPacket(text)
        self.assertTrue(packet is None or isinstance(packet, Packet))
        self.assertIsInstance(readAuthentication(text), (Authentication, type(None)))

    @given(KINDS, st.dictionaries(st.sampled_from(MEMBERS[1:]), JSON))
    def test_objects(self, kind: str, members: dict[str, object]) -> None:
        """An object of any kind with any members is a packet of that kind or None."""
        packet = readPacket(json.dumps({**members, "type": kind}))
        self.assertTrue(packet is None or packet.__struct_config__.tag == kind)


class WriteTests(SynchronousTestCase):
    def test_result(self) -> None:
        """A result that is nothing is not there, and anything else is, however empty."""
        self.assertEqual(packets.rpcResult(3, None), b'{"type":"rpcResult","callId":3}')
        self.assertEqual(packets.rpcResult(3, []), b'{"type":"rpcResult","callId":3,"result":[]}')

    @given(st.integers(0, 2**53), JSON.filter(lambda value: "inf" not in repr(value)))
    def test_message(self, channelId: int, message: object) -> None:
        """A message that is put into its packet as text is the message that comes out."""
        packet = json.loads(packets.channelSend(channelId, packets.render(message)))
        self.assertEqual(packet, {"type": "channelSend", "channelId": channelId, "message": message})
