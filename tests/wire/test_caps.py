"""How many connections there may be, and who gives way; on a clock that only the test moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.wire.caps import (
    PROBATION_SECONDS,
    TOO_MANY,
    TOO_MANY_OF_ADDRESS,
    TOO_MANY_STRANGERS,
    ConnectionCaps,
)
from lmgateway.wire.channel import GatewayChannel
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import NOT_ALLOWED, TOLD_SECONDS, TurnedAway
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.downstream import Client, Downstream, DownstreamTransport, Limits, TLSDownstreamTransport, hello

ALICE, BOB = "192.0.2.1", "192.0.2.2"


class Counted:
    """Connections, which are numbers, and the caps that count them."""

    def __init__(self, total: int = 1000, perAddress: int = 100, strangers: int = 10) -> None:
        self.clock = Clock()
        self.limits = Limits(
            maxConnections=total, maxConnectionsPerAddress=perAddress, maxUnauthenticatedPerAddress=strangers
        )
        self.turnedAway: list[int] = []
        self.caps: ConnectionCaps[int] = ConnectionCaps(self.clock, lambda: self.limits, self.turnedAway.append)
        self.made = 0

    def connect(self, address: str = ALICE, times: int = 1, *, asks: bool = False) -> str | None:
        """Connect, as often as it is possible; give the reason why it no longer was."""
        for _ in range(times):
            reason = self.caps.refusal(address)
            if reason is not None:
                return reason
            self.made += 1
            self.caps.opened(self.made, address)
            if asks:
                self.caps.recognised(self.made)
        return None


class CountingTests(SynchronousTestCase):
    def test_perAddress(self) -> None:
        """An address may have so many; another one is not touched by that, and one that ends makes room for one."""
        counted = Counted()
        self.assertEqual(counted.connect(times=101, asks=True), TOO_MANY_OF_ADDRESS)
        self.assertEqual(counted.made, 100)
        self.assertIsNone(counted.connect(BOB))
        counted.caps.closed(1)
        self.assertIsNone(counted.connect())
        self.assertEqual(counted.connect(), TOO_MANY_OF_ADDRESS)

    def test_total(self) -> None:
        """There are never more than so many in all, wherever they come from."""
        counted = Counted(total=50)
        self.assertEqual(counted.connect(ALICE, 30, asks=True), None)
        self.assertEqual(counted.connect(BOB, 30, asks=True), TOO_MANY)
        self.assertEqual(len(counted.caps), 50)

    def test_networks(self) -> None:
        """All addresses of a /64 count as one."""
        counted = Counted(perAddress=2)
        self.assertIsNone(counted.connect("2001:db8::1", asks=True))
        self.assertIsNone(counted.connect("2001:db8::2", asks=True))
        self.assertEqual(counted.connect("2001:db8::3", asks=True), TOO_MANY_OF_ADDRESS)
        self.assertIsNone(counted.connect("2001:db8:0:1::1", asks=True))

    def test_changed(self) -> None:
        """Limits can be changed while there are connections."""
        counted = Counted()
        counted.connect(times=3, asks=True)
        counted.limits = Limits(maxConnectionsPerAddress=3)
        self.assertEqual(counted.connect(), TOO_MANY_OF_ADDRESS)

    @given(st.lists(st.tuples(st.sampled_from("octj"), st.integers(0, 5), st.integers(0, 30)), max_size=150))
    def test_anyOrder(self, steps: list[tuple[str, int, int]]) -> None:
        """Whatever happens in whatever order, no number is exceeded once probations are over, and at the end nothing is left."""
        counted = Counted(total=20, perAddress=8, strangers=3)
        openOnes: dict[int, str] = {}
        strangers: set[int] = set()
        for step, host, which in steps:
            address = f"192.0.2.{host}"
            if step == "o" and counted.connect(address) is None:
                openOnes[counted.made] = address
                strangers.add(counted.made)
            elif step == "c":
                counted.caps.closed(which)
                openOnes.pop(which, None)
                strangers.discard(which)
            elif step == "j":
                counted.caps.recognised(which)
                strangers.discard(which)
            elif step == "t":
                counted.clock.advance(PROBATION_SECONDS)
            for gone in counted.turnedAway:
                openOnes.pop(gone, None)
                strangers.discard(gone)
            self.assertEqual(len(counted.caps), len(openOnes))
            self.assertLessEqual(len(openOnes), 20)
            self.assertLessEqual(max(Counter(openOnes.values()).values(), default=0), 8)
            if step == "t":
                crowds = Counter(openOnes[each] for each in strangers)
                self.assertLessEqual(max(crowds.values(), default=0), 3)
        for each in openOnes:
            counted.caps.closed(each)
        self.assertEqual((len(counted.caps), counted.clock.getDelayedCalls()), (0, []))
        self.assertIsNone(counted.connect(times=8))


class ProbationTests(SynchronousTestCase):
    def test_strangers(self) -> None:
        """An address keeps so many that ask nothing; the later ones are closed after half a second, the first are not."""
        counted = Counted()
        counted.connect(times=30)
        counted.clock.advance(PROBATION_SECONDS - 0.01)
        self.assertEqual(counted.turnedAway, [])
        counted.clock.advance(0.02)
        self.assertEqual(counted.turnedAway, list(range(11, 31)))
        self.assertEqual(len(counted.caps), 10)

    def test_burst(self) -> None:
        """A client that opens many at once and asks on each keeps all of them."""
        counted = Counted()
        counted.connect(times=80)
        for number in range(1, 81):
            counted.caps.recognised(number)
        counted.clock.advance(10)
        self.assertEqual(counted.turnedAway, [])

    def test_sharedAddress(self) -> None:
        """Who holds all places of an address open does not keep others there from being served."""
        counted = Counted()
        counted.connect(times=20)
        counted.clock.advance(1)
        self.assertIsNone(counted.connect(asks=True))
        counted.clock.advance(1)
        self.assertNotIn(counted.made, counted.turnedAway)

    def test_roomMeanwhile(self) -> None:
        """Whoever is on probation stays if there is room by the end of it."""
        counted = Counted()
        counted.connect(times=12)
        counted.caps.closed(1)
        counted.caps.recognised(2)
        counted.clock.advance(1)
        self.assertEqual(counted.turnedAway, [])

    def test_oneAfterTheOther(self) -> None:
        """Each probation lasts as long as any other, whenever it began."""
        counted = Counted(strangers=1)
        counted.connect(times=2)
        counted.clock.advance(0.3)
        counted.connect()
        counted.clock.advance(0.3)
        self.assertEqual(counted.turnedAway, [2])
        counted.clock.advance(0.3)
        self.assertEqual(counted.turnedAway, [2, 3])

    def test_noneWhereItIsFull(self) -> None:
        """With half of all connections taken nobody is on probation any more, and others still find room."""
        counted = Counted(total=40)
        self.assertEqual(counted.connect(times=40), TOO_MANY_STRANGERS)
        self.assertEqual(counted.made, 20)
        self.assertIsNone(counted.connect(BOB, 10))
        self.assertEqual(counted.connect(BOB), TOO_MANY_STRANGERS)

    def test_nothingLeft(self) -> None:
        """When whoever is on probation leaves, no timer is left behind."""
        counted = Counted(strangers=1)
        counted.connect(times=3)
        for number in (1, 2, 3):
            counted.caps.closed(number)
        self.assertEqual(counted.clock.getDelayedCalls(), [])


class SiteTests(SynchronousTestCase):
    """The same, of a site's connections."""

    def setUp(self) -> None:
        self.downstream = Downstream(self.play, maxUnauthenticatedPerAddress=5, maxConnectionsPerAddress=20)
        self.reasons: list[str] = []
        self.site = self.downstream.site
        self.site.turnedAway = self.reasons.append
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def play(self, request: GatewayRequest) -> None:
        """Answer, and know whoever asks."""
        self.site.recognised(request.channel)
        hello(request)

    def connect(self, host: str = ALICE, *, secure: bool = False) -> Client | None:
        """Connect as a listener does: the address is known first. None where the connection is closed at once."""
        transport = (TLSDownstreamTransport if secure else DownstreamTransport)(self.downstream.clock, host)
        protocol = self.site.buildProtocol(transport.getPeer())
        if isinstance(protocol, GatewayChannel):
            self.site.buildProtocol = lambda _: protocol  # type: ignore[method-assign]
            client = Client(self.site, self.downstream.clock, transport)
            del self.site.buildProtocol
            return client
        self.assertIsInstance(protocol, TurnedAway)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.assertTrue(transport.aborted)
        return None

    def said(self) -> list[str]:
        """What the log was told of connections."""
        return [str(formatEvent(event)) for event in self.events if "unheard" in str(event.get("log_format"))]

    def test_halfOpen(self) -> None:
        """Of connections that send half a head only so many are held; the next asks all the same, and is answered."""
        clients = [self.connect() for _ in range(15)]
        for client in clients:
            assert client is not None
            client.send(b"GET / HTTP/1.1\r\n")
        self.downstream.wait(1)
        self.assertEqual([client.closed for client in clients if client], [False] * 5 + [True] * 10)
        late = self.connect()
        assert late is not None
        late.ask("GET")
        self.downstream.wait(2)
        self.assertEqual((late.statuses, late.closed), ([200], False))
        self.assertEqual(self.reasons, [TOO_MANY_STRANGERS] * 10)

    def test_perAddress(self) -> None:
        """A connection too many from one address is closed before a byte of it is read, another address's is not."""
        for _ in range(20):
            client = self.connect()
            assert client is not None
            client.ask("GET")
        self.assertIsNone(self.connect())
        self.assertIsNone(self.connect(secure=True))
        self.assertIsNotNone(self.connect(BOB))
        self.assertEqual(self.reasons, [TOO_MANY_OF_ADDRESS] * 2)
        client.leave()
        self.assertIsNotNone(self.connect())

    def test_log(self) -> None:
        """The log is told once in some seconds, with a count, from where and why."""
        self.site.limits = Limits(maxConnections=0)
        for _ in range(50):
            self.connect()
        (line,) = self.said()
        self.assertIn(ALICE, line)
        self.assertIn("limits.maxConnections", line)
        self.downstream.wait(TOLD_SECONDS)
        self.connect()
        self.assertEqual(len(self.said()), 2)
        self.assertIn("49 others", self.said()[1])

    def test_notAllowed(self) -> None:
        """An address that may not connect is not shaken hands with; without TLS it is left to be told with an answer."""
        self.site.permits = lambda address: address != ALICE
        secure, plain, other = self.connect(secure=True), self.connect(), self.connect(BOB, secure=True)
        assert secure is not None
        assert plain is not None
        assert other is not None
        self.downstream.clock.advance(0)
        self.assertEqual([secure.closed, plain.closed, other.closed], [True, False, False])
        self.assertEqual(secure.transport.written, b"")
        self.assertEqual(self.reasons, [NOT_ALLOWED])

    def test_unixSocket(self) -> None:
        """Who comes by a unix socket counts as this machine."""
        self.site.limits = Limits(maxConnectionsPerAddress=1)
        local = self.connect("127.0.0.1")
        assert local is not None
        self.assertIsInstance(self.site.buildProtocol(UNIXAddress("/run/a.sock")), TurnedAway)
        self.assertIsInstance(self.site.buildProtocol(IPv4Address("TCP", BOB, 1)), GatewayChannel)

    def test_handshake(self) -> None:
        """A TLS handshake has a time of its own, from when the connection was accepted."""
        self.site.limits = Limits(handshakeTimeout=3.0, maxUnauthenticatedPerAddress=1000)
        clients = [self.connect(secure=True) for _ in range(200)]
        self.downstream.wait(2)
        self.assertEqual([client.closed for client in clients if client], [False] * 200)
        self.downstream.wait(2)
        self.assertEqual([client.closed for client in clients if client], [True] * 200)

    def test_drained(self) -> None:
        """A site that drains with somebody on probation leaves no timer."""
        for _ in range(8):
            self.connect()
        self.site.stopFactory()
        drained = self.site.drain(30)
        self.downstream.clock.advance(0)
        self.successResultOf(drained)
        self.assertEqual(self.downstream.clock.getDelayedCalls(), [])
