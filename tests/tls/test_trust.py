"""What users are told to do to trust the authority."""

from __future__ import annotations

from lmgateway.tls.trust import NAME, RECIPES, fetchCommand, recipeLines, verifyCommand
from twisted.trial.unittest import SynchronousTestCase


class TrustTests(SynchronousTestCase):
    def test_everyPlatform(self) -> None:
        """Each platform that people have is there, and each recipe works on the file that was fetched."""
        text = "\n".join(recipeLines())
        for platform in ("Windows", "macOS", "Debian", "Fedora", "Arch", "Firefox", "Node.js", "httpx", "requests"):
            self.assertIn(platform, text)
        for recipe in RECIPES:
            self.assertIn(NAME, " ".join(recipe.steps), recipe.platform)

    def test_fetch(self) -> None:
        """The file is fetched under the name that the recipes have, and its fingerprint shown."""
        self.assertIn(f"--output {NAME} https://10.0.0.9:8443/ca.crt", fetchCommand("https://10.0.0.9:8443/ca.crt"))
        self.assertIn(NAME, verifyCommand())
