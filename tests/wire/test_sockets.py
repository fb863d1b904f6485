"""
The upstream over real sockets: a stock ``twisted.web`` server at the other end, TLS with an authority of our own, nobody there.

Everything else is tested in memory; here the sockets are the point. Through treq and directly alike.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from lmgateway.errors import UpstreamUnavailable
from lmgateway.interfaces import IUpstream
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.body import BytesBodyProducer
from lmgateway.wire.upstream import DirectUpstream, TreqUpstream, UpstreamEndpoints
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import IConsumer, IProtocolFactory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import ResponseFailed, readBody
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from tests.folders import temporaryFolder
from tests.wire.authority import Authority

LARGE = 20 * 1024 * 1024

PIECE = bytes(range(256)) * 256

AUTHORITY = Authority()


@implementer(IBodyProducer)
class Pieces:
    """
    Produces the same piece again and again, as fast as it is taken and no faster.

    :param total: bytes.
    """

    length: Any = UNKNOWN_LENGTH

    def __init__(self, total: int) -> None:
        self._rest = total
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self.resumeProducing()
        return self._done

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while self._consumer is not None and not self._paused and self._rest > 0:
            piece = PIECE[: self._rest]
            self._rest -= len(piece)
            self._consumer.write(piece)
        if self._consumer is not None and not self._rest and not self._done.called:
            self._done.callback(None)

    def stopProducing(self) -> None:
        self._consumer = None


def digest(data: bytes) -> bytes:
    """What a body is compared by."""
    return hashlib.sha256(data).hexdigest().encode()


LARGE_DIGEST = digest(PIECE * (LARGE // len(PIECE)))


class Digests(Resource):
    """Answers a POST with the digest of its body, ``/stream`` with a large body, any other GET with its path."""

    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        return digest(request.content.read())

    def render_GET(self, request: Request) -> bytes | int:
        if request.path != b"/stream":
            return request.path
        pieces = Pieces(LARGE)
        request.registerProducer(pieces, True)
        pieces.startProducing(request).addCallback(self._cbProduced, request)
        return NOT_DONE_YET

    def _cbProduced(self, _: None, request: Request) -> None:
        request.unregisterProducer()
        request.finish()


class Connections(WrappingFactory):
    """Counts connections, and knows when the last is gone, because a test must not end before."""

    noisy = False

    def __init__(self, wrapped: IProtocolFactory) -> None:
        super().__init__(wrapped)
        self.made = 0
        self._gone: Deferred[None] | None = None

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        super().registerProtocol(p)
        self.made += 1

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        super().unregisterProtocol(p)
        if self._gone is not None and not self.protocols:
            self._gone.callback(None)

    async def allGone(self) -> None:
        """Wait for the last one to go."""
        if self.protocols:
            self._gone = Deferred()
            await self._gone


class SocketCase(TestCase):
    """A server, and an upstream that speaks to it."""

    timeout = 60
    direct: ClassVar[bool]

    def listen(self, options: CertificateOptions | None = None) -> Deferred[int]:
        """Serve, over TLS where there are options; give the port."""
        self.connections = Connections(Site(Digests()))
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if options is not None:
            endpoint = wrapServerTLS(options, endpoint)
        return endpoint.listen(self.connections).addCallback(self._listening)

    def _listening(self, port: Any) -> int:
        self.addCleanup(lambda: Deferred.fromCoroutine(self._stop(port)))
        return int(port.getHost().port)

    async def _stop(self, port: Any) -> None:
        await port.stopListening()
        await self.connections.allGone()

    def connect(self, baseUrl: str, caFile: str | None = None) -> IUpstream:
        """Make the upstream."""
        agent = UpstreamAgent(reactor, UpstreamEndpoints(reactor, 5.0, caFile))
        upstream: IUpstream = DirectUpstream(agent, baseUrl) if self.direct else TreqUpstream(agent, baseUrl, reactor)
        self.addCleanup(upstream.close)
        return upstream

    async def assertUnavailable(self, baseUrl: str, caFile: str | None, sentence: str) -> None:
        """A request fails at once, and says why."""
        try:
            await self.connect(baseUrl, caFile).send(b"GET", b"/", (), None)
        except UpstreamUnavailable as unavailable:
            self.assertTrue(unavailable.message.startswith(f"LM Studio at {baseUrl} {sentence}"), unavailable.message)
        else:
            self.fail("it was answered")

    def trusted(self) -> str:
        """Write a file of the certificates to trust: another authority's, and then ours."""
        path = temporaryFolder(self) / "trusted.pem"
        path.write_bytes(b"# Trusted\n" + Authority().pem + b"\n# And this\n" + AUTHORITY.pem)
        return str(path)


class Plain:
    """Without TLS."""

    async def test_interleaved(self) -> None:
        """200 requests, many at a time, get each its own answer, over fewer connections than requests."""
        upstream = self.connect(f"http://127.0.0.1:{await self.listen()}")
        bodies = [b"%d " % number * number for number in range(200)]
        answers: list[Deferred[bytes]] = []
        for number, body in enumerate(bodies):
            if number % 2:
                sent = upstream.send(b"GET", b"/%d" % number, (), None)
            else:
                sent = upstream.send(b"POST", b"/", (), BytesBodyProducer(body))
            answers.append(sent.addCallback(readBody))
            if number % 20 == 19:
                await gatherResults(answers[-5:])
        wanted = [b"/%d" % number if number % 2 else digest(body) for number, body in enumerate(bodies)]
        self.assertEqual(await gatherResults(answers), wanted)
        self.assertLess(self.connections.made, 100)

    async def test_largeUp(self) -> None:
        """20 MB go up unharmed, in memory with a length and streamed in chunks."""
        upstream = self.connect(f"http://127.0.0.1:{await self.listen()}")
        for body in (BytesBodyProducer(PIECE * (LARGE // len(PIECE))), Pieces(LARGE)):
            self.assertEqual(await text(await upstream.send(b"POST", b"/", (), body)), LARGE_DIGEST)

    async def test_largeDown(self) -> None:
        """20 MB come down unharmed."""
        upstream = self.connect(f"http://127.0.0.1:{await self.listen()}")
        self.assertEqual(digest(await text(await upstream.send(b"GET", b"/stream", (), None))), LARGE_DIGEST)

    async def test_head(self) -> None:
        """A stock server's answer to HEAD is understood."""
        upstream = self.connect(f"http://127.0.0.1:{await self.listen()}")
        for _ in range(2):
            self.assertEqual(await text(await upstream.send(b"HEAD", b"/x", (), None)), b"")

    async def test_cancelled(self) -> None:
        """An answer that is abandoned in the midst closes the connection, which the server sees at once."""
        upstream = self.connect(f"http://127.0.0.1:{await self.listen()}")
        reading = readBody(await upstream.send(b"GET", b"/stream", (), None))
        reading.cancel()
        await self.assertFailure(reading, ResponseFailed)
        await self.connections.allGone()

    async def test_refused(self) -> None:
        """Where nobody listens, that is what is said."""
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(Digests()))
        baseUrl = f"http://127.0.0.1:{port.getHost().port}"
        await port.stopListening()
        await self.assertUnavailable(baseUrl, None, "refused the connection.")


class Secured:
    """With TLS."""

    async def test_byName(self) -> None:
        """A server whose certificate is signed by an authority in the file, and made for its name, is spoken to."""
        port = await self.listen(AUTHORITY.serve("localhost"))
        upstream = self.connect(f"https://localhost:{port}", self.trusted())
        for number in range(3):
            self.assertEqual(await text(await upstream.send(b"GET", b"/%d" % number, (), None)), b"/%d" % number)
        self.assertEqual(self.connections.made, 1)

    async def test_byAddress(self) -> None:
        """Likewise one that is made for its address."""
        port = await self.listen(AUTHORITY.serve("127.0.0.1"))
        upstream = self.connect(f"https://127.0.0.1:{port}", self.trusted())
        self.assertEqual(await text(await upstream.send(b"GET", b"/x", (), None)), b"/x")

    async def test_large(self) -> None:
        """20 MB go up and come down unharmed over TLS, too."""
        port = await self.listen(AUTHORITY.serve("127.0.0.1"))
        upstream = self.connect(f"https://127.0.0.1:{port}", self.trusted())
        self.assertEqual(await text(await upstream.send(b"POST", b"/", (), Pieces(LARGE))), LARGE_DIGEST)
        self.assertEqual(digest(await text(await upstream.send(b"GET", b"/stream", (), None))), LARGE_DIGEST)

    async def test_otherName(self) -> None:
        """A certificate that is made for another name is refused, and no request is sent."""
        port = await self.listen(AUTHORITY.serve("studio.example"))
        await self.assertUnavailable(f"https://localhost:{port}", self.trusted(), "failed the TLS handshake.")
        await self.assertUnavailable(f"https://127.0.0.1:{port}", self.trusted(), "failed the TLS handshake.")

    async def test_untrusted(self) -> None:
        """A certificate of an authority that is not trusted is refused."""
        port = await self.listen(AUTHORITY.serve("localhost"))
        await self.assertUnavailable(f"https://localhost:{port}", None, "failed the TLS handshake.")


class TreqPlainTests(Plain, SocketCase):
    """Through treq."""

    direct = False


class DirectPlainTests(Plain, SocketCase):
    """Directly."""

    direct = True


class TreqSecuredTests(Secured, SocketCase):
    """Through treq."""

    direct = False


class DirectSecuredTests(Secured, SocketCase):
    """Directly."""

    direct = True


def text(response: IResponse) -> Deferred[bytes]:
    """Read an answer."""
    assert response.code == 200
    return readBody(response)
