"""Settings: each layer over the one before, defaults, and secrets that never show."""

from __future__ import annotations

import io
import operator
import os
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.listeners import PRIVATE_RANGES
from lmgateway.configuration.spec import Spec
from lmgateway.configuration.table import SPECS
from lmgateway.settings import Section, Settings, SettingsError, loadSettings, valueOf
from msgspec.structs import replace
from rich.console import Console
from rich.pretty import Pretty
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import selfSigned, temporaryFolder
from tests.tomltext import TOML_VALUES, toml

LAYERS = (
    "file lmgateway.toml",
    "variable {spec.variable} in .env",
    "variable {spec.variable}",
    "option --{spec.option}",
)

SAMPLES: Mapping[str, tuple[Any, ...]] = {
    "upstream.baseUrl": ("http://one", "http://two", "http://three", "http://four"),
    "upstream.apiToken": ("token-one", "token-two", "token-three", "token-four"),
    "upstream.transport": ("direct",),
    "upstream.connectTimeout": ("1s",),
    "upstream.caFile": ("/1.pem", "", "", "/4.pem"),
    "upstream.timeout": ("1s", "2s", "3s", "4s"),
    "upstream.streamTimeout": ("1s", "2s", "3s", "4s"),
    "upstream.management": ("sdk",),
    "upstream.strictModels": (False,),
    "upstream.logDirectory": ("/1", "/2", "/3", "/4"),
    "upstream.followLogs": (True, False, True, False),
    "upstream.logBodies": (True,),
    "listen.host": ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"),
    "listen.port": (1, 2, 3, 4),
    "listen.endpoints": (["tcp:1"], "", "", ["tcp:4"]),
    "listen.tls": ("on", "auto", "on", "auto"),
    "listen.allowPlain": (True, False, True, False),
    "tls.certificate": ("/1.pem", "/2.pem", "/3.pem", "/4.pem"),
    "tls.key": ("/1", "/2", "/3", "/4"),
    "tls.names": (["gateway.lan", "10.0.0.9"],),
    "tls.clientCa": ("/1.pem",),
    "tls.clientCertificates": ("off",),
    "tls.hsts": ("2h",),
    "access.apiKey": ("secret-one", "secret-two", "secret-three", "secret-four"),
    "access.allow": (["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"], ["10.0.0.4"]),
    "access.requireAuthForHealth": (True, False, True, False),
    "access.requireKey": ("always",),
    "access.keyless": (["10.0.0.0/8", "fd00::1"],),
    "access.keylessRequestsPerMinute": (9,),
    "access.keylessParallel": (9,),
    "access.hosts": (["llm.example.org"],),
    "cors.origins": (["https://chat.example.org", "http://127.0.0.1:3000"],),
    "cors.privateNetwork": (True,),
    "limits.maxBody": ("1MB",),
    "limits.maxHead": ("1MB",),
    "limits.maxFields": (8,),
    "limits.maxTarget": ("1KB",),
    "limits.headTimeout": ("1s",),
    "limits.bodyGrace": ("1s",),
    "limits.bodyRate": ("1B",),
    "limits.idleTimeout": ("1s",),
    "limits.writeStallTimeout": ("1s",),
    "limits.drainTimeout": ("1s",),
    "limits.handshakeTimeout": ("1s",),
    "limits.requestsPerMinutePerAddress": (9,),
    "limits.maxConnections": (99,),
    "limits.maxConnectionsPerAddress": (9,),
    "limits.maxUnauthenticatedPerAddress": (9,),
    "log.level": ("error", "warn", "debug", "info"),
    "log.file": ("/1.log", "", "", "/4.log"),
    "log.rotateSize": ("1MB",),
    "log.keep": (9,),
    "log.format": ("text", "", "", "json"),
    "debug.journalSize": ("1MB",),
    "debug.maxSubscribers": (9,),
    "debug.maxSubscribersPerKey": (9,),
    "debug.askForUsage": (False,),
    "debug.capture": (["alice"],),
    "debug.captureSize": ("2KB",),
    "dashboard.enabled": (False,),
    "dashboard.sessionTimeout": ("1h",),
    "state.directory": ("/1", "/2", "/3", "/4"),
    "aliases": ({"gpt-4o": "a/b", "fast": {"model": "c", "defaultInference": {"topK": 1}}},),
    "models": ({"a/b": {"defaultInference": {"topP": 0.5}, "loadConfig": {"contextLength": 8}}},),
}
"""For every setting a value for each of :data:`LAYERS` that it has, as in the file; empty where it lacks one."""

SECRETS = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789 \n\t\0\u2028é"), min_size=6, max_size=40).map(
    lambda text: f"Q{text}Z"
)
"""What may have been meant as a secret; unlike anything in a message of ours."""

SECRET_SPECS = [spec for spec in SPECS if spec.kind.secret]


class LayerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def load(self, spec: Spec, samples: Mapping[int, Any]) -> Settings:
        """Give a setting in some of the layers, by their indices in :data:`LAYERS`."""
        texts = {layer: self.inWords(value) for layer, value in samples.items()}
        content = f"{spec.key} = {toml(samples[0])}\n" if 0 in samples else ""
        (self.folder / "lmgateway.toml").write_text(content)
        (self.folder / ".env").write_text(f"{spec.variable}={texts[1]}\n" if 1 in texts else "")
        option = texts.get(3)
        if option is not None and spec.kind.secret:
            (self.folder / "secret").write_text(f"{option}\n")
            option = "secret"
        return loadSettings(
            configFile="lmgateway.toml",
            envFile=".env",
            environ={spec.variable: texts[2]} if spec.variable and 2 in texts else {},
            options={spec.option: option} if spec.option else {},
            directory=os.fspath(self.folder),
        )

    def inWords(self, value: Any) -> str:
        """A value as a variable or an option has it."""
        if isinstance(value, list):
            return ",".join(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def samplesOf(self, spec: Spec) -> dict[int, Any]:
        """The samples of a setting, by layer."""
        samples = dict(enumerate(SAMPLES[spec.key]))
        if spec.key in {"upstream.caFile", "tls.certificate", "tls.clientCa"}:
            samples = {layer: value and self.pem(value) for layer, value in samples.items()}
        return {layer: value for layer, value in samples.items() if value != ""}

    def pem(self, name: str) -> str:
        """Write a certificate; return its path."""
        path = self.folder / name.lstrip("/")
        path.write_bytes(selfSigned())
        return os.fspath(path)

    def test_everyKeyHasItsLayers(self) -> None:
        """The samples are complete: each setting has a sample just for the layers that it can be given in."""
        self.assertEqual(list(SAMPLES), [spec.key for spec in SPECS])
        for spec in SPECS:
            has = (True, spec.variable, spec.variable, spec.option)
            self.assertEqual(list(self.samplesOf(spec)), [layer for layer in range(4) if has[layer]], spec.key)

    def test_eachLayer(self) -> None:
        """Every setting is taken from each layer that can give it, and tells which one it was."""
        for spec in SPECS:
            for layer, sample in self.samplesOf(spec).items():
                settings = self.load(spec, {layer: sample})
                self.assertEqual(spec.kind.format(valueOf(settings, spec.key)), sample)
                self.assertEqual(settings.origins[spec.key], LAYERS[layer].format(spec=spec))

    def test_override(self) -> None:
        """Every setting that several layers give is taken from the last: file, .env, environment, option."""
        for spec in SPECS:
            samples = self.samplesOf(spec)
            while samples:
                last = max(samples)
                settings = self.load(spec, samples)
                self.assertEqual(spec.kind.format(valueOf(settings, spec.key)), samples[last])
                self.assertEqual(settings.origins[spec.key], LAYERS[last].format(spec=spec))
                del samples[last]

    def test_overriddenIsChecked(self) -> None:
        """What is wrong in a layer is refused even where a later one overrides it."""
        (self.folder / "lmgateway.toml").write_text("[listen]\nport = 99999\n")
        error = self.assertRaises(
            SettingsError,
            loadSettings,
            configFile="lmgateway.toml",
            environ={"GATEWAY_PORT": "1"},
            directory=os.fspath(self.folder),
        )
        self.assertIn("file lmgateway.toml: listen.port = 99999", str(error))


class DefaultTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """Without any layer every setting is there, and from the defaults."""
        settings = loadSettings()
        self.assertEqual(dict(settings.origins), {spec.key: "default" for spec in SPECS})
        self.assertEqual(settings.upstream.baseUrl, "http://127.0.0.1:1234")
        self.assertEqual(settings.listen.descriptions, ("tcp:8001:interface=127.0.0.1",))
        self.assertEqual(settings.access.allow, ("*",))
        self.assertEqual(settings.limits.maxBody, 256 * 1024 * 1024)
        self.assertEqual(settings.limits.drainTimeout, 30)
        self.assertTrue(settings.state.directory.endswith("lmgateway"))

    def test_fieldsAreSpecs(self) -> None:
        """The sections have just the fields that the table has rows for."""
        settings = loadSettings()
        names = [name for name in settings.__struct_fields__ if name != "origins"]
        self.assertEqual(
            [
                f"{name}.{field}" if field else name
                for name in names
                for field in getattr(getattr(settings, name), "__struct_fields__", ("",))
            ],
            [spec.key for spec in SPECS],
        )

    def test_allow(self) -> None:
        """Beyond loopback the private ranges may connect unless somebody says who may."""
        beyond = loadSettings(environ={"GATEWAY_HOST": "0.0.0.0"})
        self.assertTrue(beyond.listen.beyondLoopback)
        self.assertEqual((beyond.access.allow, beyond.origins["access.allow"]), (PRIVATE_RANGES, "default"))
        self.assertEqual(loadSettings(environ={"GATEWAY_HOST": "::", "IP_ALLOWLIST": "*"}).access.allow, ("*",))

    def test_listeners(self) -> None:
        """Endpoints replace host and port, and one that reaches beyond loopback is enough to be beyond."""
        settings = loadSettings(environ={"GATEWAY_HOST": "0.0.0.0"}, options={"listen": ["unix:/run/a.sock"]})
        self.assertEqual(settings.listen.descriptions, ("unix:/run/a.sock",))
        self.assertFalse(settings.listen.beyondLoopback)
        settings = loadSettings(options={"listen": ["unix:/run/a.sock", "tcp:1"]})
        self.assertTrue(settings.listen.beyondLoopback)

    def test_frozen(self) -> None:
        """Settings do not change; neither does where they came from."""
        settings = loadSettings()
        self.assertRaises(AttributeError, setattr, settings, "listen", settings.listen)
        self.assertRaises(AttributeError, setattr, settings.listen, "port", 1)
        self.assertRaises(TypeError, operator.setitem, settings.origins, "listen.port", "x")

    def test_relativeFile(self) -> None:
        """A file's name starts from the current folder, unless another is given."""
        error = self.assertRaises(SettingsError, loadSettings, configFile="no-such-lmgateway.toml")
        self.assertIn("file no-such-lmgateway.toml: cannot be read", str(error))


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def test_repr(self) -> None:
        """Settings can be printed, by Python or by rich, without their secrets."""
        settings = loadSettings(environ={"GATEWAY_API_KEY": "sesame-open", "LMSTUDIO_API_TOKEN": "sesame-shut"})
        self.assertEqual(settings.access.apiKey, "sesame-open")
        output = io.StringIO()
        Console(file=output, width=200).print(Pretty(settings, expand_all=True))
        for text in (repr(settings), str(settings.access), output.getvalue()):
            self.assertNotIn("sesame", text)
            self.assertIn("requireKey='auto'", text)

    def test_reprOfSections(self) -> None:
        """Every section hides its secrets, also in a copy."""
        settings = loadSettings()
        for spec in SECRET_SPECS:
            section, _, name = spec.key.rpartition(".")
            copy = replace(getattr(settings, section), **{name: "sesame-open"})
            self.assertIsInstance(copy, Section)
            self.assertNotIn("sesame", repr(copy))

    @given(st.sampled_from(SECRET_SPECS), SECRETS, st.sampled_from(["{}", "[{}]", "{{a = {}}}", "[[{}], 5]"]))
    def test_file(self, spec: Spec, secret: str, shape: str) -> None:
        """A secret in the file shows in no error, whatever is wrong with it, as a value or as the name of its file."""
        section, _, name = spec.key.rpartition(".")
        for key in (name, f"{name}File"):
            content = f"[{section}]\n{key} = {shape.format(toml(secret))}\n[log]\nlevel = 5\n"
            (self.folder / "lmgateway.toml").write_text(content, "utf-8")
            error = self.assertRaises(
                SettingsError, loadSettings, configFile="lmgateway.toml", directory=os.fspath(self.folder)
            )
            self.assertNotIn(secret, str(error))
            self.assertNotIn(secret[:8], str(error))

    @given(st.sampled_from(SECRET_SPECS), SECRETS)
    def test_variableAndOption(self, spec: Spec, secret: str) -> None:
        """A secret in a variable, an .env file or, by mistake, an option shows in no error."""
        (self.folder / ".env").write_text(f'{spec.variable}="{secret}\n', "utf-8")
        (self.folder / "secret").write_text(secret, "utf-8")
        for layers in (
            {"environ": {spec.variable: secret, "LOG_LEVEL": "loud"}},
            {"envFile": ".env", "environ": {"LOG_LEVEL": "loud"}},
            {"options": {spec.option: secret}},
            {"options": {spec.option: "secret", "log-level": "loud"}},
        ):
            error = self.assertRaises(SettingsError, loadSettings, directory=os.fspath(self.folder), **layers)
            self.assertNotIn(secret, str(error))
            self.assertNotIn(secret[:8], str(error))

    @given(st.dictionaries(st.sampled_from(["apiKey", "apiKeyFile", "allow"]), TOML_VALUES), st.text())
    def test_oneLine(self, table: dict[str, Any], level: str) -> None:
        """Whatever the layers hold, there are settings or one printable line."""
        content = "[access]\n" + "\n".join(f"{name} = {toml(value)}" for name, value in table.items())
        (self.folder / "lmgateway.toml").write_text(content, "utf-8")
        try:
            loadSettings(configFile="lmgateway.toml", environ={"LOG_LEVEL": level}, directory=os.fspath(self.folder))
        except SettingsError as error:
            self.assertTrue(str(error).isprintable())
            self.assertEqual(len(str(error).splitlines()), 1)
