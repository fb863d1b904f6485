# -*- test-case-name: tests.studio.simulator.test_namespaces -*-
"""What the endpoints of the SDKs' protocol are called and created with (``lms-external-backend-interfaces``)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

Milliseconds = Annotated[int, Meta(ge=1)]


class Query(Struct, frozen=True):
    """Which loaded model is meant; what is not said does not matter."""

    domain: str | None = None
    identifier: str | None = None
    path: str | None = None
    vision: bool | None = None


class ByQuery(Struct, frozen=True, tag_field="type", tag="query"):
    """A model by what it is like."""

    query: Query


class ByReference(Struct, frozen=True, tag_field="type", tag="instanceReference"):
    """A model by its instance."""

    instanceReference: str


Specifier = ByQuery | ByReference


class LoadModel(Struct, frozen=True):
    """What ``loadModel`` is created with."""

    modelKey: str
    loadConfigStack: dict[str, Any]
    identifier: str | None = None
    ttlMs: Milliseconds | None = None


class GetOrLoad(Struct, frozen=True):
    """What ``getOrLoad`` is created with."""

    identifier: str
    loadConfigStack: dict[str, Any]
    loadTtlMs: Milliseconds | None = None


class Identified(Struct, frozen=True):
    """The parameter of ``unloadModel``."""

    identifier: str


class Specified(Struct, frozen=True):
    """The parameter of calls about one model."""

    specifier: Specifier
    throwIfNotFound: bool = True


class Text(Struct, frozen=True):
    """The parameter of ``tokenize`` and ``countTokens``."""

    specifier: Specifier
    inputString: str


class Embed(Struct, frozen=True):
    """The parameter of ``embedString``."""

    modelSpecifier: Specifier
    inputString: str


class Predict(Struct, frozen=True):
    """What ``predict`` is created with."""

    modelSpecifier: Specifier
    history: dict[str, Any]
    predictionConfigStack: dict[str, Any]


class Template(Struct, frozen=True):
    """The parameter of ``applyPromptTemplate``."""

    specifier: Specifier
    history: dict[str, Any]
