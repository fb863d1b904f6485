"""What is told of an inference request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgateway.exchange import Ending, Exchange, TokenUsage
from lmgateway.interfaces import IEventJournal, IExchangeListener
from lmgateway.telemetry.events import ExchangeEvents
from lmgateway.telemetry.journal import Journal
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

BEGUN = Exchange(
    requestId="req_1",
    method="POST",
    path="/v1/chat/completions",
    route="/v1/chat/completions",
    key="laptop",
    keyId="k1",
    client="192.168.1.20",
    startedAt=1000.0,
    cancel=lambda: None,
    model="qwen/qwen3-8b",
    stream=True,
    injected=("model", "temperature"),
    sentAt=1000.1,
)


@implementer(IEventJournal)
class Notebook:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def record(self, kind: str, data: Mapping[str, object]) -> int:
        self.events.append((kind, data))
        return len(self.events)


def ended(ending: Ending | None, **more: Any) -> Exchange:
    """The same, ended after 2.5 s."""
    return replace(BEGUN, endedAt=1002.5, ending=ending, **more)


class ExchangeEventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.journal = Notebook()
        self.listener = ExchangeEvents(self.journal)

    def told(self, exchange: Exchange) -> tuple[str, Mapping[str, object]]:
        """The one event that ends an exchange."""
        self.listener.exchangeEnded(exchange)
        (event,) = self.journal.events
        return event

    def test_interface(self) -> None:
        """It listens to exchanges, and writes into any journal, the real one too."""
        verifyObject(IExchangeListener, self.listener)
        verifyObject(IEventJournal, self.journal)
        journal = Journal(lambda: 0.0)
        ExchangeEvents(journal).exchangeBegun(BEGUN)
        self.assertIn(b'"injected":["model","temperature"]', journal.read(0).events[0].data)

    def test_begun(self) -> None:
        """Its start tells who asks what of which model, and what was injected."""
        self.listener.exchangeBegun(BEGUN)
        self.assertEqual(
            self.journal.events,
            [
                (
                    "inference_start",
                    {
                        "requestId": "req_1",
                        "method": "POST",
                        "path": "/v1/chat/completions",
                        "model": "qwen/qwen3-8b",
                        "stream": True,
                        "injected": ("model", "temperature"),
                        "key": "laptop",
                        "client": "192.168.1.20",
                    },
                )
            ],
        )

    def test_firstToken(self) -> None:
        """The first token tells how long it took, in milliseconds."""
        self.listener.firstTokenPassed(replace(BEGUN, firstTokenAt=1000.4567))
        self.assertEqual(self.journal.events, [("inference_first_token", {"requestId": "req_1", "ttftMs": 456.7})])

    def test_complete(self) -> None:
        """A whole answer tells its status, its time, its tokens and their rate."""
        exchange = ended("complete", status=200, usage=TokenUsage(12, 30), tokensPerSecond=33.3, finishReason="stop")
        self.assertEqual(
            self.told(exchange),
            (
                "inference_complete",
                {
                    "requestId": "req_1",
                    "status": 200,
                    "totalTimeMs": 2500.0,
                    "tokenUsage": {"promptTokens": 12, "completionTokens": 30, "totalTokens": 42},
                    "tokensPerSecond": 33.3,
                    "finishReason": "stop",
                },
            ),
        )

    def test_completeWithoutTokens(self) -> None:
        """An answer without usage has none, and that is no zero."""
        _, data = self.told(ended("complete", status=200))
        self.assertEqual((data["tokenUsage"], data["tokensPerSecond"]), (None, None))

    def test_estimated(self) -> None:
        """Tokens that were counted, not told, say so."""
        _, data = self.told(ended("complete", status=200, usage=TokenUsage(None, 30, estimated=True)))
        self.assertEqual(
            data["tokenUsage"],
            {"promptTokens": None, "completionTokens": 30, "totalTokens": 30, "estimated": True},
        )

    def test_refusedUpstream(self) -> None:
        """An answer that is an error is an answer: it is complete, with its status."""
        kind, data = self.told(ended("complete", status=400))
        self.assertEqual((kind, data["status"]), ("inference_complete", 400))

    def test_cancelled(self) -> None:
        """Whom the client left tells when: while LM Studio was silent, or in the midst of its answer."""
        self.assertEqual(
            self.told(ended("cancelled")),
            ("inference_cancelled", {"requestId": "req_1", "totalTimeMs": 2500.0, "phase": "waiting"}),
        )
        self.journal.events.clear()
        self.assertEqual(self.told(ended("cancelled", answeredAt=1000.2))[1]["phase"], "answering")
        self.journal.events.clear()
        self.assertEqual(self.told(ended("cancelled", sentAt=0.0))[1]["phase"], "reading")

    def test_failed(self) -> None:
        """A request that LM Studio did not answer is an error, with the sentence that the client was told; and no more."""
        self.assertEqual(
            self.told(ended("failed", error="LM Studio refused the connection.", status=503)),
            (
                "error",
                {
                    "operation": "inference",
                    "error": "LM Studio refused the connection.",
                    "requestId": "req_1",
                    "status": 503,
                    "totalTimeMs": 2500.0,
                    "phase": "waiting",
                },
            ),
        )

    def test_cut(self) -> None:
        """An answer that broke off is an error too, never complete."""
        kind, data = self.told(ended("cut", answeredAt=1000.2, status=200))
        self.assertEqual((kind, data["phase"]), ("error", "answering"))
        self.assertTrue(data["error"])
