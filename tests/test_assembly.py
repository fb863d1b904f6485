"""A gateway put together: what one part knows, the others go by."""

from __future__ import annotations

from lmgateway.assembly import Assembly
from lmgateway.inventory import DownloadedModel, Inventory
from lmgateway.settings import Settings
from lmgateway.state import StateStore
from lmgateway.tls.serving import ServerTls
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.web.support import settingsOf

INVENTORY = Inventory((DownloadedModel("a/b", "llm", "a/b"),))


class AssemblyTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = str(temporaryFolder(self) / "state")
        self.settings: Settings = settingsOf({"GATEWAY_STATE_DIR": folder})
        reactor = MemoryReactorClock()
        store = StateStore.open(folder, reactor)  # type: ignore[arg-type]  # no thread is needed before it is started
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(store.close())))
        self.parts = Assembly(self.settings, reactor, store, ServerTls(folder, reactor), lambda _: None)

    def test_proof(self) -> None:
        """A list of models counts as what there is only where somebody manages them: otherwise it proves nothing."""
        for management, counts in (("sdk", True), ("rest", True), ("gateway", False)):
            self.parts._modelsChanged(INVENTORY, management)  # type: ignore[arg-type]
            self.assertEqual(self.parts.completions.known is not None, counts)
        self.parts._modelsChanged(INVENTORY, "sdk")
        self.parts._modelsChanged(None, None)
        self.assertIsNone(self.parts.completions.known)

    def test_upstream(self) -> None:
        """Another LM Studio is another one for every part that asks it."""
        upstream = replace(self.settings.upstream, baseUrl="http://127.0.0.2:1234")
        self.parts.configure(replace(self.settings, upstream=upstream))
        parts = self.parts
        self.assertEqual({parts.state.url, parts.proxy.state.url, parts.listing.state.url}, {"http://127.0.0.2:1234"})
        self.assertIs(parts.proxy.upstream, parts.upstream)
        self.assertIs(parts.listing.upstream, parts.upstream)
        self.assertIs(parts.probe.upstream, parts.upstream)
