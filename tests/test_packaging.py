"""
What pip installs is what the source tree holds, ``twistd`` plugin included.

Both kinds of wheel are built from a copy of the tree by setuptools itself, and installed by pip into an empty virtual
environment. Nothing is fetched: the dependencies are lent by the environment that runs the tests, through a ``.pth`` file,
whose own ``.pth`` files, and so an editable install of the gateway there, Python does not read.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder
from tests.subprocesses import TWISTD, run, runPython

TREE = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


class InstallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.top = temporaryFolder(self).resolve()
        self.tree = self.top / "tree"
        unwanted = shutil.ignore_patterns("*.egg-info", "__pycache__", "dropin.cache")
        shutil.copytree(TREE / "src", self.tree / "src", ignore=unwanted)
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(TREE / name, self.tree / name)

    def build(self, hook: str) -> Path:
        """
        Build a wheel as pip would, without isolation.

        :param hook: ``build_wheel`` or ``build_editable`` (PEP 517, PEP 660).
        """
        dist = self.top / "dist"
        dist.mkdir()
        runPython(BUILD, hook, str(dist), cwd=self.tree)
        (wheel,) = dist.iterdir()
        return wheel

    def install(self, wheel: Path) -> Path:
        """Install a wheel into an empty environment, and lend that environment our dependencies."""
        home = self.top / "venv"
        venv.create(home, symlinks=True)
        python = home / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", str(python), "--quiet")
        run(*pip, "install", "--no-index", "--no-deps", str(wheel))
        (site,) = home.glob("lib/python*/site-packages")
        (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return python

    def assertWorks(self, python: Path, home: Path) -> None:
        """The plugin is listed, and the package comes from ``home``: not from where the tests run."""
        where = runPython("import lmgateway; print(lmgateway.__file__)", python=str(python), cwd=self.top)
        self.assertTrue(Path(where.strip()).is_relative_to(home), where)
        listed = runPython(TWISTD, "--help", python=str(python), cwd=self.top)
        self.assertRegex(listed, r"\n +lmgateway +LM Studio, safely on a LAN")
        self.assertTrue((python.parent / "lmgateway").exists(), "the command is installed beside python")

    def test_wheel(self) -> None:
        """An ordinary install brings the plugin and the command."""
        self.assertWorks(self.install(self.build("build_wheel")), self.top / "venv")

    def test_editable(self) -> None:
        """An editable install brings them too, out of the tree."""
        self.assertWorks(self.install(self.build("build_editable")), self.tree)

    def test_complete(self) -> None:
        """The wheel holds every module of the tree, the type marker, and nothing that runs at the start of Python."""
        with zipfile.ZipFile(self.build("build_wheel")) as wheel:
            inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
        src = self.tree / "src"
        files = (*src.rglob("*.py"), *(src / "lmgateway" / "dashboard" / "assets").iterdir())
        expected = {path.relative_to(src).as_posix() for path in files} | {"lmgateway/py.typed"}
        self.assertEqual(inside, expected)
