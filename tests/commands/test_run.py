"""
``lmgateway run``. What it finds, says and adapts is tested in this process; that it serves, and ends as it should, in
processes of its own with a state folder of the test's.
"""

from __future__ import annotations

import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.commands.run import Found, adapt, curlLine, findUpstream, greeting, lanListener, modelOf, run
from lmgateway.configuration.listeners import PRIVATE_RANGES
from lmgateway.gateway import Announcement
from lmgateway.settings import Settings, loadSettings
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

ADDRESS = "http://127.0.0.1:8001"
THERE = Found("http://127.0.0.1:1234", None, "qwen/qwen3-8b")
ABSENT = Found("http://127.0.0.1:1234", "connection refused", None)


def settingsWith(**environ: str) -> Settings:
    """The settings that these variables make."""
    return loadSettings(environ=environ)


class ModelList(BaseHTTPRequestHandler):
    """An upstream that lists two models to whoever has the token."""

    def do_GET(self) -> None:
        """Answer as LM Studio does."""
        granted = self.headers["Authorization"] == "Bearer sk-lm-x"
        body = json.dumps({"data": [{"id": "text-embedding-nomic"}, {"id": "llama"}]} if granted else {"error": "no"})
        self.send_response(200 if granted else 401)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


class FindUpstreamTests(SynchronousTestCase):
    def freePort(self, *, listening: bool) -> int:
        """A port of this test's own, where connections are taken and nothing is said, or refused."""
        taken = socket.create_server(("127.0.0.1", 0)) if listening else socket.socket()
        if not listening:
            taken.bind(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port: int = taken.getsockname()[1]
        return port

    def find(self, port: int, **environ: str) -> Found:
        """Ask at a port, with little patience."""
        settings = settingsWith(LMSTUDIO_BASE_URL=f"http://127.0.0.1:{port}", **environ)
        return findUpstream(settings.upstream, 0.2)

    def test_refused(self) -> None:
        """Where nothing listens, the reason is told."""
        self.assertEqual(self.find(self.freePort(listening=False)).fault, "connection refused")

    def test_silent(self) -> None:
        """What takes the connection and says nothing is there: a busy LM Studio must not be replaced."""
        found = self.find(self.freePort(listening=True))
        self.assertEqual((found.fault, found.model), (None, None))

    def test_lists(self) -> None:
        """The first model that is none for embeddings is found, with LM Studio's token; without it, at least LM Studio."""
        server = HTTPServer(("127.0.0.1", 0), ModelList)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        answers = [self.find(server.server_port, LMSTUDIO_API_TOKEN="sk-lm-x"), self.find(server.server_port)]
        self.assertEqual([(found.fault, found.model) for found in answers], [(None, "llama"), (None, None)])

    def test_oddLists(self) -> None:
        """A list of any other shape names no model."""
        for listing in (b"[]", b"{}", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{"id": 1}]}', b'{"data": []}'):
            self.assertIsNone(modelOf(listing), listing)


class AdaptTests(SynchronousTestCase):
    def test_key(self) -> None:
        """A key is always asked for, whoever can connect."""
        self.assertEqual(adapt(settingsWith(), None).access.requireKey, "always")

    def test_upstream(self) -> None:
        """LM Studio stays the upstream where it answers."""
        settings = settingsWith(LMSTUDIO_API_TOKEN="sk-lm-x")
        self.assertEqual(adapt(settings, None).upstream, settings.upstream)

    def test_standIn(self) -> None:
        """The simulator takes its place otherwise, and is not given LM Studio's token."""
        upstream = adapt(settingsWith(LMSTUDIO_API_TOKEN="sk-lm-x"), "http://127.0.0.1:5").upstream
        self.assertEqual((upstream.baseUrl, upstream.apiToken), ("http://127.0.0.1:5", None))


class LanTests(SynchronousTestCase):
    ADDRESSES = ("192.168.1.7",)

    def test_default(self) -> None:
        """A machine with a LAN serves it at a port of its own, beside loopback, and lets private networks in."""
        settings = settingsWith()
        lan = lanListener(settings, None, self.ADDRESSES)
        adapted = adapt(settings, None, lan)
        self.assertEqual(adapted.listen.endpoints, ("tcp:8001:interface=127.0.0.1", "tcp:8443:interface=0.0.0.0"))
        self.assertEqual(adapted.listen.plainBeyondLoopback, ())
        self.assertEqual(adapted.access.allow, PRIVATE_RANGES)

    def test_ports(self) -> None:
        """The port can be chosen; where that of loopback is any, so is this one."""
        for chosen, port, wanted in ((None, "0", 0), (None, "9000", 8443), (9443, "9000", 9443)):
            lan = lanListener(settingsWith(GATEWAY_PORT=port), chosen, self.ADDRESSES)
            self.assertEqual(lan, f"tcp:{wanted}:interface=0.0.0.0")

    def test_none(self) -> None:
        """Without a LAN, or where the settings say where to listen or that there is to be no TLS, nothing is added."""
        self.assertIsNone(lanListener(settingsWith(), None, ()))
        for environ in ({"GATEWAY_HOST": "127.0.0.1"}, {"GATEWAY_TLS": "off"}):
            self.assertIsNone(lanListener(settingsWith(**environ), None, self.ADDRESSES))
        settings = settingsWith()
        self.assertEqual(adapt(settings, None, None).listen, settings.listen)

    def test_greeting(self) -> None:
        """Both addresses are told, and for the one with TLS what to trust; the line to paste uses the plain one."""
        announcement = Announcement((ADDRESS, "https://192.168.1.7:8443"), None, "AB:CD")
        text = greeting(settingsWith(), announcement, THERE)
        self.assertIn("  address   http://127.0.0.1:8001\n  address   https://192.168.1.7:8443\n", text)
        self.assertIn("https://192.168.1.7:8443/ca.crt", text)
        self.assertIn("SHA-256 AB:CD", text)
        self.assertIn(f"curl {ADDRESS}/v1", text)


class GreetingTests(SynchronousTestCase):
    def test_first(self) -> None:
        """The first time, the key is shown, and stands in the line to paste."""
        text = greeting(settingsWith(), Announcement((ADDRESS,), "lmg_new"), THERE)
        self.assertIn("  address   http://127.0.0.1:8001\n  upstream  LM Studio at http://127.0.0.1:1234\n", text)
        self.assertIn("  key       lmg_new\n", text)
        self.assertIn('-H "Authorization: Bearer lmg_new"', text)
        self.assertIn('"model": "qwen/qwen3-8b"', text)

    def test_later(self) -> None:
        """Later the key is not known any more: the line takes it from a variable, and says so."""
        text = greeting(settingsWith(), Announcement((ADDRESS,), None), THERE)
        self.assertIn("Lost it? Choose one: GATEWAY_API_KEY=... make run", text)
        self.assertIn('-H "Authorization: Bearer $GATEWAY_API_KEY"', text)
        self.assertIn("(GATEWAY_API_KEY must hold the key in the shell that you paste this into.)", text)

    def test_configured(self) -> None:
        """A key of the user's own is never printed, only where it came from."""
        text = greeting(settingsWith(GATEWAY_API_KEY="canary-of-mine"), Announcement((ADDRESS,), None), THERE)
        self.assertIn("  key       yours, from variable GATEWAY_API_KEY\n", text)
        self.assertNotIn("canary", text)

    def test_simulator(self) -> None:
        """That answers are made up is said, with the reason and with what to do about it."""
        settings = adapt(settingsWith(), "http://127.0.0.1:5")
        text = greeting(settings, Announcement((ADDRESS,), None), ABSENT)
        self.assertIn("the built-in simulator at http://127.0.0.1:5: its answers mean nothing.", text)
        self.assertIn("LM Studio does not answer at http://127.0.0.1:1234 (connection refused).", text)
        self.assertIn("Is its server started?", text)

    def test_socketOnly(self) -> None:
        """A gateway without a URL is told by its endpoints, and has no line to paste."""
        settings = loadSettings(options={"listen": ["unix:/run/lmgateway.sock"]})
        text = greeting(settings, Announcement((), None), THERE)
        self.assertIn("  address   unix:/run/lmgateway.sock\n", text)
        self.assertNotIn("curl", text)

    def test_dashboard(self) -> None:
        """Where the dashboard is, is told, if there is one."""
        told = f"  look      {ADDRESS}/dashboard shows what happens; sign in with a key.\n"
        here = Announcement((ADDRESS,), None)
        self.assertIn(told, greeting(settingsWith(), here, THERE))
        settings = settingsWith()
        without = replace(settings, dashboard=replace(settings.dashboard, enabled=False))
        self.assertNotIn("/dashboard", greeting(without, here, THERE))

    @given(st.text())
    def test_pastes(self, model: str) -> None:
        """Whatever a model is called, the shell hands its name to curl unharmed."""
        words = shlex.split(curlLine(ADDRESS, "lmg_x", model))
        self.assertEqual(words[:2], ["curl", "http://127.0.0.1:8001/v1/chat/completions"])
        self.assertEqual(json.loads(words[-1])["model"], model)

    def test_noModel(self) -> None:
        """Where no model is known, the line asks for them."""
        self.assertEqual(curlLine(ADDRESS, "lmg_x", None), f'curl {ADDRESS}/v1/models -H "Authorization: Bearer lmg_x"')


class CommandTests(SynchronousTestCase):
    def test_help(self) -> None:
        """The help lists the options that it shares with twistd."""
        result = CliRunner().invoke(run, ["--help"])
        self.assertEqual(result.exit_code, 0)
        self.assertIn("--lmstudio-base-url", result.output)

    def test_unknownOption(self) -> None:
        """An unknown option stops the start."""
        result = CliRunner().invoke(run, ["--prot", "1"])
        self.assertEqual((result.exit_code, result.output), (1, "Error: option --prot not recognized\n"))

    def test_badSetting(self) -> None:
        """A setting that is not allowed stops the start, in one line."""
        result = CliRunner().invoke(run, ["--port", "1e9"])
        self.assertEqual((result.exit_code, result.output.count("\n")), (1, 1))
        self.assertIn("--port", result.output)


class ProcessTests(SynchronousTestCase):
    """Real processes, because ports, signals and exits are the point."""

    def setUp(self) -> None:
        self.state = temporaryFolder(self) / "state"
        self.nobody = socket.socket()
        self.nobody.bind(("127.0.0.1", 0))
        self.addCleanup(self.nobody.close)

    def start(self, port: int = 0) -> subprocess.Popen[str]:
        """Start a gateway that finds no LM Studio. It is killed if the test leaves it behind."""
        process = subprocess.Popen(
            [sys.executable, "-c", "from lmgateway.cli import main; main()", "run", "--local"],
            env={
                "LMSTUDIO_BASE_URL": f"http://127.0.0.1:{self.nobody.getsockname()[1]}",
                "GATEWAY_STATE_DIR": str(self.state),
                "GATEWAY_PORT": str(port),
                "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def lineToPaste(self, stdout: IO[str] | None) -> list[str]:
        """Read up to the line with curl, and take it apart as a shell does."""
        assert stdout is not None
        for line in stdout:
            if line.startswith("  curl "):
                return shlex.split(line)
        raise AssertionError("it ended without a line to paste")

    def paste(self, words: list[str]) -> tuple[int, str]:
        """Do what curl does with its words."""
        self.assertEqual([words[0], words[2], words[4], words[6]], ["curl", "-H", "-H", "-d"])
        url = urlsplit(words[1])
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        self.addCleanup(connection.close)
        headers = dict(field.split(": ", 1) for field in (words[3], words[5]))
        connection.request("POST", url.path, words[7].encode(), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def test_life(self) -> None:
        """
        The line that is printed works when pasted, and without its key it does not; the key is shown once only, and
        SIGTERM ends the process with 0.
        """
        first = self.start()
        words = self.lineToPaste(first.stdout)
        status, body = self.paste(words)
        self.assertEqual(status, 200, body)
        self.assertTrue(json.loads(body)["choices"][0]["message"]["content"])
        self.assertEqual(self.paste([*words[:3], "Authorization: Bearer wrong", *words[4:]])[0], 401)
        first.send_signal(signal.SIGTERM)
        self.assertEqual((first.communicate()[1], first.returncode), ("", 0))

        second = self.start()
        again = self.lineToPaste(second.stdout)
        self.assertEqual(again[3], "Authorization: Bearer $GATEWAY_API_KEY")
        self.assertEqual(self.paste([again[0], again[1], *words[2:]])[0], 200)
        second.send_signal(signal.SIGINT)
        self.assertEqual((second.communicate()[1], second.returncode), ("", 0))

    def test_portTaken(self) -> None:
        """A port that somebody else has ends it with 1, and with a line that says what to do."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            process = self.start(taken.getsockname()[1])
            _, errors = process.communicate()
        self.assertEqual(process.returncode, 1)
        self.assertRegex(errors, r"^lmgateway: Cannot listen on .*\. .*GATEWAY_PORT.*\n$")
