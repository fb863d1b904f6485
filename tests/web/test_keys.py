"""Keys over HTTP: made, shown, changed and rotated; and that nobody locks everybody out, or gives what they do not have."""

from __future__ import annotations

from lmgateway.policy.authentication import KeyForm, checkKeyForm

from tests.gateways import KEY
from tests.web.keys_support import KeysTestCase
from tests.web.support import requestBytes

EVERYTHING = {
    "name": "alice",
    "scopes": ["inference", "monitor"],
    "expires": "2027-01-16T08:00:00Z",
    "models": ["qwen/*", "gemma-3"],
    "addresses": ["10.0.0.0/8", "::1", "127.0.0.1"],
    "requestsPerMinute": 60,
    "tokensPerDay": 100_000,
    "parallel": 2,
    "defaultInference": {"temperature": 0.5, "stopStrings": ["a"]},
    "capture": False,
}


class MintTests(KeysTestCase):
    def test_shownOnce(self) -> None:
        """A key is in the answer that makes it and in no other; no file of the state folder holds it, nor does the log."""
        made = self.send("POST", "/admin/keys", EVERYTHING)
        self.assertEqual(made.status, 201)
        key = made.json()["key"]
        self.assertEqual(checkKeyForm(key), KeyForm.WHOLE)
        said = self.send("GET", "/admin/keys").body + self.send("GET", f"/admin/keys/{made.json()['id']}").body
        held = b"".join(file.read_bytes() for file in (self.folder / "state").iterdir())
        for text in (said, held, repr(self.said()).encode(), repr(self.records).encode()):
            self.assertNotIn(key[8:40].encode(), text)
        self.assertEqual(made.header(b"cache-control"), b"no-store")

    def test_all(self) -> None:
        """All that a key is made with is told of it, here and after a restart; what is configured is listed, too."""
        made = self.mint(**EVERYTHING)
        del made["key"], made["message"]
        self.assertEqual(
            made,
            {
                **EVERYTHING,
                "id": made["id"],
                "created": "2027-01-15T08:00:00.000Z",
                "expires": "2027-01-16T08:00:00.000Z",
                "addresses": ["10.0.0.0/8", "::1/128", "127.0.0.1/32"],
                "lastUsed": None,
                "rotatedUntil": None,
            },
        )
        configured = {"id": None, "name": "GATEWAY_API_KEY", "configured": True}
        for _ in range(2):
            self.assertEqual(self.well("GET", "/admin/keys"), {"keys": [configured, made]})
            self.assertEqual(self.well("GET", f"/admin/keys/{made['id']}"), made)
            self.restarted()

    def test_usual(self) -> None:
        """A key of which nothing is said but the name may infer, without limits, until it is revoked."""
        made = self.mint("bob")
        self.assertEqual((made["scopes"], made["expires"], made["models"]), (["inference"], None, []))
        self.assertEqual(self.status(made["key"]), 403)

    def test_lastUsed(self) -> None:
        """When a key was used last is told."""
        made = self.mint(scopes=["monitor"])
        self.reactor.advance(60)
        self.status(made["key"])
        self.assertEqual(self.well("GET", f"/admin/keys/{made['id']}")["lastUsed"], "2027-01-15T08:01:00.000Z")

    def test_nameTaken(self) -> None:
        """Two keys never have one name, for usage goes by it; that of a revoked one is free again."""
        made = self.mint()
        self.assertEqual(self.send("POST", "/admin/keys", {"name": "alice"}).status, 409)
        self.well("DELETE", f"/admin/keys/{made['id']}")
        self.assertNotEqual(self.mint()["id"], made["id"])

    def test_invalid(self) -> None:
        """Every fault is told with its path, and no key is made."""
        answer = self.send("POST", "/admin/keys", {"scopes": ["root"], "parallel": 0, "addresses": ["10.0.0.1/8"]})
        self.assertEqual((answer.status, answer.json()["error"]), (400, "Validation failed"))
        self.assertEqual(
            sorted(detail["path"] for detail in answer.json()["details"]),
            [["addresses", "0"], ["name"], ["parallel"], ["scopes", "0"]],
        )
        self.assertEqual(len(self.well("GET", "/admin/keys")["keys"]), 1)

    def test_form(self) -> None:
        """A body that a web page can send from another site is refused, and one that is no JSON."""
        client = self.connect(self.gateway)
        body = b'{"name":"x"}'
        client.send(requestBytes("POST", "/admin/keys", body, key=KEY, headers={"Content-Type": "text/plain"}))
        self.assertEqual(client.answers[0].status, 415)
        self.assertEqual(self.send("POST", "/admin/keys", b"{").status, 400)

    def test_scope(self) -> None:
        """Nobody but an administrator comes near the keys, not even their own."""
        made = self.mint(scopes=["inference", "monitor"])
        place = f"/admin/keys/{made['id']}"
        for method, target in (
            ("GET", "/admin/keys"),
            ("POST", "/admin/keys"),
            ("GET", place),
            ("PATCH", place),
            ("DELETE", place),
            ("POST", f"{place}/rotate"),
        ):
            self.assertEqual(self.send(method, target, key=made["key"]).status, 403, (method, target))
            self.assertEqual(self.send(method, target, key=None).status, 401, (method, target))

    def test_unknown(self) -> None:
        """Of an id that there is not, whatever is asked is answered 404; a method that a path does not have 405."""
        for method, tail in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = self.send(method, f"/admin/keys/key_x{tail}", {} if method != "GET" else None)
            self.assertEqual(answer.status, 404, method)
        self.assertEqual(self.send("PUT", "/admin/keys/key_x").status, 405)
        self.assertEqual(self.send("POST", "/admin/keys/key_x", {}).header(b"allow"), b"GET, HEAD, PATCH, DELETE")
        self.assertEqual(self.send("GET", "/admin/keys/key_x/rotate").header(b"allow"), b"POST")

    def test_full(self) -> None:
        """A key that the disk does not take is not made, and what was asked is answered with the reason."""
        for file in (self.folder / "state").glob("state.sqlite3*"):
            file.unlink()
        self.assertEqual(self.send("POST", "/admin/keys", {"name": "x"}).status, 503)
        self.assertEqual(len(self.well("GET", "/admin/keys")["keys"]), 1)


class HeldTests(KeysTestCase):
    """What a key is held to, as whoever shows it notices."""

    def test_expires(self) -> None:
        """A key ends by itself, on connections of before, too, and is told that it has."""
        made = self.mint(scopes=["monitor"], expiresInSeconds=60)
        client = self.begin("/debug/status", made["key"])
        self.reactor.advance(59)
        self.assertEqual(self.status(made["key"]), 200)
        self.reactor.advance(1)
        client.send(requestBytes("GET", "/debug/status", key=made["key"]))
        self.assertEqual([answer.status for answer in client.answers], [200, 401])
        self.assertIn(b"expired", client.answers[1].body)
        self.assertEqual(client.answers[1].header(b"www-authenticate"), b'Bearer realm="lmgateway"')

    def test_addresses(self) -> None:
        """A key is good from its addresses alone."""
        made = self.mint(scopes=["monitor"], addresses=["127.0.0.2"])
        self.assertEqual(self.status(made["key"], peerHost="127.0.0.2"), 200)
        self.assertEqual(self.status(made["key"]), 403)

    def test_change(self) -> None:
        """A change counts for the next request and after a restart; null takes a limit away, and what is left out stays."""
        made = self.mint(scopes=["monitor"], addresses=["127.0.0.2"], parallel=3)
        place = f"/admin/keys/{made['id']}"
        told = self.well("PATCH", place, {"addresses": None, "requestsPerMinute": 5})
        self.assertEqual((told["addresses"], told["requestsPerMinute"], told["parallel"]), ([], 5, 3))
        self.assertEqual(self.status(made["key"]), 200)
        self.well("PATCH", place, {"scopes": ["inference"]})
        self.assertEqual(self.status(made["key"]), 403)
        self.restarted()
        self.assertEqual(self.well("GET", place), {**told, "scopes": ["inference"], "lastUsed": None})

    def test_badChange(self) -> None:
        """A change that is not allowed changes nothing; the name stays for good, for usage goes by it."""
        made = self.mint()
        for body in ({"name": "bob"}, {"parallel": 2.5}, {"scopes": []}, {"expires": "2026-01-01T00:00:00Z"}):
            self.assertEqual(self.send("PATCH", f"/admin/keys/{made['id']}", body).status, 400, body)
        self.assertEqual(self.well("GET", f"/admin/keys/{made['id']}")["parallel"], None)


class RotateTests(KeysTestCase):
    def test_grace(self) -> None:
        """The old secret is good until its grace is over, the new one at once, and both after a restart."""
        made = self.mint(scopes=["monitor"])
        rotated = self.well("POST", f"/admin/keys/{made['id']}/rotate", {"graceSeconds": 60})
        self.assertEqual((rotated["id"], rotated["name"]), (made["id"], "alice"))
        self.assertEqual(rotated["rotatedUntil"], "2027-01-15T08:01:00.000Z")
        for _ in range(2):
            self.assertEqual([self.status(each["key"]) for each in (made, rotated)], [200, 200])
            self.restarted()
        self.reactor.advance(60)
        for _ in range(2):
            self.assertEqual([self.status(each["key"]) for each in (made, rotated)], [401, 200])
            self.restarted()
        self.assertIsNone(self.well("GET", f"/admin/keys/{made['id']}")["rotatedUntil"])

    def test_usual(self) -> None:
        """Unless it is said otherwise, the grace is a day; a body is not needed."""
        made = self.mint()
        rotated = self.well("POST", f"/admin/keys/{made['id']}/rotate")
        self.assertEqual(rotated["rotatedUntil"], "2027-01-16T08:00:00.000Z")

    def test_atOnce(self) -> None:
        """Without grace the old secret is good no more, not even one from a rotation before, and what runs is cut."""
        made = self.mint(scopes=["monitor", "inference"])
        second = self.well("POST", f"/admin/keys/{made['id']}/rotate")
        running = self.begin("/v1/chat/completions", made["key"], {"model": "m", "stream": True})
        third = self.well("POST", f"/admin/keys/{made['id']}/rotate", {"graceSeconds": 0})
        self.assertEqual([self.status(each["key"]) for each in (made, second, third)], [401, 401, 200])
        self.assertTrue(self.upstreams.made[0].ended)
        self.assertEqual(running.answers[0].status, 503)

    def test_invalid(self) -> None:
        """A grace that is none rotates nothing."""
        made = self.mint(scopes=["monitor"])
        for grace in (-1, "1 day", 1e12):
            answer = self.send("POST", f"/admin/keys/{made['id']}/rotate", {"graceSeconds": grace})
            self.assertEqual(answer.status, 400, grace)
        self.assertEqual(self.status(made["key"]), 200)

    def test_oldSecret(self) -> None:
        """Whoever has no more than the old secret cannot make themselves a new one, nor a key that outlives it."""
        made = self.mint(scopes=["admin"])
        place = f"/admin/keys/{made['id']}"
        self.well("POST", f"{place}/rotate", {"graceSeconds": 60})
        self.assertEqual(self.send("POST", f"{place}/rotate", key=made["key"]).status, 403)
        self.assertEqual(self.send("PATCH", place, {"parallel": 5}, key=made["key"]).status, 403)
        self.assertEqual(self.mint("eve", key=made["key"])["expires"], "2027-01-15T08:01:00.000Z")


class AdministeredTests(KeysTestCase):
    """Nobody can lock everybody out."""

    environ: dict[str, str] = {}

    def test_first(self) -> None:
        """On a gateway that asks for no key, the first key must be one that can administer it: it will be asked for."""
        answer = self.send("POST", "/admin/keys", {"name": "alice"}, key=None)
        self.assertEqual(answer.status, 409)
        self.assertIn("administer", answer.json()["error"])
        self.assertEqual(self.status(None), 200)
        made = self.mint("root", scopes=["admin"], key=None)
        self.assertEqual([self.status(None), self.status(made["key"])], [401, 200])
        self.mint(key=made["key"])

    def test_last(self) -> None:
        """The last key that can administer the gateway is neither revoked nor made one that cannot; one of several is."""
        first = self.mint("root", scopes=["admin"], key=None)
        second = self.mint("second", scopes=["admin"], expiresInSeconds=60, key=first["key"])
        other = self.mint(key=first["key"])
        self.well("DELETE", f"/admin/keys/{other['id']}", key=first["key"])
        self.reactor.advance(60)
        place = f"/admin/keys/{first['id']}"
        for method, body in (("DELETE", None), ("PATCH", {"scopes": ["inference"]})):
            self.assertEqual(self.send(method, place, body, key=first["key"]).status, 409)
        self.assertEqual(self.status(first["key"]), 200)
        self.well("DELETE", f"/admin/keys/{second['id']}", key=first["key"])
        third = self.mint("third", scopes=["admin"], key=first["key"])
        self.well("DELETE", place, key=first["key"])
        self.assertEqual(self.status(third["key"]), 200)


class LimitedMinterTests(KeysTestCase):
    def test_passedOn(self) -> None:
        """An administrator whose own key has limits makes keys that have them too, and none that goes beyond."""
        boss = self.mint("boss", scopes=["admin"], models=["qwen/*"], expiresInSeconds=60, requestsPerMinute=5)
        made = self.mint(key=boss["key"])
        self.assertEqual((made["models"], made["requestsPerMinute"]), (["qwen/*"], 5))
        self.assertEqual(made["expires"], boss["expires"])
        for beyond in ({"models": ["*"]}, {"requestsPerMinute": 6}, {"expiresInSeconds": 61}):
            answer = self.send("POST", "/admin/keys", {"name": "x", **beyond}, key=boss["key"])
            self.assertEqual(answer.status, 403, beyond)

    def test_stronger(self) -> None:
        """They can neither change a key that may do more than theirs, nor have its new secret, nor free their own."""
        boss = self.mint("boss", scopes=["admin"], parallel=2)
        other = self.mint()
        place = f"/admin/keys/{other['id']}"
        self.assertEqual(self.send("PATCH", place, {"parallel": 1}, key=boss["key"]).status, 403)
        self.assertEqual(self.send("POST", f"{place}/rotate", key=boss["key"]).status, 403)
        own = self.well("PATCH", f"/admin/keys/{boss['id']}", {"parallel": None}, key=boss["key"])
        self.assertEqual(own["parallel"], 2)
        self.assertEqual(self.status(other["key"]), 403)
