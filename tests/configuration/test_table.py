"""The table of settings: complete and consistent."""

from __future__ import annotations

from lmgateway.configuration.listeners import PRIVATE_RANGES
from lmgateway.configuration.table import SPECS
from twisted.trial.unittest import SynchronousTestCase

CONTRACT = {
    "LMSTUDIO_BASE_URL": "http://127.0.0.1:1234",
    "LMSTUDIO_API_TOKEN": None,
    "GATEWAY_HOST": "127.0.0.1",
    "GATEWAY_PORT": 8001,
    "GATEWAY_API_KEY": None,
    "REQUIRE_AUTH_FOR_HEALTH": False,
    "LOG_LEVEL": "info",
    "PROXY_TIMEOUT": 0,
    "PROXY_STREAM_TIMEOUT": 0,
}
"""What users of the existing gateways know: the variables and their defaults, where they are fixed."""


class SpecTests(SynchronousTestCase):
    def test_contract(self) -> None:
        """Each variable that users know is there, with the default that they know."""
        defaults = {spec.variable: spec.default for spec in SPECS}
        self.assertEqual({variable: defaults[variable] for variable in CONTRACT}, CONTRACT)
        self.assertTrue({"IP_ALLOWLIST", "GATEWAY_STATE_DIR"} <= defaults.keys())

    def test_namedOnce(self) -> None:
        """No two settings share a key, a variable or an option."""
        for names in (
            [spec.key for spec in SPECS],
            [spec.variable for spec in SPECS if spec.variable],
            [spec.option for spec in SPECS if spec.option],
        ):
            self.assertEqual(len(names), len(set(names)))

    def test_secretOptionsAreFiles(self) -> None:
        """The option of a secret names a file: everybody can read a command line."""
        options = [spec.option for spec in SPECS if spec.kind.secret and spec.option]
        self.assertTrue(options)
        self.assertEqual([option for option in options if not option.endswith("-file")], [])

    def test_defaultsAreAllowed(self) -> None:
        """Each default, written as in the file, is read as itself."""
        for spec in SPECS:
            default = spec.defaultFor({"listen.host": "::", "listen.port": 1, "listen.endpoints": ()})
            if default is not None:
                self.assertEqual(spec.kind.fromFile(spec.kind.format(default)), default, spec.key)

    def test_privateRanges(self) -> None:
        """The ranges allowed by default are spelled as the allowlist spells them."""
        allow = next(spec for spec in SPECS if spec.key == "access.allow")
        self.assertEqual(allow.kind.fromFile(list(PRIVATE_RANGES)), PRIVATE_RANGES)

    def test_allowDependsOnListeners(self) -> None:
        """Everybody may connect when nobody but this machine can, else only the private ranges may."""
        allow = next(spec for spec in SPECS if spec.key == "access.allow")
        for host, endpoints, wanted in (
            ("127.0.0.1", (), ("*",)),
            ("::1", (), ("*",)),
            ("0.0.0.0", (), PRIVATE_RANGES),
            ("0.0.0.0", ("unix:/run/a.sock",), ("*",)),
            ("127.0.0.1", ("unix:/run/a.sock", "tcp:1"), PRIVATE_RANGES),
        ):
            values = {"listen.host": host, "listen.port": 1, "listen.endpoints": endpoints}
            self.assertEqual(allow.defaultFor(values), wanted)
