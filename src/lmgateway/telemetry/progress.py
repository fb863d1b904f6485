# -*- test-case-name: tests.telemetry.test_progress -*-
"""
How far the answers that pass are: told again and again to whoever watches, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from lmgateway.exchange import Exchange
from lmgateway.telemetry.journal import isoTime
from lmgateway.telemetry.sse import encodeEvent

MOST = 200
"""Answers that are told of; whoever watches shows no more. The oldest are."""

_encode = msgspec.json.Encoder().encode


def encodeProgress(inFlight: Iterable[Exchange], now: float) -> bytes:
    """
    Write the event ``inference_progress``. It has no id: whoever comes back has not missed it.

    :param inFlight: the requests in flight, the oldest first.
    :param now: Unix time.
    :return: nothing where no answer tells its tokens while it passes.
    """
    requests = list(islice(_progressOf(inFlight, now), MOST))
    if not requests:
        return b""
    return encodeEvent(_encode({"timestamp": isoTime(now), "requests": requests}), "inference_progress")


def _progressOf(inFlight: Iterable[Exchange], now: float) -> Iterator[dict[str, Any]]:
    for exchange in inFlight:
        usage = exchange.usageSoFar()
        if usage is not None and usage.completionTokens is not None:
            yield {
                "requestId": exchange.requestId,
                "completionTokens": usage.completionTokens,
                "estimated": usage.estimated,
                "totalTimeMs": exchange.totalTimeMs(now),
            }
