"""
SIGTERM with 20 streams of 5 s: all 20 whole, and the exit status 0. The same with a second SIGTERM: ended within a second.

``python bench/faults/drain.py [--streams N]``; some 10 s. It ends with 1 where a stream is not whole that should be, or the other
way round.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import threading
import time

from stage import Stage, stage, timed, told

TOKENS, PER_SECOND = 100, 20
HURRY_AFTER = 1.0


def read(answer: http.client.HTTPResponse, whole: list[bool]) -> None:
    """Read a stream to its end, or until it is cut."""
    try:
        text = answer.read()
        whole.append(text.endswith(b"data: [DONE]\n\n") and text.count(b"data: ") >= TOKENS)
    except (OSError, http.client.HTTPException):
        whole.append(False)


def drain(scene: Stage, streams: int, *, hurried: bool) -> tuple[int, float, int]:
    """
    Stop a gateway while streams run.

    :return: how many were whole, the seconds from the last SIGTERM to the end, and the exit status.
    """
    whole: list[bool] = []
    with scene.gateway() as gateway:
        scene.ready(gateway)
        answers = [scene.stream(TOKENS) for _ in range(streams)]
        readers = [threading.Thread(target=read, args=(answer, whole)) for answer in answers]
        for reader in readers:
            reader.start()
        gateway.process.send_signal(signal.SIGTERM)
        if hurried:
            time.sleep(HURRY_AFTER)
        began = time.monotonic()
        status = gateway.end(signal.SIGTERM if hurried else None)
        seconds = time.monotonic() - began
        for reader in readers:
            reader.join()
    return sum(whole), seconds, status


def main() -> int:
    """Drain twice, and tell the figures."""
    parser = argparse.ArgumentParser(description="Stop the gateway while streams run.")
    parser.add_argument("--streams", type=int, default=20)
    streams = parser.parse_args().streams
    options = ("--tokens-per-second", str(PER_SECOND), "--parallel", str(streams))
    with stage() as scene, scene.simulator(*options):
        count, seconds, status = drain(scene, streams, hurried=False)
        reached = told("streams that were whole after SIGTERM", count, "streams", streams, streams)
        timed("from SIGTERM to the end", seconds, "s", TOKENS / PER_SECOND + 2)
        reached &= told("exit status", status, "", 0)
        count, seconds, status = drain(scene, streams, hurried=True)
        timed("from the second SIGTERM to the end", seconds, "s", 1)
        reached &= told("streams that were cut by it", streams - count, "streams", streams, streams)
        reached &= told("exit status", status, "", 0)
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
