# -*- test-case-name: tests.telemetry.test_upstreams -*-
"""
Whether LM Studio answers, as the requests that go there find out.
"""

from __future__ import annotations

from lmgateway.interfaces import IEventJournal


class UpstreamState:
    """
    The state of one upstream. Its changes are events.

    :param journal: takes them.
    :param url: the upstream's.
    """

    def __init__(self, journal: IEventJournal, url: str) -> None:
        self.url = url
        self.isUp: bool | None = None
        self.reason: str | None = None
        self._journal = journal

    def answered(self) -> None:
        """It answered, whatever it said."""
        if self.isUp is not True:
            wasDown = self.isUp is False
            self.isUp, self.reason = True, None
            reason = "It answers again." if wasDown else "It answers."
            self._journal.record("upstream_up", {"upstream": self.url, "reason": reason})

    def failed(self, reason: str) -> None:
        """
        It could not be reached.

        :param reason: the sentence that the client was told.
        """
        self.reason = reason
        if self.isUp is not False:
            self.isUp = False
            self._journal.record("upstream_down", {"upstream": self.url, "reason": reason})
