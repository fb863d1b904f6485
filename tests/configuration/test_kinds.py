"""Kinds of values: what each reads, its bounds, and that it reads again what it writes."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.configuration.kinds import Choice, Duration, Flag, Many, Path, PemBundle, Secret, Size, Whole
from lmgateway.configuration.units import SettingsError, formatDuration, formatSize
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import selfSigned, temporaryFolder


class FlagTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A variable says yes or no in any of the usual ways."""
        self.assertEqual([Flag().fromText(word) for word in ("true", "1", "YES")], [True] * 3)
        self.assertEqual([Flag().fromText(word) for word in ("False", "0", "no")], [False] * 3)
        for word in ("on", "2", "y", ""):
            self.assertRaises(SettingsError, Flag().fromText, word)

    def test_file(self) -> None:
        """The file has booleans of its own: a string or a number is none."""
        self.assertIs(Flag().fromFile(True), True)
        for value in ("true", 1, None):
            self.assertRaises(SettingsError, Flag().fromFile, value)


class ChoiceTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A word is found in any case; any other is refused with all that are allowed."""
        self.assertEqual(Choice("warn", "info").fromText("WARN"), "warn")
        error = self.assertRaises(SettingsError, Choice("error", "warn", "info").fromText, "loud")
        self.assertEqual(str(error), "must be error, warn or info")


class WholeTests(SynchronousTestCase):
    def test_types(self) -> None:
        """In the file a whole number is neither a string, a fraction nor a boolean."""
        for value in ("1", 1.0, True, None, [1]):
            self.assertRaises(SettingsError, Whole(0, 9).fromFile, value)

    @given(st.integers())
    def test_bounds(self, number: int) -> None:
        """Just the numbers from the lowest to the highest are allowed, in the file and as text."""
        kind = Whole(-5, 70)
        if -5 <= number <= 70:
            self.assertEqual(kind.fromFile(number), number)
        else:
            self.assertRaises(SettingsError, kind.fromFile, number)
            self.assertRaises(SettingsError, kind.fromText, str(number))

    def test_endless(self) -> None:
        """More digits than Python would convert are refused like any other number that is too large."""
        self.assertRaises(SettingsError, Whole(0, 9).fromText, "9" * 5000)

    @given(st.text())
    def test_total(self, text: str) -> None:
        """Any text is a number within the bounds, or a SettingsError."""
        with contextlib.suppress(SettingsError):
            self.assertIn(Whole(0, 9).fromText(text), range(10))


class DurationTests(SynchronousTestCase):
    @given(st.integers(0, 20_000))
    def test_bounds(self, milliseconds: int) -> None:
        """Just the times from the shortest to the longest are allowed, and nothing where nothing means something."""
        text = formatDuration(milliseconds / 1000)
        within = 500 <= milliseconds <= 10_000
        for kind, allowed in (
            (Duration("500ms", "10s"), within),
            (Duration("500ms", "10s", zero="no limit"), within or not milliseconds),
        ):
            if allowed:
                self.assertEqual(kind.fromFile(text), milliseconds / 1000)
            else:
                self.assertRaises(SettingsError, kind.fromFile, text)

    def test_numberInFile(self) -> None:
        """A number alone in the file is refused, saying why and how to write it."""
        for value in (30, 0.5, 0):
            error = self.assertRaises(SettingsError, Duration("1s", "1h").fromFile, value)
            self.assertIn("does not say its unit", str(error))
        for value in (["1s"], None):
            self.assertRaises(SettingsError, Duration("1s", "1h").fromFile, value)

    def test_numberInVariable(self) -> None:
        """A number alone in a variable is milliseconds; in an option it is refused."""
        kind = Duration("1s", "1h")
        self.assertEqual(kind.fromVariable("2500"), 2.5)
        self.assertEqual(kind.fromVariable("3s"), 3)
        self.assertRaises(SettingsError, kind.fromVariable, "٣٣٣٣")
        self.assertRaises(SettingsError, kind.fromOption, "2500")


class SizeTests(SynchronousTestCase):
    @given(st.integers(0, 1 << 21))
    def test_bounds(self, size: int) -> None:
        """Just the sizes from the smallest to the largest are allowed, as a number and with a unit."""
        kind = Size("1KB", "1MB")
        for read, value in ((kind.fromFile, size), (kind.fromFile, formatSize(size)), (kind.fromText, str(size))):
            if 1024 <= size <= 1 << 20:
                self.assertEqual(read(value), size)
            else:
                self.assertRaises(SettingsError, read, value)

    def test_types(self) -> None:
        """A fraction or a boolean is no size."""
        for value in (1024.0, True, None):
            self.assertRaises(SettingsError, Size("1B", "1MB").fromFile, value)


class PathTests(SynchronousTestCase):
    def test_relative(self) -> None:
        """A relative path starts from the folder given, an absolute one does not, and the home folder has its sign."""
        self.assertEqual(Path().resolve("a/b", "/base"), "/base/a/b")
        self.assertEqual(Path().resolve("/a/b", "/base"), "/a/b")
        self.assertNotIn("~", Path().resolve("~/a", "/base"))

    def test_refused(self) -> None:
        """A path that no file system has is refused, and so is the home folder of nobody."""
        self.assertRaises(SettingsError, Path().fromText, "a\0b")
        self.assertRaises(SettingsError, Path().fromFile, 5)
        self.assertRaises(SettingsError, Path().resolve, "~nobody-of-this-name/a", "/base")


class PemBundleTests(SynchronousTestCase):
    def test_certificates(self) -> None:
        """A file with a certificate is allowed."""
        folder = temporaryFolder(self)
        (folder / "ca.pem").write_bytes(selfSigned())
        self.assertEqual(PemBundle().resolve("ca.pem", str(folder)), str(folder / "ca.pem"))

    def test_refused(self) -> None:
        """A file that is missing, is a folder or holds no certificate is refused with the reason."""
        folder = temporaryFolder(self)
        (folder / "empty.pem").write_bytes(b"")
        (folder / "text.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for name, reason in (
            ("missing.pem", "No such file"),
            (".", "cannot be read"),
            ("empty.pem", "no certificate"),
            ("text.pem", "no certificate"),
        ):
            error = self.assertRaises(SettingsError, PemBundle().resolve, name, str(folder))
            self.assertIn(reason, str(error))


class SecretTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """A secret has at least and at most so many characters, each visible ASCII."""
        kind = Secret(4, 6)
        for text in ("abcd", "!~{}=,"):
            self.assertEqual(kind.fromText(text), text)
        for text in ("", "abc", "abcdefg", "ab cd", "abcd\n", "abcdé", "abcd\x7f"):
            self.assertRaises(SettingsError, kind.fromText, text)

    def test_show(self) -> None:
        """Of a secret no more than its length is shown, and of what is no string nothing."""
        self.assertEqual(Secret(1, 9).show("hunter2"), "(7 characters, not shown)")
        self.assertEqual(Secret(1, 9).show(["hunter2"]), "(not shown)")


class ManyTests(SynchronousTestCase):
    def test_separator(self) -> None:
        """A text is taken apart where there is a separator, space around items does not count, and texts add up."""
        kind = Many(Choice("a", "b"), "letters", separator=",")
        self.assertEqual(kind.fromText("a, b ,a"), ("a", "b", "a"))
        self.assertEqual(kind.fromOption(["a,b", "b"]), ("a", "b", "b"))
        self.assertEqual(Many(Path(), "paths").fromOption(["a,b", "c"]), ("a,b", "c"))

    def test_file(self) -> None:
        """In the file it is a list, and each item of its kind."""
        kind = Many(Choice("a", "b"), "letters", fewest=1)
        self.assertEqual(kind.fromFile(["a", "b"]), ("a", "b"))
        for value in ("a", [], [1], {"a": 1}, [["a"]]):
            self.assertRaises(SettingsError, kind.fromFile, value)

    def test_itemIsNamed(self) -> None:
        """A refusal shows the item that is wrong."""
        error = self.assertRaises(SettingsError, Many(Choice("a", "b"), "letters").fromFile, ["a", "x"])
        self.assertEqual(str(error), '"x" must be a or b')

    def test_secretItems(self) -> None:
        """The items of a list are shown as their own kind shows them."""
        self.assertNotIn("hunter2", Many(Secret(1, 9), "secrets").show(["hunter2"]))


class ShowTests(SynchronousTestCase):
    def test_short(self) -> None:
        """A long value is cut, one that is too long for decimals is not shown, and one nested too deeply neither."""
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        self.assertEqual(len(Path().show("x" * 1000)), 63)
        self.assertEqual(Path().show(1 << 100_000), "(too long to show)")
        self.assertEqual(Path().show(deep), "(too long to show)")
