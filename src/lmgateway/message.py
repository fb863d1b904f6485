# -*- test-case-name: tests.test_message -*-
"""
The frozen values that a request is made of on its way through the gateway.

They hold bytes where the wire has bytes. Nothing here knows Twisted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

from msgspec import Struct

HeaderPairs = tuple[tuple[bytes, bytes], ...]
"""Header fields as they stand on the wire: order, spelling and repetition kept."""


class Scope(Enum):
    """What a key may do. ``admin`` includes the others."""

    INFERENCE = "inference"
    MONITOR = "monitor"
    ADMIN = "admin"


class RequestHead(Struct, frozen=True, gc=False):
    """
    The head of a downstream request, once the channel has found nothing wrong with it.

    :param method: upper case.
    :param target: the request target in origin form, exactly as the client sent it.
    :param headers: every header field, as sent.
    :param fields: the same, looked up by lower-case name: all values of the name, in order.
    :param peer: the textual IP address of the other end of the connection.
    :param secure: whether the connection is TLS.
    :param version: ``b"HTTP/1.1"`` or ``b"HTTP/1.0"``.
    :param identities: what the client's certificate calls it, where it has one that was verified.
    """

    method: bytes
    target: bytes
    headers: HeaderPairs
    fields: Mapping[bytes, tuple[bytes, ...]]
    peer: str
    secure: bool = False
    version: bytes = b"HTTP/1.1"
    identities: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        method: bytes,
        target: bytes,
        headers: HeaderPairs,
        *,
        peer: str = "127.0.0.1",
        secure: bool = False,
        version: bytes = b"HTTP/1.1",
    ) -> RequestHead:
        """Make a head from header pairs alone, indexing them."""
        return cls(method, target, headers, indexHeaders(headers), peer, secure, version)

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def first(self, name: bytes) -> bytes | None:
        """The first value of a field, by its lower-case name."""
        values = self.fields.get(name)
        return values[0] if values else None


def indexHeaders(headers: HeaderPairs) -> dict[bytes, tuple[bytes, ...]]:
    """Every value of each header field, in order, under the field's lower-case name."""
    fields: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in headers:
        lower = name.lower()
        before = fields.get(lower)
        fields[lower] = (value,) if before is None else (*before, value)
    return fields


class Grant(Struct, frozen=True):
    """
    What a key is held to beside its scopes. None, or nothing in a list, is no such limit.

    :param expires: the Unix time from which the key is no longer good.
    :param models: globs (``qwen/*``) of which one must match the model that a request names or is given.
    :param addresses: addresses and CIDRs that the key may be used from.
    :param requestsPerMinute: requests that may begin in a minute.
    :param tokensPerDay: prompt and completion tokens in a day of UTC.
    :param parallel: inference requests at the same time.
    :param defaultInference: the key's own default parameters, by the names of the contract's table.
    :param capture: whether its requests are kept to be looked at; None is as ``debug.capture`` says.
    """

    expires: float | None = None
    models: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    requestsPerMinute: int | None = None
    tokensPerDay: int | None = None
    parallel: int | None = None
    defaultInference: Mapping[str, Any] = MappingProxyType({})
    capture: bool | None = None

    def outlasts(self, other: Grant) -> bool:
        """Whether it ends after another does, or never."""
        return other.expires is not None and (self.expires is None or self.expires > other.expires)


UNLIMITED = Grant()
"""Held to nothing."""


class Principal(Struct, frozen=True):
    """
    Who is asking, and what they may do.

    :param name: the key's name, for logs and events; never the key.
    :param scopes: what the key may do.
    :param keyId: the key's id in the key store, or None for one that is not stored.
    :param grant: what the key is held to.
    :param isKeyless: whether it is let in by where it is, without a key: then a web page in its browser must not be.
    """

    name: str
    scopes: frozenset[Scope]
    keyId: str | None = None
    grant: Grant = UNLIMITED
    isKeyless: bool = False

    def holds(self, scope: Scope) -> bool:
        """Whether the principal may do what needs ``scope``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class ActiveModel(Struct, frozen=True):
    """
    The model that requests without one are given, and the parameters that go with it.

    :param modelKey: LM Studio's key, such as ``qwen/qwen3-8b``.
    :param instanceId: the loaded instance to address, or None for the key itself.
    :param defaultInference: by the names of the contract's table: ``temperature``, ``maxTokens``, …
    :param loadConfig: what it was to be loaded with, where LM Studio could not be told to.
    """

    modelKey: str
    instanceId: str | None = None
    defaultInference: Mapping[str, Any] = MappingProxyType({})
    loadConfig: Mapping[str, Any] = MappingProxyType({})

    @property
    def modelName(self) -> str:
        """What goes upstream as ``model``: the instance where there is one, else the key."""
        return self.instanceId or self.modelKey


class Injection(Struct, frozen=True):
    """
    One member that a request is given if it lacks it.

    :param name: its name in events: ``model`` or a name of the contract's table (``maxTokens``).
    :param member: its name on the wire (``max_tokens``).
    :param value: its value, already JSON.
    :param unless: other members whose presence counts as its own (``max_completion_tokens``).
    :param origin: whose default it is, for people: ``active model``, ``key alice``.
    """

    name: str
    member: str
    value: bytes
    unless: tuple[str, ...] = ()
    origin: str = ""


class Completion(Struct, frozen=True):
    """
    What a request is completed with, once it is known which model it names.

    :param injections: what it is given, in this order, of what it lacks.
    :param alias: what goes upstream instead of the model that the client named, already JSON; None leaves that as it is.
    """

    injections: tuple[Injection, ...] = ()
    alias: bytes | None = None


Completing = Callable[[str | None], Completion]
"""
Tells the completion of a request from the model that it names; None where it names none, or names it by no string. May raise
a :class:`~lmgateway.errors.GatewayError` that refuses the model.
"""


class Rewritten(Struct, frozen=True):
    """
    A JSON request body, read and completed.

    :param body: what goes upstream. The client's bytes are all in it, in order.
    :param injected: the event names of what was added, in the order it was added.
    :param model: the ``model`` that goes upstream, whoever named it; None where there is none or it is no string.
    :param stream: whether the body that goes upstream asks for a stream.
    :param members: the top-level names that the client sent, of those the caller asked about.
    """

    body: bytes
    injected: tuple[str, ...]
    model: str | None
    stream: bool
    members: frozenset[str]
