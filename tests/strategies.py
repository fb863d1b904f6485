"""Hypothesis strategies that several test modules draw from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

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

_SPACES = st.sampled_from(("", "", "", " ", "\n", "\t\r "))

_STRING_PIECES = (
    "a", "mod", "é", "😀", "\x7f", r"\n", r"\\", r"\"", r"\/", r"\u0061", r"\uD83D\uDE00", r"\ud83d", r"\uDE00", r"\ud06d",
    "{", "]", ",",
)  # fmt: skip

_JSON_STRINGS = st.lists(st.sampled_from(_STRING_PIECES), max_size=5).map(lambda pieces: f'"{"".join(pieces)}"')

_JSON_SCALARS = st.one_of(
    st.sampled_from(("null", "true", "false", "0", "-0", "1.50", "1E+2", "0.1e-7", "1e999999", "9" * 60)), _JSON_STRINGS
)


@st.composite
def _spelledOut(draw: st.DrawFn, inner: st.SearchStrategy[str], keys: st.SearchStrategy[str]) -> str:
    """An object whose keys and values are spelled so, with white space here and there."""
    pairs = draw(st.lists(st.tuples(keys, inner), max_size=5))
    written = [f"{draw(_SPACES)}{key}{draw(_SPACES)}:{draw(_SPACES)}{value}{draw(_SPACES)}" for key, value in pairs]
    return "{" + (",".join(written) if written else draw(_SPACES)) + "}"


JSON_VALUES = st.recursive(
    _JSON_SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{','.join(values)}]"), _spelledOut(inner, _JSON_STRINGS)
    ),
    max_leaves=6,
)
"""JSON values as text, spelled in every way that there is."""


@st.composite
def _keySpellings(draw: st.DrawFn, names: tuple[str, ...]) -> str:
    """One of the names as a JSON string, some of its characters escaped."""
    name = draw(st.sampled_from(names))
    escaped = draw(st.sets(st.integers(0, len(name) - 1), max_size=2))
    return '"' + "".join(f"\\u{ord(c):04X}" if at in escaped else c for at, c in enumerate(name)) + '"'


def jsonObjects(*names: str) -> st.SearchStrategy[bytes]:
    """JSON objects as they could come over the wire, many of whose keys are ``names``, some of them twice."""
    keys = st.one_of(_keySpellings(names), _JSON_STRINGS)
    return st.tuples(_SPACES, _spelledOut(JSON_VALUES, keys), _SPACES).map(lambda parts: "".join(parts).encode())


@st.composite
def mutations(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Something valid, with a few bytes put in, taken out or both."""
    text = draw(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 2))
        new = draw(
            st.one_of(
                st.just(b""),
                st.sampled_from(
                    (b'"', b"\\", b"{", b"}", b"[", b",", b":", b"\\ud83d", b"\xef\xbb\xbf", b"\x00", b"0", b"NaN")
                ),
                st.binary(max_size=2),
            )
        )
        text = text[:at] + new + text[at + gone :]
    return text


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    """The text cut at these places, as far as it has them; no piece is empty."""
    edges = sorted({0, len(text), *(place for place in places if place < len(text))})
    return [text[start:end] for start, end in pairwise(edges)]
