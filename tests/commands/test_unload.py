"""``lmgateway unload`` against a little gateway."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.cli import main
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200

UNLOADED = {"status": "unloaded", "modelKey": "qwen", "instanceId": "qwen", "totalTimeMs": 5.0, "message": "Gone."}
BUSY = error(
    409,
    {
        "error": "qwen is answering 1 request. Wait, or force it.",
        "details": [{"requestId": "req_1", "model": "qwen\x1b[2J"}],
    },
)


def listing(*instances: str, management: str = "sdk") -> Said:
    """What ``GET /admin/models`` says where these instances of one model are loaded."""
    loaded = [{"modelKey": "qwen", "identifier": each} for each in instances]
    return json200({"loaded": loaded, "downloaded": [], "active": None, "management": management, "stale": False})


class UnloadTests(SynchronousTestCase):
    def unload(self, said: list[Said], listed: Said, *arguments: str) -> Result:
        """Order it of a gateway that says these."""
        self.gateway = LittleGateway(self, {"/admin/models/unload": said, "/admin/models": [listed]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["unload", "--url", self.gateway.url, *arguments])

    def orders(self) -> list[Any]:
        """What was ordered."""
        return [order for _, order in self.gateway.orders()]

    def test_named(self) -> None:
        """What is named is unloaded without asking what there is."""
        run = self.unload([json200(UNLOADED)], listing(), "qwen")
        self.assertEqual((run.exit_code, run.output), (0, "Gone.\n"))
        self.assertEqual(self.orders(), [{"modelKey": "qwen", "force": False}])
        self.assertEqual(self.gateway.targets, ["/admin/models/unload"])
        self.unload([json200(UNLOADED)], listing(), "qwen", "--instance", "qwen:2", "--force")
        self.assertEqual(self.orders(), [{"modelKey": "qwen", "instanceId": "qwen:2", "force": True}])

    def test_instance(self) -> None:
        """An instance alone is enough: the gateway knows its model. One that is not loaded is told with those that are."""
        run = self.unload([json200(UNLOADED)], listing("qwen", "qwen:2"), "--instance", "qwen:2")
        self.assertEqual(run.exit_code, 0)
        self.assertEqual(self.orders(), [{"modelKey": "qwen", "instanceId": "qwen:2", "force": False}])
        run = self.unload([], listing("qwen", "qwen:2"), "--instance", "x")
        self.assertEqual((run.exit_code, run.stderr), (1, "Error: No instance x is loaded. Loaded: qwen, qwen:2.\n"))

    def test_only(self) -> None:
        """Where nothing is named, the only thing is unloaded; nothing is chosen among several, and none is an error."""
        self.assertEqual(self.unload([json200(UNLOADED)], listing("qwen:2")).exit_code, 0)
        self.assertEqual(self.orders(), [{"modelKey": "qwen", "instanceId": "qwen:2", "force": False}])
        run = self.unload([json200(UNLOADED)], listing("qwen", "qwen:2"))
        self.assertEqual((run.exit_code, self.orders()), (1, []))
        self.assertIn("Several are loaded: qwen, qwen:2.", run.stderr)
        run = self.unload([], listing())
        self.assertEqual((run.exit_code, run.stderr), (1, "Error: Nothing is loaded.\n"))
        run = self.unload([], listing(management="gateway"))
        self.assertIn("Name the model.", run.stderr)

    def test_all(self) -> None:
        """Everything is unloaded, and what cannot be is told without leaving the rest; that ends the command with 1."""
        run = self.unload([json200(UNLOADED), BUSY, json200(UNLOADED)], listing("a", "b", "c"), "--all")
        self.assertEqual([order["instanceId"] for order in self.orders()], ["a", "b", "c"])
        self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "Gone.\nGone.\n", 1))
        run = self.unload([json200(UNLOADED)], listing("a", "b"), "--all", "--json")
        self.assertEqual((run.exit_code, json.loads(run.stdout)), (0, [UNLOADED, UNLOADED]))

    def test_allOfNothing(self) -> None:
        """Where nothing is loaded, everything is unloaded already."""
        run = self.unload([], listing(), "--all")
        self.assertEqual((run.exit_code, run.output), (0, "Nothing is loaded.\n"))
        run = self.unload([], listing(), "--all", "--json")
        self.assertEqual((run.exit_code, json.loads(run.output)), (0, []))
        self.assertEqual(self.unload([], listing(), "qwen", "--all").exit_code, 2)

    def test_busy(self) -> None:
        """A model that answers is not unloaded, and it is told what it answers."""
        run = self.unload([BUSY], listing(), "qwen")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertRegex(
            run.stderr, r"says 409: qwen is answering 1 request\. .*\(requestId req_1, model qwen\\x1b\[2J\)"
        )

    def test_notFound(self) -> None:
        """What is not loaded is told as the gateway tells it, which has no error there."""
        run = self.unload([error(404, {"status": "not_found", "message": "qwen is not loaded."})], listing(), "qwen")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertIn("says 404: qwen is not loaded.", run.stderr)

    def test_noted(self) -> None:
        """Where LM Studio cannot be told to unload, what is left to be done is told, and the command ends with 1."""
        noted = {"status": "cleared", "message": "Cleared.", "workflow": {"step1": "Unload it in LM Studio."}}
        run = self.unload([json200(noted)], listing(), "qwen")
        self.assertEqual((run.exit_code, run.stdout), (1, "Cleared.\n1. Unload it in LM Studio.\n"))
