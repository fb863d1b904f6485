"""Finding a gateway, asking it, and saying in one line what went wrong."""

from __future__ import annotations

import json
import os
import socket
import ssl
from urllib.parse import urlsplit

import click
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.commands.talk import Place, TalkError, asksGateway, findPlace, jsonText, messageOf, readJson, urlOf
from lmgateway.configuration.listeners import describe
from lmgateway.configuration.units import SettingsError
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200
from tests.folders import selfSigned, temporaryFolder
from tests.wire.authority import Authority

CANARY = "canary-key-1234567890"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
"""JSON values."""


def find(*, url: str | None = None, keyFile: str | None = None, caFile: str | None = None, **environ: str) -> Place:
    """The place that options and variables name."""
    return findPlace(url, keyFile, caFile, (None, None), environ)


class FindTests(SynchronousTestCase):
    def keyOf(self, place: Place) -> str | None:
        """The key that a place sends along."""
        return place._key

    def test_usual(self) -> None:
        """Where nothing is said, it is where a gateway listens where nothing is said."""
        place = find()
        self.assertEqual((place.url, self.keyOf(place)), ("http://127.0.0.1:8001", None))

    def test_url(self) -> None:
        """The option decides, then the variable, then the gateway's own settings."""
        variables = {"LMGATEWAY_URL": "https://Gateway.lan/", "GATEWAY_PORT": "9001", "GATEWAY_HOST": "0.0.0.0"}
        self.assertEqual(find(url="http://[::1]:1", **variables).url, "http://[::1]:1")
        self.assertEqual(find(**variables).url, "https://gateway.lan")
        variables["LMGATEWAY_URL"] = ""
        self.assertEqual(find(**variables).url, "https://127.0.0.1:9001")
        self.assertEqual(find(**{**variables, "GATEWAY_HOST": "127.0.0.1"}).url, "http://127.0.0.1:9001")

    def test_plainFirst(self) -> None:
        """Where the gateway listens without TLS for this machine, that is what this machine uses."""
        folder = temporaryFolder(self)
        (folder / "x.toml").write_text('[listen]\nendpoints = ["tcp:8443", "tcp:8001:interface=127.0.0.1"]\n', "ascii")
        self.assertEqual(findPlace(None, None, None, (str(folder / "x.toml"), None), {}).url, "http://127.0.0.1:8001")

    def test_ownAuthority(self) -> None:
        """The gateway of this machine is trusted by its own authority, another one only if a file says so."""
        folder = temporaryFolder(self)
        (folder / "tls").mkdir()
        (folder / "tls" / "ca.crt").write_bytes(selfSigned())
        variables = {"GATEWAY_STATE_DIR": str(folder), "GATEWAY_HOST": "0.0.0.0"}
        self.assertEqual(find(**variables)._caFile, str(folder / "tls" / "ca.crt"))
        self.assertIsNone(find(url="https://gateway.lan", **variables)._caFile)
        self.assertIsNone(find(**{**variables, "GATEWAY_HOST": "127.0.0.1"})._caFile)

    def test_key(self) -> None:
        """The file decides, then the command's own variable, then the gateway's."""
        file = temporaryFolder(self) / "key"
        file.write_text("key-of-the-file\n", encoding="ascii")
        variables = {"LMGATEWAY_KEY": "key-of-mine", "GATEWAY_API_KEY": "key-of-the-gateway"}
        self.assertEqual(self.keyOf(find(keyFile=str(file), **variables)), "key-of-the-file")
        self.assertEqual(self.keyOf(find(**variables)), "key-of-mine")
        self.assertEqual(self.keyOf(find(**{**variables, "LMGATEWAY_KEY": ""})), "key-of-the-gateway")

    def test_files(self) -> None:
        """The gateway's own files are read where they are named."""
        folder = temporaryFolder(self)
        (folder / "x.toml").write_text('[listen]\nport = 9002\n[access]\napiKey = "of-the-toml"\n', encoding="ascii")
        (folder / "x.env").write_text("GATEWAY_API_KEY=of-the-env-file\n", encoding="ascii")
        place = findPlace(None, None, None, (str(folder / "x.toml"), None), {})
        self.assertEqual((place.url, self.keyOf(place)), ("http://127.0.0.1:9002", "of-the-toml"))
        place = findPlace(None, None, None, (str(folder / "x.toml"), str(folder / "x.env")), {})
        self.assertEqual(self.keyOf(place), "of-the-env-file")

    def test_refused(self) -> None:
        """What cannot be is told by its place, and a key is not shown."""
        for said, given_ in (
            ("option --url", {"url": "http://u:canary-pw@host/path"}),
            ("variable LMGATEWAY_URL", {"LMGATEWAY_URL": "ftp://x"}),
            ("variable LMGATEWAY_KEY", {"LMGATEWAY_KEY": "canary with a\nline end"}),
            ("option --api-key-file", {"keyFile": "/nowhere/at/all"}),
            ("option --ca-file", {"caFile": "/nowhere/at/all"}),
            ("variable GATEWAY_PORT", {"GATEWAY_PORT": "x"}),
            ("--url URL, or LMGATEWAY_URL", {"GATEWAY_PORT": "0"}),
        ):
            message = str(self.assertRaises(SettingsError, find, **given_))
            self.assertIn(said, message)
            self.assertNotIn("canary", message)

    def test_command(self) -> None:
        """A command that is given these options is given the place; what is not allowed ends it with 1 and one line."""

        @click.command()
        @click.option("--more")
        @asksGateway
        def command(place: Place, *, more: str | None) -> None:
            """Do something."""
            click.echo(f"{place.url} {more}")

        run = CliRunner(env=NO_SETTINGS).invoke(command, ["--url", "http://x:1", "--more", "y"])
        self.assertEqual((run.exit_code, run.output), (0, "http://x:1 y\n"))
        run = CliRunner(env=NO_SETTINGS).invoke(command, ["--url", "x"])
        self.assertEqual((run.exit_code, run.output.count("\n")), (1, 1))
        run = CliRunner(env=NO_SETTINGS).invoke(command, ["--help"])
        for text in ("--key-file", "--ca-file", "LMGATEWAY_URL", "Do something."):
            self.assertIn(text, run.output)


class UrlTests(SynchronousTestCase):
    def test_listeners(self) -> None:
        """A listener on all addresses is reached by loopback; one without a port that is known has no URL."""
        for description, url in (
            ("tcp:8001", "http://127.0.0.1:8001"),
            ("tcp:8001:interface=0.0.0.0", "http://127.0.0.1:8001"),
            ("tcp6:8001", "http://[::1]:8001"),
            (r"tcp6:8001:interface=\:\:", "http://[::1]:8001"),
            (r"tcp6:port=8001:interface=fd00\:\:5", "http://[fd00::5]:8001"),
            ("ssl:8443:privateKey=x:interface=10.0.0.7", "https://10.0.0.7:8443"),
            ("tls:/etc/certificates:8443", "https://127.0.0.1:8443"),
            ("tls:/etc/certificates", "https://127.0.0.1:443"),
            ("tcp:0", None),
            ("unix:/run/x.sock", None),
            ("onion:80", None),
        ):
            self.assertEqual(urlOf(description), url, description)

    @given(st.ip_addresses(), st.integers(1, 65535))
    def test_anyAddress(self, address: object, port: int) -> None:
        """Every address that the gateway can be told to listen on has a URL, with that port and that host or loopback."""
        url = urlOf(describe(str(address), port))
        assert url is not None
        self.assertEqual(urlsplit(url).port, port)
        self.assertIn(urlsplit(url).hostname, {str(address), "127.0.0.1", "::1"})


class AskTests(SynchronousTestCase):
    def errorOf(self, place: Place, target: str = "/x") -> TalkError:
        """What is wrong; it is one line, and does not show the key."""
        failure: TalkError = self.assertRaises(TalkError, place.askJson, target)
        self.assertTrue(failure.message.isprintable(), failure.message)
        self.assertNotIn("canary", failure.message)
        return failure

    def test_asks(self) -> None:
        """The key goes along, and nothing of it shows in what is kept for people."""
        gateway = LittleGateway(self, {"/x": [json200({"a": 1})]})
        place = Place(gateway.url, CANARY)
        self.assertEqual(place.askJson("/x?y=1"), {"a": 1})
        target, headers = gateway.asked[0]
        self.assertEqual((target, headers["Authorization"]), ("/x?y=1", f"Bearer {CANARY}"))
        Place(gateway.url).askJson("/x")
        self.assertNotIn("Authorization", gateway.asked[1][1])
        self.assertNotIn(CANARY, repr(place))

    def test_nobody(self) -> None:
        """Where nobody listens, that is told, with what to do."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            failure = self.errorOf(Place(f"http://127.0.0.1:{taken.getsockname()[1]}", CANARY))
        self.assertRegex(failure.message, r"Nothing answers at .* \(Connection refused\)\. .*--url")
        self.assertTrue(failure.mayPass)
        for host in ("no-such-host.invalid", "x" * 70):
            self.assertIn("Nothing answers", self.errorOf(Place(f"http://{host}:1")).message)

    def test_refusals(self) -> None:
        """What the gateway refuses is told in its words, and whether it may pass."""
        answers = {
            "/401": [error(401, {"error": "No."})],
            "/403": [error(403, {"error": 'It needs\x1b[2J the scope "admin".'})],
            "/400": [error(400, {"error": "Validation failed", "details": [{"path": ["a", "b"], "message": "Bad."}]})],
            "/429": [error(429, {"error": "Too many."})],
            "/503": [Said(503, (b"<html>",))],
        }
        place = Place(LittleGateway(self, answers).url, CANARY)
        self.assertRegex(self.errorOf(place, "/401").message, "does not know this key.*--key-file FILE.*LMGATEWAY_KEY")
        self.assertIn("asks for a key", self.errorOf(Place(place.url), "/401").message)
        self.assertIn(r'says 403: It needs\x1b[2J the scope "admin".', self.errorOf(place, "/403").message)
        self.assertIn("400: Validation failed: a.b: Bad.", self.errorOf(place, "/400").message)
        self.assertIn("no reason was given", self.errorOf(place, "/503").message)
        self.assertIn("404: There is nothing.", self.errorOf(place, "/404").message)
        passing = [target for target in answers if self.errorOf(place, target).mayPass]
        self.assertEqual(passing, ["/429", "/503"])

    def test_noGateway(self) -> None:
        """What answers something else, breaks off or never ends is no gateway, or none any more."""
        answers = {
            "/text": [Said(pieces=(b"hello",))],
            "/list": [json200([])],
            "/deep": [Said(pieces=(b"[" * 100_000,))],
            "/cut": [Said(pieces=(b'{"a":',), isCut=True)],
            "/long": [json200({"a": "x" * 5000})],
        }
        place = Place(LittleGateway(self, answers).url, CANARY)
        for target in ("/text", "/list", "/deep"):
            self.assertIn("is no lmgateway", self.errorOf(place, target).message)
        self.assertIn("broke off", self.errorOf(place, "/cut").message)
        place.most = 4096
        self.assertIn("more than 4096 bytes", self.errorOf(place, "/long").message)

    def test_post(self) -> None:
        """What is posted arrives as JSON, beside the key, whatever text is in it; and what it brings about is given."""
        gateway = LittleGateway(self, {"/x": [json200({"a": 1}), error(409, {"error": "Not now."})], "/text": [Said()]})
        place = Place(gateway.url, CANARY)
        value = {"modelKey": "é\x1b\udcff", "force": False}
        self.assertEqual(place.post("/x", value), {"a": 1})
        self.assertEqual(gateway.orders(), [("/x", value)])
        headers = gateway.asked[0][1]
        self.assertEqual((headers["Content-Type"], headers["Authorization"]), ("application/json", f"Bearer {CANARY}"))
        self.assertIn("says 409: Not now.", self.assertRaises(TalkError, place.post, "/x", {}).message)
        self.assertIn("is no lmgateway", self.assertRaises(TalkError, place.post, "/text", {}).message)

    def test_noTls(self) -> None:
        """Where no TLS is spoken, that is told, and what the reason may be."""
        url = LittleGateway(self, {}).url.replace("http:", "https:")
        self.assertRegex(self.errorOf(Place(url, CANARY)).message, r"does not speak TLS .* http://")

    def test_tls(self) -> None:
        """Over https the certificate must be one that --ca-file vouches for; without, the key is not sent."""
        folder = temporaryFolder(self)
        authority = Authority()
        (folder / "ca.pem").write_bytes(authority.pem)
        (folder / "other.pem").write_bytes(selfSigned())
        gateway = LittleGateway(self, {"/x": [json200({"a": 1})]}, self.contextOf(authority))
        self.assertEqual(Place(gateway.url, CANARY, str(folder / "ca.pem")).askJson("/x"), {"a": 1})
        for caFile in (None, str(folder / "other.pem")):
            failure = self.errorOf(Place(gateway.url, CANARY, caFile))
            self.assertRegex(failure.message, r"certificate of .* is not trusted \(.*\).*--ca-file")
            self.assertFalse(failure.mayPass)
        self.assertEqual(len(gateway.asked), 1)
        self.assertIn("https://", self.errorOf(Place(gateway.url.replace("https:", "http:"))).message)

    def contextOf(self, authority: Authority) -> ssl.SSLContext:
        """What a server needs that the authority vouches for."""
        options = authority.serve("127.0.0.1")
        pem = temporaryFolder(self) / "server.pem"
        key = options.privateKey.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(key + options.certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.fspath(pem))
        return context


class TextTests(SynchronousTestCase):
    def test_details(self) -> None:
        """An error is told with its faults by their places, and with what stands in the way, by all that is known of it."""
        fault = {"path": ["defaultInference", "topP"], "message": "Must be a number."}
        running = {"requestId": "req_1", "model": "qwen"}
        for said, message in (
            ({"error": "Wrong", "details": [fault]}, "Wrong: defaultInference.topP: Must be a number."),
            ({"error": "It answers", "details": [running]}, "It answers: (requestId req_1, model qwen)"),
            ({"status": "not_found", "message": "Not loaded."}, "Not loaded."),
            ({"error": "No.", "message": "Yes."}, "No."),
        ):
            self.assertEqual(messageOf(json.dumps(said).encode()), message)

    @given(st.binary() | VALUES.map(lambda value: json.dumps({"error": value, "details": [value]}).encode()))
    def test_anyError(self, body: bytes) -> None:
        """Whatever the body of an error is, it says something, and shows as one line without controls."""
        message = TalkError(messageOf(body)).message
        self.assertTrue(message.isprintable())

    @given(VALUES)
    def test_json(self, value: object) -> None:
        """JSON that is shown is printable ASCII, and means what was read."""
        text = jsonText({"x": value, "y": "\x7f\x9b"})
        self.assertTrue(text.isascii() and text.isprintable())
        self.assertEqual(readJson(text), {"x": value, "y": "\x7f\x9b"})
