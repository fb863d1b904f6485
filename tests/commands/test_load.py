"""``lmgateway load`` against a little gateway, and what Ctrl-C does to it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.cli import main
from lmgateway.commands.load import follow
from lmgateway.commands.loading import Loading
from lmgateway.commands.talk import Place
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, events, json200
from tests.commands.test_loading import CONNECTED, LOAD, LOADED, STREAM, progress

ANSWER = {**LOADED, "loadConfig": {"contextLength": 8192}, "notApplied": ["gpu.ratio"], "activated": True}
GREETING = events(CONNECTED, isHeld=True)
COMMAND = (sys.executable, "-c", "from lmgateway.cli import main; main()")


class LoadTests(SynchronousTestCase):
    def load(self, said: Said, *arguments: str) -> Result:
        """Order it of a gateway that says this."""
        self.gateway = LittleGateway(self, {STREAM: [GREETING], LOAD: [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["load", "--url", self.gateway.url, *arguments])

    def order(self) -> Any:
        """The one thing that was ordered."""
        [(_, order)] = self.gateway.orders()
        return order

    def test_plain(self) -> None:
        """Only what is said is sent, and what came of it is told; elsewhere than on a terminal there is no bar."""
        run = self.load(json200(ANSWER), "qwen")
        self.assertEqual(
            (run.exit_code, run.stdout.splitlines(), run.stderr),
            (
                0,
                [
                    "qwen is loaded.",
                    "Loaded with contextLength 8192.",
                    "Not applied, as this LM Studio cannot: gpu.ratio.",
                ],
                "",
            ),
        )
        self.assertEqual(self.order(), {"modelKey": "qwen", "activate": True})

    def test_everything(self) -> None:
        """Each option is sent by the contract's name for it, where it has its place there."""
        options = (
            "qwen --as mine --context-length 8192 --gpu 0.5 --gpu-layers 0 --cpu-threads 4 --parallel 2 "
            "--eval-batch-size 512 --no-flash-attention --num-experts 8 --offload-kv-cache --rope-frequency-base 1e4 "
            "--rope-frequency-scale 0.5 --ttl 3600 --no-activate"
        )
        self.load(json200(ANSWER), *options.split())
        config = {
            "contextLength": 8192,
            "gpu": {"ratio": 0.5, "layers": 0},
            "cpuThreads": 4,
            "parallel": 2,
            "evalBatchSize": 512,
            "flashAttention": False,
            "numExperts": 8,
            "offloadKvCacheToGpu": True,
            "ropeFrequencyBase": 10000.0,
            "ropeFrequencyScale": 0.5,
        }
        order = {"modelKey": "qwen", "instanceId": "mine", "ttlSeconds": 3600, "loadConfig": config, "activate": False}
        self.assertEqual(self.order(), order)

    def test_gpu(self) -> None:
        """The share of the GPU may be told as LM Studio's own command has it; what is no share is refused."""
        for text, ratio in (("off", 0.0), ("max", 1.0), ("1", 1.0)):
            self.load(json200(ANSWER), "qwen", "--gpu", text)
            self.assertEqual(self.order()["loadConfig"], {"gpu": {"ratio": ratio}})
        for text in ("1.1", "some"):
            self.assertEqual(self.load(json200(ANSWER), "qwen", "--gpu", text).exit_code, 2)

    def test_json(self) -> None:
        """As JSON it is what the gateway said."""
        run = self.load(json200(ANSWER), "qwen", "--json")
        self.assertEqual((run.exit_code, json.loads(run.stdout)), (0, ANSWER))

    def test_noted(self) -> None:
        """Where the gateway can only note the model, what is left to be done is told, and the command ends with 1."""
        noted = {"status": "activated", "message": "Noted.", "workflow": {"step1": "Load it in LM Studio."}}
        run = self.load(json200(noted), "qwen")
        self.assertEqual((run.exit_code, run.stdout), (1, "Noted.\n1. Load it in LM Studio.\n"))

    def test_notActivated(self) -> None:
        """A model that is loaded but not active is half of what was ordered, unless nothing else was."""
        answer = json200({**ANSWER, "activated": False})
        self.assertEqual(self.load(answer, "qwen").exit_code, 1)
        self.assertEqual(self.load(answer, "qwen", "--no-activate").exit_code, 0)

    def test_failed(self) -> None:
        """A model that is not loaded ends the command with 1, and with what the gateway says in one line."""
        run = self.load(error(404, {"error": "There is no qwem. Near it: qwen\x1b[2J."}), "qwem", "--json")
        self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "", 1))
        self.assertIn(r"404: There is no qwem. Near it: qwen\x1b[2J.", run.stderr)


class BarTests(SynchronousTestCase):
    def test_bar(self) -> None:
        """A terminal is shown how far the load is and what cannot be heard, on lines that fit, however long the model's name."""
        name = "qwen" + "x" * 60
        isSeen = threading.Event()
        streams = [events(CONNECTED, progress(42.5, name)), events(CONNECTED, isHeld=True)]
        gateway = LittleGateway(self, {STREAM: streams, LOAD: [json200(LOADED, after=isSeen)]})
        loading = Loading(Place(gateway.url), {"modelKey": name})
        terminal = _Terminal(("42.5 %", "ended the stream"), isSeen)
        follow(loading, name, Console(file=terminal, force_terminal=True, width=40, markup=False, highlight=False))
        self.assertEqual(loading.answer, LOADED)
        lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
        self.assertEqual(lines[0], f"Loading {name}. Ctrl-C cancels.")
        bars = [line for line in lines if "42.5 %" in line]
        self.assertTrue(all(0 < len(line) <= 40 for line in bars), bars)


class _Terminal(io.StringIO):
    """
    What a terminal is sent.

    :param awaited: texts.
    :param isSeen: is set once all of them were sent.
    """

    def __init__(self, awaited: tuple[str, ...], isSeen: threading.Event) -> None:
        super().__init__()
        self._awaited = awaited
        self._isSeen = isSeen

    def write(self, text: str) -> int:
        """Show it."""
        count = super().write(text)
        if all(each in self.getvalue() for each in self._awaited):
            self._isSeen.set()
        return count


class InterruptTests(SynchronousTestCase):
    def interrupted(self, *said: Said) -> tuple[int, str, str]:
        """Press Ctrl-C while the gateway loads, and give the command's status and what it printed."""
        isLoaded = threading.Event()
        self.addCleanup(isLoaded.set)
        held = json200(LOADED, after=isLoaded)
        self.gateway = LittleGateway(self, {STREAM: [GREETING], LOAD: [held], f"{LOAD}/cancel": list(said)})
        environ = {**NO_SETTINGS, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.defpath}
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, "load", "qwen", "--as", "mine", "--url", self.gateway.url],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        self.assertEqual(self.gateway.told.get(timeout=60)[0], LOAD)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def test_cancelled(self) -> None:
        """Ctrl-C cancels the load at the gateway, says so, and ends the command as an interrupted one ends."""
        outcome = self.interrupted(json200({"status": "cancelled", "message": "The load is cancelled."}))
        self.assertEqual(outcome, (130, "", "The load is cancelled.\n"))
        self.assertEqual(self.gateway.orders(), [(f"{LOAD}/cancel", {"modelKey": "qwen", "instanceId": "mine"})])

    def test_notCancelled(self) -> None:
        """Whoever cannot have it cancelled is told that it may go on, and why."""
        code, output, errors = self.interrupted(error(404, {"status": "not_found", "message": "No such load."}))
        self.assertEqual((code, output, errors.count("\n")), (130, "", 1))
        self.assertIn("The load of qwen may go on, as it could not be cancelled. ", errors)
        self.assertIn("404: No such load.", errors)
