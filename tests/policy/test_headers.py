"""Header fields on their way through, up and down."""

from __future__ import annotations

from hypothesis import given
from lmgateway.interfaces import IHeaderPolicy
from lmgateway.message import HeaderPairs, RequestHead
from lmgateway.policy.headers import HeaderPolicy, connectionOptions, staysHere
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import HEADER_PAIRS

TOKEN_BYTES = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


HOPS = (
    b"Connection",
    b"HTTP2-Settings",
    b"Keep-Alive",
    b"Proxy-Authenticate",
    b"Proxy-Authentication-Info",
    b"Proxy-Authorization",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
)


def headOf(headers: HeaderPairs) -> RequestHead:
    """A request with these fields."""
    return RequestHead.build(b"POST", b"/v1/chat/completions", headers)


def hops() -> set[bytes]:
    """The hop-by-hop names in lower case."""
    return {name.lower() for name in HOPS}


def namedIn(headers: HeaderPairs) -> set[bytes]:
    """What a head's ``Connection`` fields name, in lower case, read as simply as can be."""
    lists = [value for name, value in headers if name.lower() == b"connection"]
    return {option.strip(b" \t").lower() for value in lists for option in value.split(b",")}


class UpstreamHeadersTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The policy is what the proxy asks for."""
        verifyObject(IHeaderPolicy, HeaderPolicy())

    def test_endToEndPasses(self) -> None:
        """What is the client's and LM Studio's business passes: spelling, order, repetition, codings."""
        headers = (
            (b"accept-ENCODING", b"gzip, br"),
            (b"X-Stainless-Lang", b"js"),
            (b"x-stainless-lang", b"js"),
            (b"Content-Type", b"application/json"),
            (b"Content-Encoding", b"br"),
            (b"session_id", b"7"),
            (b"Origin", b"http://localhost"),
            (b"X-Odd", b"caf\xe9\t\x80"),
        )
        self.assertEqual(HeaderPolicy().upstreamHeaders(headOf(headers)), headers)

    def test_dropped(self) -> None:
        """Nothing that belongs to the connection, the framing, the client's rights or its claims of origin goes up."""
        for name in (
            *HOPS,
            b"Host",
            b"Content-Length",
            b"Expect",
            b"Authorization",
            b"X-Api-Key",
            b"api-key",
            b"Cookie",
            b"Forwarded",
            b"Via",
            b"X-Real-IP",
            b"X-Client-IP",
            b"True-Client-IP",
            b"CF-Connecting-IP",
            b"X-Forwarded-For",
            b"X-Forwarded-Whatever",
            b"X-Lmg-Key",
            b"X-LMGateway-Model",
        ):
            for spelled in (name, name.lower(), name.upper()):
                self.assertEqual(HeaderPolicy().upstreamHeaders(headOf(((spelled, b"1"),))), (), spelled)

    def test_token(self) -> None:
        """LM Studio's token takes the place of the client's key."""
        headers = ((b"Authorization", b"Bearer lmg_client"), (b"Accept", b"*/*"))
        passed = HeaderPolicy("sk-lm-abc:def").upstreamHeaders(headOf(headers))
        self.assertEqual(passed, ((b"Accept", b"*/*"), (b"Authorization", b"Bearer sk-lm-abc:def")))

    def test_namedInConnection(self) -> None:
        """A field named in Connection stays here, whatever it is; our token cannot be named away."""
        headers = (
            (b"Connection", b"close, X-Mine"),
            (b"x-mine", b"1"),
            (b"Content-Type", b"text/plain"),
            (b"X-Yours", b"2"),
            (b"connection", b"authorization ,content-type"),
        )
        passed = HeaderPolicy("t").upstreamHeaders(headOf(headers))
        self.assertEqual(passed, ((b"X-Yours", b"2"), (b"Authorization", b"Bearer t")))

    @given(HEADER_PAIRS)
    def test_noHopByHop(self, headers: HeaderPairs) -> None:
        """No hop-by-hop field, no credential, no framing and nothing named in Connection survives."""
        passed = {name.lower() for name, _ in HeaderPolicy().upstreamHeaders(headOf(headers))}
        self.assertEqual(passed & (hops() | namedIn(headers)), set())
        self.assertEqual([name for name in passed if staysHere(name)], [])

    @given(HEADER_PAIRS)
    def test_cleanLines(self, headers: HeaderPairs) -> None:
        """Whatever comes in, names out are tokens and no value out holds CR, LF or NUL."""
        self.assertEqual(unclean(HeaderPolicy("t").upstreamHeaders(headOf(headers))), [])

    @given(HEADER_PAIRS)
    def test_nothingElse(self, headers: HeaderPairs) -> None:
        """A well-formed field that is neither dropped by name nor named in Connection passes as it came, in its place."""
        named = namedIn(headers)
        expected = tuple(
            pair
            for pair in headers
            if not staysHere(pair[0].lower()) and pair[0].lower() not in named and not unclean((pair,))
        )
        self.assertEqual(HeaderPolicy().upstreamHeaders(headOf(headers)), expected)


def unclean(headers: HeaderPairs) -> list[tuple[bytes, bytes]]:
    """Those fields that would not be one line each."""
    return [
        (name, value)
        for name, value in headers
        if not name or not set(name) <= TOKEN_BYTES or set(value) & set(b"\r\n\0")
    ]


class DownstreamHeadersTests(SynchronousTestCase):
    def test_endToEndPasses(self) -> None:
        """What LM Studio says about its answer reaches the client as it was said."""
        headers = (
            (b"X-Powered-By", b"Express"),
            (b"content-type", b"text/event-stream"),
            (b"ETag", b'W/"1"'),
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
            (b"Content-Encoding", b"gzip"),
            (b"Date", b"Sat, 21 Nov 2026 10:00:00 GMT"),
            (b"WWW-Authenticate", b"Bearer"),
        )
        self.assertEqual(HeaderPolicy().downstreamHeaders(headers), headers)

    def test_dropped(self) -> None:
        """What belongs to the upstream connection, leads around the gateway or speaks in its name does not come down."""
        for name in (
            *HOPS,
            b"Content-Length",
            b"Alt-Svc",
            b"X-Request-Id",
            b"Access-Control-Allow-Origin",
            b"access-control-allow-headers",
            b"X-LMGateway-Model",
        ):
            self.assertEqual(HeaderPolicy().downstreamHeaders(((name, b"1"),)), (), name)

    def test_tokenStaysUpstream(self) -> None:
        """The token is for LM Studio: no answer carries it."""
        self.assertEqual(HeaderPolicy("secret").downstreamHeaders(()), ())

    @given(HEADER_PAIRS)
    def test_noHopByHop(self, headers: HeaderPairs) -> None:
        """No hop-by-hop field and nothing named in Connection survives, and each line is clean."""
        passed = HeaderPolicy().downstreamHeaders(headers)
        self.assertEqual({name.lower() for name, _ in passed} & (hops() | namedIn(headers)), set())
        self.assertEqual(unclean(passed), [])

    @given(HEADER_PAIRS)
    def test_order(self, headers: HeaderPairs) -> None:
        """What comes down came from upstream, in the same order."""
        rest = iter(headers)
        self.assertTrue(all(pair in rest for pair in HeaderPolicy().downstreamHeaders(headers)))


class BoundsTests(SynchronousTestCase):
    def test_remembersLittle(self) -> None:
        """A client that invents names cannot make the gateway remember more than 1,024 of them, or long ones."""
        policy = HeaderPolicy()
        names = [b"x-%d" % number for number in range(3000)]
        for name in (*names, b"x-" + b"y" * 5000):
            self.assertEqual(policy.upstreamHeaders(headOf(((name, b"1"),))), ((name, b"1"),))
        self.assertEqual(len(policy._upstream), 1024)
        self.assertLess(max(map(len, policy._upstream)), 65)


class ConnectionOptionsTests(SynchronousTestCase):
    def test_list(self) -> None:
        """Options come from every value, in lower case, without the space and the empty members between them."""
        self.assertEqual(connectionOptions((b"Close,\tX-A ", b" , ,keep-alive")), {b"close", b"x-a", b"keep-alive"})
