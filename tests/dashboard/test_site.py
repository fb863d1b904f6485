"""The dashboard from outside: its files, signing in and out, and what a cookie may and may not do."""

from __future__ import annotations

from lmgateway.dashboard.assets import PageAssets
from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.authentication import digestOf
from lmgateway.policy.sessions import LONGEST_SECONDS
from twisted.trial.unittest import SynchronousTestCase

from tests.web.feed_support import Following
from tests.web.support import Answer, Client, MemoryGateway, requestBytes

OWN = {"X-LMGateway-Dashboard": "1", "Origin": "http://127.0.0.1:8001", "Sec-Fetch-Site": "same-origin"}
ALICE = Principal("alice", frozenset({Scope.MONITOR}), "key_1")


class SignedIn(SynchronousTestCase):
    """Alice, who may look, and the cookie that she gets."""

    def setUp(self) -> None:
        self.gateway = MemoryGateway(keys={digestOf("alice-key"): ALICE})

    def signIn(self, key: str = "alice-key", **headers: str) -> Answer:
        """Sign in as the page does."""
        return self.gateway.ask("POST", "/dashboard/session", {"key": key}, key=None, headers={**OWN, **headers})

    def cookie(self) -> str:
        """Sign in, and give what the browser sends from then on."""
        return (self.signIn().header(b"Set-Cookie") or b"").partition(b";")[0].decode()

    def ask(self, method: str = "GET", target: str = "/debug/status", **headers: str) -> Answer:
        """Ask as the page does."""
        fields = {**OWN, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.gateway.ask(method, target, key=None, headers={k: v for k, v in fields.items() if v})


class CookieTests(SignedIn):
    def test_flags(self) -> None:
        """No script can read the cookie, and no other site has it sent; it does not hold the key."""
        answer = self.signIn()
        field = (answer.header(b"Set-Cookie") or b"").decode()
        self.assertEqual((answer.status, answer.json()["name"]), (200, "alice"))
        for flag in ("HttpOnly", "SameSite=Strict", "Path=/"):
            self.assertIn(flag, field)
        self.assertNotIn("alice-key", field)
        self.assertEqual(answer.json()["addresses"], [])

    def test_rights(self) -> None:
        """The session may what its key may, and no more."""
        cookie = self.cookie()
        self.assertEqual(self.ask(Cookie=cookie).status, 200)
        self.assertEqual(self.ask(target="/admin/usage", Cookie=cookie).status, 403)
        self.assertEqual(self.ask(target="/dashboard/session", Cookie=cookie).json()["scopes"], ["monitor"])

    def test_ownOnly(self) -> None:
        """The cookie counts for the dashboard's own calls, and for no other page's, port's or name's."""
        cookie = self.cookie()
        for headers, status in (
            ({"X_LMGateway_Dashboard": ""}, 401),
            ({"X-LMGateway-Dashboard": ""}, 401),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:3000"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec_Fetch_Site": "cross-site"}, 403),
            ({"Sec_Fetch_Site": "same-site"}, 403),
            ({"Host": "evil.example"}, 421),
        ):
            fields = {"Cookie": cookie, **headers}
            if "X-LMGateway-Dashboard" in headers or "X_LMGateway_Dashboard" in headers:
                plain = {name: value for name, value in OWN.items() if not name.startswith("X-")}
                answer = self.gateway.ask("GET", "/debug/status", key=None, headers={**plain, "Cookie": cookie})
            else:
                answer = self.ask(**{name.replace("-", "_"): value for name, value in fields.items()})
            self.assertEqual(answer.status, status, headers)

    def test_signInOwnOnly(self) -> None:
        """No other page can sign somebody in."""
        self.assertEqual(self.signIn(Origin="http://evil.example").status, 403)
        self.assertEqual(self.signIn(**{"Sec-Fetch-Site": "cross-site"}).status, 403)

    def test_wrongKey(self) -> None:
        """A wrong key is refused as everywhere."""
        answer = self.signIn("wrong-key")
        self.assertEqual((answer.status, answer.header(b"Set-Cookie")), (401, None))
        self.assertEqual(self.signIn("").status, 400)

    def test_signedOut(self) -> None:
        """Signing out ends it at once."""
        cookie = self.cookie()
        self.assertEqual(self.ask("DELETE", "/dashboard/session", Cookie=cookie).status, 204)
        self.assertEqual(self.ask(Cookie=cookie).status, 401)

    def test_expired(self) -> None:
        """A session ends with its key."""
        limited = Principal("short", frozenset({Scope.MONITOR}), "key_2", Grant(expires=1_800_000_100.0))
        self.gateway = MemoryGateway(keys={digestOf("alice-key"): limited})
        cookie = self.cookie()
        self.assertEqual(self.ask(Cookie=cookie).status, 200)
        self.gateway.network.advance(101)
        self.assertEqual(self.ask(Cookie=cookie).status, 401)

    def test_keyDecides(self) -> None:
        """A key that is sent along decides."""
        cookie = self.cookie()
        self.assertEqual(self.ask(Cookie=cookie, X_API_Key="wrong-key").status, 401)


class FollowingTests(SignedIn):
    """What follows the events in a session ends with it, at once."""

    def follow(self, cookie: str) -> Following:
        """Follow as the page does."""
        return Following(self.gateway, "?progress=1", {**OWN, "Cookie": cookie}, key=None)

    def poll(self, cookie: str, gateway: MemoryGateway) -> Client:
        """Wait for events as a script of the page could."""
        client = gateway.connect()
        target = f"/debug/poll?since={gateway.journal.nextId}&timeout=60"
        client.send(requestBytes("GET", target, key=None, headers={**OWN, "Cookie": cookie}))
        return client

    def assertOnly(self, ended: Following, polled: Client, *others: Following) -> None:
        """The stream and the poll are whole, and nobody else's are."""
        self.assertTrue(ended.answer.whole)
        self.assertEqual([answer.status for answer in polled.answers], [200])
        self.assertEqual([other.answer.whole for other in others], [False] * len(others))

    def test_signedOut(self) -> None:
        """Signing out ends the session's streams and polls; another session of the same key, and the key itself, follow on."""
        cookie, other = self.cookie(), self.cookie()
        following, polling = self.follow(cookie), self.poll(cookie, self.gateway)
        others = self.follow(other), Following(self.gateway, key="alice-key")
        self.ask("DELETE", "/dashboard/session", Cookie=cookie)
        self.assertOnly(following, polling, *others)
        self.assertEqual(self.ask(target="/debug/stream", Cookie=cookie).status, 401)
        self.gateway.journal.record("error", {})
        self.gateway.network.advance(1)
        self.assertEqual([each.told[-1][0] for each in others], ["error", "error"])

    def test_expired(self) -> None:
        """When the session's longest time is over its stream ends; until then being followed is being used."""
        cookie = self.cookie()
        following = self.follow(cookie)
        self.gateway.network.advance(LONGEST_SECONDS - 100)
        self.assertEqual(self.ask(Cookie=cookie).status, 200)
        polling = self.poll(cookie, self.gateway)
        self.gateway.network.advance(50)
        self.assertFalse(following.answer.whole)
        polling = self.poll(cookie, self.gateway)
        self.gateway.network.advance(50)
        self.assertOnly(following, polling)
        self.assertEqual(self.ask(Cookie=cookie).status, 401)

    def test_keyDecides(self) -> None:
        """Who sends a key follows by that, whatever the cookie that comes along."""
        cookie = self.cookie()
        following = Following(self.gateway, "", {**OWN, "Cookie": cookie}, key="alice-key")
        self.ask("DELETE", "/dashboard/session", Cookie=cookie)
        self.assertFalse(following.answer.whole)


class PageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """The page is given to everybody, and may do nothing beyond this gateway; its files are kept for good."""
        gateway = MemoryGateway()
        page = gateway.ask("GET", "/dashboard", key=None)
        self.assertEqual(page.status, 200)
        self.assertIn(b"default-src 'none'", page.header(b"Content-Security-Policy") or b"")
        self.assertEqual(page.header(b"Cache-Control"), b"no-cache")
        version = PageAssets.read().version
        path = f"/dashboard/assets/{version}/app.js"
        self.assertIn(path.encode(), page.body)
        asset = gateway.ask("GET", path, key=None)
        self.assertEqual((asset.status, asset.header(b"Content-Type")), (200, b"text/javascript; charset=utf-8"))
        self.assertIn(b"immutable", asset.header(b"Cache-Control") or b"")
        for other in (
            f"/dashboard/assets/{version}/x.js",
            f"/dashboard/assets/{version}/%2e%2e",
            "/dashboard/assets/app.js",
        ):
            self.assertIn(gateway.ask("GET", other, key=None).status, (400, 404), other)
        self.assertEqual(gateway.ask("GET", "/dashboard", key=None, headers={"Host": "evil.example"}).status, 421)

    def test_unchanged(self) -> None:
        """A browser that has the page or a file of it already, of this version, is told no more than that."""
        gateway = MemoryGateway()
        version = PageAssets.read().version
        for path in ("/dashboard", f"/dashboard/assets/{version}/app.js"):
            first = gateway.ask("GET", path, key=None)
            tag = (first.header(b"ETag") or b"").decode()
            self.assertIn(version, tag)
            for known in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
                answer = gateway.ask("GET", path, key=None, headers={"If-None-Match": known})
                self.assertEqual((answer.status, answer.body), (304, b""), known)
                self.assertEqual(answer.header(b"ETag"), first.header(b"ETag"))
                self.assertEqual(answer.header(b"Cache-Control"), first.header(b"Cache-Control"))
            for known in ('"x"', 'W/"another"', version, ""):
                answer = gateway.ask("GET", path, key=None, headers={"If-None-Match": known})
                self.assertEqual((answer.status, answer.body), (200, first.body), known)

    def test_version(self) -> None:
        """Another file is another version."""
        first, second = (PageAssets({"index.html": b"x", "a.js": text}) for text in (b"1", b"2"))
        self.assertNotEqual(first.version, second.version)
