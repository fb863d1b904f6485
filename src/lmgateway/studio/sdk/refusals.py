# -*- test-case-name: tests.studio.sdk.test_refusals -*-
"""
What LM Studio's refusals mean to a client of the gateway (``lms-shared-types`` of lmstudio-js). Pure.

Its errors have a title for people, and few have a code for programs. Where there is none, the title is what there is to go by.
"""

from __future__ import annotations

import re

from lmgateway.errors import Conflict, Forbidden, GatewayError, NotFound, UpstreamFailed
from lmgateway.studio.quoting import quoted
from lmgateway.studio.sdk.packets import StudioError

UNKNOWN = frozenset(
    {
        "generic.noModelMatchingQuery",
        "generic.identifierNotFound",
        "generic.pathNotFound",
        "generic.specificModelUnloaded",
    }
)
"""The codes of what is not there."""

PERMISSION = (
    "Set LMSTUDIO_API_TOKEN to one of LM Studio's API tokens that may manage models "
    "(Developer tab, Server Settings, Manage Tokens)."
)
"""What to do where LM Studio will not have it."""

_DENIED = re.compile(
    r"permission|not (?:allowed|permitted|authori[sz]ed)|unauthori[sz]ed|forbidden|access denied", re.IGNORECASE
)
_TOKEN = re.compile(r"\bapi token\b|\bprivilege", re.IGNORECASE)
_TAKEN = re.compile(
    r"\bidentifier\b.*\b(?:already|taken|in use|exists)\b|\balready\b.*\bidentifier\b", re.IGNORECASE | re.DOTALL
)


class StudioRefusal(Exception):
    """
    LM Studio answered that it will not.

    :param error: what it said.
    """

    def __init__(self, error: StudioError) -> None:
        super().__init__(error.title)
        self.error = error


def explain(error: StudioError, doing: str, *secrets: str | None) -> GatewayError:
    """
    Make the error that a client gets of LM Studio's.

    :param doing: what LM Studio was to do, such as ``load the model "qwen/qwen3-8b"``.
    :param secrets: what is not to be quoted.
    :return: ``NotFound``, ``Conflict``, ``Forbidden`` or ``UpstreamFailed``, with what LM Studio said.
    """
    kind, advice = _meaning(error)
    said = quoted(" ".join(map(_sentence, filter(None, (error.title, error.cause, error.suggestion)))), *secrets)
    parts = (f"LM Studio could not {quoted(doing, *secrets)}.", f"It says: {said}" if said else "", advice)
    return kind(" ".join(filter(None, parts)))


def refused(reason: str, *secrets: str | None) -> Forbidden:
    """
    Make the error for a client that LM Studio does not let in.

    :param reason: what it said.
    """
    return Forbidden(
        f"LM Studio does not let this gateway in. It says: {_sentence(quoted(reason, *secrets))} {PERMISSION}"
    )


def _meaning(error: StudioError) -> tuple[type[GatewayError], str]:
    """Give the class of an error, and what to do about it where LM Studio does not say."""
    if error.code in UNKNOWN:
        return NotFound, ""
    if _TAKEN.search(error.title) or _TAKEN.search(error.cause):
        return Conflict, "Choose another instanceId, or unload that instance."
    # A cause may be that of the system of files, which denies permission as well.
    if _DENIED.search(error.title) or (_TOKEN.search(error.cause) and _DENIED.search(error.cause)):
        return Forbidden, PERMISSION
    return UpstreamFailed, ""


def _sentence(text: str) -> str:
    """End it with a full stop where it has no end."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else text + "."
