# -*- test-case-name: tests.studio.test_exposure -*-
"""
Whether LM Studio can be reached by other machines past the gateway: looked at when it is there, and told in the log.

Only where LM Studio is on this machine, by what answers at the machine's other addresses. It is looked at again when LM Studio has been
away, as it is when somebody changes that; what was told already is not told again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmgateway.configuration.listeners import isLoopback
from lmgateway.errors import GatewayError, UpstreamUnavailable
from lmgateway.inventory import Inventory, Management
from lmgateway.policy.diagnosis import Finding, Seen, exposureFinding
from lmgateway.settings import Settings
from lmgateway.wire.answer import holdWhole
from lmgateway.wire.upstream import makeUpstream

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
"""How long an address may take to be connected to, and to answer."""

MOST_ADDRESSES = 16
"""How many are tried: a machine with containers can have hundreds."""

MOST_LISTED = 1 << 20
"""Bytes of a list of models that are read."""

HTTP_PORT = 80

_log = Logger()


class ExposureCheck(Service):
    """
    Looks, one address after the other, while everything else goes on.

    :param settings: tells those of now.
    :param reactor: connects.
    :param addresses: tells those of this machine that others can use.
    :param isOwn: whether it is the gateway itself that listens at an address and port.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        reactor: Any,
        addresses: Callable[[], Iterable[str]],
        isOwn: Callable[[str, int], bool],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._addresses = addresses
        self._isOwn = isOwn
        self._isThere = False
        self._looking: Deferred[None] | None = None
        self._told: Finding | None = None

    def studioSeen(self, inventory: Inventory | None, _management: Management | None) -> None:
        """Be told what LM Studio has; None where it is not there."""
        came, self._isThere = inventory is not None and not self._isThere, inventory is not None
        if came and self.running and self._looking is None:
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addErrback(_tellDefect).addBoth(self._looked)

    def stopService(self) -> Deferred[None] | None:
        """Look no more."""
        super().stopService()
        if self._looking is not None:
            self._looking.cancel()
        return self._looking

    def _looked(self, _: object) -> None:
        self._looking = None

    async def _look(self) -> None:
        baseUrl = self._settings().upstream.baseUrl
        parts = urlsplit(baseUrl)
        if not isLoopback(parts.hostname or ""):
            return
        port = parts.port or HTTP_PORT
        others = (each for each in self._addresses() if not self._isOwn(each, port))
        elsewhere = {}
        for address in islice(others, MOST_ADDRESSES):
            seen = await self._ask(address, port)
            if seen is not None:
                elsewhere[address] = seen
        self._tell(exposureFinding(port, elsewhere, isHere=True))

    async def _ask(self, address: str, port: int) -> Seen | None:
        """Ask for the models without a token; None where nobody takes the connection."""
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        settings = self._settings()
        there = replace(settings.upstream, baseUrl=url, connectTimeout=CONNECT_SECONDS, transport="direct")
        upstream = makeUpstream(replace(settings, upstream=there), self._reactor)
        asking = Deferred.fromCoroutine(_listed(upstream))
        limit = self._reactor.callLater(ANSWER_SECONDS, asking.cancel)
        try:
            return await asking
        except UpstreamUnavailable:
            return None
        except GatewayError as error:
            return Seen(fault=error.message)
        except CancelledError:
            if limit.active():
                raise
            return Seen(fault="no answer in time")
        finally:
            if limit.active():
                limit.cancel()
            await upstream.close()

    def _tell(self, finding: Finding) -> None:
        if finding.level != "ok" and finding != self._told:
            _log.warn("{finding} {remedy}", finding=finding.message, remedy=finding.remedy)
        self._told = finding


async def _listed(upstream: Any) -> Seen:
    held = await holdWhole(await upstream.send(b"GET", b"/v1/models", (), None), MOST_LISTED)
    return Seen(status=held.code, body=held.body)


def _tellDefect(reason: Failure) -> None:
    if not reason.check(CancelledError):
        _log.failure("Defect while looking whether LM Studio can be reached past the gateway", reason)
