"""The usage over HTTP: who may ask, as JSON and as CSV, of a gateway with a ledger on a real file."""

from __future__ import annotations

import csv
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.exchange import Exchange, TokenUsage
from lmgateway.ledger import MOST, Sums, UsageLedger, UsageRow
from lmgateway.message import Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.state import StateStore
from lmgateway.statefile import STATE_FILE
from lmgateway.web.usage import MOST_ROWS, UsageApi, noFormula, usageCsv
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.test_state import Unneeded
from tests.web.support import Answer, MemoryGateway, requestBytes

_ROWS = st.lists(
    st.builds(
        UsageRow,
        st.tuples(st.text(st.characters(exclude_categories=("Cs",))) | st.sampled_from(("=1+1", "-1", "@x", "\t=1"))),
        st.builds(
            Sums,
            *[st.integers(0, MOST)] * 5,
            st.floats(0, 1e9),
        ),
    ),
    max_size=5,
)


def passed(number: int, key: str = "alice", model: str = "qwen") -> Exchange:
    """An exchange that ended on the first day of all."""
    exchange = Exchange(f"r{number}", "POST", "/v1/x", "/v1/x", key, None, "::1", 1.0, lambda: None)
    exchange.model = model
    exchange.endedAt = 1.5
    exchange.status = 200 if number else 400
    exchange.ending = "complete"
    exchange.usage = TokenUsage(number, 2 * number)
    return exchange


class UsageTests(SynchronousTestCase):
    def setUp(self) -> None:
        monitor = Principal("watcher", frozenset({Scope.MONITOR, Scope.INFERENCE}))
        self.gateway = MemoryGateway(keys={digestOf("monitor-key"): monitor})
        self.folder = temporaryFolder(self)
        store = StateStore.open(self.folder, Unneeded())
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(store.close())))
        clock: Any = self.gateway.network.clock
        self.ledger = UsageLedger(store, clock)
        api = UsageApi(self.ledger, clock).app.resource()
        self.gateway.root._apis = {**self.gateway.root._apis, b"/admin/usage": api}

    def ask(self, query: str = "", **more: Any) -> Answer:
        """Ask for the usage."""
        return self.gateway.ask("GET", f"/admin/usage{query}", **more)

    def test_json(self) -> None:
        """The answer has the question, a row for each group and the total, with what is not written yet."""
        for number in range(3):
            self.ledger.exchangeEnded(passed(number, "alice" if number else "bob"))
        answer = self.ask("?from=1970-01-01&to=1970-01-02&by=key,day")
        self.assertEqual((answer.status, answer.header(b"content-type")), (200, b"application/json"))
        figures = ("requests", "errors", "promptTokens", "completionTokens", "totalTokens", "estimated", "seconds")
        expected = {
            "from": "1970-01-01",
            "to": "1970-01-02",
            "by": ["key", "day"],
            "rows": [
                {"key": "alice", "day": "1970-01-01", **dict(zip(figures, (2, 0, 3, 6, 9, 0, 1.0), strict=True))},
                {"key": "bob", "day": "1970-01-01", **dict(zip(figures, (1, 1, 0, 0, 0, 0, 0.5), strict=True))},
            ],
            "total": dict(zip(figures, (3, 1, 3, 6, 9, 0, 1.5), strict=True)),
        }
        self.assertEqual(answer.json(), expected)
        self.assertIn(b'"rows":[{"key":', answer.body)

    def test_usual(self) -> None:
        """Without a question the answer is of the last thirty days, by the gateway's clock."""
        told = self.ask().json()
        self.assertEqual((told["from"], told["to"], told["by"]), ("2026-12-17", "2027-01-15", ["day"]))
        self.assertEqual((told["rows"], told["total"]["requests"]), ([], 0))

    def test_csv(self) -> None:
        """As CSV it is a file to be saved, whose names are text to every spreadsheet."""
        self.ledger.exchangeEnded(passed(1, model='=HYPERLINK("http://evil")'))
        for answer in (
            self.ask("?from=1970-01-01&by=key,model&format=csv"),
            self.ask("?from=1970-01-01&by=key,model", headers={"Accept": "text/csv"}),
        ):
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.header(b"content-type"), b"text/csv; charset=utf-8; header=present")
            self.assertEqual(answer.header(b"x-content-type-options"), b"nosniff")
            self.assertEqual(
                answer.body.decode().split("\r\n"),
                [
                    "key,model,requests,errors,promptTokens,completionTokens,totalTokens,estimated,seconds",
                    'alice,"\'=HYPERLINK(""http://evil"")",1,0,1,2,3,0,0.5',
                    "",
                ],
            )

    def test_strict(self) -> None:
        """What the question gets wrong is told in the shape of the admin API, every fault at once."""
        answer = self.ask("?from=x&by=day,day&since=1")
        self.assertEqual((answer.status, answer.json()["error"]), (400, "Validation failed"))
        self.assertEqual(sorted(detail["path"] for detail in answer.json()["details"]), [["by"], ["from"], ["since"]])

    def test_onlyAdmins(self) -> None:
        """Who may infer and watch may not see what everybody used; without a key nobody may."""
        self.assertEqual(self.ask(key="monitor-key").status, 403)
        self.assertEqual(self.ask(key=None).status, 401)
        self.assertEqual(self.gateway.ask("POST", "/admin/usage", {}).status, 405)

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        client = self.gateway.connect()
        client.send(requestBytes("HEAD", "/admin/usage"))
        self.gateway.network.advance(1)
        head, _, body = client.protocol.data.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        self.assertEqual(body, b"")

    def test_tooMuch(self) -> None:
        """An answer that would be too long is refused, with what to do about it."""
        for number in range(MOST_ROWS):
            self.ledger.exchangeEnded(passed(1, f"k{number}"))
        self.assertEqual(len(self.ask("?from=1970-01-01&by=key").json()["rows"]), MOST_ROWS)
        self.ledger.exchangeEnded(passed(1, "one more"))
        answer = self.ask("?from=1970-01-01&by=key")
        self.assertEqual((answer.status, answer.json()["details"][0]["path"]), (400, ["by"]))
        self.assertIn("fewer days", answer.json()["details"][0]["message"])
        self.assertEqual(self.ask("?from=1970-01-01&by=day").json()["total"]["requests"], MOST_ROWS + 1)

    def test_unreadable(self) -> None:
        """A disk that fails is a 503, without a path of the machine."""
        for file in self.folder.glob(f"{STATE_FILE}*"):
            file.unlink()
        answer = self.ask()
        self.assertEqual(answer.status, 503)
        self.assertNotIn(str(self.folder).encode(), answer.body)


class CsvTests(SynchronousTestCase):
    @given(_ROWS)
    def test_readBack(self, rows: list[UsageRow]) -> None:
        """Whatever keys and models are called, a reader of CSV finds each row whole, and no field is a formula."""
        names, *lines = csv.reader(io.StringIO(usageCsv(["key"], rows), newline=""))
        self.assertEqual((names[0], len(lines)), ("key", len(rows)))
        for row, line in zip(rows, lines, strict=True):
            self.assertEqual(line[0].removeprefix("'"), row.group[0].removeprefix("'"))
            self.assertEqual([int(field) for field in line[1:4]], [*row.sums.figures[:3]])
            for field in line:
                self.assertFalse(field.startswith(("=", "+", "-", "@", "\t", "\r")), field)

    def test_harmless(self) -> None:
        """What is no formula is left as it is."""
        for text in ("", "alice", "qwen/qwen3-8b", "a=b", "'quoted"):
            self.assertEqual(noFormula(text), text)
