"""Tests for :mod:`lmgateway.studio.sdk.refusals`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Conflict, Forbidden, GatewayError, NotFound, UpstreamFailed
from lmgateway.studio.sdk.packets import StudioError
from lmgateway.studio.sdk.refusals import explain, refused
from lmgateway.studio.simulator import sdkerrors
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.sdk.support import TOKEN

LOAD = 'load the model "a"'


def read(error: sdkerrors.SdkError) -> StudioError:
    """Read an error of the simulator's."""
    code = (error.displayData or {}).get("code", "")
    return StudioError(error.title, error.cause or "", "", code)


class ExplainTests(SynchronousTestCase):
    """What LM Studio's errors become."""

    def test_notThere(self) -> None:
        """Errors with one of the codes for what is not there are 404."""
        for error in (
            sdkerrors.pathUnknown("a", []),
            sdkerrors.identifierUnknown("a", []),
            sdkerrors.noModelMatches({}, []),
            sdkerrors.modelGone(),
        ):
            self.assertIs(NotFound, type(explain(read(error), LOAD)))

    def test_taken(self) -> None:
        """An identifier that is taken is a conflict, however LM Studio says so."""
        for error in (
            read(sdkerrors.identifierTaken("a")),
            StudioError("Model load error", "The identifier 'a' is already in use."),
            StudioError("There is already a model with the identifier a"),
        ):
            self.assertIs(Conflict, type(explain(error, LOAD)))

    def test_denied(self) -> None:
        """A lacking permission says where to get one; a file that may not be read is a failure like others."""
        denied = explain(read(sdkerrors.denied()), LOAD)
        self.assertIs(Forbidden, type(denied))
        self.assertIn("LMSTUDIO_API_TOKEN", denied.message)
        unreadable = StudioError("Failed to load model", "EACCES: permission denied, open 'a.gguf'")
        self.assertIs(UpstreamFailed, type(explain(unreadable, LOAD)))

    def test_failed(self) -> None:
        """Whatever else goes wrong is told as LM Studio told it."""
        error = explain(StudioError("Failed to load model", "Out of memory", "Choose less context."), LOAD)
        self.assertIs(UpstreamFailed, type(error))
        self.assertEqual(
            'LM Studio could not load the model "a". It says: Failed to load model. Out of memory. Choose less context.',
            error.message,
        )

    def test_wordless(self) -> None:
        """Where LM Studio says nothing, nothing is quoted."""
        self.assertEqual('LM Studio could not load the model "a".', explain(StudioError(""), LOAD).message)

    def test_refused(self) -> None:
        """Who is not let in learns what to set, and the token is not repeated."""
        error = refused(f"The token {TOKEN} was not recognized", TOKEN)
        self.assertIn("[token] was not recognized. Set LMSTUDIO_API_TOKEN", error.message)

    @given(st.tuples(st.text(), st.text(), st.text(), st.text()), st.text(max_size=20))
    def test_anything(self, texts: tuple[str, str, str, str], doing: str) -> None:
        """Whatever LM Studio says, the message is one bounded line, without the token that it may have said."""
        title, cause, suggestion, code = texts
        error = explain(StudioError(title, cause + TOKEN, suggestion * 50, code), doing, TOKEN)
        self.assertIsInstance(error, GatewayError)
        self.assertNotIn("0123456789abcdefghij", error.message)
        self.assertLess(len(error.message), 1500)
        self.assertEqual(1, len(error.message.splitlines()))
