"""
What the fault scripts share: a simulator and a gateway as processes of their own, and requests to it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from figures import timed, told

__all__ = ["KEY", "Running", "Stage", "stage", "timed", "told"]

KEY = "fault-key-0123456789abcdef"
SECONDS = 30.0
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
LMGATEWAY = "from lmgateway.cli import main; main()"


def freePort() -> int:
    """
    :return: a port of loopback that nobody listens on at the moment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """
    A process whose output is read as it comes, and which ends with the ``with``.
    """

    def __init__(self, *command: str, environ: Mapping[str, str] | None = None) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, *command],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._spoken = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._spoken:
                self.lines.append(line)
                self._spoken.notify_all()
        with self._spoken:
            self.lines.append("")
            self._spoken.notify_all()

    def count(self, words: str) -> int:
        """
        :return: how many lines have had these words.
        """
        with self._spoken:
            return sum(words in line for line in self.lines)

    def until(self, words: str, times: int = 1) -> None:
        """
        Wait for lines with these words.

        :raise AssertionError: the process ended, or it took too long.
        """

        def isSaid() -> bool:
            return sum(words in line for line in self.lines) >= times or "" in self.lines

        with self._spoken:
            self._spoken.wait_for(isSaid, SECONDS)
        assert self.count(words) >= times, f"it did not say {words!r}: {''.join(self.lines[-5:])}"

    def end(self, number: signal.Signals | None = None) -> int:
        """
        Send a signal, and wait for the end.

        :return: the exit status.
        """
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Stage:
    """
    A folder with a configuration, a port for the gateway, and one for the simulator.

    :param folder: is there.
    :ivar secured: how to speak TLS with the gateway; None where it listens without.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "lmgateway.toml"
        self.config.write_text("")
        self.port = freePort()
        self.upstream = freePort()
        self.secured: ssl.SSLContext | None = None

    def simulator(self, *options: str) -> Running:
        """Start the simulator."""
        running = Running("-c", LMGATEWAY, "simulate", "--port", str(self.upstream), *options)
        running.until("listens on")
        return running

    def gateway(self, *options: str, **environ: str) -> Running:
        """
        Start a gateway; it does not serve yet when this returns.

        :param options: of twistd.
        :param environ: variables.
        """
        variables = {
            "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{self.upstream}",
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_API_KEY": KEY,
            "GATEWAY_STATE_DIR": str(self.state),
            **environ,
        }
        plugin = ("-n", "--pidfile=", *options, "lmgateway", "--config", str(self.config))
        return Running("-c", TWISTD, *plugin, environ=variables)

    def ready(self, gateway: Running) -> float:
        """
        Wait until the gateway answers.

        :return: seconds since it was started.
        """
        while time.monotonic() < gateway.started + SECONDS and gateway.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health")[0] == 200:
                    return time.monotonic() - gateway.started
            time.sleep(0.01)
        raise AssertionError(f"the gateway did not start: {''.join(gateway.lines[-5:])}")

    def ask(self, method: str, path: str, body: object = None, key: str = KEY) -> tuple[int, Any]:
        """
        :return: the status of an answer, and the JSON in it.
        :raise OSError: there was none; or http.client's own errors.
        """
        connection = self._connection()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", "X-API-Key": key})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.secured is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=self.secured)

    def stream(self, tokens: int) -> http.client.HTTPResponse:
        """
        Begin a stream.

        :return: it, with its first line read.
        :raise AssertionError: it was refused, or began with something else.
        """
        connection = self._connection()
        chat = {
            "model": "qwen/qwen3-8b",
            "stream": True,
            "max_tokens": tokens,
            "messages": [{"role": "user", "content": "count to 9999"}],
        }
        fields = {"Content-Type": "application/json", "X-API-Key": KEY}
        connection.request("POST", "/v1/chat/completions", json.dumps(chat), fields)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.readline().startswith(b"data: ")
        return answer


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Make a stage that is gone afterwards."""
    with TemporaryDirectory() as folder:
        yield Stage(Path(folder))
