# -*- test-case-name: tests.wire.test_upstream -*-
"""
Where requests go: one LM Studio, spoken to through treq or straight through the agent.

Both stand on the same :class:`~lmgateway.wire.agent.UpstreamAgent` and behave alike; ``upstream.transport`` chooses.
Through treq, everything that treq would do on its own account is told what is already known: it keeps no cookies, follows
no redirects, respells no target, decodes no answer.
"""

from __future__ import annotations

import re
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, NoReturn

from hyperlink import EncodedURL
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from lmgateway.errors import UpstreamBroken, UpstreamUnavailable
from lmgateway.interfaces import IUpstream
from lmgateway.message import HeaderPairs
from lmgateway.settings import Settings, SettingsError
from lmgateway.wire.agent import UpstreamAgent
from lmgateway.wire.answer import AnswerBroken, ConnectFailed
from lmgateway.wire.headers import VerbatimHeaders
from lmgateway.wire.secured import SecuredEndpoint

_CERTIFICATE = re.compile(rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----.*?-----END \1-----\n?", re.DOTALL)
"""A certificate in PEM, by each of the names that OpenSSL knows for one."""


class NoCookies(CookieJar):
    """A jar that neither takes nor gives: a cookie of one client must never go out with the request of another."""

    def add_cookie_header(self, request: Any) -> None:  # noqa: D102 - the base class says it
        return

    def extract_cookies(self, response: Any, request: Any) -> None:  # noqa: D102 - likewise
        return


class WireURL(EncodedURL):
    """
    A URL that already is its wire spelling, and is not parsed.

    hyperlink would respell what the client wrote (a lone ``?``, ``|``, ``[``), and look the host up in IDNA's tables each
    time.
    """

    __slots__ = ("_spelled",)

    def __init__(self, spelled: str) -> None:  # the parts that EncodedURL keeps are never asked for
        self._spelled = spelled

    def to_uri(self) -> WireURL:
        """Return itself."""
        return self

    def to_text(self, with_password: bool = False) -> str:  # noqa: FBT001, FBT002 - hyperlink's signature
        """Tell the spelling that it was made with."""
        return self._spelled


@implementer(IAgentEndpointFactory)
class UpstreamEndpoints:
    """
    How to reach an upstream by URL.

    :param connectTimeout: seconds that a connection may take to be made, and seconds more that TLS may take on it.
    :param caFile: PEM certificates to verify an ``https`` upstream with, instead of the platform's.
    """

    def __init__(self, reactor: Any, connectTimeout: float, caFile: str | None = None) -> None:
        self._reactor = reactor
        self._timeout = connectTimeout
        self._trustRoot = None
        self._tls: dict[str, Any] = {}
        if caFile is not None:
            self._trustRoot = trustRootFromCertificates(certificatesIn(caFile))

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Give the endpoint of a URL's scheme, host and port; TLS verifies the host's name."""
        host = uri.host.decode("ascii").strip("[]")
        endpoint: IStreamClientEndpoint
        if isIPAddress(host):
            endpoint = TCP4ClientEndpoint(self._reactor, host, uri.port, timeout=self._timeout)
        elif isIPv6Address(host):
            endpoint = TCP6ClientEndpoint(self._reactor, host, uri.port, timeout=self._timeout)
        else:
            endpoint = HostnameEndpoint(self._reactor, host, uri.port, timeout=self._timeout)
        if uri.scheme != b"https":
            return endpoint
        if host not in self._tls:
            # Made once: it reads the trusted certificates, which takes milliseconds.
            self._tls[host] = optionsForClientTLS(host, trustRoot=self._trustRoot)
        return SecuredEndpoint(self._reactor, endpoint, self._tls[host], self._timeout)


def certificatesIn(path: str) -> list[Certificate]:
    """
    Read the certificates in a PEM file, in which other things may stand besides: text, keys, lists of what was revoked.

    :raise SettingsError: it cannot be read, or one of them makes no sense. It was looked at when the settings were read, but may
        be another by now.
    """
    try:
        return [Certificate.loadPEM(found[0]) for found in _CERTIFICATE.finditer(Path(path).read_bytes())]
    except OSError as error:
        raise SettingsError(f"upstream.caFile = {path}: it cannot be read ({error.strerror})") from None
    except SSL.Error:
        raise SettingsError(f"upstream.caFile = {path}: a certificate in it makes no sense") from None


class _Upstream:
    """What both ways have in common: the address, and what failures mean."""

    def __init__(self, agent: UpstreamAgent, baseUrl: str) -> None:
        self.baseUrl = baseUrl
        self._agent = agent
        self._base = baseUrl.encode("ascii")

    def retire(self) -> None:
        """Close what is pooled; the rest goes with the answers that it carries."""
        self._agent.retire()

    def close(self) -> Deferred[None]:
        """Close what is pooled, and what still runs."""
        return self._agent.close()

    def _failed(self, reason: Failure) -> NoReturn:
        """Say what happened, and what to do about it."""
        cause = reason.value
        if isinstance(cause, ConnectFailed):
            raise UpstreamUnavailable(f"LM Studio at {self.baseUrl} {whyUnreachable(cause.reason)}") from cause
        if isinstance(cause, AnswerBroken):
            msg = (
                f"LM Studio at {self.baseUrl} broke off: {cause}. It may have crashed or unloaded the model; "
                "look at its Developer log, then try again."
            )
            raise UpstreamBroken(msg) from cause
        reason.raiseException()


_UNREACHABLE: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (CancelledError,),
        "is no longer connected to, because this gateway is stopping or was told another address. Try again.",
    ),
    (
        (error.ConnectionRefusedError,),
        "refused the connection. Is its server started? (Developer tab, or `lms server start`)",
    ),
    (
        (error.TimeoutError,),
        "did not answer in time. Is that machine on, and the address right (LMSTUDIO_BASE_URL)?",
    ),
    (
        (error.DNSLookupError,),
        "could not be found. Is its name spelled right (LMSTUDIO_BASE_URL)?",
    ),
    (
        (SSL.Error, VerificationError),
        "failed the TLS handshake. Does it speak https, and is its certificate trusted (upstream.caFile) and for that name?",
    ),
    (
        (error.ConnectionLost, error.ConnectionDone),
        "closed the connection at once. Is it LM Studio that listens there (LMSTUDIO_BASE_URL)?",
    ),
)
"""Why there is no connection, and what to do about it."""


def whyUnreachable(reason: Failure) -> str:
    """Say why no connection could be made, and what to do: the end of a sentence about LM Studio."""
    for kinds, sentence in _UNREACHABLE:
        if reason.check(*kinds):
            return sentence
    return "could not be reached. Is its server started, and the address right (LMSTUDIO_BASE_URL)?"


@implementer(IUpstream)
class DirectUpstream(_Upstream):
    """Straight through the agent: a third faster than treq, and nothing else."""

    def send(
        self, method: bytes, target: bytes, headers: HeaderPairs, body: IBodyProducer | None
    ) -> Deferred[IResponse]:
        """See :class:`~lmgateway.interfaces.IUpstream`."""
        answer = self._agent.request(method, self._base + target, VerbatimHeaders(headers), body)
        return answer.addErrback(self._failed)


@implementer(IUpstream)
class TreqUpstream(_Upstream):
    """
    Through treq, the default.

    :param reactor: treq asks for one, for a timeout that is not used.
    """

    def __init__(self, agent: UpstreamAgent, baseUrl: str, reactor: Any) -> None:
        super().__init__(agent, baseUrl)
        self._reactor = reactor
        self._cookies = NoCookies()
        self._client = HTTPClient(agent, self._cookies, lambda body: body)  # type: ignore[arg-type]  # bodies are producers already

    def send(
        self, method: bytes, target: bytes, headers: HeaderPairs, body: IBodyProducer | None
    ) -> Deferred[IResponse]:
        """See :class:`~lmgateway.interfaces.IUpstream`."""
        answer: Deferred[Any] = self._client.request(
            method.decode("ascii"),
            WireURL(self.baseUrl + target.decode("ascii")),
            headers=VerbatimHeaders(headers),
            data=body,
            cookies=self._cookies,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        return answer.addErrback(self._failed)


def makeUpstream(settings: Settings, reactor: Any) -> IUpstream:
    """Make the upstream that the settings name."""
    upstream = settings.upstream
    agent = UpstreamAgent(reactor, UpstreamEndpoints(reactor, upstream.connectTimeout, upstream.caFile))
    if upstream.transport == "direct":
        return DirectUpstream(agent, upstream.baseUrl)
    return TreqUpstream(agent, upstream.baseUrl, reactor)
