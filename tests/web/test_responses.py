"""Errors to responses."""

from __future__ import annotations

from lmgateway.message import Scope
from lmgateway.policy.routes import ROUTES, Route, RouteTable
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway


class UnroutedTests(SynchronousTestCase):
    def test_appWithoutRoute(self) -> None:
        """A path that the table has and no app answers is a 404 like any other, finished once."""
        gateway = MemoryGateway()
        row = Route("/admin/nothing", "api", Scope.ADMIN, "gateway", methods=(b"GET",))
        gateway.root.rules = replace(gateway.root.rules, routes=RouteTable((*ROUTES, row)))
        answer = gateway.ask("GET", "/admin/nothing")
        self.assertEqual((answer.status, answer.json()), (404, {"error": "There is nothing at this path."}))
        self.assertEqual(answer.header(b"content-type"), b"application/json")
        self.assertEqual(self.flushWarnings(), [])


class DefectTests(SynchronousTestCase):
    def test_defect(self) -> None:
        """A mistake of the gateway's own is a 500 that says no more than that; the log has the rest."""
        gateway = MemoryGateway()
        gateway.metrics.performance = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        answer = gateway.ask("GET", "/debug/metrics")
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"division", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
