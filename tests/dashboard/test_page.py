"""Tests of the dashboard's page: what it is made of, and its pure parts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import lmgateway
from twisted.trial.unittest import SkipTest, SynchronousTestCase

ASSETS = Path(lmgateway.__file__).parent / "dashboard" / "assets"
VENDORED = {"uPlot.esm.js", "uPlot.min.css"}
MOST_BYTES = 300_000
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|\.srcdoc"
)
INLINE = re.compile(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)|javascript:")
SECONDS = 60


class PageTests(SynchronousTestCase):
    """What the page is made of."""

    def test_noMarkupIsMadeOfData(self) -> None:
        """No script of the page's own turns text into elements or code, so that no name or error can be either."""
        for path in ASSETS.glob("*.js"):
            if path.name not in VENDORED:
                self.assertIsNone(MARKUP.search(path.read_text(encoding="utf-8")), path.name)

    def test_nothingIsInline(self) -> None:
        """The document has no script and no style of its own, which its policy would not run."""
        self.assertIsNone(INLINE.search((ASSETS / "index.html").read_text(encoding="utf-8")))

    def test_everythingComesFromTheGateway(self) -> None:
        """The document and the styles name no address but the gateway's own."""
        for path in (ASSETS / "index.html", *ASSETS.glob("*.css")):
            addresses = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)""", path.read_text(encoding="utf-8"))
            for address in (one or other for one, other in addresses):
                self.assertRegex(address, r"^(#|/dashboard/assets/)")

    def test_whatIsImportedIsThere(self) -> None:
        """Each module and each asset that something refers to exists."""
        for path in (*ASSETS.glob("*.js"), ASSETS / "index.html"):
            text = path.read_text(encoding="utf-8")
            names = re.findall(r"""(?:from |import\()'\./([^']+)'|/dashboard/assets/([\w.]+)""", text)
            for name in (one or other for one, other in names):
                self.assertTrue((ASSETS / name).is_file(), f"{path.name}: {name}")

    def test_itIsSmall(self) -> None:
        """All of it together stays below 300 kB, uncompressed."""
        self.assertLess(sum(path.stat().st_size for path in ASSETS.iterdir()), MOST_BYTES)

    def test_pureParts(self) -> None:
        """The reader of event streams and the writing of numbers hold by themselves."""
        node = shutil.which("node")
        if node is None:
            raise SkipTest("there is no Node.js")
        script = Path(__file__).with_name("page.test.mjs")
        environment = {**os.environ, "ASSETS": str(ASSETS), "LC_ALL": "en_US.UTF-8", "NODE_NO_WARNINGS": "1"}
        done = subprocess.run(  # noqa: S603 - our own test
            [node, "--test", str(script)], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
