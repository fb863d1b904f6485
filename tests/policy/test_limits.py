"""What keys and addresses may use up, on times that the tests name."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import TooManyRequests
from lmgateway.message import Grant, Principal, Scope
from lmgateway.policy.limits import (
    ANSWERED_FAILURES,
    FAILURES_PER_MINUTE,
    FREE,
    FREE_FAILURES,
    LONGEST_DELAY,
    Buckets,
    KeyFailures,
    RequestLimits,
    Throttle,
    limitFields,
    sourceOf,
    spellDuration,
)
from twisted.trial.unittest import SynchronousTestCase

NOW = 1_800_000_000.0
"""08:00 in UTC."""

GAPS = st.lists(st.floats(0, 40) | st.sampled_from([0.0, 0.0, 1.0, 6.0, 60.0]), min_size=1, max_size=80)
"""Times between requests."""

ADDRESSES = st.ip_addresses().map(str)


def keyOf(name: str = "alice", **grant: object) -> Principal:
    """A key that is held to something."""
    return Principal(name, frozenset({Scope.INFERENCE}), grant=Grant(**grant))  # type: ignore[arg-type]


class Asking:
    """Requests to limits, one after the other."""

    def __init__(self, perAddress: int = 0) -> None:
        self.tokens: dict[tuple[date, str], int] = {}
        self.limits = RequestLimits(lambda day, name: self.tokens.get((day, name), 0), perAddress)
        self.now = NOW

    def ask(self, principal: Principal, address: str = "192.0.2.7", *, isInference: bool = True) -> int | None:
        """Ask, and give the seconds after which to ask again; None where it passes."""
        refusal = self.limits.judge(principal, address, self.now, isInference=isInference).refusal
        return None if refusal is None else refusal.retryAfter

    def fields(self, principal: Principal) -> dict[str, str]:
        """The header fields that a request's answer has of the limits."""
        verdict = self.limits.judge(principal, "192.0.2.7", self.now, isInference=True)
        return {name.decode(): value.decode() for name, value in verdict.headers}


class RateTests(SynchronousTestCase):
    @given(st.integers(1, 30), GAPS)
    def test_neverMore(self, limit: int, gaps: list[float]) -> None:
        """In no span of time do more requests pass than the limit and what the span brings in."""
        asking, passed = Asking(), []
        for gap in gaps:
            asking.now += gap
            if asking.ask(keyOf(requestsPerMinute=limit)) is None:
                passed.append(asking.now)
        for first, begin in enumerate(passed):
            for count, end in enumerate(passed[first:], 1):
                self.assertLessEqual(count, limit + (end - begin) * limit / 60 + 1e-3)

    @given(st.integers(1, 1000), GAPS)
    def test_retryAfter(self, limit: int, gaps: list[float]) -> None:
        """Whoever is refused passes after the seconds that it was told, and not a second and a half before."""
        asking = Asking()
        key = keyOf(requestsPerMinute=limit)
        for gap in gaps:
            asking.now += gap / limit
            seconds = asking.ask(key)
            if seconds is None:
                continue
            self.assertGreaterEqual(seconds, 1)
            asking.now += max(seconds - 1.5, 0)
            if seconds >= 2:
                self.assertIsNotNone(asking.ask(key))
            asking.now += min(seconds, 1.5)
            self.assertIsNone(asking.ask(key))

    @given(st.integers(1, 20), st.integers(0, 50))
    def test_refusalsAreFree(self, limit: int, refusals: int) -> None:
        """A refused request costs nothing: however often one asks meanwhile, the next passes at the same time."""
        asking = Asking()
        key = keyOf(requestsPerMinute=limit)
        self.assertEqual([asking.ask(key) for _ in range(limit)], [None] * limit)
        begin = asking.now
        for index in range(refusals):
            asking.now = begin + 59 / limit * index / (refusals or 1)
            self.assertIsNotNone(asking.ask(key))
        asking.now = begin + 60 / limit
        self.assertIsNone(asking.ask(key))
        self.assertIsNotNone(asking.ask(key))

    def test_refusedByOneCostsTheOtherNothing(self) -> None:
        """A request that the address refuses takes nothing from the key, and the other way round."""
        asking = Asking(perAddress=2)
        key = keyOf(requestsPerMinute=3)
        self.assertEqual([asking.ask(key) for _ in range(4)], [None, None, 30, 30])
        self.assertIsNone(asking.ask(key, "192.0.2.8"))
        self.assertEqual([asking.ask(key, "192.0.2.8") for _ in range(3)], [20] * 3)
        self.assertIsNone(asking.ask(keyOf("bob"), "192.0.2.8"))
        self.assertEqual(asking.ask(keyOf("bob"), "192.0.2.8"), 30)

    def test_clockSetBack(self) -> None:
        """A clock that is set back by a year keeps nobody waiting for a year."""
        asking = Asking()
        key = keyOf(requestsPerMinute=1)
        asking.ask(key)
        asking.now -= 365 * 86_400
        self.assertEqual(asking.ask(key), 60)
        asking.now += 60
        self.assertIsNone(asking.ask(key))

    def test_otherLimit(self) -> None:
        """A limit that is lowered counts at once; one that is raised does not fill the bucket by itself."""
        asking = Asking()
        asking.ask(keyOf(requestsPerMinute=60))
        self.assertEqual([asking.ask(keyOf(requestsPerMinute=1)) for _ in range(2)], [None, 60])
        self.assertEqual(asking.ask(keyOf(requestsPerMinute=60)), 1)

    @given(st.lists(ADDRESSES | st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=60), st.integers(1, 8))
    def test_bounded(self, addresses: list[str], most: int) -> None:
        """A table never has more entries than it may; what goes is what was used longest ago."""
        buckets, failures = Buckets(most), KeyFailures(most)
        for address in addresses:
            buckets.of(address, 1, NOW)
            failures.failed(address, NOW)
            self.assertLessEqual(len(buckets), most)
            self.assertLessEqual(len(failures), most)
        recent = list(dict.fromkeys(reversed(addresses)))[:most]
        for address in recent:
            buckets.of(address, 1, NOW).take()
        self.assertEqual(len(buckets), len(recent))


class SourceTests(SynchronousTestCase):
    @given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
    def test_network(self, address: object, host: int) -> None:
        """All addresses of one /64 count as one, unless they stand for IPv4 addresses; those of another do not."""
        number = int(address) >> 64 << 64  # type: ignore[call-overload]
        if number:
            inside = str(type(address)(number | host))  # type: ignore[call-arg]
            outside = str(type(address)(number ^ 1 << 64 | host))  # type: ignore[call-arg]
            self.assertEqual(sourceOf(inside), sourceOf(str(address)))
            self.assertNotEqual(sourceOf(outside), sourceOf(str(address)))

    def test_others(self) -> None:
        """IPv4 addresses count each for itself, however they are written; so does what is no address."""
        self.assertEqual(sourceOf("192.0.2.7"), "192.0.2.7")
        self.assertEqual(sourceOf("::ffff:192.0.2.7"), "192.0.2.7")
        self.assertNotEqual(sourceOf("::ffff:192.0.2.7"), sourceOf("::ffff:192.0.2.8"))
        self.assertEqual(sourceOf("fe80::1%eth0"), sourceOf("fe80::2"))
        self.assertEqual(sourceOf("nobody"), "nobody")


class ParallelTests(SynchronousTestCase):
    @given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
    def test_neverMore(self, most: int, steps: list[bool]) -> None:
        """Never more run than may; what ends makes room for exactly one."""
        asking = Asking()
        key = keyOf(parallel=most)
        running = 0
        for begins in steps:
            if begins:
                passed = asking.ask(key) is None
                self.assertEqual(passed, running < most)
                running += passed
            elif running:
                asking.limits.release(key)
                running -= 1
            self.assertEqual(asking.limits.running("alice"), running)

    def test_inferenceAlone(self) -> None:
        """Only what the model has to do with counts; another key's requests do not."""
        asking = Asking()
        key = keyOf(parallel=1)
        self.assertFalse(asking.limits.judge(key, "192.0.2.7", NOW, isInference=False).holds)
        self.assertTrue(asking.limits.judge(key, "192.0.2.7", NOW, isInference=True).holds)
        self.assertIsNone(asking.ask(key, isInference=False))
        self.assertEqual(asking.ask(key), 1)
        self.assertIsNone(asking.ask(keyOf("bob", parallel=1)))

    def test_refusalsHoldNothing(self) -> None:
        """A request that is refused for another reason holds no place, and one without a place takes no token."""
        asking = Asking()
        key = keyOf(parallel=1, requestsPerMinute=2)
        self.assertIsNone(asking.ask(key))
        self.assertEqual([asking.ask(key), asking.ask(key)], [1, 1])
        asking.limits.release(key)
        self.assertIsNone(asking.ask(key))
        asking.limits.release(key)
        self.assertEqual(asking.ask(key), 30)
        self.assertEqual(asking.limits.running("alice"), 0)


class TokenTests(SynchronousTestCase):
    def test_day(self) -> None:
        """Once a day's tokens are used nothing passes until midnight in UTC, which Retry-After tells to the second."""
        asking = Asking()
        key = keyOf(tokensPerDay=100)
        today = datetime.fromtimestamp(NOW, UTC).date()
        asking.tokens[today, "alice"] = 99
        self.assertIsNone(asking.ask(key))
        asking.tokens[today, "alice"] = 100
        seconds = asking.ask(key)
        self.assertEqual(seconds, 16 * 3600)
        self.assertIsNone(asking.ask(key, isInference=False))
        asking.now += seconds
        self.assertIsNone(asking.ask(key))

    def test_fields(self) -> None:
        """What is used and what is left is told, more than all of it included."""
        asking = Asking()
        today = datetime.fromtimestamp(NOW, UTC).date()
        asking.tokens[today, "alice"] = 130
        self.assertEqual(
            asking.fields(keyOf(tokensPerDay=200)),
            {
                "x-ratelimit-limit-tokens": "200",
                "x-ratelimit-remaining-tokens": "70",
                "x-ratelimit-reset-tokens": "16h0m0s",
            },
        )
        self.assertEqual(asking.fields(keyOf(tokensPerDay=100))["x-ratelimit-remaining-tokens"], "0")


class FieldTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """The fields count down with each request, and are there on a refusal, too."""
        asking = Asking()
        key = keyOf(requestsPerMinute=2)
        told = [asking.fields(key) for _ in range(3)]
        self.assertEqual([each["x-ratelimit-remaining-requests"] for each in told], ["1", "0", "0"])
        self.assertEqual([each["x-ratelimit-reset-requests"] for each in told], ["30s", "1m0s", "1m0s"])
        self.assertEqual({each["x-ratelimit-limit-requests"] for each in told}, {"2"})

    def test_nothing(self) -> None:
        """A key that is held to nothing is told nothing, and leaves nothing behind."""
        asking = Asking()
        self.assertIs(asking.limits.judge(keyOf(), "192.0.2.7", NOW, isInference=True), FREE)
        self.assertEqual(asking.fields(keyOf(parallel=1)), {})

    @given(st.integers(0, 200_000))
    def test_durations(self, seconds: int) -> None:
        """A duration reads back as itself."""
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(\d+)s", spellDuration(seconds))
        self.assertIsNotNone(match)
        assert match is not None
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        self.assertEqual(hours * 3600 + minutes * 60 + rest, seconds)

    def test_spelling(self) -> None:
        """Durations are spelled as OpenAI spells them."""
        self.assertEqual([spellDuration(each) for each in (0, 1, 360, 3605)], ["0s", "1s", "6m0s", "1h0m5s"])
        self.assertEqual(limitFields(b"tokens", 5, 4, 0.2)[2], (b"x-ratelimit-reset-tokens", b"1s"))


class FailureTests(SynchronousTestCase):
    def test_steps(self) -> None:
        """The first wrong keys are answered at once, the next more and more slowly, the rest refused for longer and longer."""
        failures = KeyFailures()
        answers = [failures.failed("192.0.2.7", NOW) for _ in range(200)]
        delays = [each for each in answers if isinstance(each, float)]
        refusals = [each.retryAfter for each in answers if isinstance(each, TooManyRequests)]
        self.assertEqual(len(delays), ANSWERED_FAILURES)
        self.assertEqual(delays[: FREE_FAILURES + 4], [0.0] * FREE_FAILURES + [0.1, 0.2, 0.4, 0.8])
        self.assertEqual(max(delays), LONGEST_DELAY)
        self.assertEqual(refusals, sorted(refusals))
        self.assertEqual((refusals[0], refusals[1], refusals[-1]), (6, 9, 303))
        self.assertEqual(failures.failed("192.0.2.8", NOW), 0.0)

    @given(st.lists(st.floats(0, 20) | st.just(0.0), min_size=1, max_size=200))
    def test_neverMore(self, gaps: list[float]) -> None:
        """In no span of time are more wrong keys answered as such than are forgiven in it and were free before it."""
        failures, now, answered = KeyFailures(), NOW, []
        for gap in gaps:
            now += gap
            verdict = failures.failed("192.0.2.7", now)
            if isinstance(verdict, float):
                self.assertLessEqual(verdict, LONGEST_DELAY)
                answered.append(now)
        for first, begin in enumerate(answered):
            most = ANSWERED_FAILURES + (answered[-1] - begin) * FAILURES_PER_MINUTE / 60 + 1e-3
            self.assertLessEqual(len(answered) - first, most)

    @given(st.integers(ANSWERED_FAILURES + 1, 400))
    def test_retryAfter(self, attempts: int) -> None:
        """Whoever waits as long as it was told is answered again."""
        failures = KeyFailures()
        last = [failures.failed("192.0.2.7", NOW) for _ in range(attempts)][-1]
        assert isinstance(last, TooManyRequests)
        self.assertIsInstance(failures.failed("192.0.2.7", NOW + last.retryAfter), float)

    def test_forgotten(self) -> None:
        """After some minutes everything is as if nothing had been."""
        failures = KeyFailures()
        for _ in range(1000):
            failures.failed("192.0.2.7", NOW)
        self.assertEqual(failures.failed("192.0.2.7", NOW + 400), 0.0)


class ThrottleTests(SynchronousTestCase):
    @given(st.lists(st.floats(0, 3), max_size=100), st.integers(1, 5))
    def test_nothingUncounted(self, gaps: list[float], most: int) -> None:
        """No more pass in a time than may, and of those that do not none is left uncounted."""
        throttle, now, passed, omitted, told = Throttle(most, 1.0), NOW, [], 0, 0
        for gap in gaps:
            now += gap
            count = throttle.admit(now)
            if count is None:
                omitted += 1
            else:
                passed.append(now)
                told += count
        self.assertLessEqual(told, omitted)
        last = throttle.admit(now + 2)
        self.assertEqual(told + (last or 0), omitted)
        for second in range(ceil(now - NOW) + 1):
            within = [each for each in passed if NOW + second <= each < NOW + second + 1]
            self.assertLessEqual(len(within), 2 * most)
