"""
A disk that is full, and one that fails, at each write that the gateway makes: told, survived, and proxying untouched.

Each act of an administrator is tried with its first write failing, then with its second, and so on until all of them pass; with
ENOSPC and with EIO; where all that follow fail as well, and where only this one does; at the state file, at the audit, and at both.
Each time

- the act is answered with a sentence that says whether it was done, and the state file and the memory are of the same mind;
- a chat and a stream pass meanwhile, whole;
- the next act is done as soon as the disk is good again, and a gateway that is killed and started again knows what this one knew.

The same with the usage, the access log (also where it is begun anew), the process log, ``lmgateway tls renew``, and the first start,
which may fail with a sentence, and then the next one does not. At the end it is looked whether any file was written to that none
of this was about.

``python bench/faults/disks.py``: Linux with a C compiler; some ten minutes. It ends with 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faultydisk import FaultyDisk, NotHere
from stage import LMGATEWAY, Running, Stage, stage, told
from trials import Trials, waitFor

STATE, AUDIT, BOTH = "/state/state.sqlite3", "/state/audit.jsonl", "/state/"
KNOWN = re.compile(
    r"state[0-9]*/(state\.lock|(\w+/)?state\.sqlite3(-wal|-shm|-journal)?|audit\.jsonl|tls/(ca\.pem|ca\.crt|leaf\.pem)\.new)"
    r"|(access|process)\.log(\.new)?|.*/plugins/\w+dropin\.cache\.new"
)
"""What the gateway writes to: all that is tried here, a copy of a state file that is inspected, and Twisted's list of its plugins."""

ROTATE_SIZE = 64 << 10
LINES_WAIT = 0.3
"""Seconds; no line waits longer for others."""
LOST = re.compile(r"([0-9]+) lines were lost")

Act = Callable[[Stage, str], tuple[int, Any]]


def mint(scene: Stage, _: str) -> tuple[int, Any]:
    """Make a key."""
    return scene.ask("POST", "/admin/keys", {"name": f"key {time.monotonic_ns()}", "scopes": ["monitor"]})


def change(scene: Stage, ident: str) -> tuple[int, Any]:
    """Change what a key may."""
    return scene.ask("PATCH", f"/admin/keys/{ident}", {"requestsPerMinute": 1 + time.monotonic_ns() % 1_000_000})


def rotate(scene: Stage, ident: str) -> tuple[int, Any]:
    """Give a key a new secret."""
    return scene.ask("POST", f"/admin/keys/{ident}/rotate", {})


def revoke(scene: Stage, ident: str) -> tuple[int, Any]:
    """End a key."""
    return scene.ask("DELETE", f"/admin/keys/{ident}")


def activate(scene: Stage, _: str) -> tuple[int, Any]:
    """Change the active model."""
    return scene.ask("POST", "/admin/models/activate", {"modelKey": f"model-{time.monotonic_ns()}"})


def deactivate(scene: Stage, _: str) -> tuple[int, Any]:
    """Have no active model."""
    return scene.ask("POST", "/admin/models/deactivate", {})


ACTS: tuple[Act, ...] = (mint, change, rotate, revoke, activate, deactivate)


def remembered(rows: tuple[list[Any], list[Any], list[Any]]) -> Any:
    """
    :return: what the memory is to be, from the rows of the state file.
    """
    model, keys, former = rows
    rotated = {key for key, _ in former}
    held = {ident: (json.loads(text).get("requestsPerMinute"), ident in rotated) for ident, text, _ in keys}
    return json.loads(model[0][0])[0] if model else None, held


def acts(trials: Trials, part: str) -> None:
    """Try each act with each write to a file failing."""
    with trials.gateway() as gateway:
        trials.scene.ready(gateway)
        mint(trials.scene, "")
        activate(trials.scene, "")
        for act in ACTS:
            for where in trials.each(f"{act.__name__} a {'key' if act in ACTS[:4] else 'model'}", part):
                oneAct(trials, act, where)
        known = trials.memory()
        trials.expect(
            part, "the log does not tell of it", isSo=part == STATE or gateway.count("No administrative act") > 0
        )
        gateway.end(signal.SIGKILL)
    with trials.gateway() as gateway:
        trials.scene.ready(gateway)
        trials.expect(part, "a restart has lost something", isSo=trials.memory() == known)


def oneAct(trials: Trials, act: Act, where: str) -> None:
    """Try an act on the disk as it is; mend it, and look what came of it."""
    scene, failing = trials.scene, trials.disk
    before = trials.rows()
    ident = before[1][0][0]
    status, answer = act(scene, ident)
    trials.chat(where)
    now = trials.rows()
    trials.expect(where, "memory and file differ", isSo=trials.memory() == remembered(now))
    failing.mend()
    said = json.dumps(answer)
    if status == 503:
        isDone = "It was done all the same." in said
        isTold = isDone or "It was not done." in said or "Nothing has changed." in said
        trials.expect(where, f"it is not told what came of it: {said}", isSo=isTold)
    else:
        isDone = status in {200, 201}
        trials.expect(where, f"it was answered with {status}: {said}", isSo=isDone)
    trials.expect(where, f"it was told otherwise: {said}", isSo=isDone == (now != before))
    # These are there for the next one: a key, and an active model.
    status, answer = activate(scene, "")
    trials.expect(where, f"the next act was answered with {status}: {answer}", isSo=status == 200)
    if len(now[1]) < 2:
        trials.expect(where, "no key can be made afterwards", isSo=mint(scene, "")[0] == 201)


def usage(trials: Trials) -> None:
    """Count what passes while the file does not take it; in the end nothing is missing."""
    scene, words = trials.scene, "The usage could not be written"
    with trials.gateway() as gateway:
        scene.ready(gateway)
        for where in trials.each("write the usage", STATE):
            already = gateway.count(words)
            trials.chat(where)
            if waitFor(lambda: requestsIn(scene) == trials.asked or trials.disk.failed > 0):
                # What fails once may pass when it is tried again, and then there is nothing to tell.
                waitFor(partial(isTold, trials, gateway, words, already))
            trials.disk.mend()
            waitFor(lambda: requestsIn(scene) == trials.asked)
            counted = requestsIn(scene)
            trials.expect(where, f"of {trials.asked} requests {counted} were counted", isSo=counted == trials.asked)
        trials.expect("usage", "the log does not tell of it", isSo=gateway.count(words) > 0)
        trials.expect("usage", "the gateway did not end well", isSo=gateway.end(signal.SIGTERM) == 0)


def isTold(trials: Trials, gateway: Running, words: str, already: int) -> bool:
    """Whether the log has told of a failure once more, or everything has been written all the same."""
    return gateway.count(words) > already or requestsIn(trials.scene) == trials.asked


def requestsIn(scene: Stage) -> int:
    """
    :return: how many requests the state file knows of.
    """
    with closing(sqlite3.connect(f"{(scene.state / 'state.sqlite3').as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT total(requests) FROM usage").fetchone()[0])


class AccessLines:
    """
    The access log of a gateway, line by line.

    :param gateway: tells of lines that were lost.
    :param path: the file.
    """

    def __init__(self, gateway: Running, path: Path) -> None:
        self._gateway = gateway
        self._path = path
        self._former = 0

    def known(self) -> int:
        """
        :return: how many lines there have been, and how many were told as lost. What was torn may be both.
        """
        return self._former + linesIn(self._path.parent) + sum(map(int, LOST.findall("".join(self._gateway.lines))))

    def fill(self) -> None:
        """Have no room in the file for another line."""
        self._former += linesIn(self._path.parent)
        for former in self._path.parent.glob("access.log.*"):
            former.unlink()
        self._path.write_bytes(b"x" * (ROTATE_SIZE - 100) + b"\n")
        # It learns the size of a file when it opens it. A signal, for a request would have a line of its own.
        reloads = self._gateway.count("was read again")
        self._gateway.process.send_signal(signal.SIGHUP)
        self._gateway.until("was read again", reloads + 1)


def accessLog(trials: Trials) -> None:
    """Have each line in a file, or told as lost; also where a file is full, and a new one is begun."""
    scene, path = trials.scene, trials.scene.folder / "access.log"
    scene.config.write_text(f'[log]\nfile = "{path}"\nrotateSize = "64KB"\nkeep = 2\n')
    with trials.gateway() as gateway:
        scene.ready(gateway)
        lines = AccessLines(gateway, path)
        for what, prepare in (("write the access log", settle), ("begin a new access log", lines.fill)):
            for where in trials.each(what, path.name, prepare):
                due = lines.known() + 2
                trials.chat(where)
                waitFor(lambda due=due: trials.disk.failed > 0 or lines.known() >= due)  # type: ignore[misc]
                trials.disk.mend()
                trials.chat(where)
                isAll = waitFor(lambda due=due: lines.known() >= due + 2, 5)  # type: ignore[misc]
                trials.expect(where, "lines are missing, and not told of", isSo=isAll)
                settle()
        for where in trials.each("reload", path.name, settle):
            status, answer = scene.ask("POST", "/admin/reload", {})
            isSo = status == 200 or (status == 409 and "log.file" in str(answer))
            trials.expect(where, f"{status} {answer}", isSo=isSo)
            trials.chat(where)
            trials.disk.mend()
        trials.expect(
            "access log", "the log does not tell of it", isSo=gateway.count("log.file) cannot be written") > 0
        )
    scene.config.write_text("")


def settle() -> None:
    """Wait until no line waits for others any more."""
    time.sleep(LINES_WAIT)


def linesIn(folder: Path) -> int:
    """
    :return: whole lines about chats in the access log, those of its former files included; 0 while one of them is being renamed.
    """
    try:
        lines = b"".join(path.read_bytes() for path in folder.glob("access.log*")).splitlines()
    except FileNotFoundError:
        return 0
    return sum(b"/v1/chat/completions" in line and line.endswith(b"}") for line in lines)


def processLog(trials: Trials) -> None:
    """Go on where the file of ``twistd --logfile`` cannot be written; lines are there again afterwards."""
    scene, path = trials.scene, trials.scene.folder / "process.log"
    with trials.gateway("--logfile", str(path)) as gateway:
        scene.ready(gateway)
        for where in trials.each("write the process log", path.name):
            trials.chat(where)
            settle()
            trials.disk.mend()
            size = path.stat().st_size
            trials.chat(where)
            waitFor(lambda: path.stat().st_size > size, 5)  # noqa: B023 - not used after
            trials.expect(where, "it is not written again", isSo=path.stat().st_size > size)


def renewals(trials: Trials) -> None:
    """Renew the certificate, or leave the old one and say why."""
    scene, leaf = trials.scene, trials.scene.state / "tls" / "leaf.pem"
    environ = {"GATEWAY_STATE_DIR": str(scene.state), **trials.disk.environ}
    command = ("-c", LMGATEWAY, "tls")
    with Running(*command, "init", environ=environ) as making:
        assert making.end() == 0, making.lines
    for where in trials.each("renew the certificate", "/state/tls"):
        with Running(*command, "renew", environ=environ) as renewing:
            status = renewing.end()
        trials.disk.mend()
        said = "".join(renewing.lines)
        isTold = status == 0 or (status == 1 and "cannot be written" in said)
        trials.expect(where, f"it said: {said}", isSo=isTold and "Traceback" not in said)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(leaf)


def starts(trials: Trials) -> None:
    """Start for the first time, or say why not; and start on what that left."""
    scene = trials.scene
    scene.config.write_text('[listen]\ntls = "on"\n')
    scene.secured = ssl._create_unverified_context()  # noqa: S323, SLF001 - each start has an authority of its own
    for number, where in enumerate(trials.each("start", str(scene.folder), ways=(True,))):
        scene.state = scene.folder / f"state{number}"
        with trials.gateway() as gateway:
            try:
                scene.ready(gateway)
            except AssertionError:
                status = gateway.process.poll()
                trials.expect(where, f"it ended with {status}", isSo=status == 1)
            else:
                trials.chat(where)
        said = "".join(gateway.lines)
        trials.disk.mend()
        trials.expect(where, f"it said: {said}", isSo="Traceback" not in said and bool(said))
        with trials.gateway() as gateway:
            try:
                scene.ready(gateway)
            except AssertionError as error:
                trials.wrong.append(f"{where}: what it left cannot be used: {error}")


KINDS: dict[str, Callable[[Trials], None]] = {
    "state": lambda trials: acts(trials, STATE),
    "audit": lambda trials: acts(trials, AUDIT),
    "both": lambda trials: acts(trials, BOTH),
    "usage": usage,
    "access-log": accessLog,
    "process-log": processLog,
    "renewals": renewals,
    "starts": starts,
}


def main() -> int:
    """Try all kinds, each on a stage of its own, and tell what did not hold."""
    parser = argparse.ArgumentParser(description="Have the gateway's disk be full, and fail.")
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="which of them; all where none is named")
    kinds = parser.parse_args().kinds or list(KINDS)
    reached = True
    others: set[str] = set()
    for kind in kinds:
        with stage() as scene, scene.simulator("--tokens-per-second", "0"), TemporaryDirectory() as folder:
            try:
                disk = FaultyDisk(Path(folder))
            except NotHere as error:
                print(f"MISS nothing was tried: {error}")
                return 1
            trials = Trials(scene, disk)
            KINDS[kind](trials)
            others |= {path for path in disk.written(scene.folder) if not KNOWN.fullmatch(path)}
        for what, count in trials.tried.items():
            print(f"     {what}: {count} failing writes tried")
        for wrong in trials.wrong[:10]:
            print(wrong)
        reached &= told(f"{kind}: what did not hold", len(trials.wrong), "times", 0)
    print(*sorted(others), sep="\n", end="\n" if others else "")
    return int(not (reached & told("other files that were written to", len(others), "files", 0)))


if __name__ == "__main__":
    sys.exit(main())
