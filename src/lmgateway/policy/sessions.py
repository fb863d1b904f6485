# -*- test-case-name: tests.policy.test_sessions -*-
"""
Who is signed in to the dashboard.

A session stands for a key: what the key may do, the session may, and it ends with the key. Neither the key nor what is in the
cookie is kept, only their digests; and sessions end with the process. A cookie counts only where the request is the
dashboard's own (:meth:`SessionAuthenticator.authenticate`): everywhere else it is as if it were not there.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from zope.interface import implementer

from lmgateway.errors import Unauthenticated
from lmgateway.interfaces import IAuthenticator
from lmgateway.message import Principal, RequestHead
from lmgateway.policy.authentication import checkUse
from lmgateway.policy.browsers import BrowserPolicy

LONGEST_SECONDS = 8 * 3600.0
"""How long a session lasts, however much it is used."""

MOST_SESSIONS = 1000
"""Sessions at the same time; of more the oldest end."""

OWN_FIELD = b"x-lmgateway-dashboard"
"""
The field by which a request says that it is the dashboard's own. A page of another origin can only send it after a preflight,
which never allows cookies.
"""

_NAMES = {True: b"__Host-lmgateway-session", False: b"lmgateway-session"}
"""The cookie's name with TLS and without. The prefix has browsers refuse it where somebody else set it (RFC 6265bis)."""

_CREDENTIALS = (b"authorization", b"x-api-key")
_ENDED = "Nobody is signed in, or the session has ended. Sign in with a key."


@dataclass
class _Session:
    """Which key, since when, when it was used last, and what cuts the things that go on in it."""

    key: bytes
    began: float
    used: float
    lasting: list[Callable[[], None]] = field(default_factory=list)


class Sessions:
    """
    Every session.

    :param now: tells the Unix time.
    :param idleSeconds: after how long unused one ends; assign to change it.
    """

    def __init__(self, now: Callable[[], float], idleSeconds: float) -> None:
        self.idleSeconds = idleSeconds
        self._now = now
        self._sessions: dict[bytes, _Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, key: bytes) -> str:
        """
        Begin one.

        :param key: the key's digest.
        :return: what goes into the cookie, 256 random bits.
        """
        while len(self._sessions) >= MOST_SESSIONS:
            self._drop(next(iter(self._sessions)))
        token = secrets.token_urlsafe(32)
        now = self._now()
        self._sessions[_digest(token.encode())] = _Session(key, now, now)
        return token

    def keyOf(self, token: bytes) -> bytes | None:
        """Give the digest of the key that a session stands for, which counts as a use; None where there is none."""
        place = _digest(token)
        session = self._sessions.get(place)
        if session is None:
            return None
        now = self._now()
        isIdle = now - session.used > self.idleSeconds and not session.lasting
        if isIdle or now - session.began >= LONGEST_SECONDS:
            self._drop(place)
            return None
        session.used = now
        return session.key

    def end(self, token: bytes) -> None:
        """End one, if it is there, and what goes on in it."""
        self._drop(_digest(token))

    @contextmanager
    def lasting(self, token: bytes, cut: Callable[[], None]) -> Iterator[float | None]:
        """
        While something goes on in a session, count it as being used, and have it cut when the session is ended.

        :param cut: ends what goes on; called at once where there is no such session.
        :return: the Unix time at which the session ends, however much it is used; then whoever goes on is to end by itself.
        """
        session = self._sessions.get(_digest(token))
        if session is None:
            cut()
            yield None
            return
        session.lasting.append(cut)
        try:
            yield session.began + LONGEST_SECONDS
        finally:
            session.lasting.remove(cut)
            session.used = self._now()

    def _drop(self, place: bytes) -> None:
        session = self._sessions.pop(place, None)
        if session is not None:
            for cut in list(session.lasting):
                cut()


@implementer(IAuthenticator)
class SessionAuthenticator:
    """
    Takes the dashboard's own requests for whoever is signed in. A key that is sent decides.

    :param sessions: who is.
    :param keys: the principal of each key, under the key's digest.
    :param browsers: tells which requests are our own pages'.
    :param now: tells the Unix time.
    :param inner: judges everybody else.
    """

    def __init__(
        self,
        sessions: Sessions,
        keys: Mapping[bytes, Principal],
        browsers: BrowserPolicy,
        now: Callable[[], float],
        inner: IAuthenticator,
    ) -> None:
        self._sessions = sessions
        self._keys = dict(keys)
        self._browsers = browsers
        self._now = now
        self._inner = inner
        self.realm = inner.realm

    def authenticate(self, head: RequestHead) -> Principal:
        """
        Tell who it is.

        :raise Unauthenticated: nobody is signed in any more, or what the inner one raises.
        :raise Forbidden: it is not a page of ours that sends the cookie, or the key is not to be used from there.
        :raise Misdirected: it was sent to a name that is not the gateway's.
        """
        token = decidingToken(head)
        if token is None:
            return self._inner.authenticate(head)
        self._browsers.admitOwn(head)
        key = self._sessions.keyOf(token)
        principal = self._keys.get(key) if key is not None else None
        if principal is None:
            raise Unauthenticated(_ENDED, code="missing_api_key")
        checkUse(principal, head.peer, self._now())
        return principal


def decidingToken(head: RequestHead) -> bytes | None:
    """Give what our cookie holds, where it decides who asks; None where it does not."""
    if OWN_FIELD not in head.fields or any(name in head.fields for name in _CREDENTIALS):
        return None
    return tokenIn(head)


def tokenIn(head: RequestHead) -> bytes | None:
    """Give what our cookie holds (RFC 6265 section 4.2.1); None where it is not there."""
    name = _NAMES[head.secure]
    for value in head.fields.get(b"cookie", ()):
        for pair in value.split(b";"):
            key, _, token = pair.strip(b" \t").partition(b"=")
            if key == name:
                return token
    return None


def cookie(token: str, *, isSecure: bool, seconds: float) -> bytes:
    """
    Write the ``Set-Cookie`` field: no script can read it, and no other site has it sent.

    :param seconds: how long it lasts; 0 takes it away.
    """
    attributes = f"; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite=Strict" + ("; Secure" if isSecure else "")
    return _NAMES[isSecure] + b"=" + token.encode() + attributes.encode()


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
