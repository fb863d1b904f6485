# -*- test-case-name: tests.studio.test_quoting -*-
"""
What LM Studio said, fit for a message to a client: without the tokens that it quotes, and not endless. Pure.
"""

from __future__ import annotations

import re

CUT = "[token]"
"""What stands where a token was."""

MOST = 500
"""Characters that are quoted of what LM Studio said."""

_TOKEN = re.compile(r"sk-lm[-_][^\s\"'<>(),;]*", re.IGNORECASE)
"""A token, or what is left of one that LM Studio has masked: ``sk-lm-AbCdEfGh:0123…``, ``sk-lm-****WXYZ``, ``sk-lm-...``."""

_LEAST = 4
"""Characters that make a secret; to cut out shorter ones would leave nothing to read."""

_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def withoutTokens(text: str, *secrets: str | None) -> str:
    """
    Cut out every token of LM Studio's, whole or masked, and every secret.

    :param secrets: what must not be quoted; None and what is too short to be a secret are nothing. Of a token
        ``sk-lm-A:B`` each half is cut out as well.
    """
    halves = [half for secret in secrets if secret for half in (secret, *_halves(secret)) if len(half) >= _LEAST]
    for half in sorted(halves, key=len, reverse=True):
        text = text.replace(half, CUT)
    return _TOKEN.sub(CUT, text)


def quoted(text: str, *secrets: str | None) -> str:
    """
    Make a short line of what was said, without tokens.

    :param secrets: as in :func:`withoutTokens`.
    """
    # Tokens first: a token that the cut goes through could no longer be recognised.
    line = " ".join(_HIDDEN.sub(" ", withoutTokens(text, *secrets)).split())
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= MOST else line[:MOST].rstrip() + "…"


def _halves(secret: str) -> tuple[str, ...]:
    """Give the parts of a token that LM Studio could quote alone."""
    bare = secret.removeprefix("sk-lm-")
    return (bare, *bare.split(":"))
