"""The commands that look at a running gateway, beside one that runs: each in a process of its own, as people start them."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

KEY = "canary-key-1234567890"
COMMAND = (sys.executable, "-c", "from lmgateway.cli import main; main()")
MODEL = "qwen/qwen3-8b"


def linesUntil(stream: IO[str] | None, text: str) -> list[str]:
    """Read lines until one has this text, which it must."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"it ended without {text!r}: {''.join(lines)}")


class LiveCase(SynchronousTestCase):
    """What a test beside a running gateway has."""

    def setUp(self) -> None:
        self.state = temporaryFolder(self) / "state"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.nobody = socket.socket()
        self.nobody.bind(("127.0.0.1", 0))
        self.addCleanup(self.nobody.close)

    @property
    def environ(self) -> dict[str, str]:
        """One and the same for the gateway and the commands."""
        return {
            "GATEWAY_API_KEY": KEY,
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_STATE_DIR": str(self.state),
            "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{self.nobody.getsockname()[1]}",
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command. It is killed if the test leaves it behind."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, *arguments], env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def startGateway(self) -> subprocess.Popen[str]:
        """Start a gateway before the simulator, and wait until it listens."""
        process = self.start("run", "--local")
        linesUntil(process.stdout, "Try it:")
        return process

    def ended(self, process: subprocess.Popen[str], signalNumber: signal.Signals) -> tuple[int, str]:
        """End a process, and give its status and what it said last."""
        process.send_signal(signalNumber)
        output, errors = process.communicate(timeout=30)
        return process.returncode, output + errors

    def outcomeOf(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end, and give its status and what it printed."""
        done = subprocess.run([*COMMAND, *arguments], env=self.environ, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        return done.returncode, done.stdout, done.stderr


class LiveTests(LiveCase):
    def requests(self) -> int:
        """How many requests the gateway counted today."""
        count: int = json.loads(self.outcomeOf("usage", "--json")[1])["total"]["requests"]
        return count

    def converse(self, *, stream: bool) -> None:
        """Ask the model something, and have the whole answer."""
        body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Say hello."}]}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        self.assertEqual((response.status, bool(response.read())), (200, True))

    def test_conversation(self) -> None:
        """
        A conversation is seen live, in the status and in the usage; tail comes back when the gateway does, which has lost
        none of the usage; and Ctrl-C ends tail with 0.
        """
        gateway = self.startGateway()
        tail = self.start("tail")
        linesUntil(tail.stdout, " connected ")
        self.converse(stream=True)
        seen = linesUntil(tail.stdout, " inference_complete ")
        self.assertEqual([line.split()[1] for line in seen if "inference" in line], [
            "inference_start", "inference_first_token", "inference_complete"
        ])  # fmt: skip
        self.assertRegex(seen[-1], rf"GATEWAY_API_KEY +{MODEL} +200 .* tokens .* tok/s")
        self.assertNotIn(KEY, "".join(seen))

        code, output, errors = self.outcomeOf("status")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("requests  1, 0 running, 0 failed", output)
        code, before, _ = self.outcomeOf("usage", "--by", "key,model", "--json")
        row = json.loads(before)["rows"][0]
        self.assertEqual((code, row["key"], row["model"], row["requests"]), (0, "GATEWAY_API_KEY", MODEL, 1))
        self.assertGreater(row["completionTokens"], 0)

        self.assertEqual(self.ended(gateway, signal.SIGTERM)[0], 0)
        self.assertEqual(self.outcomeOf("status")[0], 1)
        gateway = self.startGateway()
        linesUntil(tail.stdout, " connected ")
        self.assertEqual(self.outcomeOf("usage", "--by", "key,model", "--json")[1], before)
        self.converse(stream=False)
        linesUntil(tail.stdout, " inference_complete ")
        code, rest = self.ended(tail, signal.SIGINT)
        self.assertEqual(code, 0, rest)
        self.assertIn("Trying again in 2 s.", rest)
        self.assertEqual(self.requests(), 2)

    def test_killed(self) -> None:
        """What was used five seconds before a gateway is killed, the next one knows."""
        gateway = self.startGateway()
        self.converse(stream=False)
        self.assertRaises(subprocess.TimeoutExpired, gateway.wait, 5)
        gateway.kill()
        gateway.communicate()
        self.startGateway()
        self.assertEqual(self.requests(), 1)

    def test_pipe(self) -> None:
        """Whoever reads only the first line of tail ends it, without a complaint."""
        self.startGateway()
        tail = self.start("tail", "--json", "--since", "0")
        assert tail.stdout is not None
        linesUntil(tail.stdout, "connected")
        tail.stdout.close()
        self.converse(stream=False)
        tail.wait(30)
        assert tail.stderr is not None
        self.assertEqual(tail.stderr.read(), "")
