"""What goes downstream, piece by piece."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.wire.outbox import Outbox
from twisted.trial.unittest import SynchronousTestCase


class Writes:
    """A transport that remembers each write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.transport = Writes()
        self.outbox = Outbox(self.transport)

    def test_together(self) -> None:
        """A head goes out in one write with what comes after it; what comes then is not held back."""
        self.outbox.hold(b"head")
        self.assertEqual(self.transport.written, [])
        for piece in (b"a", b"b"):
            self.outbox.write(piece)
        self.assertEqual(self.transport.written, [b"heada", b"b"])

    def test_flush(self) -> None:
        """A head that is asked for goes out alone, and once."""
        self.outbox.hold(b"head")
        self.outbox.flush()
        self.outbox.flush()
        self.assertEqual(self.transport.written, [b"head"])

    def test_shut(self) -> None:
        """After it is shut nothing goes out, not even what was held back."""
        self.outbox.hold(b"head")
        self.outbox.shut()
        self.outbox.write(b"a")
        self.outbox.flush()
        self.outbox.write(b"b")
        self.assertEqual(self.transport.written, [])

    @given(st.lists(st.tuples(st.sampled_from(("hold", "write", "flush")), st.binary(min_size=1, max_size=3))))
    def test_order(self, steps: list[tuple[str, bytes]]) -> None:
        """Whatever is held, written and flushed, all of it goes out in the order in which it came."""
        self.setUp()
        expected = b""
        for step, data in steps:
            if step == "flush":
                self.outbox.flush()
            else:
                getattr(self.outbox, step)(data)
                expected += data
        self.outbox.flush()
        self.assertEqual(b"".join(self.transport.written), expected)
