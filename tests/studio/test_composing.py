"""Who finds out how LM Studio's models can be managed, as the settings have it."""

from __future__ import annotations

from lmgateway.studio.composing import makeChoice
from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway


class MakeChoiceTests(SynchronousTestCase):
    def test_forced(self) -> None:
        """What the settings name is chosen without LM Studio being asked."""
        gateway = MemoryGateway()
        for way in ("sdk", "rest", "gateway"):
            settings = replace(gateway.settings, upstream=replace(gateway.settings.upstream, management=way))
            choice = makeChoice(settings, gateway.proxy.upstream, Clock())
            self.assertEqual(self.successResultOf(choice.choose()).management, way)
        self.assertEqual(list(gateway.simulator.received), [])
