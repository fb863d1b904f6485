"""Writing at once, on real sockets: what a kernel takes and does not take is the point."""

from __future__ import annotations

from typing import Any

from lmgateway.wire.eager import eagerWriter
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, clientFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase


class Reader(Protocol):
    """Reads when it is told to, and remembers all of it."""

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(bytes(self.data))


class Writer(Protocol):
    """Is written to by the test."""

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[Any] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(self.transport)


class EagerTests(TestCase):
    async def connect(self) -> tuple[Any, Reader]:
        """The transport of one end of a connection, and the other end, which does not read yet."""
        loop: Any = reactor
        writer = Writer()
        factory = Factory.forProtocol(lambda: writer)  # type: ignore[arg-type]
        port = await TCP4ServerEndpoint(loop, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        address: Any = port.getHost()
        reading = clientFromString(loop, f"tcp:127.0.0.1:{address.port}").connect(
            Factory.forProtocol(Reader)  # type: ignore[arg-type]
        )
        reader: Any = await reading
        return await writer.made, reader

    async def test_atOnce(self) -> None:
        """What the kernel takes is sent before the call returns: nothing waits for the reactor to come round."""
        transport, reader = await self.connect()
        eagerWriter(transport)(b"hello")
        self.assertEqual((transport.dataBuffer, transport._tempDataBuffer), (b"", []))
        reader.transport.resumeProducing()
        transport.loseConnection()
        self.assertEqual(await reader.ended, b"hello")

    async def test_inOrder(self) -> None:
        """What the kernel does not take comes after what it took, and before what is written later."""
        transport, reader = await self.connect()
        write = eagerWriter(transport)
        pieces = [bytes([number]) * 300_000 for number in range(1, 41)]
        for piece in pieces:
            write(piece)
        self.assertTrue(transport.dataBuffer or transport._tempDataBuffer)
        reader.transport.resumeProducing()
        transport.loseConnection()
        self.assertEqual(await reader.ended, b"".join(pieces))

    async def test_gone(self) -> None:
        """To write to a connection that the other end has broken raises nothing: its loss is told in its own time."""
        transport, reader = await self.connect()
        reader.transport.abortConnection()
        await reader.ended
        write = eagerWriter(transport)
        for _ in range(3):
            write(b"hello")


class OtherTests(SynchronousTestCase):
    def test_ownWrite(self) -> None:
        """A transport that is no plain TCP connection is written to in its own way."""
        transport = StringTransport()
        eagerWriter(transport)(b"hello")
        self.assertEqual(transport.value(), b"hello")
