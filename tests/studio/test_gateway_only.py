"""Servers that offer no model management."""

from __future__ import annotations

from lmgateway.errors import UpstreamFailed, UpstreamSilent, UpstreamUnavailable
from lmgateway.interfaces import IModelManager
from lmgateway.inventory import Inventory
from lmgateway.studio.gateway_only import PATIENCE_SECONDS, GatewayManager
from zope.interface.verify import verifyObject

from tests.studio.asking_support import TOKEN, StudioTestCase, orderOf

NAMES = "/v1/models"


class GatewayOnlyTests(StudioTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.only = GatewayManager(self.upstream, TOKEN, self.clock)

    def test_provides(self) -> None:
        """It is a manager of models, in name only."""
        verifyObject(IModelManager, self.only)
        self.assertEqual(self.only.management, "gateway")
        self.assertIsNone(self.result(self.only.close()))

    def test_names(self) -> None:
        """The names that the server lists are downloaded, as far as anybody knows; nothing is loaded."""
        self.play({NAMES: (200, {"object": "list", "data": [{"id": "b"}, {"id": "a", "object": "model"}]})})
        inventory = self.result(self.only.inventory())
        self.assertEqual([(each.modelKey, each.type) for each in inventory.downloaded], [("b", "llm"), ("a", "llm")])
        self.assertEqual(inventory.loaded, ())

    def test_noList(self) -> None:
        """A server that answers, but with no list, has nothing to show and is there all the same."""
        for status, said in ((200, b"<html>"), (401, {"error": "no"}), (404, b""), (200, {"data": 7})):
            self.play({NAMES: (status, said)})
            self.assertEqual(self.result(self.only.inventory()), Inventory())

    def test_nobody(self) -> None:
        """A server that is not there, or says nothing, is told as what it is."""
        self.play({NAMES: None})
        self.failure(self.only.inventory(), UpstreamSilent, PATIENCE_SECONDS + 1)
        self.vanish()
        self.failure(self.only.inventory(), UpstreamUnavailable)

    def test_nothingDone(self) -> None:
        """Loading and unloading fail with a sentence, and ask nothing of the server."""
        self.play({})
        progress: list[float] = []
        self.assertIn(
            "cannot be loaded", self.failure(self.only.load(orderOf(), progress.append), UpstreamFailed).message
        )
        self.assertIn("cannot be unloaded", self.failure(self.only.unload("x"), UpstreamFailed).message)
        self.assertEqual((self.asked, progress), ([], []))
