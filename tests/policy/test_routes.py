"""The one table of paths: what there is, for whom, and that no spelling leads around it."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest, MethodNotAllowed, NotFound
from lmgateway.message import Scope
from lmgateway.policy.routes import ANY_BUT_TRACE, INTEGRATIONS, ROUTES, Route, RouteTable
from lmgateway.policy.target import checkTarget
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import TARGETS

TABLE = RouteTable()

SHORTHANDS = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/responses",
    "/images/generations",
    "/audio/transcriptions",
    "/audio/translations",
)

ADMIN_IN_EXPRESS = re.compile(rb"(?i)/api/v1/models/(?:load|unload|download(?:/.*)?)/?")
"""What LM Studio's Express takes for a route that loads, unloads or downloads: any case, a slash more or less."""

GUARDED = (
    *("/api/v1/models/load", "/api/v1/models/unload", "/api/v1/models/download", "/api/v1/models/download/status/x"),
    *("/v1/chat/completions", "/chat/completions", "/v1/responses", "/responses", "/v1/messages"),
    *("/api/v0/chat/completions", "/api/v1/chat"),
)
"""Paths for which more than the right to infer may be needed; stated here, so that a row that is missing is missed."""

CHATS_IN_EXPRESS = re.compile(
    rb"(?i)/(?:v1/chat/completions|v1/responses|v1/messages|api/v0/chat/completions|api/v1/chat)/?"
)


def resolve(path: bytes) -> Route | None:
    """The route of a path by whichever method it has, or None where there is none."""
    try:
        return TABLE.resolve(b"POST", path)
    except NotFound:
        return None
    except MethodNotAllowed as error:
        return TABLE.resolve(error.allow[0], path)


@st.composite
def respelled(draw: st.DrawFn) -> bytes:
    """A path of the table with its case changed and something behind it; every fourth with a needless escape, too."""
    path = draw(st.one_of(*map(st.sampled_from, (GUARDED, [row.name.replace("*", "x/y") for row in ROUTES]))))
    flips = draw(st.lists(st.booleans(), min_size=len(path), max_size=len(path)))
    path = "".join(letter.upper() if flip else letter for letter, flip in zip(path, flips, strict=True))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(1, len(path) - 1))
        path = f"{path[:at]}%{ord(path[at]):02x}{path[at + 1 :]}"
    return (path + draw(st.sampled_from(("", "", "/", "/x", "%20", "%C5%BF", "?a=b", "//", "/.")))).encode()


def routeOf(target: bytes) -> Route | None:
    """The route of a target, or None where it is refused or has none."""
    try:
        checkTarget(target, 8192)
    except BadRequest:
        return None
    return resolve(target.partition(b"?")[0])


class ResolveTests(SynchronousTestCase):
    def assertRoute(self, path: str, name: str, scope: Scope | None, dialect: str, inject: str) -> Route:
        """A path has this route."""
        route = TABLE.resolve(b"GET" if name.startswith("/health") else b"POST", path.encode())
        self.assertEqual((route.name, route.scope, route.dialect, route.inject), (name, scope, dialect, inject), path)
        return route

    def test_openAi(self) -> None:
        """OpenAI's paths are proxied to whoever may infer; what is injected depends on the path."""
        for path, dialect, inject in (
            ("/v1/chat/completions", "openai", "all"),
            ("/v1/completions", "openai", "all"),
            ("/v1/embeddings", "openai", "model"),
            ("/v1/responses", "responses", "all"),
            ("/v1/messages", "anthropic", "all"),
            ("/v1/models", "openai", "none"),
            ("/v1/audio/transcriptions", "openai", "none"),
        ):
            route = self.assertRoute(path, path, Scope.INFERENCE, dialect, inject)
            self.assertEqual(route.kind, "proxy")
            self.assertEqual(route.upstreamTarget(path.encode() + b"?x=1"), path.encode() + b"?x=1")
        self.assertRoute("/v1/models/qwen/qwen3-8b", "/v1/*", Scope.INFERENCE, "openai", "none")
        self.assertRoute("/v1/messages/count_tokens", "/v1/messages/*", Scope.INFERENCE, "anthropic", "none")

    def test_shorthands(self) -> None:
        """The eight shorthands are what they are with /v1 in front, and go upstream so; no other path has one."""
        for path in SHORTHANDS:
            short = TABLE.resolve(b"POST", path.encode())
            full = TABLE.resolve(b"POST", b"/v1" + path.encode())
            self.assertEqual(short.upstreamTarget(path.encode() + b"/?q"), b"/v1" + path.encode() + b"/?q")
            self.assertEqual(
                (short.scope, short.dialect, short.inject, short.adminMembers, short.methods),
                (full.scope, full.dialect, full.inject, full.adminMembers, full.methods),
            )
        self.assertEqual(sorted(row.name for row in ROUTES if row.prefix), sorted(SHORTHANDS))
        self.assertIsNone(resolve(b"/messages"))
        self.assertIsNone(resolve(b"/models/x"))

    def test_native(self) -> None:
        """LM Studio's own API is for whoever may infer, but loading, unloading and downloading need an admin."""
        self.assertRoute("/api/v0/chat/completions", "/api/v0/chat/completions", Scope.INFERENCE, "native_v0", "all")
        self.assertRoute("/api/v0/completions", "/api/v0/completions", Scope.INFERENCE, "native_v0", "all")
        self.assertRoute("/api/v0/embeddings", "/api/v0/embeddings", Scope.INFERENCE, "native_v0", "model")
        self.assertRoute("/api/v0/models/a", "/api/v0/*", Scope.INFERENCE, "native_v0", "none")
        self.assertRoute("/api/v1/chat", "/api/v1/chat", Scope.INFERENCE, "native_v1", "all")
        self.assertRoute("/api/v1/models", "/api/v1/*", Scope.INFERENCE, "native_v1", "none")
        for path in ("/api/v1/models/load", "/api/v1/models/unload", "/API/V1/models/LOAD/", "/api/v1/Models/Unload/"):
            name = path.lower().rstrip("/")
            self.assertRoute(path, name, Scope.ADMIN, "native_v1", "none")
        for path in ("/api/v1/models/download", "/api/v1/models/Download/status/job_1", "/api/v1/models/downloads"):
            self.assertRoute(path, "/api/v1/models/download*", Scope.ADMIN, "native_v1", "none")

    def test_integrations(self) -> None:
        """On every chat, in whatever dialect, plug-ins need an admin; on nothing else."""
        guarded = {row.name for row in ROUTES if row.adminMembers == INTEGRATIONS}
        chats = {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/v0/chat/completions", "/api/v1/chat"}
        self.assertEqual(guarded, chats | {"/chat/completions", "/responses"})
        self.assertTrue(all(row.inject == "all" for row in ROUTES if row.adminMembers))

    def test_own(self) -> None:
        """The gateway's own paths have one spelling and their own methods; health alone is open."""
        for path in ("/health", "/health/ready"):
            route = self.assertRoute(path, path, None, "gateway", "none")
            self.assertEqual((route.kind, route.methods), ("api", (b"GET", b"HEAD")))
        for name in ("activate", "deactivate", "load", "load/cancel", "unload"):
            path = f"/admin/models/{name}"
            route = self.assertRoute(path, path, Scope.ADMIN, "gateway", "none")
            self.assertEqual((route.kind, route.methods), ("api", (b"POST",)))
        page = ["/dashboard", "/dashboard/assets/*", "/dashboard/session"]
        self.assertEqual([row.name for row in ROUTES if row.isOpen], ["/health", "/health/ready", *page, "/ca.crt"])
        for unknown in (
            b"/Health",
            b"/health/",
            b"/admin/models/Activate",
            b"/admin/models/activate/",
            b"/admin/models/",
            b"/admin/models/load/",
        ):
            self.assertIsNone(resolve(unknown), unknown)

    def test_models(self) -> None:
        """What LM Studio has is for admins to know, and can only be read."""
        for path in (b"/admin/models", b"/admin/models/active"):
            for method in (b"GET", b"HEAD"):
                route = TABLE.resolve(method, path)
                self.assertEqual((route.kind, route.scopeFor(method), route.dialect), ("api", Scope.ADMIN, "gateway"))
            self.assertRaises(MethodNotAllowed, TABLE.resolve, b"POST", path)

    def test_usage(self) -> None:
        """Who used how much is for admins to know, and can only be read."""
        for method in (b"GET", b"HEAD"):
            route = TABLE.resolve(method, b"/admin/usage")
            self.assertEqual((route.kind, route.scopeFor(method), route.dialect), ("api", Scope.ADMIN, "gateway"))
        self.assertRaises(MethodNotAllowed, TABLE.resolve, b"POST", b"/admin/usage")

    def test_closedByDefault(self) -> None:
        """Every row asks for a scope, but for those that are open."""
        self.assertEqual([row.name for row in ROUTES if (row.scope is None) != row.isOpen], [])

    def test_scopes(self) -> None:
        """
        Below /admin an administrator is needed, below /debug and for /metrics whoever may watch, to change something there an
        administrator again; for LM Studio's own paths whoever may infer, but for the three that load, unload and download.
        """
        forAdmins = {"/api/v1/models/load", "/api/v1/models/unload", "/api/v1/models/download*"}
        self.assertTrue(forAdmins <= {row.name for row in ROUTES})
        for row in ROUTES:
            if row.isOpen:
                continue
            beginning = row.name.split("/")[1]
            if row.kind == "proxy":
                needed = Scope.ADMIN if row.name in forAdmins else Scope.INFERENCE
            else:
                needed = {"admin": Scope.ADMIN, "debug": Scope.MONITOR, "metrics": Scope.MONITOR}[beginning]
            for method in row.methods or ANY_BUT_TRACE:
                isChange = beginning == "debug" and method not in (b"GET", b"HEAD")
                self.assertEqual(row.scopeFor(method), Scope.ADMIN if isChange else needed, (row.name, method))

    def test_healthWithKey(self) -> None:
        """Where health needs a key, any key will do."""
        route = RouteTable(requireAuthForHealth=True).resolve(b"GET", b"/health/ready")
        self.assertFalse(route.isOpen)
        self.assertIsNone(route.scope)

    def test_unknown(self) -> None:
        """What is not in the table does not exist, LM Studio's own unguarded paths included."""
        for path in (
            b"",
            b"/",
            b"/v1",
            b"/v1/",
            b"/v10/models",
            b"/api",
            b"/api/v0",
            b"/api/v1/",
            b"/api/v2/models",
            b"/api/tags",
            b"/lmstudio-greeting",
            b"/llm",
            b"/system",
            b"/debug/streams",
            b"/favicon.ico",
            b"/x/v1/models",
        ):
            error = self.assertRaises(NotFound, TABLE.resolve, b"GET", path)
            self.assertIn("/v1", error.message)

    def test_methods(self) -> None:
        """A known path without that method is 405 and names those it has; a proxied path has all but TRACE."""
        error = self.assertRaises(MethodNotAllowed, TABLE.resolve, b"GET", b"/admin/models/activate")
        self.assertEqual(error.headers, ((b"Allow", b"POST"),))
        self.assertIn("POST", error.message)
        error = self.assertRaises(MethodNotAllowed, TABLE.resolve, b"OPTIONS", b"/health")
        self.assertEqual(error.allow, (b"GET", b"HEAD"))
        error = self.assertRaises(MethodNotAllowed, TABLE.resolve, b"TRACE", b"/v1/models")
        self.assertEqual(error.allow, ANY_BUT_TRACE)
        for method in (*ANY_BUT_TRACE, b"PROPFIND"):
            self.assertEqual(TABLE.resolve(method, b"/v1/models").name, "/v1/models")

    def test_longestWins(self) -> None:
        """Rows in any order give the same routes: the longest that fits counts."""
        backwards = RouteTable(reversed(ROUTES))
        for path in (
            b"/v1/messages/x",
            b"/v1/x",
            b"/api/v1/models/download/x",
            b"/api/v1/models/x",
            b"/v1/chat/completions",
        ):
            self.assertEqual(backwards.resolve(b"GET", path), TABLE.resolve(b"GET", path))

    def test_ownByBeginning(self) -> None:
        """A row of the gateway's own may end in a star, and is then matched as it is spelled."""
        row = Route("/debug/things/*", "api", Scope.MONITOR, "gateway", methods=(b"GET",))
        table = RouteTable((*ROUTES, row))
        self.assertIs(table.resolve(b"GET", b"/debug/things/ABC"), row)
        self.assertRaises(NotFound, table.resolve, b"GET", b"/Debug/things/ABC")


class SpellingTests(SynchronousTestCase):
    @given(st.one_of(respelled(), TARGETS))
    def test_routesAsForwarded(self, target: bytes) -> None:
        """An accepted target has the route that what is sent upstream has, in lower case, decoded and without a last slash."""
        route = routeOf(target)
        if route is None or route.kind == "api":
            return
        forwarded = unquote_to_bytes(route.upstreamTarget(target).partition(b"?")[0]).lower().rstrip(b"/")
        seen = resolve(forwarded)
        assert seen is not None
        self.assertEqual(
            (route.scope, route.dialect, route.inject, route.adminMembers, route.methods),
            (seen.scope, seen.dialect, seen.inject, seen.adminMembers, seen.methods),
        )

    @given(st.one_of(respelled(), TARGETS))
    @example(b"/api/v1/models/load")
    @example(b"/api/v1/models/LOAD/")
    @example(b"/api/v1/models/Download/status/x")
    @example(b"/v1/chat/Completions/")
    def test_noWayAround(self, target: bytes) -> None:
        """Whatever Express would take for loading, unloading, downloading or a chat is guarded as such, however it is spelled."""
        route = routeOf(target)
        if route is None:
            return
        path = route.upstreamTarget(target).partition(b"?")[0]
        for seen in (path, unquote_to_bytes(path)):
            if ADMIN_IN_EXPRESS.fullmatch(seen):
                self.assertEqual(route.scope, Scope.ADMIN)
            if CHATS_IN_EXPRESS.fullmatch(seen):
                self.assertEqual((route.adminMembers, route.inject), (INTEGRATIONS, "all"))

    @given(TARGETS)
    def test_boundedNames(self, target: bytes) -> None:
        """Logs and metrics see no other names than those of the table."""
        route = resolve(target)
        self.assertTrue(route is None or route in ROUTES)
