"""
The downstream wire over real sockets, where they are the point: what the kernel does when a client leaves, or goes on sending;
and TLS.

The clients are blocking ones, each in a thread of its own, as most clients are.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from lmgateway.wire.channel import LINGER_BYTES
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.wire.answers import Answer, readAnswers
from tests.wire.authority import Authority
from tests.wire.downstream import TEXT, Limits, Stage, echo, refuse, requestBytes, target

SECONDS = 20.0
"""After which a blocking client gives up."""

_reactor: Any = reactor


def checked(request: GatewayRequest) -> None:
    """Answer with the body; or refuse it by its declared length, before it is read."""
    request.body.limit = 1000
    try:
        request.body.check()
    except Exception as error:  # noqa: BLE001 - PayloadTooLarge, and what else is a failure of the test
        refuse(request, error)
    else:
        echo(request)


class Listening(TestCase):
    """A site that listens on loopback, and blocking clients of it."""

    timeout = 30.0
    secure: Authority | None = None

    async def setUp(self) -> None:  # type: ignore[override]
        self.ended: list[GatewayRequest] = []
        self.stage = Stage(target)
        limits = replace(Limits(), maxBody=2_000_000)
        self.site = GatewaySite(self.stage, _reactor, limits, refuse, self.ended.append)
        endpoint: Any = TCP4ServerEndpoint(_reactor, 0, interface="127.0.0.1")
        if self.secure is not None:
            endpoint = wrapServerTLS(self.secure.serve("127.0.0.1"), endpoint)
        self.port: IListeningPort = await endpoint.listen(self.site)

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.port.stopListening()
        await self.site.drain(0)

    def connect(self) -> Deferred[socket.socket]:
        """Connect, in a thread."""
        address: Any = self.port.getHost()
        return deferToThread(socket.create_connection, (address.host, address.port), SECONDS)

    def inThread(self, talk: Callable[[Any], bytes]) -> Deferred[list[Answer]]:
        """Connect, have a client talk, in a thread, and read the answers in what it gives."""

        def run() -> bytes:
            address: Any = self.port.getHost()
            with socket.create_connection((address.host, address.port), SECONDS) as client:
                return talk(client)

        return deferToThread(run).addCallback(readAnswers, closed=True)


def receiveAll(client: Any) -> bytes:
    """All that comes until the end."""
    received = []
    while piece := client.recv(65_536):
        received.append(piece)
    return b"".join(received)


def upload(size: int) -> Callable[[Any], bytes]:
    """A client that sends all it has before it looks for an answer, as blocking ones do."""

    def talk(client: Any) -> bytes:
        try:
            client.sendall(requestBytes("POST", "/", Content_Length=str(size)))
            for _ in range(size // 65_536):
                client.sendall(b"x" * 65_536)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass
        return receiveAll(client)

    return talk


class SocketTests(Listening):
    async def leave(self, how: Callable[[socket.socket], object]) -> int:
        """Have a client leave in the midst of an answer; give the turns that it took for the answer to be cancelled."""
        cancelled: list[object] = []
        began: Deferred[None] = Deferred()

        def play(request: GatewayRequest) -> None:
            work: Deferred[None] = Deferred()
            work.addErrback(cancelled.append)
            request.notifyDisconnect(work)
            request.sendHead(200, b"OK", TEXT, None)
            request.sendBody(b"one")
            began.callback(None)

        self.stage.play = play
        client = await self.connect()
        self.addCleanup(client.close)
        client.sendall(requestBytes("GET"))
        await began
        await deferToThread(client.recv, 10_000)
        how(client)
        turns = 0
        while not cancelled and turns < 1000:
            turns += 1
            await deferLater(_reactor, 0)
        self.assertEqual(self.ended, self.stage.requests)
        return turns

    async def test_finished(self) -> None:
        """A client that closes its connection in the midst of a stream cancels it within a turn or two of the reactor."""
        self.assertLessEqual(await self.leave(socket.socket.close), 3)

    async def test_halfClosed(self) -> None:
        """So does one that closes its writing side only: who has nothing more to say does not wait, as nginx has it."""
        self.assertLessEqual(await self.leave(lambda client: client.shutdown(socket.SHUT_WR)), 3)

    async def test_reset(self) -> None:
        """So does one that is reset."""

        def reset(client: socket.socket) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        self.assertLessEqual(await self.leave(reset), 3)

    async def test_uploadRefused(self) -> None:
        """A client that has sent its whole upload before it looks for an answer finds the 413."""
        self.stage.play = checked
        (answer,) = await self.inThread(upload(900_000))
        self.assertEqual((answer.status, answer.complete), (413, True))

    async def test_hugeUploadRefused(self) -> None:
        """So does one that sends on and on, though it is not read to the end."""
        self.stage.play = checked
        (answer,) = await self.inThread(upload(30_000_000))
        self.assertEqual((answer.status, answer.complete), (413, True))
        self.assertLess(self.stage.requests[0].body.received, LINGER_BYTES)

    async def test_pipelined(self) -> None:
        """Pipelined requests are answered in order, and the last one's "close" is kept, cleanly."""

        def talk(client: Any) -> bytes:
            client.sendall(b"".join(requestBytes("GET", f"/{index}") for index in range(200)))
            client.sendall(requestBytes("GET", "/last", Connection="close"))
            return receiveAll(client)

        answers = await self.inThread(talk)
        self.assertEqual([answer.body for answer in answers], [*(b"/%d" % index for index in range(200)), b"/last"])

    async def test_largeBothWays(self) -> None:
        """A large body comes in and goes out again, whole, through buffers that hold a part of it."""
        self.stage.play = echo
        body = bytes(range(256)) * 6000

        def talk(client: Any) -> bytes:
            client.sendall(requestBytes("POST", "/", body, Connection="close"))
            return receiveAll(client)

        (answer,) = await self.inThread(talk)
        self.assertTrue(answer.body == body)

    async def test_streamed(self) -> None:
        """A stream's pieces arrive whole and in order, however they are written: at once, or after what still waits."""
        pieces = [b"%d;" % index * (index % 700) + b"." for index in range(2000)]

        def play(request: GatewayRequest) -> None:
            request.sendHead(200, b"OK", TEXT, None)
            for piece in pieces:
                request.sendBody(piece)
            request.finish()

        self.stage.play = play

        def talk(client: Any) -> bytes:
            client.sendall(requestBytes("GET", "/", Connection="close"))
            return receiveAll(client)

        (answer,) = await self.inThread(talk)
        self.assertEqual(answer.chunks, tuple(pieces))
        self.assertTrue(answer.complete)

    async def test_streamedByAndBy(self) -> None:
        """So do pieces that are written one a turn, among them some that the kernel takes only a part of at once."""
        pieces = [b"%d;" % index + b"." * (3_000_000 if index % 7 == 3 else index) for index in range(1, 30)]

        async def write(request: GatewayRequest) -> None:
            request.sendHead(200, b"OK", TEXT, None)
            for piece in pieces:
                request.sendBody(piece)
                await deferLater(_reactor, 0)
            request.finish()

        writing: list[Deferred[None]] = []
        self.stage.play = lambda request: writing.append(Deferred.fromCoroutine(write(request)))

        def talk(client: Any) -> bytes:
            client.sendall(requestBytes("GET", "/", Connection="close"))
            return receiveAll(client)

        (answer,) = await self.inThread(talk)
        self.assertTrue(answer.chunks == tuple(pieces))
        await writing[0]


class TLSTests(Listening):
    secure = Authority()

    def secured(self, talk: Callable[[Any], bytes], *protocols: str) -> Deferred[list[Answer]]:
        """Like :meth:`inThread`, over TLS; the end of the connection must be a goodbye, no mere end."""
        assert self.secure is not None
        context = ssl.create_default_context(cadata=self.secure.pem.decode())
        context.set_alpn_protocols(list(protocols))

        def run(plain: Any) -> bytes:
            with context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as client:
                return talk(client)

        return self.inThread(run)

    async def test_get(self) -> None:
        """A request is answered; what is agreed upon is HTTP/1.1, though the client would rather have another."""
        agreed: list[str | None] = []

        def talk(client: Any) -> bytes:
            agreed.append(client.selected_alpn_protocol())
            client.sendall(requestBytes("GET", "/a", Connection="close"))
            return receiveAll(client)

        (answer,) = await self.secured(talk, "h2", "http/1.1")
        self.assertEqual((answer.status, answer.body), (200, b"/a"))
        self.assertEqual(agreed, ["http/1.1"])
        self.assertTrue(self.stage.requests[0].head.secure)

    async def test_pipelined(self) -> None:
        """Pipelined requests are answered in order, and the connection ends with a goodbye."""

        def talk(client: Any) -> bytes:
            client.sendall(b"".join(requestBytes("GET", f"/{index}") for index in range(200)))
            client.sendall(requestBytes("GET", "/last", Connection="close"))
            return receiveAll(client)

        answers = await self.secured(talk)
        self.assertEqual([answer.body for answer in answers], [*(b"/%d" % index for index in range(200)), b"/last"])

    async def test_uploadRefused(self) -> None:
        """A client that has sent its whole upload before it looks for an answer finds the 413."""
        self.stage.play = checked
        (answer,) = await self.secured(upload(900_000))
        self.assertEqual((answer.status, answer.complete), (413, True))

    async def test_largeBothWays(self) -> None:
        """A large body comes in and goes out again, whole."""
        self.stage.play = echo
        body = bytes(range(256)) * 6000

        def talk(client: Any) -> bytes:
            client.sendall(requestBytes("POST", "/", body, Connection="close"))
            return receiveAll(client)

        (answer,) = await self.secured(talk)
        self.assertTrue(answer.body == body)

    async def test_leaves(self) -> None:
        """A client that leaves without a goodbye, in the midst of an answer, cancels it."""
        cancelled: Deferred[object] = Deferred()

        def play(request: GatewayRequest) -> None:
            work: Deferred[None] = Deferred()
            work.addErrback(lambda _: cancelled.callback(None))
            request.notifyDisconnect(work)
            request.sendHead(200, b"OK", TEXT, None)
            request.sendBody(b"one")

        self.stage.play = play

        def talk(client: Any) -> bytes:
            client.sendall(requestBytes("GET"))
            client.recv(10)
            return b""

        await self.secured(talk)
        await cancelled
        await deferLater(_reactor, 0)
        self.assertEqual(self.ended, self.stage.requests)
