"""
100 reloads under load, every third with a bad file: no request fails, and every reload tells what came of it.

Eight clients ask without a pause, half of them for streams, while the gateway is reloaded, by SIGHUP and by
``POST /admin/reload`` in turn. Each good file changes where LM Studio is asked, so that connections are replaced, too.

``python bench/faults/reloads.py [--rounds N]``; it ends with 1 where a figure is not reached.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import threading
import time
from typing import Self

from stage import Running, Stage, stage, told

CLIENTS = 8
PAUSE = 0.05
BAD = "[access]\nnothing = 1\n"


class Load:
    """
    Clients that ask until the ``with`` ends, and then have their last answers finished.

    :ivar good: answers that were whole.
    :ivar failures: what went wrong.
    """

    def __init__(self, scene: Stage) -> None:
        self.good = 0
        self.failures: list[str] = []
        self._scene = scene
        self._isOver = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def _ask(self, number: int) -> None:
        while not self._isOver.is_set():
            try:
                if number % 2:
                    said = self._scene.stream(8).read()
                    isGood = said.endswith(b"data: [DONE]\n\n")
                else:
                    isGood = self._scene.ask("GET", "/v1/models")[0] == 200
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            else:
                self.good += isGood
                if not isGood:
                    self.failures.append("an answer was not whole")

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._isOver.set()
        for client in self._clients:
            client.join()


def reload(scene: Stage, gateway: Running, number: int) -> bool:
    """
    Reload once.

    :return: whether what came of it was told as it should be.
    """
    isBad = number % 3 == 2
    host = ("localhost", "127.0.0.1")[number // 3 % 2]
    good = f'[upstream]\nbaseUrl = "http://{host}:{scene.upstream}"\n[limits]\nmaxFields = {100 + number}\n'
    scene.config.write_text(BAD if isBad else good)
    words = "was not read again" if isBad else "was read again"
    before = gateway.count(words)
    if number % 2:
        gateway.process.send_signal(signal.SIGHUP)
    else:
        status, answer = scene.ask("POST", "/admin/reload", {})
        isTold = "access.nothing" in str(answer) if isBad else "limits.maxFields" in answer.get("changed", ())
        if status != (409 if isBad else 200) or not isTold:
            return False
    gateway.until(words, before + 1)
    return True


def main() -> int:
    """Reload as often as was asked for, and tell the figures."""
    parser = argparse.ArgumentParser(description="Reload the gateway under load.")
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    # The file says where LM Studio is: a variable would override it.
    with (
        stage() as scene,
        scene.simulator("--tokens-per-second", "200", "--parallel", str(CLIENTS)),
        scene.gateway(LMSTUDIO_BASE_URL="") as gateway,
    ):
        scene.ready(gateway)
        reload(scene, gateway, 0)
        wrong = 0
        with Load(scene) as load:
            for number in range(1, rounds + 1):
                wrong += not reload(scene, gateway, number)
                time.sleep(PAUSE)
        status = gateway.end(signal.SIGTERM)
    for failure in load.failures[:10]:
        print(failure)
    print(f"     {load.good} whole answers to {CLIENTS} clients during {rounds} reloads")
    reached = told("requests that failed", len(load.failures), "requests", 0)
    reached &= told("reloads that told something else", wrong, "reloads", 0)
    reached &= told("exit status", status, "", 0)
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
