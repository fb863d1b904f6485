# -*- test-case-name: tests.dashboard.test_site -*-
"""
The files of the dashboard's page, read once.

All of them are served from a folder that is named after the digest of their contents: so they can be kept for good, refer to
each other by their plain names, and never be mixed with those of another version.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

FOLDER = Path(__file__).with_name("assets")
PREFIX = b"/dashboard/assets/"
INDEX = "index.html"

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
"""What each file is. A file of another type is not served."""


class Asset(Struct, frozen=True):
    """
    One file.

    :param contentType: of its contents.
    :param body: them.
    :param compressed: the same, by gzip.
    """

    contentType: bytes
    body: bytes
    compressed: bytes


class PageAssets:
    """
    The files of a page.

    :param files: their contents, by name; one of them is :data:`INDEX`.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        digest = hashlib.sha256()
        for name in sorted(files):
            digest.update(b"%b\0%d\0" % (name.encode(), len(files[name])))
            digest.update(files[name])
        self.version = digest.hexdigest()[:16]
        folder = PREFIX + self.version.encode() + b"/"
        self.index = _asset(INDEX, files[INDEX].replace(PREFIX, folder))
        self._assets = {folder + name.encode(): _asset(name, body) for name, body in files.items() if name != INDEX}

    @classmethod
    def read(cls, folder: Path = FOLDER) -> PageAssets:
        """Read a folder's files."""
        return cls({path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _TYPES})

    def find(self, path: bytes) -> Asset | None:
        """Give the file of a path; None where there is none, or it is another version's."""
        return self._assets.get(path)


def _asset(name: str, body: bytes) -> Asset:
    return Asset(_TYPES[Path(name).suffix], body, gzip.compress(body, 9, mtime=0))
