# -*- test-case-name: tests.web.test_usage -*-
"""
What each key asked of each model, day by day: ``GET /admin/usage``, as JSON and as CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime

from lmgateway.ledger import Sums, UsageLedger, UsageRow, dayOf
from lmgateway.policy.checks import refuse
from lmgateway.policy.usage_query import UsageQuery, parseUsageQuery
from lmgateway.web.responses import answerErrors, respondJson
from lmgateway.wire.request import GatewayRequest

MOST_ROWS = 10_000
"""Rows of one answer: writing more of them at once would hold up everybody else's requests."""

_CSV = (
    (b"Content-Type", b"text/csv; charset=utf-8; header=present"),
    (b"Content-Disposition", b'attachment; filename="usage.csv"'),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-store"),
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a field begins with that a spreadsheet computes: anybody can call a model ``=HYPERLINK(…)`` (OWASP, "CSV Injection")."""


class UsageApi:
    """
    ``/admin/usage``.

    :param ledger: knows it.
    :param clock: tells what day it is.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, ledger: UsageLedger, clock: IReactorTime) -> None:
        self._ledger = ledger
        self._clock = clock

    @app.route("/admin/usage", methods=["GET"])
    async def usage(self, request: GatewayRequest) -> None:
        """Sum up the usage as asked."""
        asked = request.head.target.partition(b"?")[2]
        query = parseUsageQuery(asked, request.head.first(b"accept"), dayOf(self._clock.seconds()))
        rows = await self._ledger.read(query, MOST_ROWS)
        if len(rows) > MOST_ROWS:
            fault = (
                f"The answer has more than {MOST_ROWS} rows. Ask for fewer days, or for less than {','.join(query.by)}."
            )
            refuse([(("by",), fault)])
        if query.format == "csv":
            request.sendWhole(200, _CSV, usageCsv(query.by, rows).encode())
        else:
            respondJson(request, usageOf(query, rows))


def usageOf(query: UsageQuery, rows: Sequence[UsageRow]) -> dict[str, Any]:
    """Give the answer as JSON has it."""
    total = Sums()
    for row in rows:
        total.add(row.sums)
    return {
        "from": str(query.first),
        "to": str(query.last),
        "by": query.by,
        "rows": [{**dict(zip(query.by, row.group, strict=True)), **figuresOf(row.sums)} for row in rows],
        "total": figuresOf(total),
    }


def figuresOf(sums: Sums) -> dict[str, int | float]:
    """Give sums by the names that they have in answers."""
    return {
        "requests": sums.requests,
        "errors": sums.errors,
        "promptTokens": sums.promptTokens,
        "completionTokens": sums.completionTokens,
        "totalTokens": sums.totalTokens,
        "estimated": sums.estimated,
        "seconds": round(sums.seconds, 3),
    }


def usageCsv(by: Iterable[str], rows: Iterable[UsageRow]) -> str:
    """Give the rows as CSV (RFC 4180), a line of names first. No field of it is a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*by, *figuresOf(Sums())])
    for row in rows:
        writer.writerow([*map(noFormula, row.group), *figuresOf(row.sums).values()])
    return text.getvalue()


def noFormula(field: str) -> str:
    """Have a spreadsheet take a field for text: what looks like a formula gets an apostrophe in front."""
    return f"'{field}" if field.startswith(_FORMULA) else field
