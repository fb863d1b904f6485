# -*- test-case-name: tests.policy.test_limits -*-
"""
What keys and addresses may use up in a time. Pure: Unix times go in.

A limit of so many a minute is a token bucket: as many at once, and then one more for each of its shares of a minute. What is
refused takes nothing out of any bucket. Addresses are counted by :func:`sourceOf`, and no table remembers more than
:data:`MOST_REMEMBERED` of anything that a client can make up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil

from msgspec import Struct

from lmgateway.errors import TooManyRequests
from lmgateway.message import HeaderPairs, Principal

MOST_REMEMBERED = 10_000
"""Buckets that are remembered; beyond, the one that was used longest ago is forgotten, and so is full again."""

PARALLEL_RETRY = 1
"""Seconds after which a request may be tried again where all that a key may have at a time are being answered."""

FREE_FAILURES = 10
"""Wrong keys of one address that are answered at once: somebody looks for the right one."""

ANSWERED_FAILURES = 20
"""Wrong keys of one address that are answered as what they are. The rest is refused."""

FAILURES_PER_MINUTE = 20
"""How fast wrong keys are forgotten."""

MOST_FAILURES = 120
"""Beyond this many it becomes no worse: then it takes five minutes until a wrong key is answered as one again."""

FIRST_DELAY = 0.1
"""Seconds for which the first answer to a wrong key that is not free is held back; each further one twice as long."""

LONGEST_DELAY = 2.0
"""Seconds for which an answer is held back at most: it keeps a connection open, ours as well as the client's."""

_DAY = 86_400
_EASE = 1e-6
"""What a bucket may lack of a whole token: the rounding of Unix times must not refuse who has waited as long as was asked."""


@lru_cache(maxsize=4096)
def sourceOf(address: str) -> str:
    """
    Tell whom an address counts as.

    An IPv6 host has a whole /64 to itself (RFC 4291 section 2.5.4) and can use another address each time, so that counts
    as one. An IPv4-mapped address counts as the IPv4 address that it is.

    :param address: textual; a zone id is ignored. What is no IP address counts as itself.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), 64), strict=False))


class Bucket(Struct, eq=False, gc=False):
    """
    So many tokens a minute, as many at once.

    :param size: the tokens that are in it when it is full, and that it is given in a minute.
    :param tokens: that are in it.
    :param at: the time to which it was refilled.
    """

    size: int
    tokens: float
    at: float

    def refill(self, size: int, now: float) -> None:
        """Put in what has come in since. A clock that was set back gives nothing, and takes nothing away."""
        if now > self.at:
            self.tokens += (now - self.at) * self.size / 60
        self.at = now
        self.size = size
        self.tokens = min(self.tokens, float(size))

    def take(self) -> None:
        """Take a token out, which must be there (:attr:`wait`)."""
        self.tokens -= 1

    @property
    def wait(self) -> float:
        """Seconds until there is a token; 0 where there is."""
        missing = 1 - self.tokens
        return missing * 60 / self.size if missing > _EASE else 0.0

    @property
    def remaining(self) -> int:
        """Whole tokens."""
        return max(int(self.tokens + _EASE), 0)

    @property
    def secondsToFull(self) -> float:
        """Seconds until it is full if nothing is taken."""
        return (self.size - self.tokens) * 60 / self.size


class Buckets:
    """
    A bucket for each name.

    :param most: that are remembered.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, size: int, now: float) -> Bucket:
        """
        Give the bucket of a name, refilled.

        :param size: tokens a minute; it may be another than before.
        """
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = Bucket(size, float(size), now)
            if len(self._buckets) >= self._most:
                del self._buckets[next(iter(self._buckets))]
        else:
            bucket.refill(size, now)
        self._buckets[name] = bucket
        return bucket


class Verdict(Struct, frozen=True):
    """
    What becomes of a request.

    :param headers: what its answer tells of the key's limits, whatever becomes of it.
    :param refusal: why it is refused, if it is.
    :param holds: whether it counts as one of those that its key may have at the same time, until :meth:`RequestLimits.release`.
    """

    headers: HeaderPairs = ()
    refusal: TooManyRequests | None = None
    holds: bool = False


FREE = Verdict()
"""Nothing limits it."""


class RequestLimits:
    """
    What requests with a good key are held to.

    :param tokensOn: tells the tokens that a key has used on a day.
    :param perAddress: requests a minute from one address; 0 is any number. Assign to change it.
    """

    def __init__(self, tokensOn: Callable[[date, str], int], perAddress: int) -> None:
        self.perAddress = perAddress
        self._tokensOn = tokensOn
        self._keys = Buckets()
        self._addresses = Buckets()
        self._running: dict[str, int] = {}

    def judge(self, principal: Principal, address: str, now: float, *, isInference: bool) -> Verdict:
        """
        Decide whether a request may go on, and count it if it may.

        :param address: where it came from.
        :param now: Unix time.
        :param isInference: whether the model has to do with it: only then the key's tokens and parallel requests count.
        """
        grant, perAddress = principal.grant, self.perAddress
        perMinute, perDay, parallel = grant.requestsPerMinute, grant.tokensPerDay, grant.parallel
        if perMinute is None and perDay is None and parallel is None and not perAddress:
            return FREE
        ofAddress = self._addresses.of(sourceOf(address), perAddress, now) if perAddress else None
        ofKey = self._keys.of(principal.name, perMinute, now) if perMinute is not None else None
        used = self._tokensOn(_dayOf(now), principal.name) if perDay is not None else 0
        refusal = _rateRefusal(principal.name, ofAddress, ofKey)
        holds = False
        if refusal is None and isInference:
            refusal = self._inferenceRefusal(principal, used, now)
            holds = parallel is not None
        if refusal is None:
            for bucket in (ofAddress, ofKey):
                if bucket is not None:
                    bucket.take()
            if holds:
                self._running[principal.name] = self._running.get(principal.name, 0) + 1
        headers: HeaderPairs = ()
        if ofKey is not None:
            headers = limitFields(b"requests", ofKey.size, ofKey.remaining, ofKey.secondsToFull)
        if perDay is not None:
            headers += limitFields(b"tokens", perDay, max(perDay - used, 0), _secondsLeftOfDay(now))
        return Verdict(headers, refusal, holds and refusal is None)

    def release(self, principal: Principal) -> None:
        """A request that holds (:attr:`Verdict.holds`) has ended."""
        left = self._running[principal.name] - 1
        if left:
            self._running[principal.name] = left
        else:
            del self._running[principal.name]

    def running(self, name: str) -> int:
        """Tell how many requests of a key hold."""
        return self._running.get(name, 0)

    def _inferenceRefusal(self, principal: Principal, used: int, now: float) -> TooManyRequests | None:
        grant, name = principal.grant, principal.name
        if grant.tokensPerDay is not None and used >= grant.tokensPerDay:
            seconds = ceil(_secondsLeftOfDay(now))
            return TooManyRequests(
                f'The key "{name}" has used its {grant.tokensPerDay} tokens of today. '
                f"It is given as many again at midnight UTC, in {spellDuration(seconds)}.",
                retryAfter=seconds,
                code="tokens_per_day_exceeded",
            )
        if grant.parallel is not None and self.running(name) >= grant.parallel:
            return TooManyRequests(
                f'The key "{name}" may have {grant.parallel} requests answered at the same time, and has. '
                "Try again when one of them has ended.",
                retryAfter=PARALLEL_RETRY,
                code="too_many_parallel_requests",
            )
        return None


def _rateRefusal(name: str, ofAddress: Bucket | None, ofKey: Bucket | None) -> TooManyRequests | None:
    for bucket, who in ((ofAddress, "One address"), (ofKey, f'The key "{name}"')):
        if bucket is not None and bucket.wait:
            seconds = ceil(bucket.wait)
            return TooManyRequests(
                f"{who} may send {bucket.size} requests a minute, and has. Try again in {spellDuration(seconds)}.",
                retryAfter=seconds,
            )
    return None


class KeyFailures:
    """
    The wrong keys that each address has sent of late.

    They fill a bucket that leaks. Right keys are not looked for in it: many people can share an address, and one who is
    mistaken must not lock the others out.

    :param most: addresses that are remembered.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def failed(self, address: str, now: float) -> float | TooManyRequests:
        """
        Count a wrong key, and decide how it is answered.

        :param address: where it came from.
        :return: the seconds for which the answer is to be held back; or what it is refused with instead.
        """
        source = sourceOf(address)
        level, at = self._levels.pop(source, (0.0, now))
        if now > at:
            level = max(0.0, level - (now - at) * FAILURES_PER_MINUTE / 60)
        if len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        self._levels[source] = (min(level + 1, MOST_FAILURES), now)
        over = level - ANSWERED_FAILURES + 1
        if over > _EASE:
            return refusalOfKeys(ceil(min(over + 1, MOST_FAILURES - ANSWERED_FAILURES + 1) * 60 / FAILURES_PER_MINUTE))
        doublings = level - FREE_FAILURES
        return min(FIRST_DELAY * 2 ** int(doublings), LONGEST_DELAY) if doublings >= 0 else 0.0


def refusalOfKeys(seconds: int) -> TooManyRequests:
    """
    What a wrong key is refused with instead of being told that it is one.

    :param seconds: after which it is told again.
    """
    return TooManyRequests(
        "Too many wrong API keys have come from this address. Check the key, or ask whoever runs the gateway for one; "
        f"try again in {spellDuration(seconds)}.",
        retryAfter=seconds,
        code="too_many_failed_keys",
    )


class Throttle:
    """
    Lets a few things through in a time, and counts the rest.

    :param most: that are let through.
    :param seconds: in which.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._since = 0.0
        self._count = 0
        self._omitted = 0

    def admit(self, now: float) -> int | None:
        """
        Decide whether one more is let through.

        :return: how many were not since the last that was; None where this one is not either.
        """
        if not 0 <= now - self._since < self._seconds:
            self._since, self._count = now, 0
        if self._count >= self._most:
            self._omitted += 1
            return None
        self._count += 1
        omitted, self._omitted = self._omitted, 0
        return omitted


def limitFields(what: bytes, limit: int, remaining: int, seconds: float) -> HeaderPairs:
    """
    Tell a limit in the header fields that OpenAI's clients know (OpenAI, "Rate limits in headers").

    :param what: ``requests`` or ``tokens``.
    :param limit: when nothing is used up.
    :param remaining: what is left of it.
    :param seconds: until nothing is used up.
    """
    return (
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % remaining),
        (b"x-ratelimit-reset-" + what, spellDuration(ceil(seconds)).encode("ascii")),
    )


def spellDuration(seconds: int) -> str:
    """Spell a time as OpenAI does, which is Go's way: ``1s``, ``6m0s``, ``2h0m5s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _dayOf(now: float) -> date:
    return datetime.fromtimestamp(now, UTC).date()


def _secondsLeftOfDay(now: float) -> float:
    return _DAY - now % _DAY
