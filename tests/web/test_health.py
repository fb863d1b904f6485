"""/health and /health/ready."""

from __future__ import annotations

from datetime import datetime

from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway, ScriptedUpstreams, requestBytes


class HealthTests(SynchronousTestCase):
    def test_health(self) -> None:
        """Health tells the time and the uptime, and asks LM Studio nothing."""
        gateway = MemoryGateway()
        gateway.network.advance(5)
        told = gateway.ask("GET", "/health", key=None).json()
        self.assertEqual((told["status"], told["uptime"]), ("ok", 5.0))
        self.assertIsNotNone(datetime.fromisoformat(told["timestamp"]).tzinfo)
        self.assertEqual(len(gateway.simulator.received), 0)

    def test_head(self) -> None:
        """HEAD gets the head alone, with the length that GET would have."""
        gateway = MemoryGateway()
        client = gateway.connect()
        client.send(requestBytes("HEAD", "/health", key=None))
        self.assertTrue(client.protocol.data.endswith(b"\r\n\r\n"))
        self.assertIn(b"200 OK", client.protocol.data)

    def test_ready(self) -> None:
        """Ready is 200 while LM Studio answers, whatever it answers."""
        self.assertEqual(MemoryGateway().ask("GET", "/health/ready", key=None).status, 200)

    def test_notReady(self) -> None:
        """Not ready is 503, with the reason and what to do."""
        gateway = MemoryGateway()
        gateway.endpoints.listen = None
        answer = gateway.ask("GET", "/health/ready", key=None)
        self.assertEqual(answer.status, 503)
        self.assertIn("refused the connection", answer.json()["error"])

    def test_askedOnceForAll(self) -> None:
        """However many ask at once, LM Studio is asked once; and again only when the answer is no longer fresh."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        clients = [gateway.connect() for _ in range(5)]
        for client in clients:
            client.send(requestBytes("GET", "/health/ready", key=None))
        (upstream,) = upstreams.made
        upstream.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        gateway.network.flush()
        self.assertEqual([client.answers[0].status for client in clients], [200] * 5)
        self.assertEqual(upstream.data.count(b"GET /lmstudio-greeting"), 1)
        clients[0].send(requestBytes("GET", "/health/ready", key=None))
        self.assertEqual(upstream.data.count(b"GET /lmstudio-greeting"), 1)
        gateway.network.advance(2)
        clients[0].send(requestBytes("GET", "/health/ready", key=None))
        self.assertEqual(upstream.data.count(b"GET /lmstudio-greeting"), 2)

    def test_silent(self) -> None:
        """LM Studio that takes the connection and says nothing is not ready, after five seconds."""
        gateway = MemoryGateway(listen=ScriptedUpstreams())
        client = gateway.connect()
        client.send(requestBytes("GET", "/health/ready", key=None))
        gateway.network.advance(6)
        self.assertEqual(client.answers[0].status, 503)

    def test_stalledBody(self) -> None:
        """An answer whose body never ends is an answer; its connection is given up after a while."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("GET", "/health/ready", key=None))
        upstreams.made[0].transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        gateway.network.flush()
        self.assertEqual(client.answers[0].status, 200)
        gateway.network.advance(6)
        self.assertTrue(upstreams.made[0].ended)

    def test_askerLeaves(self) -> None:
        """When the one who asked leaves, the others who wait still get their answer."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        first, second = gateway.connect(), gateway.connect()
        first.send(requestBytes("GET", "/health/ready", key=None))
        second.send(requestBytes("GET", "/health/ready", key=None))
        first.leave()
        for upstream in upstreams.made:
            upstream.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        gateway.network.advance(7)
        self.assertEqual(second.answers[0].status, 200)
