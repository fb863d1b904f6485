# -*- test-case-name: tests.studio.simulator.test_behaviour -*-
"""
The switches of the simulator: how slow, how faithful and how broken it is.

They are set for all requests at the start (``lmgateway simulate``), and for one request by its header
``X-Simulate: die-after=3; prefill=2``. The header is the simulator's own: LM Studio knows nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

HEADER = b"X-Simulate"
"""The request header field that sets switches for one request."""

LOAD_FAILURE = "(Exit code: null). Please check settings and try loading the model again."
"""Why a load fails when nothing is said (LM Studio's bug tracker 2056)."""


class Behaviour(Struct, kw_only=True):
    """
    How the simulator behaves. Mutable: what changes holds from the next request on.

    :param delay: seconds before anything at all is done about a request.
    :param prefill: seconds of silence while the model reads the prompt.
    :param loadTime: seconds that loading a model takes.
    :param tokensPerSecond: the speed of generation; 0 is as fast as possible.
    :param dieAfterChunks: cut the connection after that many chunks of a stream, and any other answer in the middle of
        its body; 0 cuts before the first byte. None never does.
    :param errorInsideStream: a stream is a 200 and turns into an error event after that many tokens, and an answer that
        is no stream is a 400; so LM Studio tells that a prompt does not fit. None never does.
    :param emptyStream: the model says nothing at all, as LM Studio's does on some prompts that are too long.
    :param unknownModel: whether a model nobody knows is an error or served by one that is loaded; LM Studio has done both.
    :param unknownPathStatus: the status of the answer to unknown paths: 200, or 404 as some versions give below ``/api/v1``.
    :param jit: whether a model that is downloaded is loaded when it is asked for ("just in time"), and listed.
    :param autoEvict: whether loading a model just in time unloads the one that was loaded so before.
    :param requireToken: the API token to demand, or None to accept anybody.
    :param parallel: how many generations a model runs at once; more wait.
    :param apiV1: whether ``/api/v1`` exists; it came with LM Studio 0.4.
    :param noModels: nothing is downloaded, nothing loaded.
    :param sdk: whether the WebSockets of LM Studio's SDKs exist.
    :param failLoad: loading a model fails with that cause, after :attr:`loadTime`; None loads it.
    :param dropSocket: a load over a WebSocket cuts the connection when its progress has come so far; None never does. The
        model is loaded all the same.
    :param muteManagement: loads, unloads, downloads and everything on a WebSocket but its authentication get no answer.
    :param forbidManagement: the API token lacks the permission to load, unload and download models.
    :param downloadTime: seconds that downloading a model takes.
    :param logTokens: the log files repeat the whole answer with each token, as LM Studio's do when told to.
    """

    delay: float = 0.0
    prefill: float = 0.0
    loadTime: float = 0.0
    tokensPerSecond: float = 0.0
    dieAfterChunks: int | None = None
    errorInsideStream: int | None = None
    emptyStream: bool = False
    unknownModel: Literal["error", "served"] = "error"
    unknownPathStatus: int = 200
    jit: bool = True
    autoEvict: bool = True
    requireToken: str | None = None
    parallel: int = 4
    apiV1: bool = True
    noModels: bool = False
    sdk: bool = True
    failLoad: str | None = None
    dropSocket: float | None = None
    muteManagement: bool = False
    forbidManagement: bool = False
    downloadTime: float = 5.0
    logTokens: bool = False


def overridden(behaviour: Behaviour, switches: str) -> Behaviour:
    """
    The behaviour for one request.

    :param switches: the value of its ``X-Simulate``: ``name=value`` or a bare ``name``, separated by semicolons; the names
        are those of the options of ``lmgateway simulate``.
    :return: a copy of ``behaviour`` with these switches changed.
    :raise ValueError: a switch is unknown or its value makes no sense; the message says which.
    """
    changes: dict[str, Any] = {}
    for switch in filter(None, map(str.strip, switches.split(";"))):
        name, _, value = (part.strip() for part in switch.partition("="))
        if name not in SWITCHES:
            raise ValueError(f"There is no switch {name!r}; there are {', '.join(sorted(SWITCHES))}.")
        field, read = SWITCHES[name]
        try:
            changes[field] = read(value)
        except ValueError as error:
            raise ValueError(f"The switch {name!r} cannot be {value!r}: {error}.") from None
    return replace(behaviour, **changes)


def _seconds(value: str) -> float:
    """A finite number that is not negative."""
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError("it must be a number of at least 0")
    return number


def _count(value: str) -> int | None:
    """A whole number that is not negative; a bare switch is 0, and "off" is None."""
    if value == "off":
        return None
    number = int(value or 0)
    if number < 0:
        raise ValueError("it must be off or a whole number of at least 0")
    return number


def _slots(value: str) -> int:
    """A whole number of at least 1."""
    number = int(value)
    if number < 1:
        raise ValueError("it must be a whole number of at least 1")
    return number


def _failure(value: str) -> str | None:
    """A cause; a bare switch is LM Studio's usual one, and "off" is None."""
    return None if value == "off" else value or LOAD_FAILURE


def _part(value: str) -> float | None:
    """A number from 0 to 1; a bare switch is the half, and "off" is None."""
    if value == "off":
        return None
    number = float(value or 0.5)
    if not 0 <= number <= 1:
        raise ValueError("it must be off or a number from 0 to 1")
    return number


def _flag(value: str) -> bool:
    """A bare switch is on."""
    if value not in {"", "on", "off"}:
        raise ValueError("it must be on or off")
    return value != "off"


def _not(value: str) -> bool:
    """The opposite of a flag, for switches whose name begins with "no"."""
    return not _flag(value)


def _unknownModel(value: str) -> str:
    """What becomes of a model nobody knows."""
    if value not in {"error", "served"}:
        raise ValueError("it must be error or served")
    return value


def _unknownPath(value: str) -> int:
    """The status of the answer to unknown paths."""
    if value not in {"200", "404"}:
        raise ValueError("it must be 200 or 404")
    return int(value)


SWITCHES: dict[str, tuple[str, Callable[[str], object]]] = {
    "delay": ("delay", _seconds),
    "prefill": ("prefill", _seconds),
    "load-time": ("loadTime", _seconds),
    "tokens-per-second": ("tokensPerSecond", _seconds),
    "die-after": ("dieAfterChunks", _count),
    "error-in-stream": ("errorInsideStream", _count),
    "empty-stream": ("emptyStream", _flag),
    "unknown-model": ("unknownModel", _unknownModel),
    "unknown-path": ("unknownPathStatus", _unknownPath),
    "no-jit": ("jit", _not),
    "no-auto-evict": ("autoEvict", _not),
    "require-token": ("requireToken", lambda value: value or None),
    "parallel": ("parallel", _slots),
    "no-api-v1": ("apiV1", _not),
    "no-models": ("noModels", _flag),
    "no-sdk": ("sdk", _not),
    "fail-load": ("failLoad", _failure),
    "drop-socket": ("dropSocket", _part),
    "mute-management": ("muteManagement", _flag),
    "forbid-management": ("forbidManagement", _flag),
    "download-time": ("downloadTime", _seconds),
    "log-tokens": ("logTokens", _flag),
}
"""Every switch: its name in ``X-Simulate`` and on the command line, the field it sets, and how its value is read."""
