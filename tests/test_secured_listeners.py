"""TLS in the gateway as a whole: which listeners have it, over real sockets, through a reload, and with clients' certificates."""

from __future__ import annotations

import http.client
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
from cryptography.x509.oid import NameOID
from lmgateway.configuration.listeners import isPlainBeyondLoopback, wantsTls
from lmgateway.gateway import Gateway, StartError
from lmgateway.message import Scope
from lmgateway.settings import Settings, SettingsError, loadSettings
from lmgateway.state import StateStore
from lmgateway.tls.authority import makeAuthority
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.folders import temporaryFolder
from tests.gateways import GatewayTestCase
from tests.tls.support import NOW, SUBJECTS

KEY = "a-key-for-the-tests"


class ModeTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Auto is what others can reach; unix sockets and Twisted's own TLS are left alone; nothing beyond loopback is plain but off."""
        for description, wanted in (
            ("tcp:1:interface=127.0.0.1", (False, True, False)),
            ("tcp:1", (True, True, False)),
            ("tcp6:1:interface=fd00\\:\\:7", (True, True, False)),
            ("systemd:domain=INET:index=0", (True, True, False)),
            ("unix:/run/socket", (False, False, False)),
            ("ssl:1", (False, False, False)),
        ):
            self.assertEqual(tuple(wantsTls(description, mode) for mode in ("auto", "on", "off")), wanted, description)
            self.assertFalse(isPlainBeyondLoopback(description, "auto"), description)
        self.assertTrue(isPlainBeyondLoopback("tcp:1", "off"))

    def test_unasked(self) -> None:
        """Plain HTTP beyond loopback needs to be asked for twice; without, the start is refused with what to do."""
        environ = {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_TLS": "off"}
        error = self.assertRaises(SettingsError, loadSettings, environ=environ)
        self.assertRegex(str(error), r"^variable GATEWAY_TLS: listen\.tls = off: .* set listen\.allowPlain to true$")
        self.assertTrue(loadSettings(environ={**environ, "GATEWAY_ALLOW_PLAIN": "true"}).listen.plainBeyondLoopback)

    def test_clientsWithoutAuthority(self) -> None:
        """Clients' certificates cannot be asked for without saying who signs them."""
        folder = temporaryFolder(self)
        (folder / "g.toml").write_text('[tls]\nclientCertificates = "required"\n')
        error = self.assertRaises(SettingsError, loadSettings, configFile=str(folder / "g.toml"))
        self.assertIn("unless tls.clientCa names", str(error))


class ListenTests(GatewayTestCase):
    def secured(self) -> list[bool]:
        """Of each listener, whether it has TLS."""
        return [isinstance(server[1], TLSMemoryBIOFactory) for server in self.reactor.tcpServers]

    def test_auto(self) -> None:
        """Beyond loopback there is TLS, on loopback there is none; an authority is made only where it is needed."""
        self.start(self.settings())
        self.assertEqual(self.secured(), [False])
        self.assertFalse((self.folder / "state" / "tls").exists())

    def test_beyond(self) -> None:
        """A gateway for others has TLS without being told, and nothing to warn of."""
        gateway = self.start(self.settings({"listen": ["tcp:8001:interface=127.0.0.1", "tcp:8443"]}))
        self.assertEqual(self.secured(), [False, True])
        self.assertFalse(any("without TLS" in line for line in self.said()))
        self.assertIn(b"BEGIN CERTIFICATE", gateway._tls.authority or b"")

    def test_plain(self) -> None:
        """Where plain HTTP was asked for it is served, with a warning at each start."""
        self.start(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_TLS="off", GATEWAY_ALLOW_PLAIN="true"))
        self.assertEqual(self.secured(), [False])
        self.assertIn("Other machines are served without TLS at tcp:8001:interface=0.0.0.0", "\n".join(self.said()))

    def test_authority(self) -> None:
        """The authority is handed out to whoever asks, without a key, even where health needs one; without TLS there is none."""
        gateway = self.start(self.settings(GATEWAY_HOST="0.0.0.0", REQUIRE_AUTH_FOR_HEALTH="true"))
        answer = self.ask(gateway, "/ca.crt")
        self.assertEqual((answer.status, answer.body), (200, gateway._tls.authority))
        self.assertEqual(self.ask(gateway, "/health").status, 401)
        self.successResultOf(self.stop(gateway))
        self.assertEqual(self.ask(self.start(self.settings()), "/ca.crt").status, 404)

    def test_badStart(self) -> None:
        """A certificate without its key stops the start, with a sentence."""
        path = self.folder / "own.pem"
        path.write_bytes(makeAuthority(SUBJECTS, NOW).certificatePem)
        gateway = self.open(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_TLS_CERTIFICATE=str(path)))
        gateway.restore()
        error = self.assertRaises(StartError, gateway.listen)
        self.assertIn("tls.key holds no private key", str(error))

    def test_badReload(self) -> None:
        """On a reload it is refused before anything has changed."""
        gateway = self.start(self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY=KEY))
        path = self.folder / "own.pem"
        path.write_bytes(makeAuthority(SUBJECTS, NOW).certificatePem)
        before = gateway.settings
        fresh = self.settings(GATEWAY_HOST="0.0.0.0", GATEWAY_API_KEY="another-key", GATEWAY_TLS_CERTIFICATE=str(path))
        self.failureResultOf(Deferred.fromCoroutine(gateway.reload(fresh)), SettingsError)
        self.assertIs(gateway.settings, before)
        self.assertEqual(self.ask(gateway, "/debug/status", key=KEY).status, 200)


class SocketTests(TestCase):
    """Python's own HTTPS client, over sockets of loopback."""

    def setUp(self) -> None:
        self.folder = temporaryFolder(self)

    def start(self, **tls: str) -> Gateway:
        """A gateway with TLS on loopback."""
        config = self.folder / "lmgateway.toml"
        config.write_text("[tls]\n" + "".join(f'{name} = "{value}"\n' for name, value in tls.items()))
        settings: Settings = loadSettings(
            configFile=str(config),
            environ={"GATEWAY_STATE_DIR": str(self.folder / "state"), "GATEWAY_API_KEY": KEY, "GATEWAY_TLS": "on"},
            options={"listen": ["tcp:0:interface=127.0.0.1"]},
        )
        store = StateStore.open(settings.state.directory, reactor)  # type: ignore[arg-type]
        gateway = Gateway(settings, reactor, store, lambda _: None, lambda _: None)
        gateway.restore()
        gateway.listen()
        gateway.startService()
        self.addCleanup(gateway.stopService)
        return gateway

    async def test_drain(self) -> None:
        """Who keeps a connection and does not read it is told goodbye, and does not hold up the end of the gateway."""
        gateway = self.start()
        context = ssl.create_default_context(cadata=(gateway._tls.authority or b"").decode())
        connection = http.client.HTTPSConnection("127.0.0.1", gateway._ports[0].getHost().port, context=context)  # type: ignore[union-attr]
        self.addCleanup(connection.close)

        def ask() -> int:
            connection.request("GET", "/health")
            with connection.getresponse() as answer:
                answer.read()
                return answer.status

        self.assertEqual(await deferToThread(ask), 200)
        begun = reactor.seconds()  # type: ignore[attr-defined]
        await gateway.site.drain(30)
        self.assertLess(reactor.seconds() - begun, 15)  # type: ignore[attr-defined]
        self.assertEqual(connection.sock.recv(1), b"")

    def ask(self, gateway: Gateway, client: str | None = None, headers: Any = None) -> Deferred[tuple[int, Any]]:
        """Ask for what needs a key, trusting the authority; give the status and the fields of the answer."""
        port = gateway._ports[0].getHost().port  # type: ignore[union-attr]
        context = ssl.create_default_context(cafile=str(self.folder / "state" / "tls" / "ca.crt"))
        if client is not None:
            context.load_cert_chain(client)

        def talk() -> tuple[int, Any]:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
            connection.request("GET", "/admin/usage", headers=headers or {})
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status, response.headers

        return deferToThread(talk)

    def clientCertificate(self, name: str) -> str:
        """Write a certificate that signs itself, and its key."""
        key = generate_private_key(SECP256R1())
        subject = Name([NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = CertificateBuilder(
            subject,
            subject,
            key.public_key(),
            random_serial_number(),
            now - timedelta(hours=1),
            now + timedelta(hours=1),
        )
        path = self.folder / f"{name}.pem"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
        return str(path)

    async def test_trusted(self) -> None:
        """A client that trusts the authority is served; that it should use nothing else is said only where configured."""
        gateway = self.start(hsts="2h")
        status, fields = await self.ask(gateway, headers={"X-API-Key": KEY})
        self.assertEqual((status, fields["Strict-Transport-Security"]), (200, "max-age=7200"))
        status, _ = await self.ask(gateway)
        self.assertEqual(status, 401)

    async def test_clientCertificate(self) -> None:
        """A client's certificate stands for the key of its name and no other; one of another signer ends the handshake."""
        alice, mallory = self.clientCertificate("alice"), self.clientCertificate("mallory")
        gateway = self.start(clientCa=alice, clientCertificates="optional")
        await gateway._parts.keys.add("alice", frozenset({Scope.ADMIN}))
        self.assertEqual((await self.ask(gateway, alice))[0], 200)
        self.assertEqual((await self.ask(gateway))[0], 401)
        self.assertEqual((await self.ask(gateway, alice, {"X-API-Key": "wrong"}))[0], 401)
        try:
            status, _ = await self.ask(gateway, mallory)
        except OSError:
            status = 0
        self.assertEqual(status, 0)

    async def test_unknownHolder(self) -> None:
        """A certificate that is good but whose holder has no key lets nobody in."""
        gateway = self.start(clientCa=self.clientCertificate("bob"), clientCertificates="required")
        self.assertEqual((await self.ask(gateway, str(self.folder / "bob.pem")))[0], 401)
