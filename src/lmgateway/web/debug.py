# -*- test-case-name: tests.web.test_debug -*-
"""
What an operator looks at: the state now, the sums, and the single requests (contract, section 5).

The events have a module of their own, :mod:`lmgateway.web.feed`.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import timedelta
from importlib.metadata import version
from itertools import islice
from math import nan
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorTime

from lmgateway.errors import BadRequest, Conflict, Forbidden, NotFound
from lmgateway.exchange import Exchange
from lmgateway.message import Scope
from lmgateway.policy.acts import ActDetails
from lmgateway.studio.service import ModelService
from lmgateway.telemetry.captures import Captures, curlOf, harOf
from lmgateway.telemetry.events import usageData
from lmgateway.telemetry.exchanges import REMEMBERED, Exchanges
from lmgateway.telemetry.exposition import Exposition
from lmgateway.telemetry.history import History
from lmgateway.telemetry.journal import isoTime
from lmgateway.telemetry.metrics import Metrics
from lmgateway.telemetry.upstreams import UpstreamState
from lmgateway.web.models import activeOf
from lmgateway.web.responses import answerErrors, respondJson
from lmgateway.wire.request import GatewayRequest

_SHOWN_RECENT = 10
_COUNT = re.compile(r"[0-9]{1,4}", re.ASCII)
_TWISTED = version("twisted")


class DebugApi:
    """
    ``/debug/status``, ``/debug/metrics``, ``/debug/requests`` and ``/metrics``.

    :param exchanges: the requests in flight and ended.
    :param metrics: the sums.
    :param captures: what single requests said, where that is kept.
    :param models: LM Studio's models, the active one among them.
    :param upstream: whether LM Studio answers; assign to tell of another one.
    :param history: what charts are drawn from.
    :param clock: tells the time.
    """

    app = Klein()
    answerErrors(app)

    def __init__(
        self,
        exchanges: Exchanges,
        metrics: Metrics,
        captures: Captures,
        models: ModelService,
        upstream: UpstreamState,
        history: History,
        clock: IReactorTime,
    ) -> None:
        self._exchanges = exchanges
        self._metrics = metrics
        self._captures = captures
        self._models = models
        self.upstream = upstream
        self._history = history
        self._clock = clock
        self._startedAt = clock.seconds()
        self._exposition = Exposition(
            metrics,
            {
                "in_flight": ("Inference requests in flight.", lambda: float(len(exchanges.inFlight))),
                "upstream_up": (
                    "Whether LM Studio answered the last request to it.",
                    lambda: float(self.upstream.isUp is True),
                ),
                "models_loaded": ("Instances that LM Studio has loaded, where that is known.", self._countLoaded),
                "uptime_seconds": ("Since the gateway started.", lambda: clock.seconds() - self._startedAt),
            },
        )

    @app.route("/debug/status", methods=["GET"])
    def status(self, request: GatewayRequest) -> None:
        """Say what the gateway is doing now."""
        exchanges = self._exchanges
        operation = self._operation()
        respondJson(
            request,
            {
                "status": self._statusOf(operation),
                "currentOperation": operation,
                "activeModel": activeOf(self._models),
                "recentRequests": self._recent(),
                "totalRequests": self._metrics.total,
                "totalErrors": self._metrics.errors,
                "inFlight": len(exchanges.inFlight),
                "upstream": {"url": self.upstream.url, "up": self.upstream.isUp, "reason": self.upstream.reason},
                "management": self._models.management,
            },
        )

    @app.route("/debug/metrics", methods=["GET"])
    def metrics(self, request: GatewayRequest) -> None:
        """Give the sums as JSON."""
        uptime = self._clock.seconds() - self._startedAt
        respondJson(
            request,
            {
                "modelInfo": activeOf(self._models),
                "performance": self._metrics.performance(),
                "recentActivity": {"last10Requests": self._recent()},
                "system": {
                    "uptime": round(uptime, 3),
                    "uptimeFormatted": str(timedelta(seconds=int(uptime))),
                    "memoryUsage": {"rss": residentMegabytes()},
                    "pythonVersion": platform.python_version(),
                    "twistedVersion": _TWISTED,
                    "platform": platform.system().lower(),
                },
                "currentOperation": self._operation(),
            },
        )

    @app.route("/debug/history", methods=["GET"])
    def history(self, request: GatewayRequest) -> None:
        """Give what charts are drawn from: the last hour by the minute, or the last day by ten minutes."""
        wanted = request.args.get(b"minutes", [b"60"])[-1]
        spans = {b"%d" % minutes: minutes for minutes in self._history.spans}
        if wanted not in spans:
            raise BadRequest("minutes is one of 60 and 1440.", param="minutes")
        step, since, points = self._history.show(spans[wanted])
        respondJson(request, {"step": step, "from": isoTime(since), "points": points})

    @app.route("/metrics", methods=["GET"])
    def prometheus(self, request: GatewayRequest) -> None:
        """Give the sums as Prometheus reads them."""
        request.sendWhole(200, ((b"Content-Type", Exposition.contentType),), self._exposition.render())

    @app.route("/debug/requests", methods=["GET"])
    def requests(self, request: GatewayRequest) -> None:
        """List the requests in flight, and the last that ended, newest first: as many as ``?ended`` says, or all remembered."""
        wanted = request.args.get(b"ended", [b"%d" % REMEMBERED])[-1].decode("latin-1")
        if not _COUNT.fullmatch(wanted) or int(wanted) > REMEMBERED:
            raise BadRequest(f"ended must be a whole number from 0 to {REMEMBERED}.", param="ended")
        now = self._clock.seconds()
        ended = islice(reversed(self._exchanges.ended), int(wanted))
        respondJson(
            request,
            {
                "inFlight": [describe(each, now) for each in self._exchanges.inFlight.values()],
                "ended": [describe(each, now) for each in ended],
            },
        )

    @app.route("/debug/requests/<requestId>", methods=["GET"])
    def oneRequest(self, request: GatewayRequest, requestId: str) -> None:
        """Show a request; ``?format=curl`` and ``?format=har`` export what was captured of it."""
        exchange = self._find(requestId)
        capture = self._captures.find(requestId)
        wanted = request.args.get(b"format", [b"json"])[-1]
        if wanted == b"json":
            told = describe(exchange, self._clock.seconds())
            shown = capture.show() if capture is not None and _isAdmin(request) else None
            respondJson(request, {**told, "captured": shown})
            return
        if not _isAdmin(request):
            raise Forbidden("What a request said is shown to keys with the scope admin only.", code="missing_scope")
        if capture is None:
            msg = "Nothing was captured of this request. Name its key in the setting debug.capture, and ask again."
            raise NotFound(msg)
        url = ownUrl(request)
        if wanted == b"curl":
            text = curlOf(capture, url).encode("utf-8", "replace")
            request.sendWhole(200, ((b"Content-Type", b"text/plain; charset=utf-8"),), text + b"\n")
        elif wanted == b"har":
            respondJson(request, harOf(capture, exchange, url))
        else:
            raise BadRequest("The format is one of json, curl and har.", param="format")

    @app.route("/debug/requests/<requestId>", methods=["DELETE"])
    def cancel(self, request: GatewayRequest, requestId: str) -> None:
        """Cancel a request in flight, as if its client had left; the client is told."""
        exchange = self._find(requestId)
        request.audited = ActDetails(requestId, {"key": exchange.key, "route": exchange.route, "model": exchange.model})
        if exchange.endedAt:
            raise Conflict("This request has ended already.")
        exchange.cancel()
        respondJson(request, {"status": "cancelled", "requestId": requestId})

    def _find(self, requestId: str) -> Exchange:
        exchange = self._exchanges.find(requestId)
        if exchange is None:
            raise NotFound("There is no such request among those in flight and the last 1,000.")
        return exchange

    def _operation(self) -> dict[str, Any] | None:
        """Tell the oldest load under way, or else the oldest inference in flight."""
        load = self._models.currentLoad
        if load is not None:
            return {
                "type": "model_load",
                "modelKey": load.order.modelKey,
                "progress": load.percent,
                "startedAt": isoTime(load.startedAt),
            }
        oldest = next(iter(self._exchanges.inFlight.values()), None)
        if oldest is None:
            return None
        return {
            "type": "inference",
            "modelKey": oldest.model,
            "progress": None,
            "startedAt": isoTime(oldest.startedAt),
        }

    def _statusOf(self, operation: dict[str, Any] | None) -> str:
        if operation is not None:
            return "loading_model" if operation["type"] == "model_load" else "processing_inference"
        return "error" if self.upstream.isUp is False else "idle"

    def _countLoaded(self) -> float:
        models = self._models
        if models.inventory is None or models.isStale or models.management == "gateway":
            return nan
        return float(len(models.inventory.loaded))

    def _recent(self) -> list[dict[str, Any]]:
        ended = self._exchanges.ended
        last = [ended[index] for index in range(max(0, len(ended) - _SHOWN_RECENT), len(ended))]
        return [
            {
                "requestId": each.requestId,
                "status": each.status,
                "timeMs": each.totalTimeMs(each.endedAt),
                "timestamp": isoTime(each.endedAt),
                "tokenUsage": usageData(each.usage),
            }
            for each in reversed(last)
        ]


def describe(exchange: Exchange, now: float) -> dict[str, Any]:
    """Tell everything that is known of an exchange, times as ISO 8601 and milliseconds since its head was complete."""

    def since(moment: float) -> float | None:
        return round((moment - exchange.startedAt) * 1000, 1) if moment else None

    return {
        "requestId": exchange.requestId,
        "phase": exchange.phase,
        "method": exchange.method,
        "path": exchange.path,
        "route": exchange.route,
        "key": exchange.key,
        "client": exchange.client,
        "model": exchange.model,
        "stream": exchange.stream,
        "injected": exchange.injected,
        "startedAt": isoTime(exchange.startedAt),
        "sentMs": since(exchange.sentAt),
        "answeredMs": since(exchange.answeredAt),
        "ttftMs": exchange.ttftMs,
        "totalTimeMs": exchange.totalTimeMs(now),
        "status": exchange.status,
        "ending": exchange.ending,
        "error": exchange.error,
        "finishReason": exchange.finishReason,
        "tokenUsage": usageData(exchange.usage if exchange.endedAt else exchange.usageSoFar()),
        "tokensPerSecond": exchange.tokensPerSecond,
        "bytesIn": exchange.bytesIn,
        "bytesOut": exchange.bytesOut,
    }


def residentMegabytes() -> float | None:
    """Tell the memory that the process has, in MB; None where the platform does not say without help."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _isAdmin(request: GatewayRequest) -> bool:
    return request.principal is not None and request.principal.holds(Scope.ADMIN)


def ownUrl(request: GatewayRequest) -> str:
    """Tell the URL under which this client reaches the gateway."""
    host = (request.head.first(b"host") or b"127.0.0.1").decode("latin-1")
    return f"{'https' if request.head.secure else 'http'}://{host}"
