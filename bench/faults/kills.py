"""
Kill -9 under administrative writes: nothing damaged, nothing confirmed lost, ready again in 2 s.

While three clients make keys, revoke them and change the active model, the gateway is killed at a moment of chance. It is
started again, must be ready in time, and must have all that it confirmed: each key that was made is good, each that was
revoked is not, and the active model is the one that was confirmed last (or one that was asked for after it). What was
asked for and not confirmed may be there or not, whole. Then SQLite looks through the file.

``python bench/faults/kills.py [--rounds N]``: 500 rounds unless said otherwise, a second each. It ends with 1 where
something was damaged, lost or refused.
"""

from __future__ import annotations

import argparse
import http.client
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from stage import Running, Stage, stage, timed, told

MOST_KEYS = 12
LONGEST_LIFE = 0.25


class Memory:
    """
    What the gateway has confirmed.

    :ivar good: the secret of each key that was made and whose revocation nobody asked for, by id.
    :ivar revoked: the secrets of the keys whose revocation was confirmed.
    :ivar models: those that may be active: the one that was confirmed last, and what was asked for since.
    :ivar confirmed: how many acts.
    :ivar isOver: whether the gateway has been killed.
    """

    def __init__(self) -> None:
        self.good: dict[str, str] = {}
        self.revoked: list[str] = []
        self.models: list[str | None] = [None]
        self.confirmed = 0
        self.isOver = False


def mint(scene: Stage, memory: Memory, number: int) -> None:
    """Make a key."""
    status, made = scene.ask("POST", "/admin/keys", {"name": f"key {number}", "scopes": ["monitor"]})
    assert status == 201, made
    memory.good[made["id"]] = made["key"]


def revoke(scene: Stage, memory: Memory, number: int) -> None:
    """Revoke a key, once there are some."""
    while len(memory.good) <= number % MOST_KEYS:
        time.sleep(0.001)
        if memory.isOver:
            raise ConnectionError
    # From now on until the answer nobody knows whether it is good.
    ident, secret = memory.good.popitem()
    status, answer = scene.ask("DELETE", f"/admin/keys/{ident}")
    assert status == 200, answer
    memory.revoked.append(secret)


def activate(scene: Stage, memory: Memory, number: int) -> None:
    """Change the active model."""
    name = f"model-{number}"
    memory.models.append(name)
    status, answer = scene.ask("POST", "/admin/models/activate", {"modelKey": name})
    assert status == 200, answer
    memory.models[:] = [name]


def write(
    scene: Stage, memory: Memory, act: Callable[[Stage, Memory, int], None], start: int, faults: list[str]
) -> None:
    """Go on with an act until nobody answers."""
    number = start
    while True:
        number += 1
        try:
            act(scene, memory, number)
        except (OSError, http.client.HTTPException):
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told at the end
            faults.append(repr(error))
            return
        memory.confirmed += 1


def check(scene: Stage, memory: Memory) -> list[str]:
    """
    :return: what is not as it was confirmed.
    """
    lost = []
    listed = {key["id"] for key in scene.ask("GET", "/admin/keys")[1]["keys"]}
    lost += [f"key {ident} is gone" for ident in memory.good if ident not in listed]
    lost += [f"key {ident} is no good" for ident, secret in memory.good.items() if answers(scene, secret) != 200]
    recent = memory.revoked[-MOST_KEYS:]
    lost += ["a revoked key is good again" for secret in recent if answers(scene, secret) != 401]
    active = scene.ask("GET", "/debug/status")[1]["activeModel"]
    name = active["modelKey"] if active else None
    if name not in memory.models:
        lost.append(f"the active model is {name}, and not one of {memory.models}")
    memory.models[:] = [name]
    for ident in listed - set(memory.good):
        # Made or revoked without an answer: nobody knows of it.
        scene.ask("DELETE", f"/admin/keys/{ident}")
    return lost


def answers(scene: Stage, secret: str) -> int:
    """
    :return: the status for whoever has this key.
    """
    return scene.ask("GET", "/debug/status", key=secret)[0]


def isWhole(state: Path) -> bool:
    """Whether SQLite finds nothing wrong with the files that a kill left, looked at in a copy."""
    with TemporaryDirectory() as folder:
        for file in state.glob("state.sqlite3*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / "state.sqlite3")) as connection:
            return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def oneRound(scene: Stage, gateway: Running, memory: Memory, number: int) -> list[str]:
    """
    Write, and kill.

    :return: what went wrong before the kill.
    """
    faults: list[str] = []
    memory.isOver = False
    writers = [
        threading.Thread(target=write, args=(scene, memory, act, number * 100_000, faults))
        for act in (mint, revoke, activate)
    ]
    for writer in writers:
        writer.start()
    time.sleep(random.uniform(0, LONGEST_LIFE))  # noqa: S311 - no secret
    if gateway.process.poll() is not None:
        faults.append(f"it ended by itself: {''.join(gateway.lines[-5:])}")
    gateway.end(signal.SIGKILL)
    memory.isOver = True
    for writer in writers:
        writer.join()
    return faults


def main() -> int:
    """Kill as often as was asked for, and tell the figures."""
    parser = argparse.ArgumentParser(description="Kill the gateway under administrative writes.")
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    memory, waits, lost, faults, damaged = Memory(), [], [], [], 0
    with stage() as scene:
        for number in range(rounds + 1):
            with scene.gateway() as gateway:
                waits.append(scene.ready(gateway))
                lost += check(scene, memory)
                if number == rounds:
                    gateway.end(signal.SIGTERM)
                    break
                faults += oneRound(scene, gateway, memory, number)
            damaged += not isWhole(scene.state)
    for what in [*lost, *faults][:20]:
        print(what)
    print(f"     {memory.confirmed} administrative acts were confirmed in {rounds} lives")
    reached = told("kills that damaged the state", damaged, "of them", 0)
    reached &= told("confirmed and lost", len(lost), "acts", 0)
    reached &= told("refused without need", len(faults), "acts", 0)
    waits.sort()
    timed("ready again, half of the starts", waits[len(waits) // 2], "s", 2)
    timed("ready again, the slowest start", waits[-1], "s", 2)
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
