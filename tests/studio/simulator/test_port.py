"""Calls, channels and warnings, with endpoints made for the purpose."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.packets import readPacket
from lmgateway.studio.simulator.port import WARNINGS, Call, Channel, Line, Namespace, Nothing, Port, Talk
from lmgateway.studio.simulator.sdkerrors import SdkError
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.sdk import JSON

FINITE = JSON.filter(lambda value: "inf" not in repr(value))


class Number(Struct):
    """A parameter."""

    n: int


class Ports(SynchronousTestCase):
    """With a port, and an end that notes what it sends."""

    def setUp(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.complaints: list[tuple[str, str]] = []
        self.waiting: Deferred[None] = Deferred(lambda _: self.events.append("cancelled"))
        self.events: list[str] = []
        self.channels: list[Channel] = []
        calls = {
            "double": Call(Number, self.double),
            "nothing": Call(Nothing, self.nothing),
            "refuse": Call(Nothing, self.refuse),
            "break": Call(Nothing, self.breakDown),
            "wait": Call(Nothing, self.wait),
        }
        talks = {
            "count": Talk(Number, self.count),
            "refuse": Talk(Nothing, self.refuseTalk),
            "wait": Talk(Nothing, self.talk),
            "break": Talk(Nothing, self.breakTalk),
        }
        line = Line(lambda packet: self.sent.append(json.loads(packet)), lambda: self.events.append("cut"), self.room)
        self.port = Port(Namespace(calls, talks), line, lambda *complaint: self.complaints.append(complaint))

    async def double(self, number: Number) -> object:
        """Work."""
        return number.n * 2

    async def nothing(self, parameter: Nothing) -> object:
        """Return nothing."""
        return None

    async def refuse(self, parameter: Nothing) -> object:
        """Refuse."""
        raise SdkError("no")

    async def breakDown(self, parameter: Nothing) -> object:
        """Have a defect."""
        raise ZeroDivisionError

    async def wait(self, parameter: Nothing) -> object:
        """Wait."""
        await self.waiting
        return "waited"

    async def count(self, number: Number, channel: Channel) -> None:
        """Say as many numbers."""
        for n in range(number.n):
            channel.say("n", n=n)

    async def refuseTalk(self, parameter: Nothing, channel: Channel) -> None:
        """Refuse."""
        raise SdkError("no")

    async def breakTalk(self, parameter: Nothing, channel: Channel) -> None:
        """Have a defect."""
        raise ZeroDivisionError

    async def talk(self, parameter: Nothing, channel: Channel) -> None:
        """Wait, and say so."""
        self.channels.append(channel)
        await self.waiting
        channel.say("waited")

    async def room(self) -> None:
        """There is."""

    def say(self, **packet: object) -> None:
        """Send the port a packet."""
        self.port.received(json.dumps(packet))

    def call(self, endpoint: str, parameter: object = None) -> None:
        """Call an endpoint."""
        self.say(type="rpcCall", endpoint=endpoint, callId=4, parameter=parameter)

    def create(self, endpoint: str, parameter: object = None, channelId: int = 4) -> None:
        """Open a channel."""
        self.say(type="channelCreate", endpoint=endpoint, channelId=channelId, creationParameter=parameter)

    @property
    def warnings(self) -> list[str]:
        """The warnings that were sent."""
        return [packet["warning"] for packet in self.sent if packet["type"] == "communicationWarning"]


class CallTests(Ports):
    def test_result(self) -> None:
        """A call is answered under its number; without a result there is none in the packet."""
        self.call("double", {"n": 4})
        self.call("nothing", {"whatever": 1})
        self.assertEqual(
            self.sent, [{"type": "rpcResult", "callId": 4, "result": 8}, {"type": "rpcResult", "callId": 4}]
        )

    def test_error(self) -> None:
        """An error is told to the client, and to the log with the endpoint's name."""
        self.call("refuse")
        self.assertEqual(self.sent, [{"type": "rpcError", "callId": 4, "error": {"title": "no", "rootTitle": "no"}}])
        self.assertEqual(self.complaints, [("refuse", "Error in RPC handler: Error: no")])

    def test_defect(self) -> None:
        """A defect of the simulator is logged, and the client waits, as it would for a bug of LM Studio's."""
        self.call("break")
        self.assertEqual(self.sent, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_later(self) -> None:
        """A call may take its time; others overtake it."""
        self.call("wait")
        self.call("double", {"n": 1})
        self.waiting.callback(None)
        self.assertEqual([packet["result"] for packet in self.sent], [2, "waited"])

    def test_lost(self) -> None:
        """When the connection goes, what is not answered yet never is."""
        self.call("wait")
        self.port.lose()
        self.assertEqual((self.sent, self.events), ([], ["cancelled"]))

    def test_warnings(self) -> None:
        """What does not exist or does not fit is warned of, and not answered."""
        self.call("nope")
        self.call("double", {"n": "x"})
        self.call("double", "\ud83d")
        self.say(type="signalSubscribe", endpoint="s", subscribeId=1)
        self.say(type="writableSignalSubscribe", endpoint="s", subscribeId=1)
        self.assertEqual(
            [warning.split(". ")[0] for warning in self.warnings],
            [
                "Received rpcCall for unknown endpoint, endpoint = nope",
                "Received invalid parameter for rpcCall, endpointName = double",
                "Received invalid parameter for rpcCall, endpointName = double",
                "Received signalSubscribe for unknown endpoint, endpoint = s",
                "Received writableSignalSubscribe for unknown endpoint, endpoint = s",
            ],
        )
        self.assertEqual(len(self.sent), 5)

    def test_fiveWarnings(self) -> None:
        """After five there are no more."""
        for _ in range(9):
            self.call("nope")
        self.assertEqual(len(self.sent), WARNINGS)

    def test_keepAlive(self) -> None:
        """Who asks whether the server is there is told so."""
        self.say(type="keepAlive")
        self.assertEqual(self.sent, [{"type": "keepAliveAck"}])

    def test_overlooked(self) -> None:
        """What is no packet, and what needs no answer, gets none."""
        self.port.received("{")
        self.say(type="nope")
        self.say(type="communicationWarning", warning="w")
        self.say(type="channelAck", channelId=1, ackId=1)
        self.assertEqual(self.sent, [])


class ChannelTests(Ports):
    def test_conversation(self) -> None:
        """Messages go out under the number of the channel, and a close after the last."""
        self.create("count", {"n": 2})
        send = {"type": "channelSend", "channelId": 4}
        self.assertEqual(
            self.sent,
            [
                {**send, "message": {"type": "n", "n": 0}},
                {**send, "message": {"type": "n", "n": 1}},
                {"type": "channelClose", "channelId": 4},
            ],
        )

    def test_error(self) -> None:
        """An error ends the channel."""
        self.create("refuse")
        self.assertEqual([packet["type"] for packet in self.sent], ["channelError"])
        self.assertEqual(self.complaints, [("refuse", "Error in channel handler: Error: no")])
        self.create("count", {"n": 0})
        self.assertEqual(self.sent[-1], {"type": "channelClose", "channelId": 4})

    def test_defect(self) -> None:
        """A defect of the simulator is logged, and the channel stays without an end."""
        self.create("break")
        self.assertEqual(self.sent, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancel(self) -> None:
        """The client takes back its wish: the work is cancelled and the channel closed."""
        self.create("wait")
        self.say(type="channelSend", channelId=4, message={"type": "cancel"})
        self.assertEqual(self.events, ["cancelled"])
        self.assertTrue(self.channels[0].cancelled)
        self.assertEqual(self.sent, [{"type": "channelClose", "channelId": 4}])

    def test_cancelHeld(self) -> None:
        """What is held goes on, and knows that it was cancelled."""
        self.create("wait")
        (channel,) = self.channels
        channel.hold()
        self.say(type="channelSend", channelId=4, message={"type": "cancel"})
        self.assertEqual((self.events, channel.gone), ([], True))
        channel.release()
        self.waiting.callback(None)
        self.assertEqual([packet["type"] for packet in self.sent], ["channelSend", "channelClose"])

    def test_lost(self) -> None:
        """When the connection goes the work ends, unless it outlives that."""
        for outlives, events in ((True, []), (False, ["cancelled"])):
            self.setUp()
            self.create("wait")
            self.channels[0].outlives = outlives
            self.port.lose()
            self.assertEqual((self.events, self.channels[0].gone), (events, True))

    def test_cut(self) -> None:
        """A conversation can break the connection."""
        self.create("wait")
        self.channels[0].cut()
        self.assertEqual(self.events, ["cut"])

    def test_warnings(self) -> None:
        """Unknown endpoints and channels, numbers in use and messages that are none are warned of."""
        self.create("nope")
        self.create("count", {"n": None})
        self.create("wait")
        self.create("wait")
        self.say(type="channelSend", channelId=5, message={"type": "cancel"})
        self.assertEqual(
            [warning.split(". ")[0] for warning in self.warnings],
            [
                "Received channelCreate for unknown endpoint, endpoint = nope",
                "Received invalid creationParameter for channel, endpointName = count",
                "Received channelCreate for already open channel, channelId = 4",
                "Received channelSend for unknown channel, channelId = 5",
            ],
        )
        self.say(type="channelSend", channelId=4, message={"type": "nope"})
        self.assertTrue(self.warnings[4].startswith("Received invalid message for channel, channelId = 4."))
        self.assertEqual(self.events, [])


class TotalityTests(Ports):
    @given(
        st.sampled_from(("rpcCall", "channelCreate", "channelSend")), st.sampled_from(("double", "count", "x")), FINITE
    )
    def test_anything(self, kind: str, endpoint: str, value: Any) -> None:
        """Whatever a packet carries, it is answered or warned of, and nothing is raised."""
        self.setUp()
        packet = {"type": kind, "endpoint": endpoint, "callId": 1, "channelId": 1, "ackId": None}
        text = json.dumps({**packet, "parameter": value, "creationParameter": value, "message": value})
        self.assertIsNotNone(readPacket(text))
        self.port.received(text)
        self.assertNotEqual(self.sent, [])
