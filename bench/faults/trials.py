"""
Trials of a gateway whose disk fails: one write after the other, chats meanwhile, and what its memory and its state file hold.
"""

from __future__ import annotations

import errno
import http.client
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from faultydisk import FaultyDisk
from stage import SECONDS, Running, Stage

MOST_WRITES = 200
"""Of one act; more would be a defect, too."""


class Trials:
    """
    What was tried, and what did not hold.

    :param scene: where.
    :param disk: what fails.
    :ivar asked: chats and streams.
    """

    def __init__(self, scene: Stage, disk: FaultyDisk) -> None:
        self.scene = scene
        self.disk = disk
        self.asked = 0
        self.tried: Counter[str] = Counter()
        self.wrong: list[str] = []

    def expect(self, where: str, what: str, *, isSo: bool) -> None:
        """Remember what does not hold."""
        if not isSo:
            self.wrong.append(f"{where}: {what}")

    def gateway(self, *options: str, **environ: str) -> Running:
        """Start a gateway on the disk."""
        return self.scene.gateway(*options, **{**self.disk.environ, **environ})

    def each(
        self, what: str, part: str, prepare: Callable[[], object] = bool, ways: tuple[bool, ...] = (True, False)
    ) -> Iterator[str]:
        """
        Have one write fail after the other, until nothing failed. Whoever goes through this mends the disk each time.

        :param prepare: what is to be done on the good disk before each.
        :param ways: whether all that follow fail as well; one after the other.
        :return: a name for each.
        """
        for error in (errno.ENOSPC, errno.EIO):
            for lasts in ways:
                for spared in range(MOST_WRITES):
                    prepare()
                    self.disk.fail(error, part, spared, lasts=lasts)
                    yield f"{what}: {errno.errorcode[error]} {'from' if lasts else 'at'} write {spared + 1} to {part}"
                    if not self.disk.failed:
                        break
                    self.tried[what] += 1

    def chat(self, where: str) -> None:
        """See that a chat and a stream pass, whole."""
        body = {"model": "qwen/qwen3-8b", "max_tokens": 4, "messages": [{"role": "user", "content": "count to 9"}]}
        self.asked += 2
        try:
            status = self.scene.ask("POST", "/v1/chat/completions", body)[0]
            isWhole = self.scene.stream(4).read().endswith(b"data: [DONE]\n\n")
        except (OSError, AssertionError, http.client.HTTPException) as error:
            self.wrong.append(f"{where}: a chat failed: {error!r}")
        else:
            self.expect(where, f"a chat was answered with {status}", isSo=status == 200)
            self.expect(where, "a stream was cut", isSo=isWhole)

    def memory(self) -> Any:
        """
        :return: the active model and the keys that the gateway goes by: what each is held to, and whether it had another secret.
        """
        active = self.scene.ask("GET", "/debug/status")[1]["activeModel"]
        keys = self.scene.ask("GET", "/admin/keys")[1]["keys"]
        held = {key["id"]: (key["requestsPerMinute"], bool(key["rotatedUntil"])) for key in keys if key["id"]}
        return active and active["modelKey"], held

    def rows(self) -> tuple[list[Any], list[Any], list[Any]]:
        """
        :return: the active model, the keys and the digests of their former secrets, as the state file has them.
        """
        with closing(
            sqlite3.connect(f"{(self.scene.state / 'state.sqlite3').as_uri()}?mode=ro", uri=True)
        ) as connection:
            model = connection.execute("SELECT model FROM activeModel").fetchall()
            keys = connection.execute("SELECT id, held, digest FROM keys ORDER BY id").fetchall()
            return model, keys, connection.execute("SELECT key, digest FROM formerSecrets ORDER BY digest").fetchall()


def waitFor(isSo: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """
    Wait until something is so, but not for ever.

    :return: whether it is.
    """
    deadline = time.monotonic() + seconds
    while not (done := isSo()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done
