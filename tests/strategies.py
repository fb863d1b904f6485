"""Hypothesis strategies that several test modules draw from."""

from __future__ import annotations

from hypothesis import strategies as st
from lmgateway.message import HeaderPairs

_TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

_TELLING_NAMES = (
    "Accept-Encoding",
    "Authorization",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Content_Length",
    "Cookie",
    "Expect",
    "Forwarded",
    "Host",
    "Keep-Alive",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
    "X-API-Key",
    "X-Forwarded-For",
    "X-Request-Id",
    "x-custom",
    "X_Custom",
)

_TELLING_VALUES = (
    b"",
    b"0",
    b"7",
    b"007",
    b"chunked",
    b"close",
    b"keep-alive, X-Custom",
    b"content-type , ,\tx-custom",
    b"100-continue",
    b"localhost:8001",
    b"gzip, br",
    b"a\r\nInjected: yes",
)

TOKENS = st.text(_TOKEN, min_size=1, max_size=12).map(str.encode)
"""Field names that are valid, and say nothing."""


def _respelled(name: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from((name, name.lower(), name.upper())).map(str.encode)


HEADER_NAMES = st.one_of(st.sampled_from(_TELLING_NAMES).flatmap(_respelled), TOKENS, st.binary(max_size=8))
"""Field names: those that mean something to the gateway in any case, others, and what is no name at all."""

HEADER_VALUES = st.one_of(st.sampled_from(_TELLING_VALUES), st.binary(max_size=24))
"""Field values, line breaks among them."""

HEADER_PAIRS: st.SearchStrategy[HeaderPairs] = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=12).map(tuple)
"""The fields of a head, as hostile as they come."""

_PIECES = (
    "/", "/", "/", "/v1", "/api", "/v0", "/V1", "/API", "/chat", "/completions", "/models", "/load", "/Unload", "/download",
    "/status", "/health", "/admin", "/a", "//", "/.", "/..", "/%2e%2E", "%2f", "%5C", "%00", "%6c", "%20", "%C3%a9", "%zz",
    "%", ";", "#", "?", "?x=/../y", "\\", "*", "http://h", "é", " ", "~", "[", "|",
)  # fmt: skip

TARGETS = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=8).map(lambda pieces: "".join(pieces).encode()),
    st.binary(max_size=16).map(lambda rest: b"/" + rest),
    st.binary(max_size=16),
)
"""Request targets, most of them with something wrong, some with nothing."""
