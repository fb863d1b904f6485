# -*- test-case-name: tests.policy.test_routes -*-
"""
What there is: every path of the gateway, with who may ask it, in one table. What is not in the table does not exist.

A route is found once, from the bytes of the request target, and everything else goes by it: scope, injection, dialect, log.
Paths that go to LM Studio are matched as LM Studio's Express matches them, without regard to case or a trailing slash:
it serves ``/API/v1/models/LOAD/`` as it serves ``/api/v1/models/load``, so that must need an admin too. The gateway's
own paths have one spelling, in which nothing is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from lmgateway.errors import MethodNotAllowed, NotFound
from lmgateway.message import Scope

Dialect = Literal["openai", "responses", "anthropic", "native_v0", "native_v1", "gateway"]
Inject = Literal["all", "model", "none"]

ANY_BUT_TRACE = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
"""
What a 405 on a proxied path allows. Every other method passes, but TRACE, whose answer is the request itself, would
show what the gateway adds to it (RFC 9110 section 9.3.8).
"""

INTEGRATIONS = frozenset({"integrations"})
"""The member of a chat by which a client has LM Studio run plug-ins and MCP servers."""


class Route(Struct, frozen=True):
    """
    One row of the table.

    :param name: the path, or its beginning and ``*``; also the name in logs and metrics, of which there are so many and no more.
    :param kind: ``proxy`` goes to LM Studio; ``api`` is answered by the gateway.
    :param scope: what a key must hold; None where any key will do.
    :param adminMethods: those of its methods that need the scope ``admin`` whatever ``scope`` says.
    :param isOpen: whether not even a key is needed.
    :param dialect: whose shapes errors have, and whose names parameters.
    :param inject: what a POST with a JSON body is given if it lacks it: the ``model`` and the default parameters, the
        ``model`` alone, or nothing.
    :param methods: the methods it has, or None for any.
    :param prefix: what goes upstream in front of the client's target.
    :param adminMembers: top-level members of a JSON body that need the scope ``admin``, known once the body is read.
    """

    name: str
    kind: Literal["proxy", "api"]
    scope: Scope | None
    dialect: Dialect
    inject: Inject = "none"
    methods: tuple[bytes, ...] | None = None
    prefix: bytes = b""
    adminMembers: frozenset[str] = frozenset()
    isOpen: bool = False
    adminMethods: tuple[bytes, ...] = ()

    def scopeFor(self, method: bytes) -> Scope | None:
        """The scope that a key must hold for one of the methods; None where any key will do."""
        return Scope.ADMIN if method in self.adminMethods else self.scope

    def upstreamTarget(self, target: bytes) -> bytes:
        """
        The request target that goes upstream.

        :param target: the client's request target, for which this is the route.
        """
        return self.prefix + target


def _openAi(
    path: str, inject: Inject, dialect: Dialect = "openai", adminMembers: frozenset[str] = frozenset()
) -> tuple[Route, Route]:
    """An OpenAI path twice: under ``/v1``, and in its shorthand without."""
    full = Route(f"/v1{path}", "proxy", Scope.INFERENCE, dialect, inject, adminMembers=adminMembers)
    return full, replace(full, name=path, prefix=b"/v1")


_READ = (b"GET", b"HEAD")

CA_PATH = "/ca.crt"
"""Where the certificate of the gateway's own authority is handed out."""

ROUTES: tuple[Route, ...] = (
    *_openAi("/chat/completions", "all", adminMembers=INTEGRATIONS),
    *_openAi("/completions", "all"),
    *_openAi("/embeddings", "model"),
    *_openAi("/models", "none"),
    *_openAi("/responses", "all", "responses", INTEGRATIONS),
    *_openAi("/images/generations", "none"),
    *_openAi("/audio/transcriptions", "none"),
    *_openAi("/audio/translations", "none"),
    Route("/v1/messages", "proxy", Scope.INFERENCE, "anthropic", "all", adminMembers=INTEGRATIONS),
    Route("/v1/messages/*", "proxy", Scope.INFERENCE, "anthropic"),
    Route("/v1/*", "proxy", Scope.INFERENCE, "openai"),
    Route("/api/v0/chat/completions", "proxy", Scope.INFERENCE, "native_v0", "all", adminMembers=INTEGRATIONS),
    Route("/api/v0/completions", "proxy", Scope.INFERENCE, "native_v0", "all"),
    Route("/api/v0/embeddings", "proxy", Scope.INFERENCE, "native_v0", "model"),
    Route("/api/v0/*", "proxy", Scope.INFERENCE, "native_v0"),
    Route("/api/v1/chat", "proxy", Scope.INFERENCE, "native_v1", "all", adminMembers=INTEGRATIONS),
    Route("/api/v1/models/load", "proxy", Scope.ADMIN, "native_v1"),
    Route("/api/v1/models/unload", "proxy", Scope.ADMIN, "native_v1"),
    Route("/api/v1/models/download*", "proxy", Scope.ADMIN, "native_v1"),
    Route("/api/v1/*", "proxy", Scope.INFERENCE, "native_v1"),
    Route("/health", "api", None, "gateway", methods=(b"GET", b"HEAD"), isOpen=True),
    Route("/health/ready", "api", None, "gateway", methods=(b"GET", b"HEAD"), isOpen=True),
    Route("/dashboard", "api", None, "gateway", methods=_READ, isOpen=True),
    Route("/dashboard/assets/*", "api", None, "gateway", methods=_READ, isOpen=True),
    Route("/dashboard/session", "api", None, "gateway", methods=(*_READ, b"POST", b"DELETE"), isOpen=True),
    Route(CA_PATH, "api", None, "gateway", methods=_READ, isOpen=True),
    Route("/admin/models", "api", Scope.ADMIN, "gateway", methods=_READ),
    Route("/admin/models/active", "api", Scope.ADMIN, "gateway", methods=_READ),
    Route("/admin/models/load", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/models/load/cancel", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/models/unload", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/models/activate", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/models/deactivate", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/audit", "api", Scope.ADMIN, "gateway", methods=_READ),
    Route("/admin/explain", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/keys", "api", Scope.ADMIN, "gateway", methods=(*_READ, b"POST")),
    Route("/admin/keys/*", "api", Scope.ADMIN, "gateway", methods=(*_READ, b"POST", b"PATCH", b"DELETE")),
    Route("/admin/reload", "api", Scope.ADMIN, "gateway", methods=(b"POST",)),
    Route("/admin/usage", "api", Scope.ADMIN, "gateway", methods=_READ),
    Route("/debug/stream", "api", Scope.MONITOR, "gateway", methods=(b"GET",)),
    Route("/debug/poll", "api", Scope.MONITOR, "gateway", methods=(b"GET",)),
    Route("/debug/status", "api", Scope.MONITOR, "gateway", methods=_READ),
    Route("/debug/history", "api", Scope.MONITOR, "gateway", methods=_READ),
    Route("/debug/metrics", "api", Scope.MONITOR, "gateway", methods=_READ),
    Route("/metrics", "api", Scope.MONITOR, "gateway", methods=_READ),
    Route("/debug/requests", "api", Scope.MONITOR, "gateway", methods=_READ),
    Route(
        "/debug/requests/*",
        "api",
        Scope.MONITOR,
        "gateway",
        methods=(*_READ, b"DELETE"),
        adminMethods=(b"DELETE",),
    ),
)
"""Every path that there is. The longest row that fits a path is its route."""


class RouteTable:
    """
    Finds the route of a request.

    :param rows: the rows, in any order.
    :param requireAuthForHealth: whether the open rows need a key after all, but for that of the authority, without which
        nobody can send a key safely. Any key will do, whatever its scopes: a
        monitor should not need the right to infer, nor a client that of monitoring.
    """

    def __init__(self, rows: Iterable[Route] = ROUTES, *, requireAuthForHealth: bool = False) -> None:
        if requireAuthForHealth:
            rows = [replace(row, isOpen=row.isOpen and not row.name.startswith("/health")) for row in rows]
        self._own: dict[bytes, Route] = {}
        self._proxied: dict[bytes, Route] = {}
        prefixes: list[tuple[bytes, Route]] = []
        for row in rows:
            path = row.name.encode("ascii")
            if path.endswith(b"*"):
                prefixes.append((path[:-1], row))
            elif row.kind == "api":
                self._own[path] = row
            else:
                self._proxied[path] = row
        self._prefixes = sorted(prefixes, key=lambda prefix: -len(prefix[0]))

    def resolve(self, method: bytes, path: bytes) -> Route:
        """
        Find what ``path`` leads to.

        That a path does not exist is itself something that only those with a key may know: authenticate before what is
        raised here is told.

        :param path: the path of an accepted request target (:func:`lmgateway.policy.target.checkTarget`), as the client spelled it.
        :raise NotFound: to nothing.
        :raise MethodNotAllowed: to something that does not have ``method``.
        """
        route = self._own.get(path) or self._find(path)
        if route is None:
            raise NotFound("There is nothing at this path. LM Studio's APIs are under /v1, /api/v0 and /api/v1.")
        allowed = route.methods
        if method == b"TRACE" if allowed is None else method not in allowed:
            allow = ANY_BUT_TRACE if allowed is None else allowed
            listed = ", ".join(name.decode("ascii") for name in allow)
            raise MethodNotAllowed(f"This path does not have that method. It has: {listed}.", allow=allow)
        return route

    def _find(self, path: bytes) -> Route | None:
        """The proxied route, or the one by its beginning, that ``path`` leads to."""
        folded = path.lower().rstrip(b"/")
        route = self._proxied.get(folded)
        if route is not None:
            return route
        for prefix, row in self._prefixes:
            if (path if row.kind == "api" else folded).startswith(prefix):
                # Klein would answer what is not UTF-8 in its own way, and other escapes as what they stand for.
                return None if row.kind == "api" and b"%" in path else row
        return None
