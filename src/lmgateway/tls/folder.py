# -*- test-case-name: tests.tls.test_folder -*-
"""
The ``tls`` folder in the state folder: the authority and the leaf, so that a crash at any moment leaves what was there, or
what was to be there.

A key and its certificate are one file, for two could not be replaced in one step. Everything here blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509

from lmgateway.tls.addresses import Subjects
from lmgateway.tls.authority import Pair, TlsError, makeAuthority, makeLeaf, whyDue

FOLDER = "tls"
AUTHORITY_FILE = "ca.pem"
CERTIFICATE_FILE = "ca.crt"
LEAF_FILE = "leaf.pem"


class TlsFolder:
    """
    What is kept for TLS.

    :param stateDirectory: the state folder; ours is in it.
    """

    def __init__(self, stateDirectory: str | Path) -> None:
        self.path = Path(stateDirectory) / FOLDER

    @property
    def leafPath(self) -> Path:
        """Where the leaf and its key are."""
        return self.path / LEAF_FILE

    @property
    def certificatePath(self) -> Path:
        """Where the authority's certificate is, alone, for people to hand around."""
        return self.path / CERTIFICATE_FILE

    def authority(self) -> Pair | None:
        """
        The authority, or None where none has been made.

        :raise TlsError: it cannot be read.
        """
        return self._read(AUTHORITY_FILE)

    def leaf(self) -> Pair | None:
        """
        The leaf, or None where none has been made.

        :raise TlsError: it cannot be read.
        """
        return self._read(LEAF_FILE)

    def begin(self, subjects: Subjects, now: datetime) -> Pair:
        """
        Make a new authority and a leaf, in the place of those that may be there.

        :return: the authority.
        :raise TlsError: they cannot be written.
        """
        authority = makeAuthority(subjects, now)
        self._write(AUTHORITY_FILE, authority.pem)
        self._write(LEAF_FILE, makeLeaf(authority, subjects, now).pem)
        self._write(CERTIFICATE_FILE, authority.certificatePem)
        return authority

    def renew(self, subjects: Subjects, now: datetime) -> Pair:
        """
        Make a new leaf, signed by the authority that is there.

        :return: the leaf.
        :raise TlsError: there is no authority, it has ended, or the leaf cannot be written.
        """
        authority = self.authority()
        if authority is None:
            raise TlsError("There is no certificate authority yet. Make one: lmgateway tls init")
        if authority.certificate.not_valid_after_utc <= now:
            raise TlsError(
                f"The certificate authority ended on {authority.certificate.not_valid_after_utc:%Y-%m-%d}. Make a new one, and "
                "have everybody trust it: lmgateway tls init --force"
            )
        leaf = makeLeaf(authority, subjects, now)
        self._write(LEAF_FILE, leaf.pem)
        return leaf

    def ensure(self, subjects: Subjects, now: datetime) -> str | None:
        """
        Make what is missing or due.

        :return: why something was made, in the middle of a sentence; None where nothing was.
        :raise TlsError: it could not be.
        """
        authority = self.authority()
        if authority is None:
            self.begin(subjects, now)
            return "there was none"
        if not self._hands(authority):
            self._write(CERTIFICATE_FILE, authority.certificatePem)
        leaf = self.leaf()
        reason = "there was none" if leaf is None else whyDue(leaf, authority, subjects, now)
        if reason is not None:
            self.renew(subjects, now)
        return reason

    def _hands(self, authority: Pair) -> bool:
        """Whether the file for people has this authority: a crash may have come between two files."""
        try:
            return self.certificatePath.read_bytes() == authority.certificatePem
        except OSError:
            return False

    def _read(self, name: str) -> Pair | None:
        path = self.path / name
        try:
            pem = path.read_bytes()
            _forOwnerOnly(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TlsError(
                f"The file {FOLDER}/{name} in the state folder cannot be read ({error.strerror})."
            ) from error
        try:
            return Pair.fromPem(pem)
        except (ValueError, TypeError, x509.InvalidVersion):
            remedy = "lmgateway tls renew" if name == LEAF_FILE else "lmgateway tls init --force"
            raise TlsError(
                f"The file {FOLDER}/{name} in the state folder is damaged. Put back a copy of it, or make a new one: {remedy}"
            ) from None

    def _write(self, name: str, content: bytes) -> None:
        try:
            # Of all that it makes, mkdir gives the mode to the innermost only.
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            if os.name == "posix":
                self.path.chmod(0o700)
            _replaceFile(self.path / name, content)
        except OSError as error:
            raise TlsError(
                f"The file {FOLDER}/{name} in the state folder cannot be written ({error.strerror}). Make room, or make it writable."
            ) from error


def _forOwnerOnly(path: Path) -> None:
    """Take a file's key away from whoever else may read it, as after a careless copy. Windows has no such bits."""
    if os.name == "posix" and path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _replaceFile(path: Path, content: bytes) -> None:
    """Have ``content`` in a file, on the disk, or leave the file as it was."""
    temporary = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # left by a crash; perhaps with other rights
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    if os.name == "posix":
        # The new name, too, must be on the disk. Windows lets nobody open a folder, and needs no such thing.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
