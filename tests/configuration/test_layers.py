"""The layers: what each accepts, and that each refusal is one line that names place, key, value and what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.layers import Layer, environmentFileLayer, environmentLayer, fileLayer, optionLayer
from lmgateway.configuration.spec import Spec
from lmgateway.configuration.table import SPECS
from lmgateway.configuration.units import SettingsError
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.tomltext import TEXTS, TOML_VALUES, toml

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "upstream.baseUrl": ("http://host/v1", 5),
    "upstream.apiToken": ("two words", 5),
    "upstream.transport": ("pigeon",),
    "upstream.connectTimeout": ("99ms", "301s", 5),
    "upstream.caFile": ("missing.pem",),
    "upstream.timeout": ("25h", "x"),
    "upstream.streamTimeout": ("25h", "x"),
    "upstream.management": ("lms",),
    "upstream.strictModels": ("yes", 1),
    "upstream.logDirectory": ("a\0b", 5),
    "upstream.followLogs": ("yes", 1),
    "upstream.logBodies": ("yes", 1),
    "listen.host": ("example.org",),
    "listen.port": (-1, 65536, 80.5, True),
    "listen.endpoints": (["tcp:x"], "tcp:1"),
    "listen.tls": ("maybe", True),
    "listen.allowPlain": ("yes", 1),
    "tls.certificate": ("missing.pem",),
    "tls.key": ("a\0b", 5),
    "tls.names": (["two words"], "gateway.lan"),
    "tls.clientCa": ("missing.pem",),
    "tls.clientCertificates": ("perhaps",),
    "tls.hsts": ("59m", 5),
    "access.apiKey": ("1234567", "x" * 1025),
    "access.allow": (["10.0.0.0/33"], [], "*"),
    "access.requireAuthForHealth": ("yes", 1),
    "access.requireKey": ("never",),
    "access.keyless": (["*"], ["10.0.0.1/8"], "10.0.0.1"),
    "access.keylessRequestsPerMinute": (-1, 1_000_001),
    "access.keylessParallel": (-1, 10_001),
    "access.hosts": (["a:80"], ["-a"], ["a..b"], [""], ["x" * 254]),
    "cors.origins": (["*"], ["null"], ["https://a/b"], ["ftp://a"]),
    "cors.privateNetwork": ("yes", 1),
    "limits.maxBody": (1023, "5GB"),
    "limits.maxHead": (1023, "2MB"),
    "limits.maxFields": (7, 1001),
    "limits.maxTarget": (255, "65KB"),
    "limits.headTimeout": ("99ms", "11m", 10),
    "limits.bodyGrace": ("99ms", "11m"),
    "limits.bodyRate": (0, "2GB"),
    "limits.idleTimeout": ("99ms", "61m"),
    "limits.writeStallTimeout": ("99ms", "61m"),
    "limits.drainTimeout": ("99ms", "61m"),
    "limits.handshakeTimeout": ("99ms", "11m"),
    "limits.requestsPerMinutePerAddress": (-1, 1_000_001),
    "limits.maxConnections": (15, 1_000_001),
    "limits.maxConnectionsPerAddress": (0, 1_000_001),
    "limits.maxUnauthenticatedPerAddress": (0, 1_000_001),
    "log.level": ("trace",),
    "log.file": ("a\0b", 5),
    "log.rotateSize": ("63KB", "5GB"),
    "log.keep": (0, 1001),
    "log.format": ("xml",),
    "debug.journalSize": ("63KB", "2GB"),
    "debug.maxSubscribers": (0, 100_001),
    "debug.maxSubscribersPerKey": (0, 100_001),
    "debug.askForUsage": ("no",),
    "debug.capture": ([""], ["x" * 101], ["a\nb"], "alice"),
    "debug.captureSize": ("1023B", "17MB"),
    "dashboard.enabled": ("yes", 1),
    "dashboard.sessionTimeout": ("59s", "9h", 60),
    "state.directory": ("a\0b", 5),
    "aliases": ({"a": 5}, {"a": ""}, {"a": {}}, {"a": {"model": "b", "more": 1}}, {"a": "b", "b": "c"}, {"a": "a"}, 5),
    "models": ({"a": 5}, {"a": {"defaultInference": {"topP": 2}}}, {"a": {"loadConfig": {"contextLength": 0}}}, 5),
}
"""For each setting, values just outside what is allowed, or of another type."""


class Folders(SynchronousTestCase):
    """With a folder for files."""

    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def write(self, content: str | bytes, name: str = "lmgateway.toml") -> str:
        """Write a file; return its name, which starts from ``self.folder``."""
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def readFile(self, content: str | bytes) -> Layer:
        """Read a TOML file of this content."""
        return fileLayer(self.write(content), str(self.folder))

    def refusal(self, read: Callable[..., Layer], *args: Any) -> str:
        """The one line with which something is refused."""
        message = str(self.assertRaises(SettingsError, read, *args))
        self.assertEqual(len(message.splitlines()), 1)
        self.assertTrue(message.isprintable())
        return message


class FileTests(Folders):
    def test_values(self) -> None:
        """Each value is read, and remembers the file."""
        layer = self.readFile('[listen]\nport = 9000\n[limits]\nheadTimeout = "500ms"\nmaxBody = 2048\n')
        self.assertEqual(
            {key: (entry.value, entry.origin) for key, entry in layer.items()},
            {
                "listen.port": (9000, "file lmgateway.toml"),
                "limits.headTimeout": (0.5, "file lmgateway.toml"),
                "limits.maxBody": (2048, "file lmgateway.toml"),
            },
        )

    def test_everyRange(self) -> None:
        """Of every setting, what is not allowed is refused naming the file, the key and what is allowed."""
        self.assertEqual(list(REFUSED), [spec.key for spec in SPECS])
        for spec in SPECS:
            for value in REFUSED[spec.key]:
                message = self.refusal(self.readFile, f"{spec.key} = {toml(value)}\n")
                self.assertTrue(message.startswith(f"file lmgateway.toml: {spec.key} = "), message)
                self.assertIn("must be ", message)
                if isinstance(value, int) and not spec.kind.secret:
                    self.assertIn(f" = {toml(value)}: ", message)

    def test_defaults(self) -> None:
        """Every default, written into a file, is read as what it was."""
        values = {"listen.host": "::", "listen.port": 1, "listen.endpoints": ()}
        for spec in SPECS:
            default = spec.defaultFor(values)
            if default is not None:
                layer = self.readFile(f"{spec.key} = {toml(spec.kind.format(default))}\n")
                self.assertEqual(layer[spec.key].value, default)

    def test_empty(self) -> None:
        """An empty file gives nothing, and neither does an empty string."""
        self.assertEqual(self.readFile(""), {})
        self.assertEqual(self.readFile('[access]\napiKey = ""\napiKeyFile = ""\n[upstream]\nbaseUrl = ""'), {})

    def test_unknown(self) -> None:
        """An unknown table or key is refused with the one that was probably meant, or with all that are known."""
        for content, wanted in (
            ("[upstrem]\n", "upstrem is unknown; did you mean upstream?"),
            ('[upstream]\nbase_url = "x"', "upstream.base_url is unknown; did you mean baseUrl?"),
            ("[limits]\nMAXBODY = 1", "limits.MAXBODY is unknown; did you mean maxBody?"),
            ("port = 1", "port is unknown; did you mean listen.port?"),
            ('[access]\napikeyfile = "x"', "access.apikeyfile is unknown; did you mean apiKeyFile?"),
            ("[log]\nzzz = 1", "log.zzz is unknown; known here: level, file, rotateSize, keep, format"),
            ('"listen.port" = 1', "listen.port is unknown; did you mean listen?"),
            ("listen = 5", "listen must be a table, such as [listen]"),
            ("[[listen]]\nport = 1", "listen must be a table, such as [listen]"),
        ):
            self.assertEqual(self.refusal(self.readFile, content), f"file lmgateway.toml: {wanted}")

    def test_unreadable(self) -> None:
        """A file that is missing, a folder, no text, no TOML or absurd is refused with the reason."""
        folder = str(self.folder)
        self.assertIn("No such file", self.refusal(fileLayer, "missing.toml", folder))
        self.assertIn("cannot be read", self.refusal(fileLayer, ".", folder))
        self.assertIn("no possible name", self.refusal(fileLayer, "a\0b", folder))
        for content, wanted in (
            (b"\xff", "not text in UTF-8"),
            ("port 1", "line 1"),
            ("a = " + "[" * 100_000, "nested too deeply"),
            ("a = " + "1" * 5000, "not TOML"),
            ("[listen]\nport = 0x" + "f" * 5000, "too long to show"),
        ):
            self.assertIn(wanted, self.refusal(self.readFile, content))

    def test_paths(self) -> None:
        """A relative path in the file starts from the file's own folder."""
        (self.folder / "sub").mkdir()
        self.write('[log]\nfile = "access.log"\n', "sub/lmgateway.toml")
        layer = fileLayer("sub/lmgateway.toml", str(self.folder))
        self.assertEqual(layer["log.file"].value, str(self.folder / "sub" / "access.log"))

    @given(TOML_VALUES, st.sampled_from(SPECS))
    def test_anyValue(self, value: Any, spec: Spec) -> None:
        """Any TOML value of any key is accepted, or refused in one printable line that names the file and the key."""
        content = f"{spec.key} = {toml(value)}\n"
        tomllib.loads(content)
        try:
            layer = self.readFile(content)
        except SettingsError:
            message = self.refusal(self.readFile, content)
            self.assertTrue(message.startswith(f"file lmgateway.toml: {spec.key}"), message)
        else:
            self.assertEqual(list(layer), [] if value == "" else [spec.key])

    @given(st.dictionaries(TEXTS, TOML_VALUES, min_size=1))
    def test_anyTable(self, tables: dict[str, Any]) -> None:
        """Any table of anything is accepted, or refused in one printable line that names the file."""
        content = "\n".join(f"{toml(name)} = {toml(value)}" for name, value in tables.items())
        message = self.refusal(self.readFile, content)
        self.assertTrue(message.startswith("file lmgateway.toml: "), message)

    @given(st.binary() | st.text().map(str.encode))
    def test_anyBytes(self, content: bytes) -> None:
        """A file of any bytes is accepted, or refused in one printable line."""
        try:
            self.readFile(content)
        except SettingsError:
            self.refusal(self.readFile, content)


class SecretFileTests(Folders):
    def test_lineEnd(self) -> None:
        """The one line end that editors add is not part of the secret."""
        for ending in ("", "\n", "\r\n"):
            self.write(f"sesame-open{ending}", "key")
            layer = self.readFile('[access]\napiKeyFile = "key"\n')
            self.assertEqual(layer["access.apiKey"].value, "sesame-open")

    def test_refused(self) -> None:
        """A file that is missing, no text or not a secret is refused naming the key, and not what is in it."""
        self.write("sesame-open\n\n", "two")
        self.write(b"\xff\xfe", "binary")
        for value, wanted in (
            ('"missing"', "cannot be read (No such file or directory)"),
            ('"."', "cannot be read"),
            ('"two"', "must be 8 to 1024 visible ASCII characters"),
            ('"binary"', "holds no text"),
            (r'"a\u0000b"', "no possible name"),
            ("5", "must be the name of the file"),
        ):
            message = self.refusal(self.readFile, f"[access]\napiKeyFile = {value}\n")
            self.assertTrue(message.startswith("file lmgateway.toml: access.apiKeyFile = ("), message)
            self.assertIn(wanted, message)
            self.assertNotIn("sesame", message)

    def test_both(self) -> None:
        """A secret that is given twice in one file, itself and by its file, is refused."""
        self.write("sesame-open", "key")
        message = self.refusal(self.readFile, '[access]\napiKey = "sesame-shut"\napiKeyFile = "key"\n')
        self.assertIn("access.apiKey and access.apiKeyFile are both given", message)

    def test_endless(self) -> None:
        """A file without end is not read to its end."""
        self.assertIn("must be", self.refusal(self.readFile, '[access]\napiKeyFile = "/dev/zero"\n'))


class EnvironmentTests(Folders):
    def test_values(self) -> None:
        """Each variable is read, and remembers its name; other variables do not matter."""
        layer = environmentLayer({"GATEWAY_PORT": " 9000 ", "PROXY_TIMEOUT": "2500", "PATH": "/bin"}, "/")
        self.assertEqual(
            {key: (entry.value, entry.origin) for key, entry in layer.items()},
            {
                "listen.port": (9000, "variable GATEWAY_PORT"),
                "upstream.timeout": (2.5, "variable PROXY_TIMEOUT"),
            },
        )

    def test_empty(self) -> None:
        """An empty variable counts as not set, and so does one of spaces, unless it is a secret."""
        self.assertEqual(environmentLayer({spec.variable: "" for spec in SPECS if spec.variable}, "/"), {})
        self.assertEqual(environmentLayer({"GATEWAY_PORT": "  "}, "/"), {})
        self.assertIn("access.apiKey", self.refusal(environmentLayer, {"GATEWAY_API_KEY": " " * 9}, "/"))

    def test_refused(self) -> None:
        """A bad value is refused naming the variable, the key, the value and what is allowed."""
        self.assertEqual(
            self.refusal(environmentLayer, {"GATEWAY_PORT": "99999"}, "/"),
            'variable GATEWAY_PORT: listen.port = "99999": must be a whole number from 0 to 65535',
        )
        message = self.refusal(environmentLayer, {"IP_ALLOWLIST": "10.0.0.0/8,10.0.0.1/8"}, "/")
        self.assertIn('"10.0.0.1/8" must be an IPv4 or IPv6 address, a CIDR such as', message)

    def test_paths(self) -> None:
        """A relative path in a variable starts from the folder given."""
        layer = environmentLayer({"GATEWAY_STATE_DIR": "state"}, "/base")
        self.assertEqual(layer["state.directory"].value, "/base/state")

    @given(st.sampled_from([spec for spec in SPECS if spec.variable]), st.text(st.characters(exclude_categories=())))
    def test_any(self, spec: Spec, text: str) -> None:
        """Any text in any variable is accepted, or refused in one printable line that names the variable and the key."""
        try:
            environmentLayer({spec.variable or "": text}, "/")
        except SettingsError as error:
            message = str(error)
            self.assertTrue(message.startswith(f"variable {spec.variable}: {spec.key} = "), message)
            self.assertTrue(message.isprintable())


class EnvironmentFileTests(Folders):
    def read(self, content: str | bytes) -> Layer:
        """Read an .env file of this content."""
        return environmentFileLayer(self.write(content, ".env"), str(self.folder))

    def test_values(self) -> None:
        """Variables are read with or without quotes and export, nothing in them is expanded, and the last one counts."""
        layer = self.read(
            "# comment\nGATEWAY_PORT=1\nexport GATEWAY_PORT='9000'\nGATEWAY_API_KEY=${HOME}$HOME\nOTHER=1\n"
        )
        self.assertEqual(
            {key: (entry.value, entry.origin) for key, entry in layer.items()},
            {
                "listen.port": (9000, "variable GATEWAY_PORT in .env"),
                "access.apiKey": ("${HOME}$HOME", "variable GATEWAY_API_KEY in .env"),
            },
        )

    def test_lastEmpty(self) -> None:
        """A variable that is emptied further down counts as not set."""
        self.assertEqual(self.read("GATEWAY_PORT=1\nGATEWAY_PORT=\nLOG_LEVEL\n"), {})

    def test_refused(self) -> None:
        """A bad value is refused naming the variable and the file."""
        self.assertEqual(
            self.refusal(self.read, "LOG_LEVEL=loud"),
            'variable LOG_LEVEL in .env: log.level = "loud": must be error, warn, info or debug',
        )

    def test_badLine(self) -> None:
        """A line that is no assignment is refused with its number, not with what it says."""
        message = self.refusal(self.read, "GATEWAY_PORT=1\n\n\nGATEWAY_API_KEY 'sesame-open'\n")
        self.assertEqual(message, "file .env: line 4 is not of the form NAME=value")

    def test_unreadable(self) -> None:
        """A file that is missing or no text is refused."""
        self.assertIn("No such file", self.refusal(environmentFileLayer, "missing.env", str(self.folder)))
        self.assertIn("not text", self.refusal(self.read, b"\xff"))

    @given(st.binary() | st.text().map(str.encode))
    def test_anyBytes(self, content: bytes) -> None:
        """A file of any bytes is accepted, or refused in one printable line."""
        try:
            self.read(content)
        except SettingsError:
            self.refusal(self.read, content)


class OptionTests(Folders):
    def test_values(self) -> None:
        """Each option is read and remembers its name; what is no setting, or was not given, does not matter."""
        layer = optionLayer({"port": "9000", "host": None, "config": "x", "log-level": ""}, "/")
        self.assertEqual(
            {key: (entry.value, entry.origin) for key, entry in layer.items()},
            {"listen.port": (9000, "option --port")},
        )

    def test_repeated(self) -> None:
        """What may be given several times adds up."""
        layer = optionLayer({"listen": ("tcp:1", "unix:/a,b"), "allow": ["::1", "10.0.0.0/8,127.0.0.1"]}, "/")
        self.assertEqual(layer["listen.endpoints"].value, ("tcp:1", "unix:/a,b"))
        self.assertEqual(layer["access.allow"].value, ("::1", "10.0.0.0/8", "127.0.0.1"))

    def test_secret(self) -> None:
        """The option of a secret names the file that holds it, and a key given instead is not shown."""
        self.write("sesame-open\n", "key")
        layer = optionLayer({"api-key-file": "key"}, str(self.folder))
        self.assertEqual(
            (layer["access.apiKey"].value, layer["access.apiKey"].origin), ("sesame-open", "option --api-key-file")
        )
        message = self.refusal(optionLayer, {"api-key-file": "sesame-shut"}, str(self.folder))
        self.assertNotIn("sesame", message)
        self.assertIn("option --api-key-file: access.apiKey = (11 characters, not shown): the file", message)

    def test_refused(self) -> None:
        """A bad value is refused naming the option, the key, the value and what is allowed."""
        self.assertEqual(
            self.refusal(optionLayer, {"port": "99999"}, "/"),
            'option --port: listen.port = "99999": must be a whole number from 0 to 65535',
        )
        message = self.refusal(optionLayer, {"listen": ["tcp:1", "tcp:x"]}, "/")
        self.assertTrue(
            message.startswith('option --listen: listen.endpoints = ["tcp:1", "tcp:x"]: "tcp:x" must'), message
        )

    def test_bareDuration(self) -> None:
        """An option's duration needs its unit, though the variable is in milliseconds."""
        self.assertIn("with its unit", self.refusal(optionLayer, {"proxy-timeout": "30"}, "/"))

    @given(st.sampled_from([spec for spec in SPECS if spec.option]), st.lists(st.text(), min_size=1))
    def test_any(self, spec: Spec, texts: list[str]) -> None:
        """Any text for any option is accepted, or refused in one printable line that names the option and the key."""
        try:
            optionLayer({spec.option or "": texts}, str(self.folder))
        except SettingsError as error:
            message = str(error)
            self.assertTrue(message.startswith(f"option --{spec.option}: {spec.key} = "), message)
            self.assertTrue(message.isprintable())
