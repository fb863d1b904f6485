"""Tests for :mod:`lmgateway.studio.quoting`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.quoting import CUT, MOST, quoted, withoutTokens
from twisted.trial.unittest import SynchronousTestCase

TOKEN = "sk-lm-AbCdEfGh:0123456789abcdefghij"
_PARTS = st.text(st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=127), min_size=8, max_size=24)


class WithoutTokensTests(SynchronousTestCase):
    """Cutting tokens out."""

    def test_maskedToken(self) -> None:
        """A token that LM Studio has masked in part is cut out, and what is around it stays."""
        for masked in ("sk-lm-Ab****:****ij", "sk-lm-...", "sk-lm-********WXYZ", "SK-LM-abc"):
            self.assertEqual(f'Invalid token "{CUT}" was given.', withoutTokens(f'Invalid token "{masked}" was given.'))

    def test_halves(self) -> None:
        """Each half of the token is cut out where it stands alone: the SDKs' protocol sends them apart."""
        text = withoutTokens('client "AbCdEfGh" has passkey 0123456789abcdefghij', TOKEN)
        self.assertEqual(f'client "{CUT}" has passkey {CUT}', text)

    def test_shortSecret(self) -> None:
        """What is too short for a secret is left alone, and so is what is not there."""
        self.assertEqual("a model of 4B", withoutTokens("a model of 4B", "a", "", None))

    @given(st.text(), _PARTS, _PARTS, st.text(max_size=20))
    def test_nothingIsLeft(self, before: str, first: str, second: str, after: str) -> None:
        """Whatever stands around it, neither the token nor a half of it is left."""
        token = f"sk-lm-{first}:{second}"
        text = withoutTokens(f"{before}{token}{after}", token).replace(CUT, "")
        self.assertNotIn(first, text)
        self.assertNotIn(second, text)


class QuotedTests(SynchronousTestCase):
    """Quoting."""

    def test_oneLine(self) -> None:
        """Line ends and control characters become spaces, so that no log line can be made up."""
        self.assertEqual("it failed because", quoted("it\r\nfailed\x00\x1b  because\u2028"))

    @given(st.text(max_size=30), st.integers(0, 3 * MOST))
    def test_bounded(self, text: str, times: int) -> None:
        """However much was said, a bounded part of it is quoted, and it can be written as UTF-8."""
        line = quoted(text * times)
        self.assertLessEqual(len(line), MOST + 1)
        line.encode()

    def test_tokenOverTheEnd(self) -> None:
        """A token that lies across the end of what is quoted leaves no part of itself."""
        line = quoted("x" * (MOST - 5) + " " + TOKEN, TOKEN)
        self.assertNotIn("sk-lm", line)
        self.assertNotIn("AbCd", line)
