"""
The other end of the SDKs' protocol, in memory: the simulator, or a server that says what a test says. The latter stands on
wsproto alone.
"""

from __future__ import annotations

import json
from typing import Any

from lmgateway.errors import GatewayError
from lmgateway.studio.sdk.connection import Connection, credentialsOf
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

from tests.network import MemoryEndpoints, Network

URL = "http://studio.lan:1234"
TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"


class PlayedSocket(Protocol):
    """
    A server's end of one WebSocket.

    :param upgrade: what is answered instead of opening the WebSocket; None opens it.
    :param admission: what is said to the authentication; None says nothing.
    :ivar packets: what the client said.
    :ivar closings: how often it said good-bye.
    """

    transport: Any

    def __init__(self, upgrade: bytes | None = None, admission: object = None) -> None:
        self.upgrade = upgrade
        self.admission = admission
        self.packets: list[Any] = []
        self.closings = 0
        self.request = b""
        self.ended = False
        self.ignoresClosing = False
        self._wire = WSConnection(ConnectionType.SERVER)

    def dataReceived(self, data: bytes) -> None:
        self.request += data
        if self.upgrade is not None:
            if self.request.endswith(b"\r\n\r\n"):
                self.transport.write(self.upgrade)
            return
        self._wire.receive_data(data)
        for event in self._wire.events():
            if isinstance(event, Request):
                self.transport.write(self._wire.send(AcceptConnection()))
            elif isinstance(event, TextMessage):
                self._heard(json.loads(event.data))
            elif isinstance(event, CloseConnection):
                self.closings += 1
                if not self.ignoresClosing:
                    self.transport.write(self._wire.send(event.response()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True

    def say(self, packet: object) -> None:
        """Send a packet; a string as it is."""
        text = packet if isinstance(packet, str) else json.dumps(packet)
        self.transport.write(self._wire.send(TextMessage(text)))

    def result(self, result: object = None) -> None:
        """Answer the call that came last."""
        self.say({"type": "rpcResult", "callId": self.packets[-1]["callId"], "result": result})

    def message(self, **message: object) -> None:
        """Say something on the channel that was opened last."""
        self.say({"type": "channelSend", "channelId": self.channelId, "message": message})

    @property
    def channelId(self) -> Any:
        """The channel that was opened last."""
        return [packet["channelId"] for packet in self.packets if packet.get("type") == "channelCreate"][-1]

    @property
    def kinds(self) -> list[str]:
        """The types of the packets that came."""
        return [packet.get("type", "authentication") for packet in self.packets]

    def ping(self) -> None:
        """Ask for a pong."""
        self.transport.write(self._wire.send(Ping()))

    def bye(self) -> None:
        """Close the WebSocket in good order."""
        self.transport.write(self._wire.send(CloseConnection(1000)))
        self.transport.loseConnection()

    def frame(self, text: str) -> bytes:
        """Give the bytes of a packet, to be sent in pieces."""
        return self._wire.send(TextMessage(text))

    def _heard(self, packet: Any) -> None:
        self.packets.append(packet)
        if "authVersion" in packet and self.admission is not None:
            self.say(self.admission)


class PlayedCase(SynchronousTestCase):
    """With a server that says what the test says, whatever it is connected to for."""

    def setUp(self) -> None:
        self.network = Network()
        self.clock: Any = self.network.clock
        self.upgrade: bytes | None = None
        self.admission: object = {"success": True}
        self.servers: list[PlayedSocket] = []
        self.endpoints = MemoryEndpoints(self.network, self.listen)

    def listen(self) -> PlayedSocket:
        """Be connected to."""
        self.servers.append(PlayedSocket(self.upgrade, self.admission))
        return self.servers[-1]

    @property
    def server(self) -> PlayedSocket:
        """The one that was connected to last."""
        return self.servers[-1]

    def connection(self, apiToken: str | None = None) -> Connection:
        """Make a connection that is not open yet."""
        return Connection(self.endpoints, URL, "llm", self.clock, apiToken)

    def opening(self, connection: Connection, apiToken: str | None = None) -> Deferred[None]:
        """Open it."""
        opening = Deferred.fromCoroutine(connection.open(credentialsOf(apiToken)))
        self.network.flush()
        return opening

    def opened(self) -> Connection:
        """Give an open connection, with nothing said on it yet but the authentication."""
        connection = self.connection()
        self.successResultOf(self.opening(connection))
        self.server.packets.clear()
        return connection

    def failure(self, waiting: Deferred[Any], kind: type[Exception] = GatewayError) -> Any:
        """Give the error."""
        self.network.flush()
        return self.failureResultOf(waiting, kind).value

    def assertStill(self) -> None:
        """Nothing is going to happen by itself."""
        self.assertEqual([], self.clock.getDelayedCalls())
