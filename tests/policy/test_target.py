"""Request targets: one spelling, or refused with the reason."""

from __future__ import annotations

import re
from posixpath import normpath
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest, TargetTooLong
from lmgateway.policy.target import checkTarget
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import TARGETS

LIMIT = 8192

UNRESERVED = b"-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def isAccepted(target: bytes) -> bool:
    """Whether the gateway takes a target."""
    try:
        checkTarget(target, LIMIT)
    except BadRequest:
        return False
    return True


class CheckTargetTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """What clients of LM Studio ask for passes, whatever its query holds."""
        for target in (
            b"/",
            b"/v1/chat/completions",
            b"/v1/models/",
            b"/v1/models/qwen/qwen3-8b@q4_k_m",
            b"/api/v0/models/a:b,c=d+e!f$g&h'(i)*",
            b"/api/v0/models/M%C3%B6dell%20%3f%25",
            b"/v1/files/...",
            b"/v1/messages?beta=true",
            b"/v1/x?",
            b"/v1/x?a=%zz&b=../..//%2f;c|d[e]{f}&%6c",
        ):
            self.assertTrue(isAccepted(target), target)

    def test_refused(self) -> None:
        """What two readers could read differently is refused, each kind with a sentence of its own, and the connection closed."""
        for target, said in (
            (b"", "empty"),
            (b"*", "whole server"),
            (b"http://127.0.0.1:1234/v1/models", "whole URL"),
            (b"HTTPS://h/", "whole URL"),
            (b"127.0.0.1:1234", "does not begin"),
            (b"v1/models", "does not begin"),
            (b"/v1/mod els", "Percent-encode"),
            (b"/v1/\x7f", "Percent-encode"),
            ("/v1/modèle".encode(), "Percent-encode"),
            (b"/v1/models?q=\xff", "Percent-encode"),
            (b"/v1/models#top", "fragment"),
            (b"/v1/models?x#top", "fragment"),
            (b"/v1\\models", "back slash"),
            (b"/v1/models?a\\b", "back slash"),
            (b"//v1/models", "two slashes"),
            (b"/v1//models", "two slashes"),
            (b"/v1/models//", "two slashes"),
            (b"/v1/./models", "segment"),
            (b"/v1/..", "segment"),
            (b"/v1/../admin/models/activate", "segment"),
            (b"/v1/%2e%2E/admin", "segment"),
            (b"/v1/.%2e?x", "segment"),
            (b"/v1/models;v=1", "path parameters"),
            (b"/v1/models%", "hexadecimal"),
            (b"/v1/models%2", "hexadecimal"),
            (b"/v1/models%zz", "hexadecimal"),
            (b"/v1/models%00", "control"),
            (b"/v1/models%0d%0a", "control"),
            (b"/v1/models%7F", "control"),
            (b"/v1%2fmodels", "slash"),
            (b"/v1%5Cmodels", "slash"),
            (b"/api/v1/models/%6coad", "needs no encoding"),
            (b"/v1/models%2Ebak", "needs no encoding"),
        ):
            error = self.assertRaises(BadRequest, checkTarget, target, LIMIT)
            self.assertIn(said, error.message, target)
            self.assertTrue(error.closes)

    def test_tooLong(self) -> None:
        """A target of the limit passes, one byte more is 414 and says both numbers."""
        checkTarget(b"/" + b"a" * 99, 100)
        error = self.assertRaises(TargetTooLong, checkTarget, b"/" + b"a" * 100, 100)
        self.assertIn("101 bytes", error.message)
        self.assertIn("100", error.message)
        self.assertTrue(error.closes)

    def test_longest(self) -> None:
        """A hostile target as long as the limit is judged without backtracking over it again and again."""
        for target in (b"/" + b"%41" * 300000, b"/a" * 500000 + b"\xff", b"/" + b"." * 1000000 + b"#"):
            self.assertRaises(BadRequest, checkTarget, target, 2000000)

    @given(TARGETS)
    def test_anyBytes(self, target: bytes) -> None:
        """Arbitrary bytes are accepted or refused with a sentence: nothing else ever comes of them."""
        try:
            checkTarget(target, LIMIT)
        except BadRequest as error:
            self.assertRegex(error.message, r"\A[A-Z].*\.\Z")

    @given(TARGETS)
    @example(b"/...?")
    def test_oneSpelling(self, target: bytes) -> None:
        """The path of an accepted target is what is left of it after resolving dots, empty segments and needless escapes."""
        if not isAccepted(target):
            return
        path = target.partition(b"?")[0]
        resolved = normpath(path.decode("ascii")).encode("ascii")
        self.assertEqual(resolved.rstrip(b"/"), path.rstrip(b"/"))
        for escape in re.findall(rb"%(..)", path):
            self.assertNotIn(
                bytes.fromhex(escape.decode("ascii")), [bytes([byte]) for byte in UNRESERVED + b"/\\\0\r\n"]
            )

    @given(TARGETS)
    def test_decodingMovesNothing(self, target: bytes) -> None:
        """The path of an accepted target has the same segments whether they are split before or after decoding."""
        if not isAccepted(target):
            return
        path = target.partition(b"?")[0]
        self.assertEqual(
            [unquote_to_bytes(segment) for segment in path.split(b"/")], unquote_to_bytes(path).split(b"/")
        )

    @given(st.integers(0, 255))
    def test_everyEscape(self, byte: int) -> None:
        """An escape in a path is accepted exactly when it stands for neither an unreserved character, a separator nor a control."""
        expected = byte not in UNRESERVED and byte not in b"/\\" and byte >= 0x20 and byte != 0x7F
        self.assertEqual(isAccepted(b"/v1/a%%%02xb" % byte), expected)
        self.assertEqual(isAccepted(b"/v1/a%%%02Xb" % byte), expected)

    @given(st.integers(0, 255))
    def test_everyByte(self, byte: int) -> None:
        """A byte stands for itself in a path exactly when it is visible ASCII and no delimiter of its own."""
        self.assertEqual(isAccepted(b"/v1/a" + bytes([byte]) + b"b"), 0x21 <= byte <= 0x7E and byte not in b"#%;\\")
