"""What the end of a key does to what runs with it, and to what was still to come."""

from __future__ import annotations

from lmgateway.errors import Unauthenticated
from twisted.internet.defer import Deferred

from tests.gateways import EMPTY, HEAD, KEY, chunk
from tests.web.keys_support import KeysTestCase
from tests.web.support import requestBytes


class RevokeTests(KeysTestCase):
    def test_atOnce(self) -> None:
        """A revoked key is good no more, on connections of before too, nor after a restart, nor is its old secret."""
        made = self.mint(scopes=["monitor"])
        rotated = self.well("POST", f"/admin/keys/{made['id']}/rotate")
        client = self.begin("/debug/status", rotated["key"])
        told = self.well("DELETE", f"/admin/keys/{made['id']}")
        self.assertEqual((told["status"], told["id"], told["name"]), ("revoked", made["id"], "alice"))
        client.send(requestBytes("GET", "/debug/status", key=rotated["key"]))
        self.assertEqual([answer.status for answer in client.answers], [200, 401])
        for _ in range(2):
            self.assertEqual([self.status(each["key"]) for each in (made, rotated)], [401, 401])
            self.restarted()
        self.assertEqual(self.send("GET", f"/admin/keys/{made['id']}").status, 404)

    def test_cuts(self) -> None:
        """
        What a revoked key runs is cut at once, waiting for its answer, in the midst of it or sending its body, upstream
        as downstream; what others run goes on.
        """
        made, other = self.mint(), self.mint("bob")
        body = {"model": "m", "stream": True}
        waiting = self.begin("/v1/chat/completions", made["key"], body)
        streaming = self.begin("/v1/chat/completions", made["key"], body)
        listing = self.begin("/v1/whatever", made["key"])
        others = self.begin("/v1/chat/completions", other["key"], body)
        upstreams = self.upstreams.made
        for upstream in (upstreams[1], upstreams[3]):
            upstream.transport.write(HEAD + chunk(b"data: 1\n\n"))
        self.network.flush()
        sending = self.connect(self.gateway)
        sending.send(
            requestBytes("POST", "/v1/chat/completions", b"{", key=made["key"], headers={"Content-Length": "9"})
        )
        self.well("DELETE", f"/admin/keys/{made['id']}")
        self.network.flush()
        self.assertEqual([upstream.ended for upstream in upstreams], [True, True, True, False])
        self.assertEqual([client.answers[0].status for client in (waiting, listing, sending)], [503, 503, 401])
        self.assertFalse(streaming.answers[0].whole)
        self.assertIsNotNone(streaming.protocol.ended)
        self.assertIsNone(others.protocol.ended)
        self.assertEqual([request.model for request in self.gateway._parts.root.running], ["m"])
        upstreams[3].transport.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.network.flush()
        self.assertTrue(others.answers[0].whole)
        self.assertEqual(self.gateway._parts.root.running, set())

    def test_listing(self) -> None:
        """Who waits for the list of models is told the same as who waits for any other answer, and no defect is logged."""
        made = self.mint()
        waiting = self.begin("/v1/models", made["key"])
        self.well("DELETE", f"/admin/keys/{made['id']}")
        answer = waiting.answers[0]
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "cancelled"))

    def test_session(self) -> None:
        """Who is signed in to the dashboard with a key that is revoked follows no more, and has to sign in again."""
        made, other = self.mint(scopes=["monitor"]), self.mint("bob", scopes=["monitor"])
        own = {"X-LMGateway-Dashboard": "1", "Origin": "http://127.0.0.1:8001", "Sec-Fetch-Site": "same-origin"}
        following, status = [], []
        for each in (made, other):
            client = self.connect(self.gateway)
            client.send(requestBytes("POST", "/dashboard/session", {"key": each["key"]}, key=None, headers=own))
            cookie = (client.answers[0].header(b"Set-Cookie") or b"").partition(b";")[0].decode()
            following.append(self.connect(self.gateway))
            status.append((client, requestBytes("GET", "/debug/status", key=None, headers={**own, "Cookie": cookie})))
            following[-1].send(requestBytes("GET", "/debug/stream", key=None, headers={**own, "Cookie": cookie}))
        self.well("DELETE", f"/admin/keys/{made['id']}")
        self.network.flush()
        self.assertEqual([client.answers[0].whole for client in following], [True, False])
        for client, data in status:
            client.send(data)
        self.assertEqual([client.answers[-1].status for client, _ in status], [401, 200])

    def test_lastWill(self) -> None:
        """Whoever was still sending a request to the gateway itself when their key was revoked has no last wish."""
        made = self.mint(scopes=["admin"])
        body = b'{"name":"heir","scopes":["admin"]}'
        client = self.connect(self.gateway)
        head = requestBytes(
            "POST", "/admin/keys", body[:9], key=made["key"], headers={"Content-Length": str(len(body))}
        )
        client.send(head)
        self.well("DELETE", f"/admin/keys/{made['id']}")
        client.send(body[9:])
        self.assertEqual(client.answers[0].status, 401)
        self.assertEqual([key["name"] for key in self.well("GET", "/admin/keys")["keys"]], ["GATEWAY_API_KEY"])

    def test_lastWillOfTheDemoted(self) -> None:
        """Nor has whoever was still sending it when their key was given fewer rights, or less to give away."""
        body = b'{"name":"heir","scopes":["admin"]}'
        for change in ({"scopes": ["inference"]}, {"parallel": 1}, {"expiresInSeconds": 60}):
            made = self.mint(str(change), scopes=["admin"])
            client = self.connect(self.gateway)
            length = {"Content-Length": str(len(body))}
            client.send(requestBytes("POST", "/admin/keys", body[:9], key=made["key"], headers=length))
            self.well("PATCH", f"/admin/keys/{made['id']}", change)
            client.send(body[9:])
            self.assertEqual(client.answers[0].status, 409)
        self.assertNotIn("heir", [key["name"] for key in self.well("GET", "/admin/keys")["keys"]])

    def test_oldSecret(self) -> None:
        """An administrator whose key was rotated does with its old secret, while that is good, what they do with the new one."""
        made = self.mint("boss", scopes=["admin"])
        self.well("POST", f"/admin/keys/{made['id']}/rotate", {"graceSeconds": 60})
        self.mint("heir", key=made["key"], expiresInSeconds=30)

    def test_overtaken(self) -> None:
        """A change that was asked for in time, but whose turn comes after the revocation of the key that asks, is not made."""
        made, other = self.mint(scopes=["admin"]), self.mint("bob")
        minter = self.gateway._parts.keys.get(made["id"]).principal
        self.well("DELETE", f"/admin/keys/{made['id']}")
        desk = self.gateway._parts.desk
        for late in (
            desk.mint(minter, b'{"name":"heir"}'),
            desk.edit(minter, other["id"], b'{"parallel":1}'),
            desk.rotate(minter, other["id"], b""),
        ):
            self.failureResultOf(Deferred.fromCoroutine(late), Unauthenticated)

    def test_followers(self) -> None:
        """Event streams and polls of the key end at once; those of others go on."""
        made, other = self.mint(scopes=["monitor"]), self.mint("bob", scopes=["monitor"])
        mine = [self.begin(target, made["key"]) for target in ("/debug/stream", "/debug/poll?since=99")]
        others = self.begin("/debug/stream", other["key"])
        self.well("DELETE", f"/admin/keys/{made['id']}")
        self.assertEqual([client.answers[0].whole for client in mine], [True, True])
        self.assertFalse(others.answers[0].whole)
        self.assertEqual(list(self.gateway._parts.feed._followers.values()), [other["id"]])

    def test_followersJudgedAnew(self) -> None:
        """Event streams end when their key is changed or ends, so that nobody follows on with what they had."""
        made = self.mint(scopes=["monitor"], expiresInSeconds=60)
        stream = self.begin("/debug/stream", made["key"])
        self.well("PATCH", f"/admin/keys/{made['id']}", {"addresses": ["127.0.0.1"]})
        self.assertTrue(stream.answers[0].whole)
        stream = self.begin("/debug/stream", made["key"])
        self.network.advance(59)
        self.assertFalse(stream.answers[0].whole)
        self.network.advance(2)
        self.assertTrue(stream.answers[0].whole)

    def test_own(self) -> None:
        """Whoever revokes the key that they use is still told that it is done."""
        made = self.mint(scopes=["admin"])
        self.assertEqual(self.well("DELETE", f"/admin/keys/{made['id']}", key=made["key"])["status"], "revoked")
        self.assertEqual(self.status(made["key"]), 401)

    def test_usageStays(self) -> None:
        """What a revoked key used is still told, under its name."""
        made = self.mint()
        client = self.begin("/v1/chat/completions", made["key"], {"model": "m"})
        self.upstreams.made[0].transport.write(EMPTY)
        self.network.flush()
        self.assertEqual(client.answers[0].status, 200)
        self.well("DELETE", f"/admin/keys/{made['id']}")
        answer = self.connect(self.gateway)
        answer.send(requestBytes("GET", "/admin/usage?by=key", key=KEY))
        self.network.flush()
        self.assertEqual([row["key"] for row in answer.answers[0].json()["rows"]], ["alice"])
