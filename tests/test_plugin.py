"""
That ``twistd`` finds the gateway, and that finding it does not choose a reactor.

Each test asks a fresh interpreter: in this one the reactor is installed already.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.subprocesses import TWISTD, runPython

TREE = Path(__file__).parent.parent
PLUGIN = TREE / "src/twisted/plugins/lmgateway_plugin.py"
TAC = TREE / "tac/lmgateway.tac"


class PluginTests(SynchronousTestCase):
    def test_listed(self) -> None:
        """``twistd --help`` lists the gateway with its description."""
        self.assertRegex(runPython(TWISTD, "--help"), r"\n +lmgateway +LM Studio, safely on a LAN")

    def test_noReactor(self) -> None:
        """
        Reading the plugin installs no reactor, and imports nothing of ours: twistd reads every plugin before it has
        heard which reactor it is to use (twisted#3785).
        """
        imported = runPython(
            "import runpy, sys; runpy.run_path(sys.argv[1]);"
            "print([m for m in sys.modules if m == 'twisted.internet.reactor' or m.partition('.')[0] == 'lmgateway'])",
            str(PLUGIN),
        )
        self.assertEqual(imported, "[]\n")

    def test_namespace(self) -> None:
        """The folders that hold the plugin are no packages: an ``__init__.py`` would hide Twisted, or the plugin."""
        self.assertEqual([folder for folder in PLUGIN.parents[:2] if (folder / "__init__.py").exists()], [])

    def test_options(self) -> None:
        """``twistd lmgateway --help`` can import what the plugin names, and tells its options."""
        self.assertIn("--lmstudio-base-url=", runPython(TWISTD, "lmgateway", "--help"))


class TacTests(SynchronousTestCase):
    def test_loads(self) -> None:
        """The ``.tac`` file makes an application out of the environment alone, with our observer for its log."""
        environ = {
            "GATEWAY_PORT": "0",
            "GATEWAY_STATE_DIR": str(temporaryFolder(self)),
            "PYTHONPATH": str(TREE / "src"),
        }
        printed = runPython(
            "import sys;"
            "from twisted.application.service import IService, loadApplication;"
            "from twisted.logger import ILogObserver;"
            "application = loadApplication(sys.argv[1], 'python');"
            "print(IService(application).name, type(application.getComponent(ILogObserver)).__name__)",
            str(TAC),
            environ=environ,
        )
        self.assertEqual(printed, "lmgateway ProcessLog\n")
