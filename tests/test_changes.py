"""What a reload changed, by the keys of the settings."""

from __future__ import annotations

from lmgateway.changes import Changes, changesOf
from lmgateway.settings import loadSettings
from twisted.trial.unittest import SynchronousTestCase


class ChangesTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """Settings that are equal differ in nothing, wherever they come from."""
        same = loadSettings(environ={"LOG_LEVEL": "info"})
        self.assertEqual(changesOf(loadSettings(), same, same), Changes((), ()))

    def test_each(self) -> None:
        """What counts now is told apart from what counts after the next start, each by its key."""
        before = loadSettings()
        after = loadSettings(environ={"LOG_LEVEL": "debug", "GATEWAY_API_KEY": "some-key-of-mine"})
        read = loadSettings(environ={"LOG_LEVEL": "debug", "GATEWAY_API_KEY": "some-key-of-mine", "GATEWAY_PORT": "9"})
        self.assertEqual(changesOf(before, after, read), Changes(("access.apiKey", "log.level"), ("listen.port",)))
