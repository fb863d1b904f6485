"""How many connections there can be, by the descriptors that a process may have."""

from __future__ import annotations

import resource

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.descriptors import FEWEST, MOST, RESERVED, connectionsWithin, mostConnections
from twisted.trial.unittest import SynchronousTestCase


class DescriptorTests(SynchronousTestCase):
    @given(st.integers(RESERVED + 2 * FEWEST, 10_000_000))
    def test_roomForTheUpstream(self, descriptors: int) -> None:
        """When everybody's request is being answered there are descriptors left for LM Studio, and the reserve besides."""
        self.assertLessEqual(2 * connectionsWithin(descriptors), descriptors - RESERVED)

    def test_bounds(self) -> None:
        """There are always a few, and never more than somebody can mean."""
        self.assertEqual(connectionsWithin(0), FEWEST)
        self.assertEqual(connectionsWithin(1024), 480)
        self.assertEqual(connectionsWithin(None), MOST)
        self.assertEqual(connectionsWithin(1 << 40), MOST)

    def test_thisProcess(self) -> None:
        """It goes by the limit that is in force, not by the one that it could be raised to."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        self.assertEqual(mostConnections(), connectionsWithin(512))
