"""The commands that manage models, from end to end: command, gateway and simulator, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import Any

from tests.commands.test_live import COMMAND, MODEL, LiveCase, linesUntil

OTHER = "text-embedding-nomic-embed-text-v1.5"


class LiveModelsTests(LiveCase):
    def startAll(self, *switches: str) -> None:
        """Start a simulator with these switches, and a gateway in front of it."""
        simulator = self.start("simulate", "--port", "0", *switches)
        self.upstream = linesUntil(simulator.stdout, "listens on")[-1].split()[-1]
        self.startGateway()

    @property
    def environ(self) -> dict[str, str]:
        """With the simulator as LM Studio, once there is one."""
        upstream = getattr(self, "upstream", None)
        return super().environ | ({} if upstream is None else {"LMSTUDIO_BASE_URL": upstream})

    def done(self, *arguments: str) -> Any:
        """What a command prints as JSON, having succeeded."""
        code, output, errors = self.outcomeOf(*arguments, "--json")
        self.assertEqual((code, errors), (0, ""), output)
        return json.loads(output)

    def loaded(self) -> list[str]:
        """The instances in memory."""
        return [each["identifier"] for each in self.done("models")["loaded"]]

    def onTerminal(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start a command whose standard error is a terminal, and give what reads that."""
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, *arguments], env={**self.environ, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process, ours

    def seen(self, terminal: int, pattern: bytes | None = None) -> bytes:
        """Read what a terminal shows until it has this, which it must; or to its end where nothing is awaited."""
        shown = b""
        while pattern is None or not re.search(pattern, shown):
            try:
                shown += os.read(terminal, 65_536)
            except OSError:
                # So does a terminal end whose other side was closed.
                self.assertIsNone(pattern, shown)
                break
        return shown

    def test_life(self) -> None:
        """
        A model is loaded as it was ordered, with a progress that is seen, is listed and active; another one is activated, and
        all are unloaded.
        """
        self.startAll("--load-time", "2")
        self.assertEqual(self.loaded(), [MODEL])
        process, terminal = self.onTerminal("load", MODEL, "--as", "second", "--context-length", "4096", "--json")
        self.seen(terminal, rb"[1-9][0-9]\.[0-9] %")
        self.seen(terminal)
        output, _ = process.communicate(timeout=30)
        answer = json.loads(output)
        self.assertEqual(
            (process.returncode, answer["status"], answer["instanceId"], answer["activated"]),
            (0, "loaded", "second", True),
        )
        self.assertEqual(answer["loadConfig"]["contextLength"], 4096)
        listed = self.done("models")
        self.assertEqual(sorted(each["identifier"] for each in listed["loaded"]), [MODEL, "second"])
        self.assertEqual((listed["active"]["instanceId"], listed["active"]["resident"]), ("second", True))

        self.assertEqual(self.done("activate", MODEL, "--temperature", "0.5")["defaultInference"], {"temperature": 0.5})
        self.assertEqual(self.done("unload", "--instance", "second")["status"], "unloaded")
        self.assertEqual(self.loaded(), [MODEL])
        self.assertEqual([each["status"] for each in self.done("unload", "--all")], ["unloaded"])
        self.assertEqual(self.loaded(), [])
        self.assertEqual(self.done("deactivate")["status"], "cleared")

    def test_interrupted(self) -> None:
        """Ctrl-C in the middle of a load has it cancelled: the command says so, ends with 130, and nothing was loaded."""
        self.startAll("--load-time", "20")
        process, terminal = self.onTerminal("load", OTHER)
        self.seen(terminal, rb"[1-9]\.[0-9] %")
        process.send_signal(signal.SIGINT)
        shown = self.seen(terminal)
        self.assertEqual(process.wait(30), 130, shown)
        self.assertIn(b"ancelled", shown)
        self.assertEqual(self.loaded(), [MODEL])

    def test_failures(self) -> None:
        """A model that LM Studio cannot load, and one that there is not, end the command with 1 and say why."""
        self.startAll("--fail-load")
        code, output, errors = self.outcomeOf("load", OTHER)
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1))
        self.assertIn("settings", errors)
        code, output, errors = self.outcomeOf("load", "qwen/qwen3-8")
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1))
        self.assertIn("says 404", errors)
        self.assertIn(MODEL, errors)
        code, output, errors = self.outcomeOf("unload", OTHER)
        self.assertEqual((code, output, errors.count("\n")), (1, "", 1))
        self.assertIn("says 404", errors)
