# -*- test-case-name: tests.studio.test_rest_answers -*-
"""
What LM Studio's REST API says of its models (https://lmstudio.ai/docs/developer/rest), read. Pure.

Everything goes by the body: LM Studio answers what it does not know with status 200 and an error. What is needed must be
there and be of its type; what is not is taken where it makes sense, and passed over where it does not, because newer
versions say more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from msgspec import Struct

from lmgateway.errors import Forbidden, GatewayError, NotFound, UpstreamBroken, UpstreamFailed
from lmgateway.inventory import DownloadedModel, Inventory, LoadedModel
from lmgateway.studio.bodies import decodeObject, dicts, isName
from lmgateway.studio.loadconfig import fromRest
from lmgateway.studio.quoting import withoutTokens

Json = Mapping[str, Any]

LONGEST_QUOTE = 600
"""Characters of what LM Studio says that are passed on."""

_DETAILS = (
    ("displayName", "display_name"),
    ("publisher", "publisher"),
    ("architecture", "architecture"),
    ("format", "format"),
    ("paramsString", "params_string"),
)


class RestLoad(Struct, frozen=True):
    """
    A load that is done.

    :param identifier: the instance.
    :param loadConfig: what it was loaded with, by the contract's names; None where LM Studio did not say.
    """

    identifier: str
    loadConfig: Mapping[str, Any] | None


def decodeAnswer(status: int, body: bytes, *secrets: str) -> Json:
    """
    Read an answer that is to be one JSON object, and no error.

    :param secrets: what must not be quoted.
    :raise Forbidden: LM Studio's token is missing, wrong, or lacks the permission.
    :raise NotFound: there is no such model or instance.
    :raise UpstreamFailed: the model could not be loaded.
    :raise UpstreamBroken: it is something else, or there is no such endpoint.
    """
    answer = decodeObject(body)
    error = None if answer is None else answer.get("error")
    if error is not None:
        raise _errorOf(status, error, secrets)
    if status in {401, 403}:
        raise _forbidden("")
    if answer is None:
        raise UpstreamBroken(
            "LM Studio answered with something that is no JSON object. Is it LM Studio that listens there (LMSTUDIO_BASE_URL)?"
        )
    return answer


def readInventory(answer: Json) -> Inventory:
    """
    Read ``GET /api/v1/models``.

    :raise UpstreamBroken: it is no list of LM Studio's models.
    """
    models = answer.get("models")
    if not isinstance(models, list):
        _strange('a "models" list')
    downloaded: list[DownloadedModel] = []
    loaded: list[LoadedModel] = []
    for item in models:
        model = _downloaded(item)
        downloaded.append(model)
        loaded += _instances(item, model)
    return Inventory(tuple(downloaded), tuple(loaded))


def readLoad(answer: Json) -> RestLoad:
    """
    Read the answer to ``POST /api/v1/models/load``.

    :raise UpstreamBroken: it names no instance.
    """
    identifier = answer.get("instance_id")
    if not isName(identifier):
        _strange('an "instance_id"')
    config = answer.get("load_config")
    return RestLoad(identifier, fromRest(config) if isinstance(config, dict) else None)


def readUnload(answer: Json) -> str:
    """
    Read the answer to ``POST /api/v1/models/unload``: the instance that is gone.

    :raise UpstreamBroken: it names none.
    """
    identifier = answer.get("instance_id")
    if not isName(identifier):
        _strange('an "instance_id"')
    return identifier


def _errorOf(status: int, error: object, secrets: Iterable[str]) -> GatewayError:
    """Make an error of what LM Studio says in ``error``: an object, or a string where nothing is known of the path."""
    fields = error if isinstance(error, dict) else {}
    told = fields.get("message") if fields else error
    said = withoutTokens(told, *secrets)[:LONGEST_QUOTE].strip() if isinstance(told, str) else ""
    kinds = {kind for kind in (fields.get("type"), fields.get("code")) if isinstance(kind, str)}
    if not fields and said.startswith("Unexpected endpoint"):
        return UpstreamBroken(
            "LM Studio has no such endpoint: it is older than 0.4, or something else listens there. "
            'Its models cannot be managed by REST; upstream.management may be "auto".'
        )
    if status in {401, 403} or kinds & {"invalid_api_key", "permission_denied"} or "permission denied" in said.lower():
        return _forbidden(said)
    quote = f": {said}" if said else ", and did not say why."
    if kinds & {"model_not_found", "not_found"}:
        return NotFound(f"LM Studio has no such model or instance{quote}", code="model_not_found")
    if "internal_error" in kinds or "failed to load" in said.lower():
        return UpstreamFailed(f"LM Studio could not do it{quote}")
    return UpstreamBroken(f"LM Studio refused the request{quote}")


def _forbidden(said: str) -> Forbidden:
    quote = f" It says: {said}" if said else ""
    return Forbidden(
        "LM Studio does not let this gateway manage its models. Give it an LM Studio API token that may "
        f"(LMSTUDIO_API_TOKEN).{quote}"
    )


def _strange(missing: str) -> NoReturn:
    raise UpstreamBroken(
        f"LM Studio's answer makes no sense: it lacks {missing}. It may be a version that is not known."
    )


def _downloaded(item: object) -> DownloadedModel:
    """Read one model of the list."""
    if not isinstance(item, dict) or not isName(item.get("key")) or not isName(item.get("type")):
        _strange("the key and type of a model")
    quantization = item.get("quantization")
    capabilities = item.get("capabilities")
    features = capabilities if isinstance(capabilities, dict) else {}
    details = {name: item[theirs] for name, theirs in _DETAILS if isinstance(item.get(theirs), str)}
    if isinstance(quantization, dict) and isinstance(quantization.get("name"), str):
        details["quantization"] = quantization["name"]
    for name, theirs in (("vision", "vision"), ("trainedForToolUse", "trained_for_tool_use")):
        if isinstance(features.get(theirs), bool):
            details[name] = features[theirs]
    variants = item.get("variants")
    return DownloadedModel(
        modelKey=item["key"],
        type=item["type"],
        path=item["key"],
        size=_count(item.get("size_bytes")),
        variants=tuple(filter(isName, variants)) if isinstance(variants, list) else (),
        maxContextLength=_count(item.get("max_context_length")),
        details=details,
    )


def _instances(item: Json, model: DownloadedModel) -> Iterator[LoadedModel]:
    """
    Read what is loaded of one model.

    LM Studio tells how long an instance has left, if it is one of those that leave; not its TTL, which would be the same at
    each look.
    """
    for instance in dicts(item.get("loaded_instances")):
        if not isName(instance.get("id")):
            _strange("the id of an instance")
        config = instance.get("config")
        known = fromRest(config) if isinstance(config, dict) else {}
        yield LoadedModel(instance["id"], model.modelKey, model.type, model.path, loadConfig=known)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
