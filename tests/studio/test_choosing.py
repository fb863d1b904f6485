"""Which way of managing models is chosen, by what the server says."""

from __future__ import annotations

from typing import Any

from lmgateway.errors import Forbidden, UpstreamBroken, UpstreamSilent, UpstreamUnavailable
from lmgateway.studio.choosing import GREETING, PROBE_SECONDS, ManagerChoice
from lmgateway.studio.watching import LOOK_SECONDS
from twisted.internet.defer import CancelledError, Deferred, fail

from tests.studio.asking_support import TOKEN, StudioTestCase
from tests.studio.support import ScriptedStudio

GREETED = (200, {"lmstudio": True})
MODELS = "/api/v1/models"
LISTED = (200, {"models": []})
HELLO = GREETING.decode()


class ChoosingTestCase(StudioTestCase):
    """With an SDK that does as the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.sdk = ScriptedStudio(management="sdk")
        self.made = 0

    def make(self) -> ScriptedStudio:
        """Make the SDK's."""
        self.made += 1
        return self.sdk

    def choice(self, forced: str = "auto") -> ManagerChoice:
        """Somebody who chooses."""
        return ManagerChoice(forced, self.upstream, TOKEN, self.clock, self.make)

    def chosen(self, seconds: float = 0) -> tuple[str, str]:
        """What is chosen within so many seconds, and why."""
        choice = self.choice()
        management = self.result(choice.choose(), seconds).management
        assert choice.reason is not None
        return management, choice.reason


class AutomaticTests(ChoosingTestCase):
    def test_sdk(self) -> None:
        """An LM Studio that speaks with SDKs is spoken to as they do, and stays open for it."""
        choice = self.choice()
        self.assertIs(self.result(choice.choose()), self.sdk)
        self.assertEqual((self.made, self.sdk.asked, self.sdk.closed), (1, 1, 0))

    def test_rest(self) -> None:
        """Where the SDKs' protocol fails, REST is taken, with the reason; the SDK's is closed."""
        self.sdk.answer = UpstreamBroken("It is no WebSocket.")
        management, reason = self.chosen()
        self.assertEqual((management, self.sdk.closed), ("rest", 1))
        self.assertIn("It is no WebSocket.", reason)

    def test_gateway(self) -> None:
        """Where both fail, as with an LM Studio before 0.4 whose sockets are closed, nobody manages, and both reasons are told."""
        self.simulator.behaviour.apiV1 = False
        self.sdk.answer = UpstreamBroken("It is no WebSocket.")
        management, reason = self.chosen()
        self.assertEqual((management, self.sdk.closed), ("gateway", 1))
        self.assertIn("It is no WebSocket.", reason)
        self.assertIn("no such endpoint", reason)

    def test_muteSdk(self) -> None:
        """An SDK's protocol that is silent holds up the choice only for so long, and is let go of."""
        self.sdk.answer = None
        choosing = self.choice().choose()
        self.network.advance(PROBE_SECONDS - 1)
        self.assertNoResult(choosing)
        self.assertEqual(self.result(choosing, 2).management, "rest")
        self.assertEqual(self.sdk.closed, 1)

    def test_forbidden(self) -> None:
        """A token that may neither this way nor that leaves the gateway alone, and the reason says what to do."""
        self.sdk.answer = Forbidden("No SDK for this token.")
        self.play({HELLO: GREETED, MODELS: (403, {"error": {"message": "Permission denied"}})})
        management, reason = self.chosen()
        self.assertEqual(management, "gateway")
        self.assertIn("forbids it", reason)
        self.assertIn("LMSTUDIO_API_TOKEN", reason)

    def test_forbiddenSdk(self) -> None:
        """A token that SDKs may not use may be good enough for REST."""
        self.sdk.answer = Forbidden("No SDK for this token.")
        management, reason = self.chosen()
        self.assertEqual(management, "rest")
        self.assertIn("No SDK for this token.", reason)

    def test_others(self) -> None:
        """Servers that are not LM Studio are not managed, and nobody speaks to them as an SDK, whatever paths they have."""
        names: Any = {"object": "list", "data": [{"id": "m"}]}
        llamaCpp = {**names, "models": [{"name": "m", "model": "m", "type": "model"}]}
        for listed in (
            (404, {"error": {"code": 404, "message": "File Not Found"}}),
            (200, names),
            (200, llamaCpp),
            (200, b"<html>"),
        ):
            self.play({HELLO: (404, b""), MODELS: listed})
            management, reason = self.chosen()
            self.assertEqual((management, self.made), ("gateway", 0), listed)
            self.assertIn("not LM Studio", reason)

    def test_status(self) -> None:
        """The status proves nothing, neither way."""
        self.sdk.answer = UpstreamBroken("no")
        self.play({HELLO: (404, {"lmstudio": True}), MODELS: (500, {"models": []})})
        self.assertEqual((self.chosen()[0], self.made), ("rest", 1))

    def test_nobody(self) -> None:
        """Where nobody is, nothing is chosen."""
        self.vanish()
        self.failure(self.choice().choose(), UpstreamUnavailable)
        self.assertEqual(self.made, 0)

    def test_goneMeanwhile(self) -> None:
        """An LM Studio that goes away while it is asked is away, not one that cannot be managed."""
        self.sdk.answer = None
        choosing = self.choice().choose()
        self.network.flush()
        self.vanish()
        self.failure(choosing, UpstreamUnavailable, PROBE_SECONDS + 1)

    def test_silent(self) -> None:
        """A server that says nothing may be LM Studio at work: nothing is chosen, and in less time than a look may take."""
        self.sdk.answer = None
        for answers in ({HELLO: None}, {HELLO: GREETED, MODELS: None}):
            self.play(answers)
            self.failure(self.choice().choose(), UpstreamSilent, LOOK_SECONDS - 1)

    def test_cancelled(self) -> None:
        """Cancelling ends the asking, and lets go of whoever was being asked."""
        self.sdk.answer = None
        choosing = self.choice().choose()
        self.network.flush()
        choosing.cancel()
        self.failureResultOf(choosing, CancelledError)
        self.assertEqual(self.sdk.closed, 1)

    def test_again(self) -> None:
        """Another LM Studio in the same place is asked anew."""
        choice = self.choice()
        self.assertEqual(self.result(choice.choose()).management, "sdk")
        self.cut()
        self.play({})
        self.assertEqual(self.result(choice.choose()).management, "gateway")

    def test_badClose(self) -> None:
        """One that does not close in good order is not waited for, nor does it spoil the choice."""
        for closing in (Deferred(), fail(OSError("gone"))):
            self.sdk.answer = UpstreamBroken("no")
            self.sdk.close = lambda closing=closing: closing  # type: ignore[method-assign,misc]
            self.assertEqual(self.chosen()[0], "rest")


class ForcedTests(ChoosingTestCase):
    def test_forced(self) -> None:
        """What the settings say is taken, and nothing is asked."""
        self.vanish()
        for forced in ("sdk", "rest", "gateway"):
            choice = self.choice(forced)
            self.assertEqual(self.successResultOf(choice.choose()).management, forced)
            self.assertEqual(choice.reason, f'upstream.management is set to "{forced}".')
        self.assertEqual(self.sdk.asked, 0)
