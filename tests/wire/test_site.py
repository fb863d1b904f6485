"""What connections share: names of requests, the clock, and how a site ends."""

from __future__ import annotations

from lmgateway.wire.site import GatewaySite
from twisted.internet.interfaces import IProtocolFactory, IProtocolNegotiationFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.wire.downstream import TEXT, Downstream, hello, later, refuse, requestBytes


class DrainTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """A site without connections is drained at once, however often one asks."""
        downstream = Downstream()
        self.successResultOf(downstream.site.drain(30))
        self.successResultOf(downstream.site.drain(30))
        downstream.site.stopFactory()
        self.assertEqual(downstream.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """An idle connection is closed at once, one in the midst of a head too."""
        downstream = Downstream()
        idle, begun = downstream.connect(), downstream.connect()
        idle.ask("GET")
        begun.send(b"GET / HT")
        drained = downstream.site.drain(30)
        self.assertNoResult(drained)
        downstream.clock.advance(0)
        self.successResultOf(drained)
        self.assertEqual((idle.statuses, begun.statuses), ([200], []))

    def test_running(self) -> None:
        """A running answer finishes, says that it is the last, and then its connection closes."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.send(requestBytes("GET", "/1") + requestBytes("GET", "/2"))
        drained = downstream.site.drain(30)
        downstream.wait(20)
        self.assertNoResult(drained)
        hello(downstream.requests[0])
        self.assertEqual(client.statuses, [200])
        self.assertTrue(client.answer.closes)
        downstream.clock.advance(0)
        self.assertTrue(client.closed)
        self.successResultOf(drained)
        self.assertEqual(len(downstream.requests), 1)

    def test_streaming(self) -> None:
        """An answer that has begun without saying so is the last all the same."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        (request,) = downstream.requests
        request.sendHead(200, b"OK", TEXT, None)
        request.sendBody(b"one")
        drained = downstream.site.drain(30)
        request.sendBody(b"two")
        request.finish()
        downstream.clock.advance(0)
        self.assertTrue(client.answer.complete)
        self.successResultOf(drained)

    def test_hurry(self) -> None:
        """What still runs when the time is up is cut off, and whoever runs it is told."""
        downstream = Downstream(later)
        client = downstream.connect()
        client.ask("GET")
        drained = downstream.site.drain(30)
        downstream.wait(29)
        self.assertNoResult(drained)
        downstream.wait(2)
        self.successResultOf(drained)
        self.assertTrue(client.transport.aborted)
        self.assertEqual(downstream.ended, downstream.requests)

    def test_twice(self) -> None:
        """Everybody who waits for the drain is told."""
        downstream = Downstream(later)
        downstream.connect().ask("GET")
        first, second = downstream.site.drain(30), downstream.site.drain(30)
        downstream.site.abortAll()
        downstream.clock.advance(0)
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(downstream.site.drain(30))

    def test_cancelled(self) -> None:
        """One who no longer waits does not keep the others from being told."""
        downstream = Downstream(later)
        downstream.connect().ask("GET")
        first, second = downstream.site.drain(30), downstream.site.drain(30)
        first.cancel()
        self.failureResultOf(first)
        downstream.site.abortAll()
        downstream.clock.advance(0)
        self.successResultOf(second)

    def test_lateConnection(self) -> None:
        """A connection that was accepted just before the listening stopped is not waited for."""
        downstream = Downstream(later)
        downstream.connect().ask("GET")
        drained = downstream.site.drain(30)
        late = downstream.connect()
        downstream.clock.advance(0)
        self.assertTrue(late.closed)
        hello(downstream.requests[0])
        downstream.clock.advance(0)
        self.successResultOf(drained)
        latest = downstream.connect()
        downstream.clock.advance(0)
        self.assertTrue(latest.closed)

    def test_lingering(self) -> None:
        """A connection that only lingers is left to its two seconds: its answer must arrive."""
        downstream = Downstream(hello)
        client = downstream.connect()
        client.send(requestBytes("POST", "/", Content_Length="10"))
        drained = downstream.site.drain(30)
        self.assertTrue(client.lingering)
        downstream.wait(3)
        self.successResultOf(drained)

    def test_clocksStop(self) -> None:
        """Once drained, nothing of the site is left on the reactor; until then deadlines are kept."""
        downstream = Downstream()
        client = downstream.connect()
        client.stall()
        client.send(requestBytes("GET"))
        downstream.site.stopFactory()
        drained = downstream.site.drain(1000)
        downstream.wait(70)
        self.successResultOf(drained)
        downstream.clock.advance(0)
        self.assertEqual(downstream.clock.getDelayedCalls(), [])


class SharedTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """It is a factory, and by ALPN it offers HTTP/1.1 and nothing that its channels do not speak."""
        site = Downstream().site
        verifyObject(IProtocolFactory, site)
        verifyObject(IProtocolNegotiationFactory, site)
        self.assertEqual(site.acceptableProtocols(), [b"http/1.1"])

    def test_requestIds(self) -> None:
        """No two requests have the same name, those of another process included."""
        first, second = Downstream().site, Downstream().site
        names = [site.nextRequestId() for site in (first, second) for _ in range(1000)]
        self.assertEqual(len(set(names)), 2000)
        for name in names[::999]:
            self.assertRegex(name, r"\Areq_[0-9a-f]{16}\Z")

    def test_protocols(self) -> None:
        """By ALPN it offers HTTP/1.1 alone, though twisted.web can speak HTTP/2 where h2 is installed."""
        self.assertEqual(Downstream().site.acceptableProtocols(), [b"http/1.1"])

    def test_startedTwice(self) -> None:
        """A site behind two listeners has one clock."""
        downstream = Downstream()
        downstream.site.startFactory()
        self.assertEqual(len(downstream.clock.getDelayedCalls()), 1)

    def test_limitsReplaced(self) -> None:
        """Limits can be changed while connections are open; deadlines go by the new ones."""
        downstream = Downstream()
        client = downstream.connect()
        downstream.site.limits = Downstream(idleTimeout=5.0).limits  # type: ignore[assignment]
        downstream.wait(7)
        self.assertTrue(client.closed)

    def test_strictTransport(self) -> None:
        """Answers over TLS tell browsers to come by TLS only, where that is wanted; those without TLS must not."""
        downstream = Downstream()
        downstream.site.strictTransport = ((b"Strict-Transport-Security", b"max-age=5"),)
        secure, plain = downstream.connectTLS(), downstream.connect()
        for client in (secure, plain):
            client.ask("GET")
        self.assertIn(b"\r\nStrict-Transport-Security: max-age=5\r\n", secure.transport.written)
        self.assertNotIn(b"Strict-Transport-Security", plain.transport.written)

    def test_noLog(self) -> None:
        """twisted.web's own access log stays silent: it would print queries."""
        downstream = Downstream()
        downstream.connect().ask("GET", "/?key=secret")
        self.assertIsNone(getattr(downstream.site, "logFile", None))

    def test_defectInADeadline(self) -> None:
        """A mistake that is met when one connection is overdue does not stop the clocks of the others."""
        downstream = Downstream()

        def defective(_: object, __: object) -> None:
            downstream.site.refuse = refuse
            raise ZeroDivisionError

        clients = [downstream.connect(), downstream.connect()]
        for client in clients:
            client.send(b"GET /")
        downstream.site.refuse = defective
        downstream.wait(15)
        self.assertEqual(sorted(client.statuses for client in clients), [[408], [500]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        def moreDefective(_: object, __: object) -> None:
            raise ZeroDivisionError

        downstream.site.refuse = moreDefective
        first, second = downstream.connect(), downstream.connect()
        first.send(b"GET /")
        downstream.wait(80)
        self.assertTrue(first.transport.aborted)
        self.assertTrue(second.closed)
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 0)

    def test_factory(self) -> None:
        """Each connection has a channel of its own."""
        site = Downstream().site
        self.assertIsInstance(site, GatewaySite)
        self.assertIsNot(site.buildProtocol(None), site.buildProtocol(None))
