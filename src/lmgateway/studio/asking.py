# -*- test-case-name: tests.studio.test_gateway_only -*-
"""
Asking LM Studio something small over HTTP on the gateway's own account.
"""

from __future__ import annotations

from typing import NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer_only

from lmgateway.errors import UpstreamBroken, UpstreamSilent
from lmgateway.interfaces import IUpstream
from lmgateway.message import HeaderPairs
from lmgateway.wire.answer import HeldResponse, holdWhole
from lmgateway.wire.body import BytesBodyProducer

MOST = 64 << 20
"""Bytes of an answer: ten thousand models have about six million."""


@implementer_only(IBodyProducer)
class OnceProducer(BytesBodyProducer):
    """A body that is never sent again by itself: a model would be loaded twice (RFC 9110 section 9.2.2)."""


class Asking:
    """
    LM Studio over HTTP.

    :param upstream: where it is.
    :param apiToken: LM Studio's own token, or None.
    :param clock: for what is awaited only so long.
    """

    def __init__(self, upstream: IUpstream, apiToken: str | None, clock: IReactorTime) -> None:
        self._upstream = upstream
        self._clock = clock
        bearer = () if apiToken is None else ((b"Authorization", b"Bearer " + apiToken.encode()),)
        self._headers: HeaderPairs = ((b"Accept", b"application/json"), *bearer)

    def ask(self, target: bytes, body: bytes | None = None, *, seconds: float | None) -> Deferred[HeldResponse]:
        """
        GET, or POST where there is a body.

        :param body: JSON.
        :param seconds: for how long to wait, or None for as long as it takes.
        :return: fires with the whole answer, whatever its status. Fails with
            :class:`~lmgateway.errors.UpstreamUnavailable`, ``UpstreamBroken`` or ``UpstreamSilent``. Cancelling closes the
            connection.
        """
        asking = Deferred.fromCoroutine(self._exchange(target, body))
        return asking if seconds is None else asking.addTimeout(seconds, self._clock, silent)

    async def _exchange(self, target: bytes, body: bytes | None) -> HeldResponse:
        if body is None:
            sending = self._upstream.send(b"GET", target, self._headers, None)
        else:
            headers = (*self._headers, (b"Content-Type", b"application/json"))
            sending = self._upstream.send(b"POST", target, headers, OnceProducer(body))
        reading = holdWhole(await sending, MOST)
        held = await _untilCancelled(reading)
        if len(held.body) > MOST:
            raise UpstreamBroken(f"LM Studio's answer is longer than {MOST >> 20} MiB.")
        return held


def _untilCancelled(reading: Deferred[HeldResponse]) -> Deferred[HeldResponse]:
    """Fail with ``CancelledError`` on cancelling, where an answer that is held would fire with as much of it as there is."""

    def cancel(waiting: Deferred[HeldResponse]) -> None:
        waiting.errback(CancelledError())
        reading.cancel()

    waiting: Deferred[HeldResponse] = Deferred(cancel)

    def tell(result: HeldResponse) -> None:
        if not waiting.called:
            waiting.callback(result)

    # It fires with an answer however that ended; what it fails with can only be that it was cancelled.
    reading.addCallbacks(tell, lambda _: None)
    return waiting


def silent(_: object, seconds: float) -> NoReturn:
    """
    Say that there was no answer in time; for :meth:`~twisted.internet.defer.Deferred.addTimeout`.

    :raise UpstreamSilent: always.
    """
    raise UpstreamSilent(
        f"LM Studio did not answer within {seconds:g} s. It may be busy loading a model; try again in a moment."
    )
