# -*- test-case-name: tests.policy.test_explaining -*-
"""
What would become of a request: what would go upstream, what of it the gateway adds, whose it is, and why the rest is not
added.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from lmgateway.errors import GatewayError
from lmgateway.interfaces import IRequestRewriter
from lmgateway.message import ActiveModel, Completing, Completion, Injection, Principal, Rewritten
from lmgateway.policy.checks import Fault, Path, decodeFields, members, name, optional
from lmgateway.policy.completion import Completions
from lmgateway.policy.dialects import DIALECTS
from lmgateway.policy.routes import Route
from lmgateway.policy.stream_options import WATCHED, askForUsage


class Question(Struct, frozen=True):
    """
    A request to be explained.

    :param path: its target, with a query if it has one.
    :param body: its body, to the letter.
    :param key: the name of the key that asks; None for the one that wants to know.
    """

    path: str
    body: bytes
    key: str | None


class _Asked(Struct):
    path: str
    body: Raw
    key: str | None = None


def _anything(_: object, __: Path) -> tuple[Fault, ...]:
    return ()


_QUESTION = members({"path": name, "body": _anything, "key": optional(name)}, ["path", "body"])


def decodeQuestion(body: bytes) -> Question:
    """
    Read the body of ``POST /admin/explain``: ``path``, ``body`` (an object, or a string that holds one to the letter) and
    perhaps ``key``.

    :raise BadRequest: it is not one JSON object.
    :raise ValidationFailed: a member is missing, unknown or not as it must be.
    """
    decodeFields(body, _QUESTION)
    asked = msgspec.json.decode(body, type=_Asked)
    text = bytes(asked.body)
    if text.startswith(b'"'):
        text = msgspec.json.decode(text, type=str).encode()
    return Question(asked.path, text, asked.key)


class _Recording:
    """
    Completes a request, and remembers how.

    :param completing: knows how.
    :ivar asked: the model that the client named.
    :ivar completion: what it is completed with.
    """

    def __init__(self, completing: Completing) -> None:
        self.asked: str | None = None
        self.completion = Completion()
        self._completing = completing

    def __call__(self, model: str | None) -> Completion:
        self.asked = model
        self.completion = self._completing(model)
        return self.completion


class Explainer:
    """
    Explains requests; sends none.

    :param rewriter: completes bodies.
    :param completions: tells what with.
    """

    def __init__(self, rewriter: IRequestRewriter, completions: Completions) -> None:
        self._rewriter = rewriter
        self._completions = completions

    def explain(
        self, route: Route, body: bytes, active: ActiveModel | None, principal: Principal, *, asksForUsage: bool
    ) -> dict[str, Any]:
        """
        Explain a POST.

        :param route: a proxied one.
        :param body: the client's.
        :param active: the active model.
        :param principal: who would ask.
        :param asksForUsage: whether streams are asked for their usage.
        :return: JSON values: ``upstreamBody``, ``model``, ``stream``, ``alias``, ``injected``, ``notInjected``,
            ``refused``. What is refused has no body.
        """
        if route.inject == "none":
            return {**_UNREAD, "upstreamBody": body.decode("utf-8", "replace")}
        recording = _Recording(self._completions.completing(route.dialect, route.inject, active, principal))
        try:
            rewritten = self._rewriter.rewrite(body, recording, WATCHED)
        except GatewayError as error:
            refused = {"status": error.status, "code": error.code, "message": error.message}
            return {**_UNREAD, "refused": refused}
        usage = askForUsage(rewritten) if asksForUsage else None
        asked, completion = recording.asked, recording.completion
        alias = asked if completion.alias is not None else None
        injected = [_shown(each, _WHY) for each in completion.injections if each.name in rewritten.injected]
        if usage is not None:
            injected.append(_USAGE)
        return {
            "upstreamBody": (usage or rewritten.body).decode(),
            "model": rewritten.model,
            "stream": rewritten.stream,
            "alias": None if alias is None else {"name": alias, "model": rewritten.model},
            "injected": injected,
            "notInjected": [*_left(completion, rewritten, body), *self._unknown(route, active, principal, asked)],
            "refused": None,
        }

    def _unknown(
        self, route: Route, active: ActiveModel | None, principal: Principal, model: str | None
    ) -> list[dict[str, Any]]:
        """The defaults that the API has no parameter for."""
        parameters = {parameter.name for parameter in DIALECTS[route.dialect].parameters or ()}
        if route.inject != "all":
            parameters = set()
        return [
            {"name": each, "value": value, "origin": layer.origin, "why": "This API has no such parameter."}
            for layer in self._completions.defaultsFor(active, principal, model)
            for each, value in layer.values.items()
            if each not in parameters
        ]


_UNREAD: dict[str, Any] = {
    "upstreamBody": None,
    "model": None,
    "stream": False,
    "alias": None,
    "injected": [],
    "notInjected": [],
    "refused": None,
}
"""What is told of a body that nothing was read of."""

_WHY = "The request does not have it."
_USAGE = {
    "name": "usage",
    "member": "stream_options.include_usage",
    "value": True,
    "origin": "debug.askForUsage",
    "why": "The stream would not tell its tokens; the chunk that does is taken out again.",
}


def _shown(injection: Injection, why: str) -> dict[str, Any]:
    return {
        "name": injection.name,
        "member": injection.member,
        "value": msgspec.json.decode(injection.value),
        "origin": injection.origin,
        "why": why,
    }


def _left(completion: Completion, rewritten: Rewritten, body: bytes) -> list[dict[str, Any]]:
    """What a request was not given because it has it."""
    sent = msgspec.json.decode(body.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\ue"), type=dict[str, Raw])
    return [
        _shown(each, f"The request has {' and '.join(present)}.")
        for each in completion.injections
        if each.name not in rewritten.injected
        for present in [[f'"{member}"' for member in (each.member, *each.unless) if member in sent]]
    ]
