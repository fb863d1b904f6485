"""The switches: every one can be set by a header, and a mistake is told instead of overlooked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.behaviour import LOAD_FAILURE, SWITCHES, Behaviour, overridden
from msgspec.structs import asdict
from twisted.trial.unittest import SynchronousTestCase


class OverriddenTests(SynchronousTestCase):
    def test_everySwitch(self) -> None:
        """Every switch sets the field it is named for."""
        changed = overridden(
            Behaviour(),
            "delay=1; prefill=2.5; load-time=3; tokens-per-second=40; die-after=5; error-in-stream=6; empty-stream;"
            "unknown-model=served; unknown-path=404; no-jit; no-auto-evict; require-token=t; parallel=7; no-api-v1; no-models;"
            "no-sdk; fail-load=no memory; drop-socket=0.25; mute-management; forbid-management; download-time=8; log-tokens",
        )
        expected = Behaviour(
            delay=1,
            prefill=2.5,
            loadTime=3,
            tokensPerSecond=40,
            dieAfterChunks=5,
            errorInsideStream=6,
            emptyStream=True,
            unknownModel="served",
            unknownPathStatus=404,
            jit=False,
            autoEvict=False,
            requireToken="t",
            parallel=7,
            apiV1=False,
            noModels=True,
            sdk=False,
            failLoad="no memory",
            dropSocket=0.25,
            muteManagement=True,
            forbidManagement=True,
            downloadTime=8,
            logTokens=True,
        )
        self.assertEqual(changed, expected)

    def test_everyFieldHasASwitch(self) -> None:
        """There is no field that the header cannot set."""
        self.assertEqual(sorted(field for field, _ in SWITCHES.values()), sorted(asdict(Behaviour())))

    def test_nothing(self) -> None:
        """Without a switch the behaviour is what it was, and a copy of it."""
        behaviour = Behaviour(delay=3)
        same = overridden(behaviour, " ; ")
        self.assertEqual(same, behaviour)
        same.delay = 4
        self.assertEqual(behaviour.delay, 3)

    def test_off(self) -> None:
        """What is on for all can be off for one."""
        behaviour = Behaviour(
            jit=False, emptyStream=True, requireToken="t", dieAfterChunks=3, failLoad="x", dropSocket=0.5
        )
        changed = overridden(
            behaviour, "no-jit=off; empty-stream=off; require-token; die-after=off; fail-load=off; drop-socket=off"
        )
        self.assertEqual(changed, Behaviour())

    def test_bare(self) -> None:
        """A bare switch that counts something counts 0, and others have a value that needs no saying."""
        changed = overridden(Behaviour(), "die-after; fail-load; drop-socket")
        self.assertEqual((changed.dieAfterChunks, changed.failLoad, changed.dropSocket), (0, LOAD_FAILURE, 0.5))

    def test_refusals(self) -> None:
        """Unknown switches and senseless values are refused, and the message names them."""
        for switch in (
            "delayy=1", "delay=-1", "delay=inf", "delay=soon", "die-after=-1", "parallel=0", "parallel",
            "unknown-model=maybe", "unknown-path=500", "no-jit=perhaps", "drop-socket=1.5", "drop-socket=nan",
        ):  # fmt: skip
            error = self.assertRaises(ValueError, overridden, Behaviour(), switch)
            self.assertIn(repr(switch.partition("=")[0]), str(error))

    @given(st.text())
    def test_totality(self, switches: str) -> None:
        """Whatever the header holds, it gives a behaviour or a ValueError."""
        try:
            self.assertIsInstance(overridden(Behaviour(), switches), Behaviour)
        except ValueError as error:
            self.assertTrue(str(error))
