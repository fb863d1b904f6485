"""Following an event stream over real sockets, through everything that ends a connection."""

from __future__ import annotations

from lmgateway.commands.follow import LONGEST_WAIT, EventFollower
from lmgateway.commands.talk import Place, TalkError
from lmgateway.telemetry.sse import StreamEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import EVENTS, LittleGateway, Said, error, events, json200

GONE = error(401, {"error": "No."})
"""Ends a follower for good."""


def event(number: int) -> bytes:
    """An event as the gateway sends it."""
    return b'id: %d\nevent: debug_log\ndata: {"n":%d}\n\n' % (number, number)


class FollowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.waits: list[float] = []

    def follow(self, *said: Said) -> EventFollower:
        """Follow a gateway that says these, one for each connection."""
        self.gateway = LittleGateway(self, {"/debug/stream": list(said)})
        return EventFollower(Place(self.gateway.url), "/debug/stream?types=a", self.told.append, self.waits.append)

    def untilGone(self, follower: EventFollower) -> list[StreamEvent]:
        """Every event, until the follower gives up."""
        found: list[StreamEvent] = []
        # extend keeps what came before the error.
        self.assertRaises(TalkError, found.extend, follower.events())
        return found

    def idsAsked(self) -> list[str | None]:
        """The ``Last-Event-ID`` of each connection."""
        return [headers.get("Last-Event-ID") for _, headers in self.gateway.asked]

    def test_resumes(self) -> None:
        """
        A stream that ends, and one that is cut in the midst of an event, are taken up after the last whole event, and the
        same is asked for again.
        """
        follower = self.follow(
            events(event(1) + event(2)[:9], event(2)[9:]),
            events(event(3), event(4)[:-1], isCut=True),
            events(event(4)),
            GONE,
        )
        found = self.untilGone(follower)
        self.assertEqual([(each.id, each.kind, each.data) for each in found], [
            (str(number), "debug_log", f'{{"n":{number}}}') for number in range(1, 5)
        ])  # fmt: skip
        self.assertEqual(self.idsAsked(), [None, "2", "3", "4"])
        self.assertEqual(set(self.gateway.targets), {"/debug/stream?types=a"})
        self.assertEqual(
            self.told,
            [
                "The gateway ended the stream. Trying again in 0.001 s.",
                "The connection was lost. Trying again in 0.001 s.",
                "The gateway ended the stream. Trying again in 0.001 s.",
            ],
        )

    def test_idKept(self) -> None:
        """A connection on which nothing came, or nothing with an id, does not make it forget where it was."""
        follower = self.follow(events(event(7)), events(), events(b"data: {}\n\n"), GONE)
        self.untilGone(follower)
        self.assertEqual(self.idsAsked(), [None, "7", "7", "7"])

    def test_backoff(self) -> None:
        """While the gateway cannot be reached the waits grow to a bound; an event makes them short again."""
        busy = error(503, {"error": "Stopping."})
        follower = self.follow(events(event(1)), *[busy] * 20, events(event(2)), GONE)
        self.assertEqual([each.id for each in self.untilGone(follower)], ["1", "2"])
        self.assertEqual(self.waits[:4], [0.001, 0.002, 0.004, 0.008])
        self.assertEqual(self.waits[17:], [LONGEST_WAIT] * 4 + [0.001])
        self.assertRegex(self.told[1], r"says 503: Stopping\. Trying again in 0.002 s\.")

    def test_silent(self) -> None:
        """A connection on which not even a comment comes is given up."""
        follower = self.follow(events(event(1), isHeld=True), events(event(2)), GONE)
        follower.silence = 0.1
        self.assertEqual([each.id for each in self.untilGone(follower)], ["1", "2"])
        self.assertIn("Nothing was heard for 0.1 s.", self.told[0])

    def test_first(self) -> None:
        """Who gets no stream in the first place is told at once, whatever the reason, and is not kept waiting."""
        for said in (GONE, error(503, {"error": "Stopping."}), json200({}), Said(200, (b"<html>",), "text/html")):
            self.assertEqual(self.untilGone(self.follow(said)), [])
        self.assertEqual(self.waits, [])

    def test_unreadable(self) -> None:
        """An event without an end is no reason to fill the memory, nor to ask for it again."""
        follower = self.follow(Said(200, (b"data: ", b"x" * (2 << 20)), EVENTS))
        self.assertEqual(self.untilGone(follower), [])
        self.assertEqual(len(self.gateway.asked), 1)
