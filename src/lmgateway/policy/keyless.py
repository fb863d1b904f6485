# -*- test-case-name: tests.policy.test_keyless -*-
"""
Clients that cannot send a header: let in by their address, to infer and nothing else.
"""

from __future__ import annotations

from zope.interface import implementer

from lmgateway.interfaces import IAddressPolicy, IAuthenticator
from lmgateway.message import Principal, RequestHead

_CREDENTIALS = (b"authorization", b"x-api-key")


@implementer(IAuthenticator)
class KeylessAuthenticator:
    """
    Takes whoever sends no credential from certain addresses for one principal. A credential that is sent decides.

    :param addresses: from where.
    :param principal: who they are.
    :param inner: judges everybody else.
    """

    def __init__(self, addresses: IAddressPolicy, principal: Principal, inner: IAuthenticator) -> None:
        self._addresses = addresses
        self._principal = principal
        self._inner = inner
        self.realm = inner.realm

    def authenticate(self, head: RequestHead) -> Principal:
        """Tell who it is. Raises what the inner one raises."""
        if self._addresses.permits(head.peer) and not any(name in head.fields for name in _CREDENTIALS):
            return self._principal
        return self._inner.authenticate(head)
