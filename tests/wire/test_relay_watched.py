"""
Answers that are watched as they pass, and lose a part on the way; through treq and directly alike.

How both ends are played stands in :mod:`tests.wire.relay_support`.
"""

from __future__ import annotations

from lmgateway.errors import UpstreamBroken

from tests.wire.relay_support import EVENT, SENTENCE, SILENCE, STREAM, RelayCase, asChunk, errorEvent
from tests.wire.upstream_support import Directly, ThroughTreq

ADDED = b'data: {"usage":1}\n\n'
"""What nobody asked for."""


class Censor:
    """
    Takes out :data:`ADDED`, and holds ``half`` back until the end.

    :ivar seen: every piece that passed.
    """

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.held = b""

    def passing(self, data: bytes) -> bytes:
        self.seen.append(data)
        if data == b"half":
            self.held = data
            return b""
        return data.replace(ADDED, b"")

    def passed(self) -> bytes:
        held, self.held = self.held, b""
        return held


class Watched:
    """What the client gets of a watched answer."""

    def test_takenOut(self) -> None:
        """What the watch takes out is not sent, not even as an empty chunk, which would be the end; all else is, at once."""
        watch = Censor()
        proxied = self.begin(watch=watch)
        proxied.say(STREAM, asChunk(EVENT))
        proxied.heard()
        proxied.say(asChunk(ADDED))
        self.assertEqual(proxied.heard(), [])
        proxied.say(asChunk(EVENT + ADDED))
        self.assertEqual(proxied.heard(), [asChunk(EVENT)])
        proxied.say(b"0\r\n\r\n")
        self.assertEqual(proxied.client.answer.chunks, (EVENT, EVENT))
        self.assertTrue(proxied.client.answer.complete)
        self.assertEqual(watch.seen, [EVENT, ADDED, EVENT + ADDED])

    def test_heldBack(self) -> None:
        """What the watch still holds of a whole answer is sent before its end."""
        for said, body in (
            ((STREAM, asChunk(EVENT), asChunk(b"half"), b"0\r\n\r\n"), EVENT + b"half"),
            ((STREAM, asChunk(b"half"), b"0\r\n\r\n"), b"half"),
            ((b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"half"), b"half"),
            ((b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b'{"', b"half"), b'{"half'),
        ):
            proxied = self.begin(watch=Censor())
            proxied.say(*said)
            self.assertEqual(proxied.client.answer.body, body)
            self.assertTrue(proxied.client.answer.complete)
            self.assertEqual(proxied.outcomes, [None])

    def test_heldOfBroken(self) -> None:
        """Of an answer that breaks off, what is held is forgotten; the error event follows what was sent."""
        proxied = self.begin(watch=Censor())
        proxied.say(STREAM, asChunk(EVENT), asChunk(b"half"))
        proxied.peer.reset()
        proxied.clock.advance(0)
        self.assertEqual(proxied.client.answer.body, EVENT + errorEvent(UpstreamBroken("")))
        self.assertCut(proxied, UpstreamBroken)

    def test_noSilence(self) -> None:
        """A piece that is taken out is no silence."""
        proxied = self.begin(watch=Censor())
        proxied.say(STREAM)
        for _ in range(3):
            proxied.downstream.wait(SILENCE - 1)
            proxied.say(asChunk(ADDED))
        self.assertEqual(proxied.outcomes, [])

    def test_unknownPath(self) -> None:
        """LM Studio's sentence for unknown paths is a 404 where the answer is watched, too."""
        watch = Censor()
        proxied = self.begin(watch=watch)
        proxied.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SENTENCE), SENTENCE[:9], SENTENCE[9:])
        self.assertEqual((proxied.client.answer.status, proxied.client.answer.body), (404, SENTENCE))
        self.assertEqual(b"".join(watch.seen), SENTENCE)


class TreqWatchedTests(Watched, RelayCase):
    """Through treq."""

    way = ThroughTreq


class DirectWatchedTests(Watched, RelayCase):
    """Directly."""

    way = Directly
