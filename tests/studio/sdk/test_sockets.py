"""
The SDKs' protocol over real sockets, plain and with TLS, to the simulator. Everything else is tested in memory; here
the sockets are the point.
"""

from __future__ import annotations

from typing import Any

from lmgateway.errors import UpstreamUnavailable
from lmgateway.inventory import LoadOrder
from lmgateway.settings import loadSettings
from lmgateway.studio.sdk.manager import SdkManager, makeSdkManager
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.site import simulatorSite
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.trial.unittest import TestCase

from tests.folders import temporaryFolder
from tests.studio.sdk.support import TOKEN
from tests.wire.authority import Authority
from tests.wire.test_sockets import Connections

MODEL = "google/gemma-3-4b"


class SocketTests(TestCase):
    """With a simulator that listens."""

    timeout = 60

    def setUp(self) -> None:
        self.simulator = Simulator(Behaviour(loadTime=0.2, requireToken=TOKEN), loaded=())
        self.authority = Authority()

    async def serve(self, *, secured: bool = False) -> str:
        """Listen, with TLS if it is to be; give the URL."""
        connections = Connections(simulatorSite(self.simulator, reactor))
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if secured:
            endpoint = wrapServerTLS(self.authority.serve("127.0.0.1"), endpoint)
        port = await endpoint.listen(connections)

        async def stop() -> None:
            await port.stopListening()
            await connections.allGone()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return f"http{'s' * secured}://127.0.0.1:{port.getHost().port}"

    def manager(self, baseUrl: str, trusted: bytes) -> SdkManager:
        """Make the one that the settings name."""
        environ = {"LMSTUDIO_BASE_URL": baseUrl, "LMSTUDIO_API_TOKEN": TOKEN}
        folder = temporaryFolder(self)
        (folder / "ca.pem").write_bytes(trusted)
        (folder / "lmgateway.toml").write_text('[upstream]\ncaFile = "ca.pem"\n')
        manager = makeSdkManager(loadSettings(configFile=str(folder / "lmgateway.toml"), environ=environ), reactor)
        self.addCleanup(manager.close)
        return manager

    async def assertManages(self, manager: SdkManager) -> None:
        """A model is loaded with progress, listed and unloaded."""
        told: list[float] = []
        outcome = await manager.load(LoadOrder(MODEL, "me", {"contextLength": 4096}, 60), told.append)
        self.assertEqual(("me", ()), (outcome.instanceId, outcome.notApplied))
        self.assertEqual((0.0, 1.0), (told[0], told[-1]))
        self.assertGreater(len(told), 10)
        (loaded,) = (await manager.inventory()).loaded
        self.assertEqual(("me", 60.0, 4096), (loaded.identifier, loaded.ttlSeconds, loaded.loadConfig["contextLength"]))
        await manager.unload("me")
        self.assertEqual((), (await manager.inventory()).loaded)

    async def test_plain(self) -> None:
        """Over TCP, with a token."""
        await self.assertManages(self.manager(await self.serve(), self.authority.pem))

    async def test_secured(self) -> None:
        """Over TLS, whose certificate the settings' file vouches for."""
        await self.assertManages(self.manager(await self.serve(secured=True), self.authority.pem))

    async def test_untrusted(self) -> None:
        """A certificate that nobody vouches for is not spoken to."""
        manager = self.manager(await self.serve(secured=True), Authority().pem)
        try:
            await manager.inventory()
        except UpstreamUnavailable as unavailable:
            self.assertIn("failed the TLS handshake", unavailable.message)
        else:
            self.fail("it was trusted")

    def test_certificatesGone(self) -> None:
        """A file of certificates that is no longer there is told as a reason why LM Studio cannot be reached."""
        folder = temporaryFolder(self)
        (folder / "ca.pem").write_bytes(self.authority.pem)
        (folder / "lmgateway.toml").write_text('[upstream]\ncaFile = "ca.pem"\n')
        settings = loadSettings(configFile=str(folder / "lmgateway.toml"))
        (folder / "ca.pem").unlink()
        with self.assertRaises(UpstreamUnavailable) as caught:
            makeSdkManager(settings, reactor)
        self.assertIn("upstream.caFile", caught.exception.message)
        self.assertNotIn(str(folder), caught.exception.message)

    async def test_cancelled(self) -> None:
        """A load that is cancelled is over at once."""
        self.simulator.behaviour.loadTime = 60.0
        manager = self.manager(await self.serve(), self.authority.pem)
        begun: Deferred[None] = Deferred()
        loading = manager.load(LoadOrder(MODEL), lambda _: None if begun.called else begun.callback(None))
        await begun
        loading.cancel()
        loading.addErrback(lambda _: None)
        # What is asked after the cancelling is answered after it.
        await manager.inventory()
        self.assertEqual((), self.simulator.shelf.instances(0))
