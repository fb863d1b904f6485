"""Who finds out how LM Studio's models can be managed, as the settings have it."""

from __future__ import annotations

from lmgateway.errors import Unavailable
from lmgateway.studio.composing import makeChoice
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway


class MakeChoiceTests(SynchronousTestCase):
    def test_nobody(self) -> None:
        """Where nobody can manage models, that is said, and LM Studio is not said to be down."""
        gateway = MemoryGateway()
        choice = makeChoice(gateway.settings, gateway.proxy.upstream, Clock())
        self.failureResultOf(choice.choose(), Unavailable)
