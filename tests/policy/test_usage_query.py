"""Questions about the usage, and what is wrong with them."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.checks import ValidationFailed
from lmgateway.policy.usage_query import COLUMNS, USUAL_DAYS, UsageQuery, parseUsageQuery
from twisted.trial.unittest import SynchronousTestCase

TODAY = date(2027, 3, 1)

QUERIES = st.lists(
    st.tuples(
        st.sampled_from((b"from", b"to", b"by", b"format", b"From", b"%66rom", b"&", b"")) | st.binary(max_size=6),
        st.sampled_from((b"", b"=", b"==")),
        st.sampled_from(
            (b"", b"2027-02-28", b"2027-02-29", b"20270228", b"2027-W08", b"0001-01-01", b"day", b"day,day", b"csv")
        )
        | st.binary(max_size=12),
    ).map(b"".join),
    max_size=4,
).map(b"&".join)
"""Queries as hostile as they come."""


def parse(query: str, accept: bytes | None = None) -> UsageQuery:
    """Read what stands after the question mark."""
    return parseUsageQuery(query.encode(), accept, TODAY)


def isAccepted(query: str) -> bool:
    """Whether a query is read without complaint."""
    try:
        parse(query)
    except ValidationFailed:
        return False
    return True


class ParseTests(SynchronousTestCase):
    def faultsOf(self, query: str) -> dict[str, object]:
        """What is wrong with a query, by parameter."""
        error = self.assertRaises(ValidationFailed, parse, query)
        details = error.details or []
        return {detail["path"][0]: detail["message"] for detail in details}  # type: ignore[index]

    def test_usual(self) -> None:
        """Who asks for nothing is told of the last thirty days, today among them, by day and as JSON."""
        self.assertEqual(parse(""), UsageQuery(date(2027, 1, 31), TODAY, ("day",), "json"))

    def test_given(self) -> None:
        """Everything can be said, and the order of the columns is kept."""
        self.assertEqual(
            parse("from=2026-12-31&to=2027-01-01&by=model,day,key&format=csv"),
            UsageQuery(date(2026, 12, 31), date(2027, 1, 1), ("model", "day", "key"), "csv"),
        )

    def test_oneEnd(self) -> None:
        """Thirty days end where only the end is said; only a beginning is followed until today."""
        self.assertEqual(parse("to=2026-01-30").first, date(2026, 1, 1))
        self.assertEqual(parse("from=2020-01-01").last, TODAY)

    def test_calendar(self) -> None:
        """The calendar's first days are days as well, and there are none before them."""
        self.assertEqual(parse("to=0001-01-05").first, date(1, 1, 1))
        self.assertTrue(isAccepted("to=9999-12-31"))

    def test_badDays(self) -> None:
        """What is no day of the calendar in exactly that spelling is refused, at both ends at once."""
        for text in ("2027-02-29", "2027-2-1", "20270201", "2027-W08-1", "2027-02-01T00", "", "x", "\uff12027-02-01"):
            self.assertEqual(list(self.faultsOf(f"from={text}&to={text}")), ["to", "from"], text)

    def test_backwards(self) -> None:
        """A first day after the last is refused."""
        self.assertIn("2027-01-01", str(self.faultsOf("from=2027-01-02&to=2027-01-01")["from"]))
        self.assertTrue(isAccepted("from=2027-01-01&to=2027-01-01"))

    def test_badColumns(self) -> None:
        """Columns that there are not, none, and one that stands twice are refused."""
        for text in ("", "day,", "day,day", "Day", "day%20,key", "day;key", "client"):
            self.assertEqual(list(self.faultsOf(f"by={text}")), ["by"], text)

    def test_unknown(self) -> None:
        """Every unknown parameter is told by its name, along with every other fault."""
        faults = self.faultsOf("since=1&form=csv&to=x&by=x&format=xml&from=1&from=2")
        self.assertEqual(set(faults), {"since", "form", "to", "by", "format", "from"})

    def test_format(self) -> None:
        """The parameter decides on the format, else the first type that the client accepts, else it is JSON."""
        for accept, form in (
            (None, "json"), (b"*/*", "json"), (b"text/csv", "csv"), (b"text/html, Text/CSV;q=0.5, application/json", "csv"),
            (b"application/json, text/csv", "json"), (b"\xff,,;", "json"),
        ):  # fmt: skip
            self.assertEqual(parse("", accept).format, form, accept)
        self.assertEqual(parse("format=json", b"text/csv").format, "json")

    def test_escaped(self) -> None:
        """A query is read as browsers write it, and a name without a value is no less strict."""
        self.assertEqual(parse("%62y=key%2Cmodel&").by, ("key", "model"))
        self.assertEqual(list(self.faultsOf("by")), ["by"])
        self.assertEqual(list(self.faultsOf("csv")), ["csv"])

    @given(QUERIES, st.none() | st.binary(max_size=20))
    def test_total(self, asked: bytes, accept: bytes | None) -> None:
        """Whatever is asked becomes a question that can be answered, or a refusal that names what is wrong."""
        try:
            query = parseUsageQuery(asked, accept, TODAY)
        except ValidationFailed as error:
            self.assertTrue(error.details)
            return
        self.assertLessEqual(query.first, query.last)
        self.assertTrue(query.by)
        self.assertEqual(len(set(query.by) & set(COLUMNS)), len(query.by))

    @given(st.dates(), st.integers(0, 5000), st.permutations(COLUMNS), st.integers(1, 3))
    def test_spelledOut(self, last: date, days: int, columns: list[str], count: int) -> None:
        """A question that is written as documented is read as it was meant."""
        first = last - timedelta(days=min(days, last.toordinal() - 1))
        by = ",".join(columns[:count])
        query = parse(f"from={first}&to={last}&by={by}")
        self.assertEqual(query, UsageQuery(first, last, tuple(columns[:count]), "json"))
        self.assertEqual((last - parse(f"to={last}").first).days, min(USUAL_DAYS, last.toordinal()) - 1)
