"""Sessions: how they begin, and all the ways in which they end."""

from __future__ import annotations

from lmgateway.policy.sessions import LONGEST_SECONDS, MOST_SESSIONS, Sessions
from twisted.trial.unittest import SynchronousTestCase


class SessionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.seconds = 1000.0
        self.sessions = Sessions(lambda: self.seconds, 60)

    def test_ends(self) -> None:
        """A session ends unused, ended, and after some hours however much it is used."""
        token = self.sessions.begin(b"key").encode()
        self.seconds += 59
        self.assertEqual(self.sessions.keyOf(token), b"key")
        self.seconds += 61
        self.assertIsNone(self.sessions.keyOf(token))
        token = self.sessions.begin(b"key").encode()
        self.sessions.end(token)
        self.assertIsNone(self.sessions.keyOf(token))
        token = self.sessions.begin(b"key").encode()
        for _ in range(int(LONGEST_SECONDS / 50) + 1):
            self.seconds += 50
            found = self.sessions.keyOf(token)
        self.assertIsNone(found)

    def test_lasting(self) -> None:
        """What goes on in a session keeps it from ending unused, is cut when it ends, and is nothing to it once it is over."""
        cut: list[str] = []
        token = self.sessions.begin(b"key").encode()
        with self.sessions.lasting(token, lambda: cut.append("one")) as end:
            self.assertEqual(end, self.seconds + LONGEST_SECONDS)
            with self.sessions.lasting(token, lambda: cut.append("other")):
                self.seconds += 1000
                self.assertEqual(self.sessions.keyOf(token), b"key")
            self.seconds += 1000
            self.assertEqual(self.sessions.keyOf(token), b"key")
            self.sessions.end(token)
            self.assertEqual(cut, ["one"])
        token = self.sessions.begin(b"key").encode()
        with self.sessions.lasting(token, lambda: cut.append("none")):
            self.seconds += 1000
        self.seconds += 59
        self.assertEqual(self.sessions.keyOf(token), b"key", "its use ends with what went on")
        self.seconds += 61
        self.assertIsNone(self.sessions.keyOf(token))
        self.assertEqual(cut, ["one"])

    def test_lastingNowhere(self) -> None:
        """In a session that is not there nothing lasts beyond it: it is cut at once."""
        cut: list[str] = []
        with self.sessions.lasting(b"none", lambda: cut.append("one")) as end:
            self.assertEqual((end, cut), (None, ["one"]))

    def test_crowdedOut(self) -> None:
        """What goes on in a session that ends because there are too many is cut, too."""
        cut: list[str] = []
        with self.sessions.lasting(self.sessions.begin(b"key").encode(), lambda: cut.append("one")):
            for _ in range(MOST_SESSIONS):
                self.sessions.begin(b"key")
            self.assertEqual(cut, ["one"])

    def test_bounded(self) -> None:
        """Of too many the oldest end, and no two have the same token."""
        tokens = [self.sessions.begin(b"key").encode() for _ in range(MOST_SESSIONS + 1)]
        self.assertEqual(len(set(tokens)), len(tokens))
        self.assertEqual(len(self.sessions), MOST_SESSIONS)
        self.assertIsNone(self.sessions.keyOf(tokens[0]))
        self.assertEqual(self.sessions.keyOf(tokens[-1]), b"key")
