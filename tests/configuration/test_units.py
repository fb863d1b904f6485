"""Durations and sizes: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.units import SettingsError, formatDuration, formatSize, oneLine, parseDuration, parseSize
from twisted.trial.unittest import SynchronousTestCase


class DurationTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Each unit has its length, in seconds."""
        self.assertEqual([parseDuration(text) for text in ("500ms", "30s", "5m", "1h", "0s")], [0.5, 30, 300, 3600, 0])

    def test_largestUnit(self) -> None:
        """A duration is written in the largest unit that needs no fraction."""
        self.assertEqual(
            [formatDuration(seconds) for seconds in (0, 0.25, 1.5, 75, 60, 7200)],
            ["0s", "250ms", "1500ms", "75s", "1m", "2h"],
        )

    def test_refused(self) -> None:
        """A duration without a unit, with a fraction, a sign, a space or a foreign digit is none."""
        for text in ("", "30", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1d", "1s\n", "٣s", "9" * 13 + "s"):
            self.assertRaises(SettingsError, parseDuration, text)

    @given(st.integers(0, 10**12))
    def test_roundTrip(self, milliseconds: int) -> None:
        """Every whole number of milliseconds is read again as it was written."""
        self.assertEqual(parseDuration(formatDuration(milliseconds / 1000)), milliseconds / 1000)

    @given(st.text() | st.from_regex(r"[0-9]{0,14}[a-zA-Z]{0,3}"))
    def test_total(self, text: str) -> None:
        """Any text is a duration of at least nothing, or a SettingsError."""
        with contextlib.suppress(SettingsError):
            self.assertGreaterEqual(parseDuration(text), 0)


class SizeTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Each unit is 1024 of the one before; no unit is bytes."""
        self.assertEqual(
            [parseSize(text) for text in ("7", "7B", "64KB", "256MB", "2GB")], [7, 7, 1 << 16, 1 << 28, 2 << 30]
        )

    def test_largestUnit(self) -> None:
        """A size is written in the largest unit that needs no fraction."""
        self.assertEqual(
            [formatSize(size) for size in (0, 1, 1024, 1025, 1 << 20, 3 << 30)],
            ["0B", "1B", "1KB", "1025B", "1MB", "3GB"],
        )

    def test_refused(self) -> None:
        """A size with an unknown unit, a fraction, a sign or a space is none."""
        for text in ("", "KB", "1.5KB", "-1", "1 KB", "1kb", "1KiB", "1TB", "1KB\n", "9" * 16):
            self.assertRaises(SettingsError, parseSize, text)

    @given(st.integers(0, 10**15 - 1))
    def test_roundTrip(self, size: int) -> None:
        """Every size is read again as it was written."""
        self.assertEqual(parseSize(formatSize(size)), size)

    @given(st.text() | st.from_regex(r"[0-9]{0,17}[a-zA-Z]{0,3}"))
    def test_total(self, text: str) -> None:
        """Any text is a size of at least nothing, or a SettingsError."""
        with contextlib.suppress(SettingsError):
            self.assertGreaterEqual(parseSize(text), 0)


class SettingsErrorTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Line ends of every kind and terminal controls are shown as escapes, letters of any language as they are."""
        self.assertEqual(oneLine("ä\n\u2028\x1b[1m\ud800"), "ä\\n\\u2028\\x1b[1m\\ud800")

    @given(st.text(st.characters(exclude_categories=())))
    def test_oneLine(self, text: str) -> None:
        """The message of a SettingsError is one printable line that can be encoded, whatever it was made of."""
        message = str(SettingsError(f"a{text}b"))
        self.assertEqual(len(message.splitlines()), 1)
        self.assertTrue(message.isprintable())
        self.assertIn(b"a", message.encode("utf-8"))
