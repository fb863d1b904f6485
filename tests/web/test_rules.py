"""Who may ask what, as the settings decide it."""

from __future__ import annotations

from lmgateway.errors import Unauthenticated
from lmgateway.message import Principal, RequestHead, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.sessions import Sessions
from lmgateway.settings import loadSettings
from lmgateway.web.rules import CONFIGURED_KEY, KEYLESS_NAME, LOCAL, Rules, makeRules, needsKey
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

STORED = Principal("alice", frozenset({Scope.INFERENCE}), "key_1")


def rulesOf(environ: dict[str, str] | None = None, *, stored: bool = False, **access: object) -> Rules:
    """The rules of settings as the environment gives them, and some of ``[access]``."""
    settings = loadSettings(configFile=None, environ=environ or {}, options={}, envFile=None)
    settings = replace(settings, access=replace(settings.access, **access))
    keys = {digestOf("alices-key"): STORED} if stored else {}
    return makeRules(settings, keys, lambda: 1_800_000_000.0, Sessions(lambda: 0.0, 60.0))


def who(rules: Rules, key: str | None = None, peer: str = "127.0.0.1") -> Principal:
    """Who is asking."""
    headers = () if key is None else ((b"Authorization", b"Bearer " + key.encode()),)
    return rules.authenticator.authenticate(RequestHead.build(b"GET", b"/v1/models", headers, peer=peer))


class AuthenticationTests(SynchronousTestCase):
    def test_open(self) -> None:
        """Where only this machine can connect and there is no key, whoever comes may do everything, but as no key's holder."""
        self.assertIs(who(rulesOf()), LOCAL)

    def test_anyKeyCloses(self) -> None:
        """As soon as there is a key, configured or stored, or one is asked for always, nobody comes without."""
        for rules in (
            rulesOf({"GATEWAY_API_KEY": "the-configured-key"}),
            rulesOf(stored=True),
            rulesOf(requireKey="always"),
            rulesOf({"GATEWAY_HOST": "0.0.0.0"}),
        ):
            self.assertRaises(Unauthenticated, who, rules)

    def test_keys(self) -> None:
        """The configured key and the stored ones are good beside each other."""
        rules = rulesOf({"GATEWAY_API_KEY": "the-configured-key"}, stored=True)
        self.assertIs(who(rules, "the-configured-key"), CONFIGURED_KEY)
        self.assertEqual(who(rules, "alices-key"), STORED)
        self.assertRaises(Unauthenticated, who, rules, "another-key")

    def test_keyless(self) -> None:
        """Whom the settings name may infer without a key, held to what they say; others may not, and an open gateway names nobody."""
        rules = rulesOf(stored=True, keyless=("10.0.0.0/8",), keylessRequestsPerMinute=7, keylessParallel=0)
        principal = who(rules, peer="10.1.2.3")
        self.assertEqual((principal.name, principal.scopes), (KEYLESS_NAME, {Scope.INFERENCE}))
        self.assertEqual((principal.grant.requestsPerMinute, principal.grant.parallel), (7, None))
        self.assertRaises(Unauthenticated, who, rules, peer="192.168.1.1")
        self.assertIs(who(rulesOf(keyless=("10.0.0.0/8",)), peer="10.1.2.3"), LOCAL)

    def test_needsKey(self) -> None:
        """A key is needed where other machines can connect, and where the settings say so."""
        for environ, requireKey, needed in (
            ({}, "auto", False),
            ({}, "always", True),
            ({"GATEWAY_HOST": "0.0.0.0"}, "auto", True),
        ):
            settings = loadSettings(configFile=None, environ=environ, options={}, envFile=None)
            settings = replace(settings, access=replace(settings.access, requireKey=requireKey))
            self.assertIs(needsKey(settings), needed)
