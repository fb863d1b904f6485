"""The WebSockets: how they begin, who is let in, how they end."""

from __future__ import annotations

from lmgateway.studio.simulator.websocket import NAMESPACES, StudioSocket, StudioSockets
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from tests.studio.simulator.sdk import TOKEN, Sdk
from tests.studio.simulator.wire import QWEN, Studio


class BeginningTests(SynchronousTestCase):
    def test_namespaces(self) -> None:
        """Every namespace can be connected to, on the port of the REST API."""
        studio = Studio()
        for namespace in NAMESPACES:
            self.assertEqual(Sdk(studio, namespace).status, 101, namespace)
        self.assertEqual(studio.simulator.received[0].target, b"/llm")

    def test_unknown(self) -> None:
        """On any other path nobody answers."""
        studio = Studio()
        for path in ("nope", "LLM", "llm/", "v1/models"):
            sdk = Sdk(studio, path)
            studio.clock.advance(1000)
            self.assertEqual((sdk.status, sdk.connection.received, sdk.closed), (None, b"", False))

    def test_noSdk(self) -> None:
        """Without SDKs it is a request like any other, to a path that does not exist."""
        sdk = Sdk(Studio(sdk=False))
        self.assertEqual(sdk.status, 200)
        self.assertIn(b"Unexpected endpoint or method. (GET /llm)", sdk.connection.received)

    def test_badSwitch(self) -> None:
        """A switch that does not exist is told, not overlooked."""
        self.assertEqual(Sdk(Studio(), X_Simulate="nope").status, 400)

    def test_badHandshake(self) -> None:
        """A handshake that is none is a 400."""
        connection = Studio().connect()
        connection.send("/llm", Upgrade="websocket", Connection="Upgrade")
        self.assertEqual(connection.answer.status, 400)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_interface(self) -> None:
        """A socket can be told that the client reads slowly."""
        studio = Studio()
        verifyObject(IPushProducer, StudioSocket(StudioSockets(studio.simulator, studio.clock), DummyRequest([b""])))


class AuthenticationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()

    def enter(self, identifier: str, passkey: str, **switches: str) -> tuple[dict[str, object], bool]:
        """What a client is told, and whether the connection is closed then."""
        sdk = Sdk(self.studio, **switches)
        sdk.authenticate(identifier, passkey)
        (answer,) = sdk.take()
        return answer, sdk.closed

    def test_guest(self) -> None:
        """Anybody is let in, and may come again."""
        for _ in range(2):
            self.assertEqual(self.enter("guest:1", "p"), ({"success": True}, False))

    def test_taken(self) -> None:
        """Whoever comes first under a name keeps it, until the last connection has gone."""
        first, second = Sdk(self.studio), Sdk(self.studio)
        first.authenticate("me", "p")
        second.authenticate("me", "p")
        first.connection.leave()
        answer, closed = self.enter("me", "q")
        error = 'Failed to validate client: Invalid client passkey for client "me"'
        self.assertEqual((answer, closed), ({"success": False, "error": error}, True))
        second.connection.leave()
        self.assertEqual(self.enter("me", "q"), ({"success": True}, False))

    def test_token(self) -> None:
        """Where a token is required its halves let in, and nothing else does."""
        self.studio.simulator.behaviour.requireToken = TOKEN
        self.assertEqual(self.enter("abcdefgh", "ABCDEFGHIJKLMNOPQRST"), ({"success": True}, False))
        for identifier, passkey in (("abcdefgh", "x"), ("guest:1", "p"), (TOKEN, ""), ("é", "\ud800")):
            answer, closed = self.enter(identifier, passkey)
            self.assertEqual((answer["success"], closed), (False, True), identifier)
            self.assertNotIn(identifier, str(answer["error"]))

    def test_overlooked(self) -> None:
        """What is no authentication is overlooked; one may still follow, as text or as bytes."""
        sdk = Sdk(self.studio)
        sdk.text("{")
        sdk.say(type="rpcCall", endpoint="listLoaded", callId=0)
        sdk.say(authVersion=2, clientIdentifier="a", clientPasskey="b")
        self.assertEqual(sdk.take(), [])
        sdk.bytes(b'{"authVersion":1,"clientIdentifier":"a","clientPasskey":"b"}')
        self.assertEqual(sdk.take(), [{"success": True}])

    def test_timeout(self) -> None:
        """Who says nothing for ten seconds is told so, and out; who is in stays."""
        silent, patient = Sdk(self.studio), Sdk.authenticated(self.studio)
        self.studio.clock.advance(9.9)
        self.assertFalse(silent.closed)
        self.studio.clock.advance(0.2)
        self.assertEqual(silent.take(), [{"success": False, "error": "Authentication timed out"}])
        self.assertEqual((silent.closed, patient.closed), (True, False))
        self.studio.clock.advance(10_000)
        self.assertFalse(patient.closed)


class ConversationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.studio = Studio()
        self.sdk = Sdk.authenticated(self.studio)

    def test_call(self) -> None:
        """Packets go both ways, text outside of ASCII included."""
        self.assertEqual(self.sdk.call("listLoaded")[0]["modelKey"], QWEN)
        self.assertIn("é😀", self.sdk.call("unloadModel", {"identifier": "é😀"})["title"])

    def test_apart(self) -> None:
        """Two connections have nothing of each other's."""
        other = Sdk.authenticated(self.studio)
        self.sdk.say(type="keepAlive")
        self.assertEqual((len(self.sdk.take()), other.take()), (1, []))

    def test_changed(self) -> None:
        """What is changed holds from the next packet on; what a client's own switches say holds for it alone."""
        mine = Sdk.authenticated(self.studio, X_Simulate="no-models")
        self.assertEqual(mine.call("listLoaded"), [])
        self.assertEqual(len(self.sdk.call("listLoaded")), 1)
        self.studio.simulator.behaviour.noModels = True
        self.assertEqual(self.sdk.call("listLoaded"), [])

    def test_mute(self) -> None:
        """Where management is mute a client gets in, and no answer."""
        self.studio.simulator.behaviour.muteManagement = True
        sdk = Sdk.authenticated(self.studio)
        sdk.say(type="rpcCall", endpoint="listLoaded", callId=0)
        sdk.say(type="keepAlive")
        self.studio.clock.advance(1000)
        self.assertEqual((sdk.take(), sdk.closed), ([], False))

    def test_close(self) -> None:
        """A client that says good-bye is answered, and gets nothing of what was going on."""
        self.studio.simulator.behaviour.loadTime = 5
        self.sdk.create("loadModel", {"modelKey": QWEN, "loadConfigStack": {}})
        self.sdk.take()
        self.sdk.close()
        self.assertTrue(self.sdk.closed)
        self.studio.clock.pump([1] * 6)
        self.assertEqual(self.sdk.take(), [])

    def test_garbage(self) -> None:
        """What is no frame closes the connection."""
        self.sdk.connection.channel.dataReceived(b"\xff" * 50)
        self.assertTrue(self.sdk.closed)

    def test_afterClose(self) -> None:
        """What comes after a good-bye does no harm."""
        self.sdk.close()
        self.sdk.connection.channel.dataReceived(b"\x81\x80abcd")
        self.assertTrue(self.sdk.closed)

    def test_lines(self) -> None:
        """There is a line for each connection that ends."""
        self.sdk.connection.leave()
        self.assertEqual(self.studio.lines, ["GET /llm 101, the client left"])
        Sdk(self.studio).connection.leave()
        self.assertEqual(len(self.studio.lines), 2)
        self.assertEqual(self.studio.clock.getDelayedCalls(), [])
