"""What web pages may do, with the browser of somebody who may more."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, GatewayError, Misdirected
from lmgateway.message import RequestHead
from lmgateway.policy.browsers import BrowserPolicy
from twisted.trial.unittest import SynchronousTestCase

OURS = (
    b"127.0.0.1",
    b"127.0.0.1:8001",
    b"[::1]:8001",
    b"192.168.1.5:8001",
    b"localhost",
    b"LOCALHOST:8001",
    b"box",
    b"box.local:8001",
    b"llm.example.org.",
)
OTHERS = (b"evil.example", b"localhost.evil.example", b"127.0.0.1.nip.io:8001", b"", b"[::1", b"box.evil", b"0x7f.1")
SITES = (None, b"http://evil.example", b"null", b"https://127.0.0.1:8001")
POLICY = BrowserPolicy(
    ("box", "box.local", "llm.example.org"), ("https://chat.example.org",), allowsPrivateNetwork=True
)
TEXT = st.binary(max_size=40)


def head(method: bytes = b"GET", **fields: bytes | None) -> RequestHead:
    """A request with these fields; underlines stand for hyphens."""
    pairs = tuple((name.replace("_", "-").encode(), value) for name, value in fields.items() if value is not None)
    return RequestHead.build(method, b"/", pairs)


class KeylessTests(SynchronousTestCase):
    def test_matrix(self) -> None:
        """Without a key only the gateway's own names count, and of pages only its own and those that are configured."""
        for host, origin in itertools.product((*OURS, *OTHERS), SITES):
            request = head(Host=host, Origin=origin)
            if host in OTHERS:
                self.assertRaises(Misdirected, POLICY.admitKeyless, request)
            elif origin is None:
                POLICY.admitKeyless(request)
            else:
                self.assertRaises(Forbidden, POLICY.admitKeyless, request)

    def test_own(self) -> None:
        """The gateway's own pages may ask it, by whichever of its names they were opened; of its other ports none may."""
        for host in OURS:
            POLICY.admitKeyless(head(Host=host, Origin=b"http://" + host))
        self.assertRaises(Forbidden, POLICY.admitKeyless, head(Host=b"localhost:8001", Origin=b"http://localhost:3000"))
        self.assertRaises(
            Forbidden, POLICY.admitKeyless, head(Host=b"localhost:8001", Origin=b"https://localhost:8001")
        )

    def test_configured(self) -> None:
        """A configured origin may ask."""
        POLICY.admitKeyless(head(Host=b"localhost", Origin=b"https://chat.example.org"))

    def test_withoutOrigin(self) -> None:
        """Images, scripts and links of other sites carry no origin, and are told by where they come from."""
        for site in (b"cross-site", b"same-site", b"x"):
            self.assertRaises(Forbidden, POLICY.admitKeyless, head(Host=b"localhost", Sec_Fetch_Site=site))
        for site in (b"same-origin", b"none"):
            POLICY.admitKeyless(head(Host=b"localhost", Sec_Fetch_Site=site))

    def test_noHost(self) -> None:
        """A program that speaks HTTP/1.0 sends none; browsers do not."""
        POLICY.admitKeyless(head())


class RepeatedTests(SynchronousTestCase):
    def test_anyOrder(self) -> None:
        """Of an Origin or a Sec-Fetch-Site that is there twice neither counts, whichever is first: no browser sends that."""
        own, configured = b"http://localhost", b"https://chat.example.org"
        for name, good, bad in (
            (b"Origin", own, b"http://evil.example"),
            (b"Origin", configured, b"null"),
            (b"Origin", own, own),
            (b"Sec-Fetch-Site", b"same-origin", b"cross-site"),
        ):
            for values in ((good, bad), (bad, good)):
                request = RequestHead.build(b"GET", b"/", ((b"Host", b"localhost"), *((name, each) for each in values)))
                self.assertRaises(Forbidden, POLICY.admitKeyless, request)
                self.assertRaises(Forbidden, POLICY.admitOwn, request)
                self.assertNotIn(b"Access-Control-Allow-Origin", dict(POLICY.readable(request)))


class CorsTests(SynchronousTestCase):
    def test_off(self) -> None:
        """Unless origins are configured no answer can be read by any page, and nothing is said about it."""
        policy = BrowserPolicy()
        request = head(b"OPTIONS", Origin=b"https://chat.example.org", Access_Control_Request_Method=b"POST")
        self.assertIsNone(policy.preflight(request))
        self.assertEqual(policy.readable(request), ())

    def test_exact(self) -> None:
        """A configured origin gets its own name back; one that is like it gets nothing but a warning to caches."""
        fields = dict(POLICY.readable(head(Origin=b"https://chat.example.org")))
        self.assertEqual(fields[b"Access-Control-Allow-Origin"], b"https://chat.example.org")
        self.assertEqual(fields[b"Vary"], b"Origin")
        for origin in (
            b"http://chat.example.org",
            b"https://chat.example.org:444",
            b"https://chat.example.org.evil",
            b"https://CHAT.example.org",
            b"null",
            b"*",
        ):
            self.assertEqual(POLICY.readable(head(Origin=origin)), ((b"Vary", b"Origin"),))
        self.assertEqual(POLICY.readable(head()), ())

    def test_preflight(self) -> None:
        """A page is told what it may send: the very fields that it asks for, and the methods that there are."""
        fields = dict(
            POLICY.preflight(
                head(
                    b"OPTIONS",
                    Origin=b"https://chat.example.org",
                    Access_Control_Request_Method=b"POST",
                    Access_Control_Request_Headers=b"authorization, content-type",
                )
            )
            or ()
        )
        self.assertEqual(fields[b"Access-Control-Allow-Origin"], b"https://chat.example.org")
        self.assertEqual(fields[b"Access-Control-Allow-Headers"], b"authorization, content-type")
        self.assertIn(b"POST", fields[b"Access-Control-Allow-Methods"])
        self.assertNotIn(b"Access-Control-Allow-Private-Network", fields)
        self.assertNotIn(b"Access-Control-Allow-Credentials", fields)

    def test_privateNetwork(self) -> None:
        """The browser's question about the local network is answered where that is configured."""
        request = head(
            b"OPTIONS",
            Origin=b"https://chat.example.org",
            Access_Control_Request_Method=b"POST",
            Access_Control_Request_Private_Network=b"true",
        )
        self.assertIn((b"Access-Control-Allow-Private-Network", b"true"), POLICY.preflight(request) or ())
        policy = BrowserPolicy((), ("https://chat.example.org",))
        self.assertNotIn(b"Access-Control-Allow-Private-Network", dict(policy.preflight(request) or ()))

    def test_noPreflight(self) -> None:
        """What is no such question is a request like any other."""
        for request in (
            head(b"OPTIONS", Origin=b"https://chat.example.org"),
            head(b"GET", Origin=b"https://chat.example.org", Access_Control_Request_Method=b"POST"),
            head(b"OPTIONS", Origin=b"https://evil.example", Access_Control_Request_Method=b"POST"),
        ):
            self.assertIsNone(POLICY.preflight(request))

    @given(TEXT, TEXT, TEXT, st.sampled_from([b"GET", b"OPTIONS"]))
    def test_total(self, origin: bytes, names: bytes, host: bytes, method: bytes) -> None:
        """Whatever a client writes, only a configured origin is ever allowed, and no field can be broken out of."""
        request = head(
            method, Host=host, Origin=origin, Access_Control_Request_Method=b"x", Access_Control_Request_Headers=names
        )
        for fields in (POLICY.readable(request), POLICY.preflight(request) or ()):
            for name, value in fields:
                self.assertNotIn(b"\n", value)
                if name == b"Access-Control-Allow-Origin":
                    self.assertEqual(value, b"https://chat.example.org")
        try:
            POLICY.admitKeyless(request)
        except GatewayError as error:
            self.assertIn(error.status, (403, 421))
