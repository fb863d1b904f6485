"""What is kept of single requests, and what never is."""

from __future__ import annotations

import json
import subprocess

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.telemetry.captures import KEPT, Captures, curlOf, harOf, shown
from twisted.trial.unittest import SynchronousTestCase

from tests.telemetry.test_metrics import exchangeOf

HEADERS = (
    (b"Authorization", b"Bearer lmg_canarycanarycanary"),
    (b"X-API-Key", b"canary"),
    (b"Cookie", b"c=canary"),
    (b"Content-Type", b"application/json"),
    (b"X-Note", b"my key is sk-canary12345678"),
)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
"""What a client may write, as far as a shell's words can hold it."""


class CapturesTests(SynchronousTestCase):
    def test_offUnlessNamed(self) -> None:
        """Nothing is kept unless the settings name the key."""
        captures = Captures((), 100)
        self.assertIsNone(captures.begin("alice", "r", "POST", "/x", HEADERS))
        captures.configure(("alice",), 100)
        self.assertIsNone(captures.begin("bob", "r", "POST", "/x", HEADERS))
        self.assertIsNotNone(captures.begin("alice", "r", "POST", "/x", HEADERS))
        captures.configure(("*",), 100)
        self.assertIsNotNone(captures.begin("bob", "r", "POST", "/x", HEADERS))

    def test_redacted(self) -> None:
        """No credential is shown: not in header fields, not in bodies, not in either export."""
        captures = Captures(("*",), 1000)
        capture = captures.begin("k", "r", "POST", "/v1/x", HEADERS)
        assert capture is not None
        capture.sent(b'{"note":"Bearer canary-token, lmg_canarycanary"}', b"{}")
        capture.answered(200, ((b"Set-Cookie", b"canary=1"),))
        capture.passing(b"sk-canary-canary")
        exports = json.dumps([capture.show(), harOf(capture, exchangeOf(), "http://g")]) + curlOf(capture, "http://g")
        self.assertNotIn("canary", exports)
        self.assertIn("application/json", exports)

    def test_bounded(self) -> None:
        """Bodies are cut at the size, and told to be; only the last requests are kept."""
        captures = Captures(("*",), 10)
        for number in range(KEPT + 5):
            capture = captures.begin("k", f"r{number}", "POST", "/x", ())
            assert capture is not None
            capture.sent(b"a" * 100, b"b" * 100)
            capture.passing(b"c" * 7)
            capture.passing(b"c" * 7)
        self.assertIsNone(captures.find("r4"))
        kept = captures.find("r5")
        assert kept is not None
        told = kept.show()
        self.assertEqual((told["request"]["body"], told["sentBody"]), ("a" * 10, "b" * 10))
        self.assertEqual(
            (told["answer"]["body"], told["answer"]["bytes"], told["answer"]["truncated"]), ("c" * 10, 14, True)
        )

    @given(st.binary(max_size=200))
    def test_shownIsText(self, data: bytes) -> None:
        """Any bytes can be shown, as text that JSON can hold."""
        json.dumps(shown(data)).encode("utf-8", "strict")

    @example("$LMGATEWAY_KEY $(echo owned)", "/v1/$LMGATEWAY_KEY`echo owned`", '$LMGATEWAY_KEY";echo owned;"')
    @given(WORDS, WORDS, WORDS)
    def test_curlIsOneCommand(self, body: str, path: str, mediaType: str) -> None:
        """The shell reads the curl command as the words that were meant, whatever the client wrote."""
        captures = Captures(("*",), 10_000)
        field = mediaType.encode("utf-8", "ignore")
        capture = captures.begin("k", "r", "POST", f"/v1/x{path}", ((b"Content-Type", field),))
        assert capture is not None
        data = body.encode("utf-8", "ignore")
        capture.sent(data, b"")
        script = curlOf(capture, "http://g").replace("curl", "printf '%s\\0'", 1)
        words = subprocess.run(  # noqa: S603 - the point is that a shell reads it
            ["/bin/sh", "-c", script], capture_output=True, check=True, env={"LMGATEWAY_KEY": "K"}
        ).stdout.split(b"\0")[:-1]
        self.assertEqual(words[:3], [b"-sS", b"-X", b"POST"])
        self.assertEqual(words[3], f"http://g/v1/x{path}".encode())
        self.assertEqual(words[4:7], [b"-H", b"Authorization: Bearer K", b"-H"])
        self.assertEqual(words[7], f"Content-Type: {shown(field)}".encode())
        if data:
            self.assertEqual(words[-2:], [b"--data-raw", shown(data).encode()])
