# -*- test-case-name: tests.commands.test_follow -*-
"""Following a gateway's event stream for as long as one likes: connections come and go, events are missed by none of that."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator

from lmgateway.commands.talk import Place, TalkError
from lmgateway.telemetry.sse import EventStreamDecoder, StreamError, StreamEvent

SILENCE_SECONDS = 40.0
"""After how long without a byte a stream is dead: a live one is sent a comment every fifteen seconds."""

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
"""Seconds between two attempts to come back: the first unless the stream says, and the longest."""

_PIECE = 65_536


class EventFollower:
    """
    Reads an event stream, and comes back where it was left when the connection is lost.

    :param place: whose.
    :param target: path and query of the stream.
    :param tell: told, in a sentence, of each connection that is lost.
    :param sleep: waits for some seconds.
    :ivar silence: seconds without a byte after which a connection is lost.
    """

    silence = SILENCE_SECONDS

    def __init__(self, place: Place, target: str, tell: Callable[[str], None], sleep: Callable[[float], None]) -> None:
        self._place = place
        self._target = target
        self._tell = tell
        self._sleep = sleep
        self._lastId = ""
        self._firstWait = FIRST_WAIT
        self._wait = FIRST_WAIT

    def events(self) -> Iterator[StreamEvent]:
        """
        Give each event as it comes, without an end.

        :raise TalkError: there was no stream in the first place, or there can be none any more.
        """
        response = self._open()
        while True:
            yield from self._read(response)
            response = self._reopen()

    def _open(self) -> http.client.HTTPResponse:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._lastId:
            headers["Last-Event-ID"] = self._lastId
        response = self._place.open(self._target, headers, self.silence)
        if response.headers.get_content_type() != "text/event-stream":
            response.close()
            raise TalkError(f"What answers at {self._place.url} has no events. Is it an lmgateway?", mayPass=False)
        return response

    def _reopen(self) -> http.client.HTTPResponse:
        """Try until it succeeds, each time after a longer wait."""
        while True:
            self._sleep(self._wait)
            self._wait = min(self._wait * 2, LONGEST_WAIT)
            try:
                return self._open()
            except TalkError as error:
                if not error.mayPass:
                    raise
                self._tellOf(error.message)

    def _read(self, response: http.client.HTTPResponse) -> Iterator[StreamEvent]:
        """Give the events of one connection."""
        decoder = EventStreamDecoder()
        reason = "The gateway ended the stream."
        with response:
            while True:
                try:
                    piece = response.read1(_PIECE)
                except TimeoutError:
                    reason = f"Nothing was heard for {self.silence:g} s."
                    break
                except (OSError, http.client.HTTPException):
                    reason = "The connection was lost."
                    break
                if not piece:
                    break
                yield from self._decode(decoder, piece)
        self._tellOf(reason)

    def _decode(self, decoder: EventStreamDecoder, piece: bytes) -> Iterator[StreamEvent]:
        try:
            events = decoder.feed(piece)
        except StreamError as error:
            raise TalkError(f"The events of {self._place.url} cannot be read: {error}", mayPass=False) from None
        if decoder.retry is not None:
            self._firstWait = min(max(decoder.retry, 1) / 1000, LONGEST_WAIT)
        for event in events:
            self._lastId = event.id or self._lastId
            self._wait = self._firstWait
            yield event

    def _tellOf(self, reason: str) -> None:
        self._tell(f"{reason} Trying again in {self._wait:g} s.")
