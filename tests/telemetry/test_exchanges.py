"""The requests in flight, and the last that ended."""

from __future__ import annotations

from lmgateway.exchange import Exchange
from lmgateway.interfaces import IExchangeListener
from lmgateway.telemetry.exchanges import REMEMBERED, Exchanges
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject


def exchange(requestId: str = "req_1") -> Exchange:
    """One that has just begun."""
    return Exchange(requestId, "POST", "/v1/x", "/v1/x", "alice", None, "10.0.0.1", startedAt=1.0, cancel=lambda: None)


@implementer(IExchangeListener)
class Listener:
    """Remembers what it is told, and whether the exchange was in flight then."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def exchangeBegun(self, exchange: Exchange) -> None:
        self.told.append(f"begun {exchange.requestId}")

    def firstTokenPassed(self, exchange: Exchange) -> None:
        self.told.append(f"first {exchange.requestId}")

    def exchangeEnded(self, exchange: Exchange) -> None:
        self.told.append(f"ended {exchange.requestId}")


class ExchangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.listeners = Listener(), Listener()
        self.exchanges = Exchanges(self.listeners)

    def test_steps(self) -> None:
        """Each listener is told of each step, in order."""
        verifyObject(IExchangeListener, self.listeners[0])
        one = exchange()
        self.exchanges.begin(one)
        self.exchanges.firstToken(one)
        self.exchanges.end(one)
        for listener in self.listeners:
            self.assertEqual(listener.told, ["begun req_1", "first req_1", "ended req_1"])

    def test_find(self) -> None:
        """An exchange is found by its id in flight and after, and no other is."""
        one = exchange()
        self.exchanges.begin(one)
        self.assertIs(self.exchanges.find("req_1"), one)
        self.exchanges.end(one)
        self.assertEqual(self.exchanges.inFlight, {})
        self.assertIs(self.exchanges.find("req_1"), one)
        self.assertIsNone(self.exchanges.find("req_2"))

    def test_bounded(self) -> None:
        """Only the last that ended are remembered; the oldest go."""
        for number in range(REMEMBERED + 2):
            one = exchange(f"req_{number}")
            self.exchanges.begin(one)
            self.exchanges.end(one)
        self.assertEqual(len(self.exchanges.ended), REMEMBERED)
        self.assertIsNone(self.exchanges.find("req_1"))
        self.assertIsNotNone(self.exchanges.find("req_2"))
