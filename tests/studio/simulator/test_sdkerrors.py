"""Errors for SDKs: their members, and how much they show."""

from __future__ import annotations

from lmgateway.studio.simulator import sdkerrors
from lmgateway.studio.simulator.sdkerrors import SdkError
from twisted.trial.unittest import SynchronousTestCase

NAMES = [f"m{number}" for number in range(30)]


class SerializedTests(SynchronousTestCase):
    def test_members(self) -> None:
        """Only the members that there are, the title twice."""
        self.assertEqual(SdkError("t").serialized, {"title": "t", "rootTitle": "t"})
        data = {"code": "x"}
        expected = {"title": "t", "cause": "c", "displayData": data, "rootTitle": "t"}
        self.assertEqual(SdkError("t", cause="c", displayData=data).serialized, expected)

    def test_samples(self) -> None:
        """Of many names ten are shown, and all counted."""
        missing = sdkerrors.pathUnknown("p", NAMES).displayData
        assert missing is not None
        self.assertEqual((len(missing["availablePathsSample"]), missing["totalModels"]), (10, 30))
        for error in (sdkerrors.noModelMatches({}, NAMES), sdkerrors.identifierUnknown("i", NAMES)):
            assert error.displayData is not None
            self.assertEqual(len(error.displayData["loadedModelsSample"]), 10)
            self.assertEqual(error.displayData["totalLoadedModels"], 30)

    def test_codes(self) -> None:
        """The codes by which the SDKs recognise them."""
        for error, code in (
            (sdkerrors.modelGone(), "generic.specificModelUnloaded"),
            (sdkerrors.noModelMatches({}, ()), "generic.noModelMatchingQuery"),
            (sdkerrors.pathUnknown("p", ()), "generic.pathNotFound"),
            (sdkerrors.identifierUnknown("i", ()), "generic.identifierNotFound"),
            (sdkerrors.wrongDomain("p", "llm", "embedding"), "generic.domainMismatch"),
        ):
            assert error.displayData is not None
            self.assertEqual(error.displayData["code"], code)
        for plain in (
            sdkerrors.loadFailed("c"),
            sdkerrors.loadAborted(),
            sdkerrors.denied(),
            sdkerrors.identifierTaken("i"),
        ):
            self.assertIsNone(plain.displayData)
