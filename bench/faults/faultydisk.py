"""
A disk that is full, or fails, from whichever write on it is told to: ``disk.c``, preloaded into a gateway.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_CONTROL = struct.Struct("5i236s")
_FIXED = struct.Struct("5i")


class NotHere(Exception):
    """The disk cannot be made to fail on this machine; the message says why."""


class FaultyDisk:
    """
    What the gateways that are started with :attr:`environ` write to.

    :ivar environ: variables of a process whose writes it is to have.

    :param folder: for the library, and for what both share.
    :raise NotHere: this is not Linux, or there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if sys.platform != "linux" or compiler is None:
            msg = "this needs Linux and a C compiler (Debian: apt install gcc libc6-dev)"
            raise NotHere(msg)
        library, control, self._paths = folder / "disk.so", folder / "control", folder / "paths"
        source = Path(__file__).with_name("disk.c")
        built = subprocess.run(  # noqa: S603 - our own source
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            msg = f"disk.c cannot be compiled: {built.stderr.strip()[-300:]}"
            raise NotHere(msg)
        control.write_bytes(bytes(_CONTROL.size))
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _CONTROL.size)
        self.environ: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAULT_CONTROL": str(control),
            "FAULT_PATHS": str(self._paths),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def fail(self, error: int, part: str, spared: int = 0, *, lasts: bool = True) -> None:
        """
        Fail from now on.

        :param error: how, an errno.
        :param part: what is in the paths of the files that it is about.
        :param spared: writes that pass before.
        :param lasts: whether all that follow fail as well.
        """
        self.mend()
        self._shared[_FIXED.size : _CONTROL.size] = part.encode().ljust(_CONTROL.size - _FIXED.size, b"\0")
        self._shared[4 : _FIXED.size] = struct.pack("4i", spared, 0, 0, lasts)
        self._shared[0:4] = struct.pack("i", error)

    def mend(self) -> None:
        """Be a good disk again."""
        self._shared[0:4] = struct.pack("i", 0)

    @property
    def failed(self) -> int:
        """How many writes have failed since it was told to."""
        return int(_FIXED.unpack(self._shared[: _FIXED.size])[3])

    def written(self, folder: Path) -> set[str]:
        """
        :return: each path that was opened for writing: those below ``folder`` relative to it.
        """
        lines = self._paths.read_text().splitlines() if self._paths.exists() else []
        return {os.path.relpath(line, folder) if line.startswith(str(folder)) else line for line in lines}
