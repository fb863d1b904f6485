"""The certificate of the gateway's own authority, over HTTP."""

from __future__ import annotations

from lmgateway.web.authority import AuthorityApi
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import MemoryGateway


class AuthorityTests(SynchronousTestCase):
    def test_forEverybody(self) -> None:
        """Whoever may connect is given it without a key, as what devices offer to install, and never from a cache."""
        answer = MemoryGateway().ask("GET", "/ca.crt", key=None)
        self.assertEqual((answer.status, answer.body), (200, b"a certificate"))
        self.assertEqual(answer.header(b"content-type"), b"application/x-x509-ca-cert")
        self.assertEqual(answer.header(b"cache-control"), b"no-store")

    def test_none(self) -> None:
        """A gateway that has none says why."""
        gateway = MemoryGateway()
        gateway.root.serve(b"/ca.crt", AuthorityApi(lambda: None))
        answer = gateway.ask("GET", "/ca.crt", key=None)
        self.assertEqual(answer.status, 404)
        self.assertIn("no certificate authority of its own", answer.body.decode())
