"""
The life of the process, in real processes: ``twistd lmgateway`` in front of ``lmgateway simulate``, on loopback, with signals.

What a process says is waited for by reading its output; every wait ends with the process, or with the time that a test has.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory
from typing import Any, Self

from twisted.trial.unittest import SynchronousTestCase

from tests.subprocesses import TWISTD

LMGATEWAY = "from lmgateway.cli import main; main()"
KEY = "a-key-for-tests"
SECONDS = 30
KEY_ROUNDS = 4
CHAT = {
    "model": "qwen/qwen3-8b",
    "stream": True,
    "max_tokens": 24,
    "messages": [{"role": "user", "content": "count to 99"}],
}


def freePort() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Running:
    """A process whose output is read line by line."""

    def __init__(self, *command: str, environ: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *command],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._passedOver: list[str] = []

    def until(self, words: str) -> str:
        """Give the line that has these words: one that was passed over before, or else the next one, which is waited for."""
        assert self.process.stdout is not None
        for line in self._passedOver:
            if words in line:
                self._passedOver.remove(line)
                return line
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
            self._passedOver.append(line)
        raise AssertionError(f"ended without {words!r}: {self.lines} {self.end()}")

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, wait for the end, and give the exit status and what was said on standard error."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        self.lines += out.splitlines()
        return self.process.returncode, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class LifeTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.port = freePort()
        self.upstream = freePort()
        self.config = self.folder / "lmgateway.toml"
        self.config.write_text("")

    @contextmanager
    def simulator(self, *options: str) -> Iterator[Running]:
        with Running("-c", LMGATEWAY, "simulate", "--port", str(self.upstream), *options) as running:
            running.until("listens on")
            yield running

    def gateway(self, **environ: str) -> Running:
        """Start a gateway; ``environ`` changes its variables."""
        variables = {
            "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{self.upstream}",
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_API_KEY": KEY,
            "GATEWAY_STATE_DIR": str(self.folder / "state"),
            **environ,
        }
        return Running("-c", TWISTD, "-n", "--pidfile=", "lmgateway", "--config", str(self.config), environ=variables)

    def ask(self, method: str, path: str, body: object = None, key: str | None = KEY) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data)

    def stream(self) -> http.client.HTTPResponse:
        """Begin a stream, and read its first line."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(CHAT), {"Content-Type": "application/json", "X-API-Key": KEY}
        )
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.readline().startswith(b"data: "))
        return answer

    def test_variablesSuffice(self) -> None:
        """With nothing but variables there is a working gateway; it asks for the key, and ends with 0."""
        with self.simulator(), self.gateway() as gateway:
            gateway.until(f"http://127.0.0.1:{self.port}")
            self.assertEqual(self.ask("GET", "/v1/models")[0], 200)
            self.assertEqual(self.ask("GET", "/v1/models", key=None)[0], 401)
            self.assertEqual(self.ask("GET", "/health/ready", key=None)[0], 200)
            self.assertEqual(gateway.end(signal.SIGTERM), (0, ""))

    def test_severalListeners(self) -> None:
        """Every endpoint that is named is served, a unix socket too: whoever comes by it is on this machine."""
        path = self.folder / "socket"
        self.config.write_text(f'[listen]\nendpoints = ["unix:{path}", "tcp:{self.port}:interface=127.0.0.1"]\n')
        with self.gateway() as gateway:
            gateway.until("Serving at")
            self.assertEqual(self.ask("GET", "/health")[0], 200)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /debug/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertIn(b"401 Unauthorized", client.recv(65536))
            self.assertEqual(gateway.end(signal.SIGTERM)[0], 0)

    def test_termLetsAnswersFinish(self) -> None:
        """SIGTERM: nobody new is let in, what runs is finished to its last byte, and the status is 0."""
        with self.simulator("--tokens-per-second", "40"), self.gateway() as gateway:
            gateway.until("Serving at")
            answer = self.stream()
            gateway.process.send_signal(signal.SIGTERM)
            self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))
            self.assertEqual(gateway.end(), (0, ""))
            self.assertRaises(ConnectionRefusedError, self.ask, "GET", "/health")

    def test_drainHasAnEnd(self) -> None:
        """What still runs when the drain's time is over is cut off, and the status is 0 all the same."""
        self.config.write_text('[limits]\ndrainTimeout = "200ms"\n')
        with self.simulator("--tokens-per-second", "1"), self.gateway() as gateway:
            gateway.until("Serving at")
            answer = self.stream()
            gateway.process.send_signal(signal.SIGTERM)
            self.assertRaises((http.client.IncompleteRead, ConnectionError), answer.read)
            self.assertEqual(gateway.end()[0], 0)

    def test_secondTermHurries(self) -> None:
        """A second SIGTERM ends at once what the first one would have let finish, with 0 all the same."""
        with self.simulator("--tokens-per-second", "1"), self.gateway() as gateway:
            gateway.until("Serving at")
            answer = self.stream()
            gateway.process.send_signal(signal.SIGTERM)
            while self.isListening():
                pass
            gateway.process.send_signal(signal.SIGTERM)
            self.assertRaises((http.client.IncompleteRead, ConnectionError), answer.read)
            self.assertEqual(gateway.end()[0], 0)

    def isListening(self) -> bool:
        """Whether the gateway takes connections."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def test_manager(self) -> None:
        """A service manager is told when the gateway serves, reads its configuration again, lives, and is about to end."""
        path = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.settimeout(SECONDS)
            with self.gateway(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="200000") as gateway:
                told = [manager.recv(4096) for _ in range(3)]
                self.assertEqual(self.ask("GET", "/health")[0], 200)
                self.assertEqual(told, [b"READY=1\nSTATUS=Serving.", b"WATCHDOG=1", b"WATCHDOG=1"])
                gateway.process.send_signal(signal.SIGHUP)
                self.assertTrue(self.next(manager).startswith(b"RELOADING=1\nMONOTONIC_USEC="))
                self.assertTrue(self.next(manager).startswith(b"READY=1\n"))
                gateway.process.send_signal(signal.SIGTERM)
                self.assertTrue(self.next(manager).startswith(b"STOPPING=1\n"))
                self.assertEqual(gateway.end()[0], 0)

    def next(self, manager: socket.socket) -> bytes:
        """What a manager is told next, besides signs of life."""
        while (told := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        return told

    def test_reloadCommand(self) -> None:
        """``lmgateway reload`` finds the gateway by its settings, tells what has changed, and fails where something is bad."""
        command = ["-c", LMGATEWAY, "reload", "--config", str(self.config)]
        place = {"GATEWAY_PORT": str(self.port), "GATEWAY_API_KEY": KEY, "LMGATEWAY_URL": "", "LMGATEWAY_KEY": ""}
        with self.gateway() as gateway:
            gateway.until("Serving at")
            self.config.write_text("[limits]\nmaxFields = 50\n")
            with Running(*command, environ=place) as asking:
                self.assertEqual(asking.end(), (0, ""))
            self.assertEqual("".join(asking.lines), "The configuration was read again. Changed: limits.maxFields.")
            self.config.write_text("nothing = 1\n")
            place["LMGATEWAY_URL"] = f"http://127.0.0.1:{self.port}"
            command[3:] = []
            with Running(*command, environ=place) as asking:
                status, said = asking.end()
            self.assertEqual((status, "nothing is unknown" in said, str(self.folder) in said), (1, True, False), said)
            self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_root(self) -> None:
        """Whoever starts it as root is told what to do instead, and nobody else is."""
        with self.gateway() as gateway:
            gateway.until("Serving at")
            if os.geteuid() == 0:
                self.assertIn("--uid", gateway.until("runs as root"))
            gateway.end(signal.SIGTERM)
        self.assertEqual(any("runs as root" in line for line in gateway.lines), os.geteuid() == 0)

    def test_hangUpReadsAgain(self) -> None:
        """SIGHUP: other settings count from then on, and what runs goes on; a bad file is told, and changes nothing."""
        with self.simulator("--tokens-per-second", "40"), self.gateway(GATEWAY_API_KEY="") as gateway:
            gateway.until("Serving at")
            self.assertEqual(self.ask("GET", "/v1/models", key=None)[0], 200)
            answer = self.stream()
            self.config.write_text('[access]\napiKey = "another-key"\n')
            gateway.process.send_signal(signal.SIGHUP)
            gateway.until("was read again")
            self.assertEqual(self.ask("GET", "/v1/models", key=None)[0], 401)
            self.assertEqual(self.ask("GET", "/v1/models", key="another-key")[0], 200)
            self.config.write_text("[access]\nnothing = 1\n")
            gateway.process.send_signal(signal.SIGHUP)
            self.assertIn("access.nothing", gateway.until("was not read again"))
            self.assertEqual(self.ask("GET", "/v1/models", key="another-key")[0], 200)
            self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))
            self.assertEqual(gateway.end(signal.SIGTERM)[0], 0)

    def test_killLosesNothingConfirmed(self) -> None:
        """Kill -9 right after an answer: the next start has what it confirmed."""
        for number in range(3):
            with self.gateway() as gateway:
                gateway.until("Serving at")
                self.assertEqual(self.ask("POST", "/admin/models/activate", {"modelKey": f"model-{number}"})[0], 200)
                gateway.end(signal.SIGKILL)
            with self.gateway() as gateway:
                gateway.until("Serving at")
                self.assertEqual(self.ask("GET", "/debug/status")[1]["activeModel"]["modelKey"], f"model-{number}")
                gateway.end(signal.SIGKILL)

    def test_generatedKey(self) -> None:
        """Beyond loopback a key is made, shown once, kept as a digest, and asked for from then on."""
        environ = {
            "GATEWAY_API_KEY": "",
            "GATEWAY_HOST": "0.0.0.0",
            "GATEWAY_TLS": "off",
            "GATEWAY_ALLOW_PLAIN": "true",
        }
        with self.simulator(), self.gateway(**environ) as gateway:
            key = gateway.until("lmg_").split()[-1]
            gateway.until("Serving at")
            self.assertEqual(self.ask("GET", "/v1/models", key=key)[0], 200)
            self.assertEqual(self.ask("GET", "/v1/models", key=None)[0], 401)
            gateway.end(signal.SIGTERM)
            self.assertNotIn(key, "".join(gateway.lines[1:]))
            for file in (self.folder / "state").iterdir():
                self.assertNotIn(key.encode(), file.read_bytes())
            with self.gateway(**environ) as again:
                again.until("Serving at")
                self.assertEqual(self.ask("GET", "/v1/models", key=key)[0], 200)
                again.end(signal.SIGTERM)
                self.assertNotIn("lmg_", "".join(again.lines))

    def refused(self, gateway: Running) -> str:
        """Give the one line that a refused start says."""
        status, said = gateway.end()
        self.assertEqual((status, said.count("\n"), "Traceback" in said), (1, 1, False), said)
        return said

    def test_damagedState(self) -> None:
        """A damaged state file stops the start, with one line, and is left as it is."""
        file = self.folder / "state" / "state.sqlite3"
        file.parent.mkdir()
        file.write_bytes(b"no database at all" * 100)
        with self.gateway() as gateway:
            self.assertIn("state", self.refused(gateway))
        self.assertEqual(file.read_bytes(), b"no database at all" * 100)

    def test_secondInstance(self) -> None:
        """Two gateways do not share a state folder, nor a port; the second one says so, and the first one goes on."""
        with self.gateway() as first:
            first.until("Serving at")
            with self.gateway(GATEWAY_PORT=str(freePort())) as second:
                said = self.refused(second)
                self.assertIn(f"Another gateway is using the state folder {self.folder / 'state'} (process ", said)
                self.assertIn(str(first.process.pid), said)
            with self.gateway(GATEWAY_STATE_DIR=str(self.folder / "other")) as second:
                self.assertIn(str(self.port), self.refused(second))
            self.assertEqual(self.ask("POST", "/admin/models/activate", {"modelKey": "still-here"})[0], 200)
            self.assertEqual(first.end(signal.SIGTERM)[0], 0)

    def test_keysKilled(self) -> None:
        """
        What was confirmed of keys before a kill -9 is so after it: one that was made is good, a revoked one is not, nor is
        the old secret of one that was rotated without grace. Only their owner can read the files, whatever the umask, and
        no file holds a key.
        """
        self.addCleanup(os.umask, os.umask(0))
        good, bad = "", []
        for number in range(KEY_ROUNDS):
            with self.gateway() as gateway:
                gateway.until("Serving at")
                self.assertEqual([self.ask("GET", "/debug/status", key=each)[0] for each in bad], [401] * len(bad))
                stays = self.kept(good)
                gone = self.ask("POST", "/admin/keys", {"name": f"key {number}", "scopes": ["monitor"]})[1]
                self.assertEqual(self.ask("GET", "/debug/status", key=gone["key"])[0], 200)
                self.assertEqual(self.ask("DELETE", f"/admin/keys/{gone['id']}")[0], 200)
                gateway.end(signal.SIGKILL)
            bad += [gone["key"], *([good] if good else [])]
            good = stays
            for file in (self.folder / "state").iterdir():
                self.assertEqual(S_IMODE(file.stat().st_mode), 0o600, file.name)
                data = file.read_bytes()
                self.assertEqual([secret for secret in (*bad, good, KEY) if secret.encode() in data], [])

    def kept(self, good: str) -> str:
        """Make the key that stays, or else see that it is good, and rotate it."""
        if not good:
            made = self.ask("POST", "/admin/keys", {"name": "stays", "scopes": ["monitor"]})[1]
            return str(made["key"])
        self.assertEqual(self.ask("GET", "/debug/status", key=good)[0], 200)
        (stored,) = [key for key in self.ask("GET", "/admin/keys")[1]["keys"] if key["name"] == "stays"]
        return str(self.ask("POST", f"/admin/keys/{stored['id']}/rotate", {"graceSeconds": 0})[1]["key"])
