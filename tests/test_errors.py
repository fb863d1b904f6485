"""What each error tells a client: the status of the contract, the challenge or hint that goes with it, whose fault it was."""

from __future__ import annotations

from lmgateway import errors
from lmgateway.errors import Fault, GatewayError, MethodNotAllowed, TooManyRequests, Unauthenticated
from twisted.trial.unittest import SynchronousTestCase

STATUSES = {
    errors.BadRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RequestTimeout: 408,
    errors.Conflict: 409,
    errors.PayloadTooLarge: 413,
    errors.TargetTooLong: 414,
    errors.UnsupportedMediaType: 415,
    errors.ExpectationFailed: 417,
    errors.HeadTooLarge: 431,
    errors.InternalError: 500,
    errors.Unavailable: 503,
    errors.UpstreamBroken: 502,
    errors.UpstreamUnavailable: 503,
    errors.UpstreamSilent: 504,
}


class GatewayErrorTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """Every kind of error has the status that the contract gives it."""
        for kind, status in STATUSES.items():
            error = kind("What happened. What to do.")
            self.assertEqual(error.status, status, kind)
            self.assertEqual(str(error), "What happened. What to do.")

    def test_faults(self) -> None:
        """Whose fault an error is follows from its status, but for the two kinds of 503."""
        for kind, status in STATUSES.items():
            if issubclass(kind, errors.UpstreamError):
                self.assertIs(kind.fault, Fault.UPSTREAM, kind)
            else:
                self.assertIs(kind.fault, Fault.CLIENT if status < 500 else Fault.GATEWAY, kind)

    def test_code(self) -> None:
        """An error has its kind's code unless it is given one, and giving one changes no other error's."""
        self.assertEqual(GatewayError("x", code="special").code, "special")
        self.assertEqual(GatewayError("x").code, "internal_error")

    def test_plain(self) -> None:
        """An error asks for nothing more than is said: no field, no details, no header, no closing."""
        error = errors.BadRequest("x")
        self.assertEqual((error.param, error.details, error.headers, error.closes), (None, None, (), False))

    def test_given(self) -> None:
        """What an error is given, it tells."""
        details: list[dict[str, object]] = [{"path": ["topP"], "message": "at most 1"}]
        error = errors.BadRequest("x", param="topP", details=details, closes=True)
        self.assertEqual((error.param, error.details, error.closes), ("topP", details, True))


class HeaderTests(SynchronousTestCase):
    def test_challenge(self) -> None:
        """A 401 says how to authenticate."""
        self.assertEqual(Unauthenticated("x").headers, ((b"WWW-Authenticate", b'Bearer realm="lmgateway"'),))

    def test_allow(self) -> None:
        """A 405 says which methods there are."""
        error = MethodNotAllowed("x", allow=(b"GET", b"HEAD"))
        self.assertEqual(error.status, 405)
        self.assertEqual(error.headers, ((b"Allow", b"GET, HEAD"),))

    def test_retryAfter(self) -> None:
        """A 429 says when to come back."""
        error = TooManyRequests("x", retryAfter=7, code="queue_full")
        self.assertEqual((error.status, error.code, error.headers), (429, "queue_full", ((b"Retry-After", b"7"),)))
