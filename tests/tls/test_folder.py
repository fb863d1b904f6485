"""The tls folder: what is in it after each step, and after a crash between two."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from ipaddress import ip_address
from unittest import skipIf

from lmgateway.tls.authority import TlsError, makeAuthority, makeLeaf, subjectsIn
from lmgateway.tls.folder import AUTHORITY_FILE, CERTIFICATE_FILE, LEAF_FILE, TlsFolder
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import fullBeyond, temporaryFolder
from tests.tls.support import NOW, SUBJECTS

LATER = NOW + timedelta(days=340)


class FolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = temporaryFolder(self)
        self.folder = TlsFolder(self.state)

    def bitsOf(self, name: str = ".") -> int:
        """The rights of a file in it."""
        return stat.S_IMODE((self.folder.path / name).stat().st_mode)

    def test_ensure(self) -> None:
        """The first time all is made, and says so; the next time nothing is, and the files stay as they are."""
        self.assertEqual(self.folder.ensure(SUBJECTS, NOW), "there was none")
        before = {path.name: path.read_bytes() for path in self.folder.path.iterdir()}
        self.assertEqual(set(before), {AUTHORITY_FILE, CERTIFICATE_FILE, LEAF_FILE})
        self.assertIsNone(self.folder.ensure(SUBJECTS, NOW))
        self.assertEqual({path.name: path.read_bytes() for path in self.folder.path.iterdir()}, before)

    def test_renewed(self) -> None:
        """A leaf near its end is replaced, and so is one that lacks an address; the authority stays."""
        self.folder.ensure(SUBJECTS, NOW)
        authority, leaf = self.folder.authority(), self.folder.leaf()
        self.assertEqual(self.folder.ensure(SUBJECTS, LATER), "it ends on 2028-01-14")
        moved = replace(SUBJECTS, addresses=(ip_address("10.0.0.9"),))
        self.assertEqual(self.folder.ensure(moved, LATER), "it does not name 10.0.0.9")
        renewed = self.folder.leaf()
        assert authority is not None
        assert leaf is not None
        assert renewed is not None
        self.assertEqual(subjectsIn(renewed.certificate).addresses, moved.addresses)
        self.assertNotEqual(renewed.certificate.public_key(), leaf.certificate.public_key())
        self.assertEqual(self.folder.certificatePath.read_bytes(), authority.certificatePem)

    @skipIf(os.name != "posix", "Windows has no such bits")
    def test_rights(self) -> None:
        """Nobody but the owner may read anything; where that was changed, it is put right before a key is used."""
        self.folder.ensure(SUBJECTS, NOW)
        self.assertEqual([self.bitsOf(), self.bitsOf(LEAF_FILE), self.bitsOf(AUTHORITY_FILE)], [0o700, 0o600, 0o600])
        (self.folder.path / LEAF_FILE).chmod(0o644)
        self.folder.leaf()
        self.assertEqual(self.bitsOf(LEAF_FILE), 0o600)

    @skipIf(os.name != "posix", "Windows has no such bits")
    def test_stateFolderRights(self) -> None:
        """A state folder that is made on the way is its owner's alone, too."""
        state = self.state / "new"
        TlsFolder(state).ensure(SUBJECTS, NOW)
        self.assertEqual(stat.S_IMODE(state.stat().st_mode), 0o700)

    def test_replaced(self) -> None:
        """A file is replaced whole: whoever has the old one open reads all of it, and of the new one nobody sees a part."""
        self.folder.ensure(SUBJECTS, NOW)
        whole = self.folder.leafPath.read_bytes()
        with self.folder.leafPath.open("rb") as before:
            begun = before.read(10)
            self.folder.renew(SUBJECTS, NOW)
            self.assertEqual(begun + before.read(), whole)
        self.assertNotEqual(self.folder.leafPath.read_bytes(), whole)

    def test_crashAfterAuthority(self) -> None:
        """Where a new authority came to the disk and nothing else, the leaf and the file for people follow at the next start."""
        self.folder.ensure(SUBJECTS, NOW)
        other = makeAuthority(SUBJECTS, LATER)
        (self.folder.path / AUTHORITY_FILE).write_bytes(other.pem)
        self.assertEqual(self.folder.ensure(SUBJECTS, LATER), "another authority has signed it")
        self.assertEqual(self.folder.certificatePath.read_bytes(), other.certificatePem)

    def test_crashWhileWriting(self) -> None:
        """What a crash left half written, for anybody to read, is neither used nor kept."""
        self.folder.ensure(SUBJECTS, NOW)
        half = self.folder.path / f"{LEAF_FILE}.new"
        half.write_bytes(b"-----BEGIN")
        self.folder.renew(SUBJECTS, NOW)
        self.assertFalse(half.exists())
        self.assertIsNotNone(self.folder.leaf())

    def test_damaged(self) -> None:
        """A file that cannot be read is refused with what to do, and left as it is."""
        self.folder.ensure(SUBJECTS, NOW)
        leaf = self.folder.leafPath
        leaf.write_bytes(leaf.read_bytes()[:200])
        error = self.assertRaises(TlsError, self.folder.ensure, SUBJECTS, NOW)
        self.assertEqual(
            str(error),
            "The file tls/leaf.pem in the state folder is damaged. Put back a copy of it, or make a new one: lmgateway tls renew",
        )
        self.assertEqual(len(leaf.read_bytes()), 200)

    def test_notThere(self) -> None:
        """Without an authority nothing is renewed, and nothing is there to be read."""
        error = self.assertRaises(TlsError, self.folder.renew, SUBJECTS, NOW)
        self.assertEqual(str(error), "There is no certificate authority yet. Make one: lmgateway tls init")
        self.assertEqual((self.folder.authority(), self.folder.leaf()), (None, None))

    def test_ended(self) -> None:
        """An authority that has ended signs nothing, and it is said who must do what."""
        self.folder.ensure(SUBJECTS, NOW)
        error = self.assertRaises(TlsError, self.folder.renew, SUBJECTS, NOW + timedelta(days=4000))
        self.assertRegex(
            str(error), r"^The certificate authority ended on 2037-01-\d+\. .* lmgateway tls init --force$"
        )

    def test_unwritable(self) -> None:
        """Where nothing can be written, the reason is told, and no path of the machine."""
        (self.state / "tls").write_text("in the way")
        error = self.assertRaises(TlsError, self.folder.begin, SUBJECTS, NOW)
        self.assertRegex(str(error), r"^The file tls/ca\.pem in the state folder cannot be written \(File exists\)\.")
        self.assertNotIn(str(self.state), str(error))

    def test_full(self) -> None:
        """A disk that becomes full in the middle of a file leaves the old one, and says so; once there is room it is replaced."""
        self.folder.ensure(SUBJECTS, NOW)
        before = self.folder.leafPath.read_bytes()
        with fullBeyond(100):
            error = self.assertRaises(TlsError, self.folder.renew, SUBJECTS, NOW)
        self.assertIn("tls/leaf.pem in the state folder cannot be written", str(error))
        self.assertEqual(self.folder.leafPath.read_bytes(), before)
        self.folder.renew(SUBJECTS, NOW)
        self.assertNotEqual(self.folder.leafPath.read_bytes(), before)

    def test_foreignLeaf(self) -> None:
        """A leaf that another authority has signed is replaced rather than served."""
        self.folder.ensure(SUBJECTS, NOW)
        self.folder.leafPath.write_bytes(makeLeaf(makeAuthority(SUBJECTS, LATER), SUBJECTS, NOW).pem)
        self.assertEqual(self.folder.ensure(SUBJECTS, NOW), "another authority has signed it")
