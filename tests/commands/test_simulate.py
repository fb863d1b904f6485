"""
``lmgateway simulate``: listening, in this process; and the whole command in one of its own, stopped by signals.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

from click.testing import CliRunner
from lmgateway.commands.simulate import listen, simulate
from lmgateway.studio.simulator.behaviour import SWITCHES
from lmgateway.studio.simulator.simulator import Simulator
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

COMMAND = [sys.executable, "-c", "from lmgateway.commands.simulate import simulate; simulate()"]


class ListenTests(SynchronousTestCase):
    def test_address(self) -> None:
        """It listens where it is told, by IPv4 or IPv6."""
        for host in ("127.0.0.1", "::1"):
            reactor = MemoryReactorClock()
            port: IListeningPort = self.successResultOf(listen(reactor, Simulator(), host, 4321))
            self.assertIsNotNone(port)
            ((number, _, _, interface),) = reactor.tcpServers
            self.assertEqual((number, interface), (4321, host))

    def test_noAddress(self) -> None:
        """A name is no address."""
        self.failureResultOf(listen(MemoryReactorClock(), Simulator(), "localhost", 1), ValueError)

    def test_taken(self) -> None:
        """A port that is taken is a failure."""

        class Full(MemoryReactorClock):
            def listenTCP(self, *args: Any, **kw: Any) -> IListeningPort:
                """Refuse."""
                raise CannotListenError("127.0.0.1", 1, OSError("in use"))

        self.failureResultOf(listen(Full(), Simulator(), "127.0.0.1", 1), CannotListenError)


class OptionTests(SynchronousTestCase):
    def test_everySwitch(self) -> None:
        """Every switch of the simulator is an option of the same name."""
        options = {option.removeprefix("--") for parameter in simulate.params for option in parameter.opts}
        self.assertEqual(set(SWITCHES) - options, set())

    def test_help(self) -> None:
        """The help tells what it is, and of the header."""
        result = CliRunner().invoke(simulate, ["--help"])
        self.assertEqual(result.exit_code, 0)
        self.assertIn("LM Studio without LM Studio", result.output)
        self.assertIn("X-Simulate", result.output)

    def test_refusals(self) -> None:
        """Senseless values are refused before anything listens."""
        for option in (
            "--port=65536", "--prefill=-1", "--parallel=0", "--load=nope", "--unknown-model=maybe", "--unknown-path=500",
        ):  # fmt: skip
            result = CliRunner().invoke(simulate, [option])
            self.assertEqual(result.exit_code, 2, option)
            self.assertIn(option.partition("=")[0], result.output)


class CommandTests(SynchronousTestCase):
    @contextmanager
    def running(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], HTTPConnection]]:
        """The command, and a connection to where it says it listens."""
        command = [*COMMAND, "--port=0", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                self.assertTrue(
                    line.startswith("lmgateway's simulator of LM Studio listens on http://127.0.0.1:"), line
                )
                connection = HTTPConnection("127.0.0.1", int(line.rpartition(":")[2]), timeout=30)
                yield process, connection
                connection.close()
            finally:
                process.kill()

    def failing(self, *options: str) -> subprocess.CompletedProcess[str]:
        """The command, when it ends by itself."""
        return subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False
        )

    def test_life(self) -> None:
        """It answers, over a real socket, by the options it was given, logs a line a request, and ends on SIGTERM with 0."""
        with self.running("--die-after=2", "--load=google/gemma-3-4b", "--tokens-per-second=0") as (
            process,
            connection,
        ):
            connection.request("GET", "/lmstudio-greeting", headers={"X-Simulate": "die-after=off"})
            connection.getresponse().read()
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            response = connection.getresponse()
            events = [response.readline(), response.readline(), response.readline()]
            self.assertIn(b'"model":"google/gemma-3-4b"', events[0])
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=30)
            self.assertEqual(process.returncode, 0)
            self.assertIn("POST /v1/chat/completions 200, 2 chunks", output)
            self.assertIn("cut off", output)

    def test_logFiles(self) -> None:
        """Its log files can be followed while it runs."""
        folder = temporaryFolder(self) / "server-logs"
        with self.running(f"--log-dir={folder}") as (_, connection):
            connection.request("GET", "/v1/models")
            connection.getresponse().read()
            (path,) = folder.rglob("*.log")
            text = path.read_text("utf-8")
        self.assertIn("[INFO][LM STUDIO SERVER] Success! HTTP server listening on port ", text)
        self.assertIn("][DEBUG] Received request: GET to /v1/models\n", text)

    def test_noLogFiles(self) -> None:
        """A folder that cannot be made is told, and how to go on."""
        file = temporaryFolder(self) / "file"
        file.touch()
        done = self.failing(f"--log-dir={file / 'logs'}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be made", done.stderr)

    def test_interrupt(self) -> None:
        """Ctrl-C ends it with 0 as well."""
        with self.running() as (process, _):
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=30), 0)

    def test_taken(self) -> None:
        """Where the port is taken it ends with 1, and says what to do."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.failing(f"--port={port}")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"Cannot listen on 127.0.0.1:{port}", done.stderr)
        self.assertIn("--port", done.stderr)

    def test_noAddress(self) -> None:
        """Where the host is no address it ends with 1, too."""
        done = self.failing("--host=x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("'x' is not an IP address", done.stderr)
