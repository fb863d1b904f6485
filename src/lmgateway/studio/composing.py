# -*- test-case-name: tests.studio.test_composing -*-
"""
Who finds out how LM Studio's models can be managed, as the settings have it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lmgateway.interfaces import IUpstream
from lmgateway.settings import Settings
from lmgateway.studio.choosing import ManagerChoice
from lmgateway.studio.sdk.manager import makeSdkManager
from lmgateway.studio.watching import Choice


def makeChoice(settings: Settings, upstream: IUpstream, reactor: Any) -> Choice:
    """
    Make the choice that the settings name.

    :param upstream: sends what goes over HTTP.
    :param reactor: connects what goes over WebSockets.
    """
    makeSdk = partial(makeSdkManager, settings, reactor)
    return ManagerChoice(settings.upstream.management, upstream, settings.upstream.apiToken, reactor, makeSdk)
