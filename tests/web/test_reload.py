"""``POST /admin/reload``, over a connection in memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.changes import Changes
from lmgateway.settings import SettingsError
from lmgateway.web.reload import ReloadApi, withoutFolders
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.web.support import Answer, MemoryGateway, requestBytes, settingsOf

NAMES = st.from_regex(r"[a-z0-9_-]{1,8}(\.[a-z]{1,4})?", fullmatch=True)


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway(settingsOf())
        self.reloads: list[Deferred[Changes]] = []
        self.gateway.root.serve(b"/admin/reload", ReloadApi(self.reload).app.resource())

    def reload(self) -> Deferred[Changes]:
        """Begin a reload, which ends when the test says so."""
        self.reloads.append(Deferred(lambda _: None))
        return self.reloads[-1]

    def ask(self, result: Any, body: object = None, **more: Any) -> Answer:
        """Ask for a reload, and have it come to this."""
        client = self.gateway.connect()
        client.send(
            requestBytes("POST", "/admin/reload", body, headers={"Content-Length": "0"} if body is None else {})
        )
        self.assertEqual(client.answers, [])
        (reload,) = self.reloads
        reload.errback(result) if isinstance(result, Exception) else reload.callback(result)
        self.gateway.network.flush()
        (answer,) = client.answers
        return answer

    def test_changed(self) -> None:
        """Once it is done, the keys of what has changed are told."""
        answer = self.ask(Changes(("log.level",), ("listen.port",)))
        told = {"status": "reloaded", "changed": ["log.level"], "needsRestart": ["listen.port"]}
        self.assertEqual((answer.status, answer.json()), (200, told))

    def test_emptyObject(self) -> None:
        """A body may come along, if it calls itself JSON."""
        self.assertEqual(self.ask(Changes((), ()), {}).status, 200)
        answer = self.gateway.ask("POST", "/admin/reload", b"x=1", headers={"Content-Type": "text/plain"})
        self.assertEqual((answer.status, len(self.reloads)), (415, 1))

    def test_refused(self) -> None:
        """Where something is bad the reason is told, without the folders of this machine, and that nothing has changed."""
        answer = self.ask(SettingsError("file /etc/lmgateway/main.toml: access.nothing is unknown"))
        self.assertEqual(answer.status, 409)
        self.assertEqual(
            answer.json()["error"],
            "The configuration was not read again; the old one stays: file main.toml: access.nothing is unknown",
        )

    def test_whoMay(self) -> None:
        """Whoever has no key is refused, and nothing is read."""
        self.assertEqual(self.gateway.ask("POST", "/admin/reload", {}, key=None).status, 401)
        self.assertEqual(self.gateway.ask("GET", "/admin/reload").status, 405)
        self.assertEqual(self.reloads, [])


class FoldersTests(SynchronousTestCase):
    @given(st.lists(NAMES, min_size=1), NAMES, st.sampled_from(("file {}: bad", 'log.file = "{}": no', "unix:{}")))
    def test_absolute(self, folders: list[str], name: str, words: str) -> None:
        """Of a file's absolute path, its name alone is left."""
        self.assertEqual(withoutFolders(words.format(f"/{'/'.join(folders)}/{name}")), words.format(name))

    def test_others(self) -> None:
        """What only looks like a path stays: addresses, URLs, units, and names that are relative."""
        for text in ("10.0.0.0/8", "fd00::/8", "http://127.0.0.1:1234/v1/models", "1 KB/s", "conf/main.toml", "and/or"):
            self.assertEqual(withoutFolders(text), text)

    def test_windows(self) -> None:
        """Of a path with a drive letter, too."""
        self.assertEqual(withoutFolders(r"file C:\ProgramData\lmgateway\main.toml: bad"), "file main.toml: bad")
