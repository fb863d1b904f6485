"""
Checks of one client library, reported a line each: ``ok`` or ``FAIL``, the library, what holds, and why it does not.
"""

from __future__ import annotations

import inspect
import json
import os
import time
import traceback
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

SLOT_DEADLINE = 5.0
"""Seconds; a third of what the longest generation takes on a fast machine, so that its own end is not taken for freeing."""
Check = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True)
class Place:
    """
    Where to ask, out of the environment that ``run.py`` sets.

    :param base: what the clients talk to: the gateway, or with ``--direct`` the model server.
    :param key: a key that it accepts, of every scope.
    :param upstream: the model server.
    :param upstreamKey: the key that the model server accepts, and the clients never have behind a gateway.
    :param behindGateway: whether ``base`` is the gateway.
    """

    base: str = os.environ["E2E_BASE"]
    key: str = os.environ["E2E_KEY"]
    upstream: str = os.environ["E2E_UPSTREAM"]
    upstreamKey: str = os.environ["E2E_UPSTREAM_KEY"]
    behindGateway: bool = os.environ["E2E_GATEWAY"] == "1"

    @property
    def retries(self) -> int:
        """
        How often a client may try again. The model server closes idle connections while requests are on their way to
        it; the gateway must not let a client see that, so none is allowed there.
        """
        return 0 if self.behindGateway else 2


PLACE = Place()
CHECKS: list[tuple[str, Check]] = []


def check(sentence: str, *, gatewayOnly: bool = False) -> Callable[[Check], Check]:
    """
    Declare a check: a function that raises where the sentence does not hold.

    :param gatewayOnly: the model server alone does not promise it.
    """

    def declare(function: Check) -> Check:
        if PLACE.behindGateway or not gatewayOnly:
            CHECKS.append((sentence, function))
        return function

    return declare


def ask(url: str, key: str, body: object = None) -> object:
    """
    :param body: sent as JSON by POST; None asks by GET.
    :return: the JSON of the answer.
    """
    data = None if body is None else json.dumps(body).encode()
    fields = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, fields)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - loopback
        return json.load(response)


def busySlots() -> int:
    """
    :return: how many generations the model server is busy with.
    """
    slots = ask(f"{PLACE.upstream}/slots", PLACE.upstreamKey)
    assert isinstance(slots, list)
    return sum(slot["is_processing"] for slot in slots)


def awaitSlots(busy: int) -> float:
    """
    :param busy: how many slots should come to be busy.
    :return: after how many seconds they were.
    """
    began = time.monotonic()
    while (found := busySlots()) != busy:
        took = time.monotonic() - began
        assert took < SLOT_DEADLINE, f"{found} slots are busy after {took:.1f} s, not {busy}"
        time.sleep(0.01)
    return time.monotonic() - began


def activate(modelKey: str, **defaultInference: object) -> None:
    """Make a model the gateway's active one, with these defaults."""
    ask(f"{PLACE.base}/admin/models/activate", PLACE.key, {"modelKey": modelKey, "defaultInference": defaultInference})


async def run(library: str) -> int:
    """
    Run what was declared, in that order.

    :return: the exit code: 0 when everything holds.
    """
    failed = 0
    for sentence, function in CHECKS:
        began = time.monotonic()
        try:
            result = function()
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the report's
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            line = next(frame for frame in reversed(where) if Path(frame.filename).parent == Path(__file__).parent)
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({Path(line.filename).name}:{line.lineno})"
            print(f"FAIL  {library}: {sentence}\n      {why}", flush=True)
        else:
            print(f"ok    {library}: {sentence} ({time.monotonic() - began:.2f} s)", flush=True)
    return 1 if failed else 0


def expect(kind: type[Exception], action: Callable[[], object]) -> Exception:
    """
    :return: the exception that the action raises, which must be of this kind exactly.
    """
    raised: Exception | None = None
    try:
        action()
    except kind as error:
        raised = error
    assert type(raised) is kind, f"{raised!r} is not {kind.__name__}"
    return raised
