"""Activating and deactivating a model over HTTP."""

from __future__ import annotations

from lmgateway.errors import Unavailable
from lmgateway.message import ActiveModel
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway, requestBytes


class ActivationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway()

    def test_activate(self) -> None:
        """Activation tells what is active now, and is in force for the next request."""
        body = {"modelKey": "m", "instanceId": "m:2", "defaultInference": {"topP": 0.5, "stream": False}}
        answer = self.gateway.ask("POST", "/admin/models/activate", body)
        self.assertEqual(answer.status, 200)
        told = answer.json()
        self.assertEqual(told.pop("status"), "activated")
        self.assertTrue(told.pop("message"))
        self.assertEqual(told, body)
        self.assertEqual(self.gateway.active.current(), ActiveModel("m", "m:2", {"topP": 0.5, "stream": False}))

    def test_told(self) -> None:
        """Both are told to whoever follows the events."""
        self.gateway.ask("POST", "/admin/models/activate", {"modelKey": "m", "defaultInference": {"topP": 0.5}})
        self.gateway.ask("POST", "/admin/models/deactivate")
        first, second = self.gateway.journal.read(0).events
        self.assertEqual((first.kind, second.kind), ("model_activate", "model_deactivate"))
        self.assertIn(b'"defaultInference":{"topP":0.5}', first.data)

    def test_invalid(self) -> None:
        """Every fault of a body is told with its path, and nothing changes."""
        body = {"modelKey": "", "defaultInference": {"topP": 2, "nope": 1}}
        answer = self.gateway.ask("POST", "/admin/models/activate", body)
        self.assertEqual((answer.status, answer.json()["error"]), (400, "Validation failed"))
        paths = [detail["path"] for detail in answer.json()["details"]]
        self.assertEqual(sorted(paths), [["defaultInference", "nope"], ["defaultInference", "topP"], ["modelKey"]])
        self.assertIsNone(self.gateway.active.current())

    def test_notJson(self) -> None:
        """A body that a web page could send from another site is refused; one that is no JSON as well."""
        answer = self.gateway.ask(
            "POST", "/admin/models/activate", b'{"modelKey":"m"}', headers={"Content-Type": "text/plain"}
        )
        self.assertEqual(answer.status, 415)
        self.assertEqual(self.gateway.ask("POST", "/admin/models/activate", b"{").status, 400)

    def test_tooLarge(self) -> None:
        """The admin API takes no bodies of megabytes."""
        answer = self.gateway.ask("POST", "/admin/models/activate", b"x" * 1_100_000)
        self.assertEqual(answer.status, 413)

    def test_deactivate(self) -> None:
        """Deactivation needs no body, and tells what was active."""
        self.gateway.active.model = ActiveModel("m", "i", {})
        answer = self.gateway.ask("POST", "/admin/models/deactivate")
        self.assertEqual((answer.status, answer.json()["status"], answer.json()["modelKey"]), (200, "cleared", "m"))
        self.assertIsNone(self.gateway.active.current())
        self.assertEqual(self.gateway.ask("POST", "/admin/models/deactivate").json()["status"], "cleared")

    def test_storeFails(self) -> None:
        """An activation that could not be stored is a 503, not a success."""

        def full(_: ActiveModel) -> Deferred[None]:
            return fail(Unavailable("The disk is full."))

        self.gateway.active.activate = full  # type: ignore[method-assign]
        answer = self.gateway.ask("POST", "/admin/models/activate", {"modelKey": "m"})
        self.assertEqual((answer.status, answer.json()), (503, {"error": "The disk is full."}))

    def test_clientLeaves(self) -> None:
        """A client that leaves while its body is read is no error of anybody's."""
        client = self.gateway.connect()
        client.send(requestBytes("POST", "/admin/models/activate", {"modelKey": "m"})[:-2])
        client.leave()
        self.assertEqual(self.gateway.records[-1].outcome, "cancelled")
