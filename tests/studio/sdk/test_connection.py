"""Tests for :mod:`lmgateway.studio.sdk.connection`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, UpstreamBroken, UpstreamSilent, UpstreamUnavailable
from lmgateway.studio.sdk.connection import (
    ADMISSION_SECONDS,
    DEAD_SECONDS,
    KEEP_ALIVE_SECONDS,
    credentialsOf,
)
from lmgateway.studio.sdk.refusals import StudioRefusal
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import JSON_VALUES, cut
from tests.studio.sdk.support import TOKEN, PlayedCase

JSON: st.SearchStrategy[Any] = JSON_VALUES.map(json.loads)
_KINDS = (
    "rpcResult",
    "rpcError",
    "channelSend",
    "channelClose",
    "channelError",
    "communicationWarning",
    "keepAliveAck",
)
PACKETS = st.fixed_dictionaries(
    {"type": st.sampled_from(_KINDS)},
    optional={
        "callId": st.integers(0, 3) | JSON,
        "channelId": st.integers(0, 3) | JSON,
        "message": st.fixed_dictionaries({"type": st.sampled_from(["success", "progress"])}) | JSON,
        "error": JSON,
        "result": JSON,
        "warning": st.just("Received rpcCall for unknown endpoint, endpoint = listLoaded") | JSON,
    },
)


class CredentialsTests(SynchronousTestCase):
    """Who connects."""

    def test_token(self) -> None:
        """A token goes in its halves."""
        credentials = credentialsOf(TOKEN)
        self.assertEqual(("AbCdEfGh", "0123456789abcdefghij"), (credentials.identifier, credentials.passkey))

    def test_guest(self) -> None:
        """Without a token, or with what is none, the client is a guest that nobody else is."""
        for token in (None, "", "sk-lm-", "sk-lm-a", "sk-lm-a:", "sk-lm-:b", "key", f"sk-lm-a:{'b' * 257}"):
            one, other = credentialsOf(token), credentialsOf(token)
            self.assertTrue(one.identifier.startswith("guest:"))
            self.assertNotEqual(one.identifier, other.identifier)
            self.assertNotEqual(one.passkey, other.passkey)
            self.assertGreater(len(one.passkey), 20)


class AdmissionTests(PlayedCase):
    """Being let in."""

    def test_admitted(self) -> None:
        """The first packet is the authentication, and nothing is left to wait for."""
        connection = self.connection()
        self.successResultOf(self.opening(connection, TOKEN))
        self.assertTrue(connection.isOpen)
        self.assertEqual(
            [{"authVersion": 1, "clientIdentifier": "AbCdEfGh", "clientPasskey": "0123456789abcdefghij"}],
            self.server.packets,
        )
        self.assertStill()

    def test_refused(self) -> None:
        """Who is refused learns why, without the token, and the connection is closed."""
        self.admission = {"success": False, "error": f"The token {TOKEN} was not recognized."}
        connection = self.connection(TOKEN)
        error = self.failure(self.opening(connection, TOKEN), Forbidden)
        self.assertIn("The token [token] was not recognized.", error.message)
        self.assertFalse(connection.isOpen)
        self.assertTrue(self.server.ended)

    def test_silence(self) -> None:
        """A server that says nothing is given up."""
        self.admission = None
        opening = self.opening(self.connection())
        self.network.advance(ADMISSION_SECONDS)
        self.failure(opening, UpstreamSilent)
        self.assertTrue(self.server.ended)
        self.assertStill()

    def test_nonsense(self) -> None:
        """A server that says something else is not LM Studio."""
        self.admission = {"hello": "world"}
        self.failure(self.opening(self.connection()), UpstreamBroken)
        self.network.flush()
        self.assertTrue(self.server.ended)

    def test_lost(self) -> None:
        """A server that breaks off fails it at once."""
        self.admission = None
        opening = self.opening(self.connection())
        self.server.transport.abortConnection()
        self.failure(opening, UpstreamBroken)
        self.assertStill()

    def test_closed(self) -> None:
        """Closing fails it as well."""
        self.admission = None
        connection = self.connection()
        opening = self.opening(connection)
        closing = connection.close()
        self.failure(opening, UpstreamUnavailable)
        self.successResultOf(closing)
        self.assertStill()

    def test_cancelled(self) -> None:
        """Cancelling closes the connection."""
        self.admission = None
        opening = self.opening(self.connection())
        opening.cancel()
        self.failure(opening, CancelledError)
        self.assertTrue(self.server.ended)
        self.assertStill()


class CallCase(PlayedCase):
    """With an open connection."""

    def setUp(self) -> None:
        super().setUp()
        self.subject = self.opened()
        self.heard: list[dict[str, Any]] = []

    def call(self, seconds: float = 10.0) -> Deferred[Any]:
        """Call something."""
        calling = self.subject.call("listLoaded", {"a": 1}, seconds=seconds)
        self.network.flush()
        return calling

    def converse(self) -> Deferred[Any]:
        """Open a channel."""
        talking = self.subject.converse("loadModel", {"b": 2}, self.heard.append, last="success")
        self.network.flush()
        return talking

    def advance(self, seconds: float) -> None:
        """Let time pass, while LM Studio answers no question of life."""
        self.network.advance(seconds)


class CallTests(CallCase):
    """Calls."""

    def test_result(self) -> None:
        """A call fires with its result, and nothing is left of it."""
        calling = self.call()
        self.assertEqual(
            {"type": "rpcCall", "endpoint": "listLoaded", "callId": 1, "parameter": {"a": 1}}, self.server.packets[-1]
        )
        self.server.result([3])
        self.network.flush()
        self.assertEqual([3], self.successResultOf(calling))
        self.assertStill()

    def test_mixed(self) -> None:
        """Answers find their calls in any order."""
        calls = [self.call(), self.call()]
        first, second = (packet["callId"] for packet in self.server.packets)
        for identifier, result in ((second, "b"), (first, "a")):
            self.server.say({"type": "rpcResult", "callId": identifier, "result": result})
        self.network.flush()
        self.assertEqual(["a", "b"], [self.successResultOf(call) for call in calls])

    def test_error(self) -> None:
        """An error fails it with what LM Studio said."""
        calling = self.call()
        self.server.say({"type": "rpcError", "callId": 1, "error": {"title": "No"}})
        self.assertEqual("No", self.failure(calling, StudioRefusal).error.title)

    def test_unknownEndpoint(self) -> None:
        """A warning that names the endpoint fails it at once: there would never be an answer."""
        calling = self.call()
        self.server.say(
            {"type": "communicationWarning", "warning": "Received rpcCall for unknown endpoint, endpoint = listLoaded"}
        )
        self.assertIn("endpoint = listLoaded", self.failure(calling, UpstreamBroken).message)
        self.assertStill()

    def test_otherWarning(self) -> None:
        """A warning of something else fails nothing."""
        calling = self.call()
        self.server.say(
            {"type": "communicationWarning", "warning": "Received channelSend for unknown channel, channelId = 7"}
        )
        self.network.flush()
        self.assertNoResult(calling)

    def test_silence(self) -> None:
        """Without an answer in time it fails; a connection on which there was not a word since is given up with it."""
        calling = self.call(3.0)
        self.advance(3)
        self.failure(calling, UpstreamSilent)
        self.network.flush()
        self.assertFalse(self.subject.isOpen)
        self.assertStill()

    def test_slow(self) -> None:
        """A connection on which something else came since is kept, and a late answer is overlooked."""
        calling = self.call(3.0)
        self.server.say({"type": "keepAliveAck"})
        self.network.flush()
        self.server.say({"type": "communicationWarning", "warning": "?"})
        self.advance(1)
        self.server.say({"type": "keepAliveAck"})
        self.advance(2)
        self.failure(calling, UpstreamSilent)
        self.server.say({"type": "rpcResult", "callId": 1})
        self.network.flush()
        self.assertTrue(self.subject.isOpen)

    def test_lost(self) -> None:
        """A loss fails whatever waits, and what is asked afterwards, and nothing goes on."""
        calls = [self.call(), self.converse()]
        self.server.transport.abortConnection()
        for call in calls:
            self.failure(call, UpstreamBroken)
        self.assertFalse(self.subject.isOpen)
        for call in (self.call(), self.converse()):
            self.failure(call, UpstreamBroken)
        self.assertStill()

    def test_closed(self) -> None:
        """Closing fails whatever waits."""
        calling = self.call()
        closing = self.subject.close()
        self.failure(calling, UpstreamUnavailable)
        self.successResultOf(closing)
        self.assertStill()

    def test_cancelled(self) -> None:
        """Cancelling ends the waiting, and tells LM Studio nothing: a call cannot be taken back."""
        calling = self.call()
        calling.cancel()
        self.failure(calling, CancelledError)
        self.assertEqual(["rpcCall"], self.server.kinds)
        self.assertStill()


class ChannelTests(CallCase):
    """Channels."""

    def test_messages(self) -> None:
        """Each message is heard until the last, which is the result."""
        talking = self.converse()
        self.assertEqual(
            {"type": "channelCreate", "endpoint": "loadModel", "channelId": 1, "creationParameter": {"b": 2}},
            self.server.packets[-1],
        )
        self.server.message(type="progress", progress=0.5)
        self.server.message(type="success", info=1)
        self.server.message(type="progress", progress=0.6)
        self.network.flush()
        self.assertEqual({"type": "success", "info": 1}, self.successResultOf(talking))
        self.assertEqual([{"type": "progress", "progress": 0.5}], self.heard)
        self.assertStill()

    def test_error(self) -> None:
        """An error fails it with what LM Studio said."""
        talking = self.converse()
        self.server.say({"type": "channelError", "channelId": 1, "error": {"title": "No"}})
        self.assertEqual("No", self.failure(talking, StudioRefusal).error.title)

    def test_closedWithoutResult(self) -> None:
        """An end without a result makes no sense."""
        talking = self.converse()
        self.server.say({"type": "channelClose", "channelId": 1})
        self.failure(talking, UpstreamBroken)

    def test_misunderstood(self) -> None:
        """A warning fails it where nothing came on it yet: after that the warning is of something else."""
        warning = {
            "type": "communicationWarning",
            "warning": "Received invalid creationParameter, endpointName = loadModel. ?",
        }
        talking = self.converse()
        self.server.say(warning)
        self.failure(talking, UpstreamBroken)
        talking = self.converse()
        self.server.message(type="resolved")
        self.server.say(warning)
        self.network.flush()
        self.assertNoResult(talking)

    def test_cancelled(self) -> None:
        """Cancelling takes the wish back, and what comes afterwards is overlooked."""
        talking = self.converse()
        talking.cancel()
        self.failure(talking, CancelledError)
        sent = {"type": "channelSend", "channelId": 1, "message": {"type": "cancel"}}
        self.assertEqual(sent, self.server.packets[-1])
        self.server.message(type="progress", progress=0.5)
        self.server.say({"type": "channelError", "channelId": 1, "error": {"title": "Aborted"}})
        self.network.flush()
        self.assertEqual([], self.heard)
        self.assertTrue(self.subject.isOpen)
        self.assertStill()

    def test_signsOfLife(self) -> None:
        """A channel waits as long as it will while LM Studio shows every few seconds that it is there."""
        talking = self.converse()
        for _ in range(100):
            self.advance(KEEP_ALIVE_SECONDS)
            self.assertEqual("keepAlive", self.server.kinds[-1])
            self.server.say({"type": "keepAliveAck"})
            self.network.flush()
        self.assertNoResult(talking)
        self.assertEqual(101, len(self.server.packets))

    def test_dead(self) -> None:
        """A server that shows none for a quarter of a minute is given up."""
        talking = self.converse()
        self.advance(DEAD_SECONDS - 1)
        self.assertNoResult(talking)
        self.advance(1)
        self.failure(talking, UpstreamSilent)
        self.assertFalse(self.subject.isOpen)
        self.assertTrue(self.server.ended)
        self.assertStill()

    def test_idle(self) -> None:
        """While nothing is awaited, nothing is asked; and what was heard long ago does not count against LM Studio."""
        self.advance(3600)
        self.assertEqual([], self.server.packets)
        talking = self.converse()
        self.advance(KEEP_ALIVE_SECONDS)
        self.assertNoResult(talking)


class GarbageTests(CallCase):
    """What a server says that is no LM Studio, or of another version."""

    def test_otherKind(self) -> None:
        """The id of a channel is that of no call, and the other way about; such packets are overlooked."""
        calling, talking = self.call(), self.converse()
        for packet in (
            {"type": "rpcResult", "callId": 2, "result": {"type": "success"}},
            {"type": "rpcError", "callId": 2},
            {"type": "channelSend", "channelId": 1, "message": {"type": "success"}},
            {"type": "channelClose", "channelId": 1},
        ):
            self.server.say(packet)
        self.network.flush()
        self.assertNoResult(calling)
        self.assertNoResult(talking)
        self.assertTrue(self.subject.isOpen)
        self.subject.close()
        for waiting in (calling, talking):
            self.failure(waiting)

    @given(st.lists(PACKETS | JSON, max_size=6), st.lists(st.integers(1, 300), max_size=3))
    def test_anything(self, said: list[Any], places: list[int]) -> None:
        """Whatever is said, in whatever pieces, nothing is raised; each wait ends once, and none outlives the connection."""
        self.setUp()
        waits = [self.call(), self.converse()]
        ends: list[Any] = []
        for wait in waits:
            wait.addBoth(ends.append)
        for piece in cut(b"".join(self.server.frame(json.dumps(packet)) for packet in said), places):
            self.server.transport.write(piece)
            self.network.flush()
        self.server.transport.abortConnection()
        self.network.flush()
        self.assertEqual(2, len(ends))
        self.assertFalse(self.subject.isOpen)
        self.assertStill()

    @given(st.integers(1, 60))
    def test_halfPacket(self, length: int) -> None:
        """A packet that was cut off is none, and the loss is told."""
        self.setUp()
        calling = self.call()
        frame = self.server.frame('{"type":"rpcResult","callId":1,"result":["something long enough"]}')
        self.server.transport.write(frame[:length])
        self.network.flush()
        self.server.transport.abortConnection()
        self.failure(calling, UpstreamBroken)
