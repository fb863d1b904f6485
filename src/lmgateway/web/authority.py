# -*- test-case-name: tests.web.test_authority -*-
"""
``/ca.crt``: the certificate of the gateway's own authority, for whoever is to trust it. It is no secret.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from lmgateway.errors import NotFound
from lmgateway.web.responses import respondError
from lmgateway.wire.request import GatewayRequest

_FIELDS = (
    # What browsers and telephones offer to install (the type is Netscape's, and was never registered).
    (b"Content-Type", b"application/x-x509-ca-cert"),
    (b"Content-Disposition", b'attachment; filename="lmgateway-ca.crt"'),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-store"),
)


class AuthorityApi(Resource):
    """
    Hands the certificate out.

    :param authority: tells its PEM, or None where the gateway has no authority of its own in use.
    """

    isLeaf = True

    def __init__(self, authority: Callable[[], bytes | None]) -> None:
        super().__init__()
        self._authority = authority

    def render(self, request: GatewayRequest) -> int:
        """Answer with it."""
        pem = self._authority()
        if pem is None:
            msg = (
                "This gateway has no certificate authority of its own: it has no TLS, or a certificate from elsewhere."
            )
            respondError(request, NotFound(msg))
        else:
            request.sendWhole(200, _FIELDS, pem)
        return NOT_DONE_YET
