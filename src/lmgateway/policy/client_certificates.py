# -*- test-case-name: tests.policy.test_client_certificates -*-
"""
Clients that show a certificate instead of a key: it stands for the stored key that is called like its holder.

The certificate says who somebody is; what they may do is the key's business, and so are its end, its addresses, its limits
and its revocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

from msgspec.structs import replace
from zope.interface import implementer

from lmgateway.errors import Unauthenticated
from lmgateway.interfaces import IAuthenticator
from lmgateway.message import Principal, RequestHead
from lmgateway.policy.authentication import checkUse

_CREDENTIALS = (b"authorization", b"x-api-key")


def principalFor(identities: Iterable[str], byName: dict[str, tuple[Principal, ...]]) -> Principal | None:
    """
    Whom a certificate stands for.

    :param identities: the names in it.
    :param byName: who is called how.
    :return: the one principal that has one of the names; None where nobody has, or several have: then it would depend on
        their order who it is.
    """
    found = {principal.keyId: principal for name in identities for principal in byName.get(name, ())}
    return next(iter(found.values())) if len(found) == 1 else None


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """
    Takes whoever sends no credential, but has a certificate, for the holder of the stored key of that name.

    :param principals: of the stored keys, and of the secrets that these had. One whose name is empty or that is not stored
        counts for nothing here.
    :param now: tells the Unix time, by which keys expire.
    :param inner: judges everybody else. A credential that is sent decides.
    """

    def __init__(self, principals: Iterable[Principal], now: Callable[[], float], inner: IAuthenticator) -> None:
        self._now = now
        self._inner = inner
        self.realm = inner.realm
        byId: dict[str, Principal] = {}
        for principal in principals:
            if principal.keyId is not None and principal.name:
                known = byId.setdefault(principal.keyId, principal)
                # A secret that was rotated ends when its grace does. A certificate knows no secrets, and stands for the key.
                if principal.grant.outlasts(known.grant):
                    byId[principal.keyId] = principal
        self._byName: dict[str, tuple[Principal, ...]] = {}
        for principal in byId.values():
            # Browsers show a certificate to whatever page asks for something: those are held to be from nowhere else.
            ambient = replace(principal, isKeyless=True)
            self._byName[principal.name] = (*self._byName.get(principal.name, ()), ambient)

    def authenticate(self, head: RequestHead) -> Principal:
        """
        Tell who it is.

        :raise Unauthenticated: no key, or more than one, is called like the certificate's holder; or that key has expired.
        :raise Forbidden: that key is not to be used from this address.
        """
        if not head.identities or any(name in head.fields for name in _CREDENTIALS):
            return self._inner.authenticate(head)
        principal = principalFor(head.identities, self._byName)
        if principal is None:
            _refuse(head.identities[0])
        checkUse(principal, head.peer, self._now())
        return principal


def _refuse(name: str) -> NoReturn:
    raise Unauthenticated(
        f'The client certificate of "{name[:100]}" stands for no key, or for several: there must be one key of that name. Ask whoever '
        "runs the gateway, or send a key.",
        code="unknown_certificate",
    )
