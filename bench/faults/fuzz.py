"""
Damaged bytes for as long as you like: a whole gateway in memory between clients and an LM Studio that send whatever is drawn.

What must hold stands in ``tests/web/fuzzing.py``; the suite draws a few dozen examples of each, this as many as there is time for.
The first one that fails is made as small as can be and shown, and the script ends with 1.

Run as ``python bench/faults/fuzz.py --seconds 120``; needs what the tests need. ``--seed`` repeats a run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from tests.web.fuzzing import CUTS, ENDS, PIPELINES, SOUND, checkClient, checkUpstream
from tests.wire import test_answer_fuzz
from twisted.logger import LogEvent, globalLogPublisher

ROUND = 200
"""Examples of a kind before the clock is looked at."""

failures: list[str] = []
counts: Counter[str] = Counter()


def observe(event: LogEvent) -> None:
    """Remember what a defect would log."""
    if "log_failure" in event:
        failures.append(event["log_failure"].getTraceback())


def checkQuiet() -> None:
    """
    :raise AssertionError: an exception was logged.
    """
    told, failures[:] = list(failures), []
    assert not told, told[0]


def client(wire: bytes, places: list[int]) -> None:
    """Damaged requests."""
    statuses = checkClient(wire, places)
    assert 500 not in statuses
    assert 501 not in statuses
    checkQuiet()
    counts["pipelines of requests"] += 1
    counts["answers"] += len(statuses)
    counts["refusals that close"] += 400 in statuses


def answers(said: bytes, places: list[int], end: str, isStream: bool) -> None:  # noqa: FBT001 - drawn
    """Damaged answers."""
    checkUpstream(said, places, end, isStream=isStream, isBroken=False)
    checkQuiet()
    counts["damaged answers"] += 1


def broken(said: bytes, cutAt: float, places: list[int], end: str, isStream: bool) -> None:  # noqa: FBT001 - drawn
    """Answers that end too early."""
    checkUpstream(said[: int(cutAt * (len(said) - 3))], places, end, isStream=isStream, isBroken=True)
    checkQuiet()
    counts["answers that break off"] += 1


KINDS: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
    (client, (PIPELINES, CUTS)),
    (answers, (test_answer_fuzz.damaged(), CUTS, ENDS, st.booleans())),
    (broken, (SOUND, st.floats(0, 1), CUTS, st.sampled_from(("finish", "reset")), st.booleans())),
)


def main() -> int:
    """Draw until the time is over, or something fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].strip())
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    globalLogPublisher.addObserver(observe)
    limits = settings(max_examples=ROUND, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    begin = time.monotonic()
    number = options.seed
    while time.monotonic() < begin + options.seconds:
        for check, strategies in KINDS:
            try:
                seed(number)(limits(given(*strategies)(check)))()
            except AssertionError as error:
                print(f"MISS seed {number}, {check.__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n")
                return 1
        number += 1
    print(f"ok   seeds {options.seed} to {number - 1}, {time.monotonic() - begin:.0f} s")
    for what, count in counts.items():
        print(f"     {count} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
