# -*- test-case-name: tests.studio.simulator.test_site -*-
"""
The simulator on HTTP: which path is what, and how a request goes through.

Paths are matched as Express does it: undecoded, in any case, with or without a slash at the end. Whatever matches nothing is
answered with 200 and an error, as LM Studio does.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from lmgateway.studio.simulator.channel import REQUEST, StudioChannel, StudioRequest
from lmgateway.studio.simulator.exchange import Exchange
from lmgateway.studio.simulator.simulator import Simulator
from lmgateway.studio.simulator.visit import Visit
from lmgateway.studio.simulator.websocket import StudioSockets


def simulatorResource(simulator: Simulator, clock: IReactorTime) -> IResource:
    """
    The simulator as a leaf resource, to be put into any site.

    :param clock: what its delays go by.
    """
    return _StudioResource(simulator, clock)


def simulatorSite(simulator: Simulator, reactor: IReactorTime) -> Site:
    """
    The simulator as a site of its own: the only way to see Node's timeouts, half-closed connections and the header fields as
    they were sent.

    :param reactor: what its delays and the timeouts of its connections go by.
    """
    root = simulatorResource(simulator, reactor)
    site = _StudioSite(
        root, requestFactory=StudioRequest, reactor=reactor, timeout=REQUEST, parsePOSTFormSubmission=False
    )
    site.displayTracebacks = False
    return site


class _StudioSite(Site):
    """A site that speaks HTTP/1.1 alone, and leaves logging to the simulator."""

    protocol = StudioChannel  # type: ignore[assignment]  # its own wrapper only serves HTTP/2, which Node does not offer

    def log(self, request: object) -> None:
        """Nothing: :attr:`Simulator.log` has a line for each request."""


class _StudioResource(Resource):
    """Every path and every method."""

    isLeaf = True

    def __init__(self, simulator: Simulator, clock: IReactorTime) -> None:
        super().__init__()
        self._simulator = simulator
        self._clock = clock
        self._sockets = StudioSockets(simulator, clock)

    def render(self, request: Request) -> int:
        """Take the request down, and begin to answer it."""
        if self._sockets.wants(request):
            self._sockets.open(request)
            return NOT_DONE_YET
        exchange = Exchange(request)
        visit = Visit(self._simulator, self._clock, request, exchange)
        # A request that goes through without waiting has no need of cancelling.
        exchange.work = Deferred.fromCoroutine(visit.run())
        return NOT_DONE_YET
