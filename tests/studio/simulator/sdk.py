"""
A connection to a namespace of the simulator without a socket: the real site over a string transport, and wsproto, which is
what Twisted's WebSockets stand on, as the client's end.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request, TextMessage

from tests.strategies import JSON_VALUES
from tests.studio.simulator.wire import QWEN, Studio

JSON: st.SearchStrategy[Any] = JSON_VALUES.map(json.loads)
"""What JSON may hold, as Python has it: lone surrogates, huge numbers and infinity included."""

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


class Sdk:
    """
    The client's end.

    :ivar status: 101 once the WebSocket is open, another status if it was refused, None before.
    """

    def __init__(self, studio: Studio, namespace: str = "llm", **fields: str) -> None:
        self.connection = studio.connect()
        self.status: int | None = None
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._read = 0
        self._texts: list[str] = []
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        request = Request(host="studio", target=f"/{namespace}", extra_headers=headers)
        self.connection.channel.dataReceived(self._wire.send(request))
        self._look()

    @classmethod
    def authenticated(cls, studio: Studio, namespace: str = "llm", **fields: str) -> Sdk:
        """A connection that has been let in as a guest."""
        sdk = cls(studio, namespace, **fields)
        sdk.authenticate()
        assert sdk.take() == [{"success": True}]
        return sdk

    def authenticate(self, identifier: str = "guest:1", passkey: str = "p") -> None:
        """Send the first packet."""
        self.say(authVersion=1, clientIdentifier=identifier, clientPasskey=passkey)

    def call(self, endpoint: str, parameter: object = None, callId: int = 0) -> Any:
        """The result of a call that is answered at once; or the error, with its title among its members."""
        self.say(type="rpcCall", endpoint=endpoint, callId=callId, parameter=parameter)
        (packet,) = self.take()
        assert packet["callId"] == callId
        return packet.get("result") if packet["type"] == "rpcResult" else packet["error"]

    def create(self, endpoint: str, parameter: object = None, channelId: int = 0) -> None:
        """Open a channel."""
        self.say(type="channelCreate", endpoint=endpoint, channelId=channelId, creationParameter=parameter)

    def cancel(self, channelId: int = 0) -> None:
        """Take back the wish of a channel."""
        self.say(type="channelSend", channelId=channelId, message={"type": "cancel"})

    def say(self, **packet: object) -> None:
        """Send a packet."""
        self.text(json.dumps(packet))

    def text(self, text: str) -> None:
        """Send a text message."""
        self._send(TextMessage(text))

    def bytes(self, data: bytes) -> None:
        """Send a message of bytes."""
        self._send(BytesMessage(data))

    def close(self) -> None:
        """Say good-bye, and wait for the answer."""
        self._send(CloseConnection(1000))

    def take(self) -> list[dict[str, Any]]:
        """The packets that have come since the last time."""
        self._look()
        texts, self._texts = self._texts, []
        return [json.loads(text) for text in texts]

    def messages(self, channelId: int = 0) -> list[dict[str, Any]]:
        """The messages on a channel since the last time, its end included as a message of that type."""
        mine = [packet for packet in self.take() if packet.get("channelId") == channelId]
        return [packet["message"] if packet["type"] == "channelSend" else packet for packet in mine]

    @property
    def closed(self) -> bool:
        """Whether the simulator has closed the connection."""
        return self.connection.closed

    def _send(self, event: TextMessage | BytesMessage | CloseConnection) -> None:
        self._look()
        self.connection.channel.dataReceived(self._wire.send(event))

    def _look(self) -> None:
        """Read what came."""
        received = self.connection.received
        if len(received) > self._read:
            self._wire.receive_data(received[self._read :])
        self._read = len(received)
        for event in self._wire.events():
            if isinstance(event, AcceptConnection):
                self.status = 101
            elif isinstance(event, RejectConnection):
                self.status = event.status_code
            elif isinstance(event, TextMessage):
                self._texts.append(event.data)


def stack(**fields: object) -> dict[str, Any]:
    """A configuration of one layer; underscores stand for the dots of the keys."""
    listed = [{"key": key.replace("_", "."), "value": value} for key, value in fields.items()]
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": listed}}]}


def named(identifier: str) -> dict[str, Any]:
    """A specifier of a model by its identifier."""
    return {"type": "query", "query": {"identifier": identifier}}


def history(*texts: str) -> dict[str, Any]:
    """A conversation of users."""
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]} for text in texts]}


NO_CONFIG = stack()


class Namespaces(SynchronousTestCase):
    """With a simulator, and connections to its namespaces."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, **switches: Any) -> None:
        """Start anew."""
        self.studio = Studio(**switches)
        self.llm = Sdk.authenticated(self.studio)
        self.embedding = Sdk.authenticated(self.studio, "embedding")
        self.system = Sdk.authenticated(self.studio, "system")

    def loaded(self) -> list[str]:
        """The identifiers of what is loaded."""
        both = self.llm.call("listLoaded") + self.embedding.call("listLoaded")
        return [instance["identifier"] for instance in both]

    def load(self, key: str, **more: object) -> list[dict[str, Any]]:
        """Load a model, and give what is said at once."""
        self.llm.create("loadModel", {"modelKey": key, "loadConfigStack": NO_CONFIG, **more})
        return self.llm.messages()

    def obtain(self, identifier: str, **more: object) -> list[dict[str, Any]]:
        """Get a model or load it, and give what is said at once."""
        self.llm.create("getOrLoad", {"identifier": identifier, "loadConfigStack": NO_CONFIG, **more})
        return self.llm.messages()

    def predict(self, text: str, model: str = QWEN) -> None:
        """Begin a prediction."""
        parameter = {"modelSpecifier": named(model), "history": history(text), "predictionConfigStack": NO_CONFIG}
        self.llm.create("predict", parameter, channelId=9)


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """The types of messages, each run of one type once."""
    return list(dict.fromkeys(message["type"] for message in messages))
