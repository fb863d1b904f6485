"""
A connection to the simulator without a socket: the real site over a string transport, on a clock that stands still.

The HTTP is written and read by hand here, so that these tests depend on neither end of the gateway's own wire layer.
"""

from __future__ import annotations

import json
from typing import Any

from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.channel import StudioChannel
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from msgspec import Struct
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

QWEN = "qwen/qwen3-8b"
GEMMA = "google/gemma-3-4b"
GPT_OSS = "openai/gpt-oss-20b"
NOMIC = "text-embedding-nomic-embed-text-v1.5"


class Answer(Struct, frozen=True):
    """
    What came back for one request, as far as it came.

    :param headers: the header fields in order.
    :param chunks: the chunks of a stream, or the body in one.
    :param complete: whether it ended as HTTP has it.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    complete: bool

    @property
    def body(self) -> bytes:
        """The body as far as it came."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body, decoded."""
        return self.body.decode()

    def field(self, name: str) -> str | None:
        """The value of a header field."""
        return dict(self.headers).get(name)

    @property
    def events(self) -> list[tuple[str | None, Any]]:
        """The name and the data of each event of a stream; data that is no JSON as it is."""
        return [_event(block) for block in self.text.split("\n\n") if block]

    @property
    def data(self) -> list[Any]:
        """The data of each event of a stream."""
        return [data for _, data in self.events]


class Studio:
    """A simulator, its clock, and connections to it."""

    def __init__(self, **switches: Any) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.simulator = Simulator(Behaviour(**switches), log=self.lines.append)
        self.site = simulatorSite(self.simulator, self.clock)

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.site.buildProtocol(None))

    def ask(self, target: str, body: object = None, *, method: str | None = None, **fields: str) -> Answer:
        """Send one request on a connection of its own, and read what came at once."""
        return self.connect().ask(target, body, method=method, **fields)


class Connection:
    """The client's end of a connection."""

    def __init__(self, channel: IProtocol | None) -> None:
        assert isinstance(channel, StudioChannel)
        self.channel = channel
        self.transport = StringTransport()
        channel.makeConnection(self.transport)

    def ask(self, target: str, body: object = None, *, method: str | None = None, **fields: str) -> Answer:
        """Send a request, and read what came at once."""
        self.send(target, body, method=method, **fields)
        return self.answer

    def send(self, target: str, body: object = None, *, method: str | None = None, **fields: str) -> None:
        """
        Send a request.

        :param body: bytes as they are, anything else as JSON; None is no body.
        :param method: GET without a body and POST with one, unless said otherwise.
        :param fields: header fields, underscores for hyphens.
        """
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = [f"{method or ('GET' if body is None else 'POST')} {target} HTTP/1.1", "Host: studio"]
        head += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body is not None:
            head.append(f"Content-Length: {len(content)}")
        self.channel.dataReceived("\r\n".join(head).encode() + b"\r\n\r\n" + content)

    @property
    def received(self) -> bytes:
        """All the bytes that came back."""
        return self.transport.value()

    @property
    def answer(self) -> Answer:
        """The first answer among them."""
        head, _, rest = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        fields = dict(headers)
        if "Transfer-Encoding" in fields:
            chunks, complete = _chunks(rest)
        else:
            length = int(fields.get("Content-Length", "0"))
            chunks, complete = (rest[:length],), len(rest) >= length
        return Answer(int(status.split()[1]), headers, chunks, complete)

    @property
    def closed(self) -> bool:
        """Whether the simulator has closed the connection."""
        return bool(self.transport.disconnecting)

    def leave(self) -> None:
        """Break the connection."""
        self.channel.connectionLost(Failure(ConnectionLost()))


def chat(content: object, model: str = GEMMA, **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def said(answer: Answer) -> str:
    """The text of a streamed chat completion."""
    deltas = [choice["delta"] for chunk in answer.data if chunk != "[DONE]" for choice in chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


def _chunks(rest: bytes) -> tuple[tuple[bytes, ...], bool]:
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return tuple(chunks), rest == b"\r\n"
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return tuple(chunks), False


def _event(block: str) -> tuple[str | None, Any]:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    data = fields["data"]
    return fields.get("event"), json.loads(data) if data.startswith("{") else data
