# -*- test-case-name: tests.policy.test_dialects -*-
"""
The APIs that pass through: what each calls a parameter, how each spells an error, and how each ends a stream that was cut.

One row per dialect; the rest is generic. LM Studio's parameters are those of its documentation: ``openai-compat``,
``anthropic-compat`` and ``rest``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from lmgateway.errors import GatewayError
from lmgateway.message import Injection
from lmgateway.policy.routes import Dialect as DialectName


class Defaults(Struct, frozen=True):
    """
    Default parameters of one origin.

    :param origin: whose they are, for people.
    :param values: by the names of ``defaultInference``.
    """

    origin: str
    values: Mapping[str, Any]


class Parameter(Struct, frozen=True):
    """
    One default of the active model, as one dialect has it.

    :param name: its name in ``defaultInference``.
    :param member: its name on the wire.
    :param most: the highest value that the dialect allows; a higher default is sent as this.
    :param unless: members whose presence counts as its own.
    """

    name: str
    member: str
    most: float | None = None
    unless: tuple[str, ...] = ()

    def injectionOf(self, value: Any, origin: str) -> Injection:
        """
        :param value: the default, as :mod:`lmgateway.policy.inference` lets it through.
        :param origin: whose default it is.
        :return: what a request is given if it lacks the parameter.
        """
        if self.most is not None:
            value = min(value, self.most)
        return Injection(self.name, self.member, msgspec.json.encode(value), self.unless, origin)


class Dialect(Struct, frozen=True):
    """
    One API's way to say things.

    :param name: the name in the table of routes.
    :param parameters: what can be injected beside ``model``, in the order of injection; None where not even that can.
    :param errorShape: the JSON of an error answer.
    :param eventShape: the JSON of the event that ends a cut stream.
    :param eventName: that event's ``event`` field; None where the dialect's events have none.
    """

    name: DialectName
    parameters: tuple[Parameter, ...] | None
    errorShape: Callable[[GatewayError], dict[str, Any]]
    eventShape: Callable[[GatewayError], dict[str, Any]]
    eventName: str | None = None

    def injections(self, model: str | None, defaults: Iterable[Defaults], origin: str = "") -> tuple[Injection, ...]:
        """
        What a request in this dialect is given.

        :param model: what goes upstream as ``model`` where a request names none; None gives it none.
        :param defaults: of a parameter that several have, the first one's value counts.
        :param origin: whose model it is.
        :return: ``model``, then the defaults that the dialect has, in its order.
        """
        if self.parameters is None:
            return ()
        layers = tuple(defaults)
        given = [] if model is None else [Injection("model", "model", msgspec.json.encode(model), origin=origin)]
        for parameter in self.parameters:
            for layer in layers:
                if parameter.name in layer.values:
                    given.append(parameter.injectionOf(layer.values[parameter.name], layer.origin))
                    break
        return tuple(given)

    def errorBody(self, error: GatewayError) -> bytes:
        """
        The body of an error answer. ASCII, so that no text in it can fail to encode.

        :param error: what went wrong.
        """
        return _encode(self.errorShape(error))

    def errorEvent(self, error: GatewayError) -> bytes:
        """
        The event that ends a stream that was cut off upstream, so that no client takes it for whole.

        The SDKs of OpenAI and Anthropic raise an ``APIError`` when they read it. It must begin an event: a stream cut
        inside one needs an empty line first.

        :param error: what went wrong.
        """
        name = f"event: {self.eventName}\n".encode() if self.eventName else b""
        return name + b"data: " + _encode(self.eventShape(error)) + b"\n\n"


def _encode(value: dict[str, Any]) -> bytes:
    """JSON in ASCII on one line, as an event's ``data`` must be. Half of a surrogate pair in a text passes, escaped."""
    return json.dumps(value, separators=(",", ":")).encode()


def _openAiError(error: GatewayError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}


def _responsesEvent(error: GatewayError) -> dict[str, Any]:
    """
    The ``error`` event of ``/v1/responses``.

    OpenAI's reference has ``message``, ``code`` and ``param`` at the top, with a ``sequence_number`` that clients require
    and that nobody counts here. OpenAI's own SDKs raise only where there is an ``error``.
    """
    top = {"type": "error", "sequence_number": 0, "message": error.message, "code": error.code, "param": error.param}
    return {**top, **_openAiError(error)}


def _nativeEvent(error: GatewayError) -> dict[str, Any]:
    """The ``error`` event of ``/api/v1/chat``."""
    return {"type": "error", **_openAiError(error)}


_ANTHROPIC_TYPES = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


def _anthropicError(error: GatewayError) -> dict[str, Any]:
    """Anthropic's own types; ``invalid_request_error`` is that of every other 4xx, ``api_error`` of every other 5xx."""
    other = "invalid_request_error" if error.status < 500 else "api_error"
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES.get(error.status, other), "message": error.message},
    }


def _gatewayError(error: GatewayError) -> dict[str, Any]:
    """``details`` only where there are any."""
    return {"error": error.message, "details": error.details} if error.details else {"error": error.message}


_CHAT = (
    Parameter("temperature", "temperature"),
    Parameter("maxTokens", "max_tokens", unless=("max_completion_tokens",)),
    Parameter("topP", "top_p"),
    Parameter("topK", "top_k"),
    Parameter("repeatPenalty", "repeat_penalty"),
    Parameter("stopStrings", "stop"),
    Parameter("stream", "stream"),
)

OPENAI = Dialect("openai", _CHAT, _openAiError, _openAiError)
NATIVE_V0 = Dialect("native_v0", _CHAT, _openAiError, _openAiError)
RESPONSES = Dialect(
    "responses",
    (
        Parameter("temperature", "temperature"),
        Parameter("maxTokens", "max_output_tokens"),
        Parameter("topP", "top_p"),
        Parameter("stream", "stream"),
    ),
    _openAiError,
    _responsesEvent,
    "error",
)
ANTHROPIC = Dialect(
    "anthropic",
    (
        Parameter("temperature", "temperature", most=1),
        Parameter("maxTokens", "max_tokens"),
        Parameter("topP", "top_p"),
        Parameter("topK", "top_k"),
        Parameter("stopStrings", "stop_sequences"),
        Parameter("stream", "stream"),
    ),
    _anthropicError,
    _anthropicError,
    "error",
)
NATIVE_V1 = Dialect(
    "native_v1",
    (
        Parameter("temperature", "temperature", most=1),
        Parameter("maxTokens", "max_output_tokens"),
        Parameter("topP", "top_p"),
        Parameter("topK", "top_k"),
        Parameter("repeatPenalty", "repeat_penalty"),
        Parameter("stream", "stream"),
    ),
    _openAiError,
    _nativeEvent,
    "error",
)
GATEWAY = Dialect("gateway", None, _gatewayError, _gatewayError, "error")

DIALECTS: Mapping[DialectName, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (OPENAI, RESPONSES, ANTHROPIC, NATIVE_V0, NATIVE_V1, GATEWAY)}
)
"""Every dialect by its name."""
