# -*- test-case-name: tests.studio.simulator.test_errors -*-
"""
What LM Studio says when it will not: the four dialects of its errors, to the letter and the indentation where a
recording of the real one exists (``docs`` of the routes say nothing of them).
"""

from __future__ import annotations

from typing import Any

from lmgateway.studio.simulator.encoding import Reply

NO_MODELS_LOADED = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
SEVERAL_MODELS_LOADED = (
    "Multiple models are loaded. Please specify a model by providing a 'model' field in the request body."
)
BAD_JSON = "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid JSON."
MODEL_UNLOADED = "Model unloaded."
LOAD_FAILED = "Error loading model."
NO_TOKEN = (
    "An LM Studio API token is required to make requests to this server, but none was provided using the Authorization "  # noqa: S105 - a message
    "header using the 'Bearer' scheme (i.e., 'Authorization: Bearer $LM_API_TOKEN'). "
    "Learn more at: https://lmstudio.ai/docs/developer/core/authentication."
)
_MALFORMED_TOKEN = "Malformed LM Studio API token provided: {}. Ensure you are using a valid token."  # noqa: S105 - a message
_UNKNOWN_TOKEN = "The LM Studio API token provided was not recognized: {}. Ensure you are using a valid token."  # noqa: S105 - a message
_SHOWN_OF_A_TOKEN = 10


class StudioError(Exception):
    """
    A request that LM Studio answers with an error.

    :param message: what it says.
    :param status: the HTTP status.
    :param kind: ``error.type`` of the native API.
    :param param: ``error.param``: the field at fault.
    :param code: ``error.code``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code


class FieldError(StudioError):
    """A field of the request is missing or wrong. The OpenAI routes tell it by a bare string."""


class ModelError(StudioError):
    """There is no such model, or no model at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model", code="model_not_found")


class NoModelsLoaded(ModelError):
    """No model is loaded, and none is to be loaded just in time. Recorded with ``code`` null."""

    def __init__(self) -> None:
        super().__init__(NO_MODELS_LOADED)
        self.code = None


class LoadFault(ModelError):
    """A model could not be loaded for a request."""

    def __init__(self, key: str, cause: str) -> None:
        super().__init__(loadFailure(key, cause))
        self.kind, self.param, self.code = "internal_error", None, None


class PredictionError(StudioError):
    """The model failed at the prompt: inside a stream an event, else a 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="internal_error")


def loadFailure(key: str, cause: str) -> str:
    """What is said where a model could not be loaded."""
    return f'Failed to load model "{key}". Error: {LOAD_FAILED} {cause}'


def openAIRefusal(error: StudioError) -> Reply:
    """``/v1/chat/completions`` and its like: an object indented by 4 for models, a bare string for the rest."""
    if isinstance(error, ModelError):
        return Reply(error.status, _openAIObject(error), 4)
    return Reply(error.status, {"error": error.message})


def responsesRefusal(error: StudioError) -> Reply:
    """``/v1/responses``: always an object, indented by 2."""
    return Reply(error.status, _openAIObject(error), 2)


def anthropicRefusal(error: StudioError) -> Reply:
    """``/v1/messages``."""
    kind = "api_error" if isinstance(error, PredictionError) else "invalid_request_error"
    return Reply(error.status, {"type": "error", "error": {"type": kind, "message": error.message}})


def nativeRefusal(error: StudioError) -> Reply:
    """``/api/v1``: only the members that there are, indented by 2."""
    return Reply(error.status, {"error": nativeObject(error)}, 2)


def nativeObject(error: StudioError) -> dict[str, str]:
    """``error`` of the native API, of an answer and of the ``error`` event."""
    members: dict[str, str | None] = {"message": error.message, "type": error.kind}
    # Recorded so: faults of the model have the parameter first, faults of the schema the code.
    names = ("param", "code") if isinstance(error, ModelError) else ("code", "param")
    members.update((name, getattr(error, name)) for name in names)
    return {name: value for name, value in members.items() if value is not None}


def tokenRefusal(authorization: str | None, token: str) -> Reply | None:
    """
    What a server that demands a token answers.

    :param authorization: the value of the request's ``Authorization``, or None.
    :param token: the one token that is accepted.
    :return: the refusal, or None when the token is the right one.
    """
    scheme, _, given = (authorization or "").partition(" ")
    given = given.strip()
    if scheme.lower() != "bearer" or not given:
        return _unauthorized(NO_TOKEN)
    if given == token:
        return None
    # LM Studio quotes the beginning of the token back: a gateway must not let that into a log.
    masked = given[:_SHOWN_OF_A_TOKEN] + "*" * len(given[_SHOWN_OF_A_TOKEN:])
    return _unauthorized((_UNKNOWN_TOKEN if _isToken(given) else _MALFORMED_TOKEN).format(masked))


def unexpectedEndpoint(method: str, target: str, status: int) -> Reply:
    """The answer to any path or method that is not served. LM Studio says 200 to it."""
    return Reply(status, {"error": f"Unexpected endpoint or method. ({method} {target})"})


def invalidModel(name: str, examples: list[str]) -> StudioError:
    """
    The error for a model that is not among the downloaded.

    :param examples: names that would do; LM Studio shows three.
    """
    if not examples:
        return NoModelsLoaded()
    shown = ", ".join(examples[:3])
    return ModelError(f'Invalid model identifier "{name}". Please specify a valid downloaded model (e.g., {shown}).')


def _openAIObject(error: StudioError) -> dict[str, Any]:
    members = {"type": "invalid_request_error", "param": error.param, "code": error.code}
    return {"error": {"message": error.message, **members}}


def _unauthorized(message: str) -> Reply:
    return Reply(401, {"error": {"type": "invalid_request", "code": "invalid_api_key", "message": message}})


def _isToken(text: str) -> bool:
    """Whether it has the form ``sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY``."""
    prefix, name, secret = text[:6], text[6:].partition(":")[0], text.partition(":")[2]
    return prefix == "sk-lm-" and (len(name), len(secret)) == (8, 20) and (name + secret).isalnum()
