"""Something that is done once, for all who wait for it."""

from __future__ import annotations

from lmgateway.errors import NotFound
from lmgateway.studio.sharing import Shared
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shared: Shared[int] = Shared()
        self.doing: Deferred[int] = Deferred()

    async def do(self) -> int:
        return await self.doing

    def test_all(self) -> None:
        """Everybody who waits gets the result, and so does who comes later."""
        self.shared.run(self.do())
        waiting = [self.shared.wait(), self.shared.wait()]
        self.assertFalse(self.shared.isOver)
        self.doing.callback(7)
        self.assertTrue(self.shared.isOver)
        self.assertEqual([self.successResultOf(each) for each in (*waiting, self.shared.wait())], [7, 7, 7])

    def test_leave(self) -> None:
        """Who leaves takes it from nobody, and it is done even if all have left."""
        self.shared.run(self.do())
        first, second = self.shared.wait(), self.shared.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.doing.callback(7)
        self.assertEqual(self.successResultOf(self.shared.wait()), 7)

    def test_failure(self) -> None:
        """A failure is everybody's as well."""
        self.shared.run(self.do())
        waiting = self.shared.wait()
        self.doing.errback(NotFound("Gone."))
        self.failureResultOf(waiting, NotFound)
        self.failureResultOf(self.shared.wait(), NotFound)

    def test_defect(self) -> None:
        """A defect that nobody is left to be told of is logged; what may go wrong is not."""
        self.shared.run(self.do())
        self.doing.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        other: Shared[int] = Shared()
        self.doing = Deferred()
        other.run(self.do())
        self.doing.errback(NotFound("Gone."))
        self.assertEqual(self.flushLoggedErrors(), [])
