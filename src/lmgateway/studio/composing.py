# -*- test-case-name: tests.studio.test_composing -*-
"""
Who finds out how LM Studio's models can be managed, as the settings have it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail

from lmgateway.errors import Unavailable
from lmgateway.interfaces import IModelManager, IUpstream
from lmgateway.settings import Settings
from lmgateway.studio.watching import Choice


class NoChoice:
    """Finds nobody."""

    reason: str | None = None

    def choose(self) -> Deferred[IModelManager]:
        """Fail."""
        return fail(Unavailable("LM Studio's models cannot be managed here."))


def makeChoice(settings: Settings, upstream: IUpstream, reactor: Any) -> Choice:  # noqa: ARG001 - for those to come
    """Make the choice that the settings name."""
    return NoChoice()
