# -*- test-case-name: tests.policy.test_model_list -*-
"""
The answer to ``GET /v1/models`` as clients get it: LM Studio's own, with the aliases, and for a key that is meant for some
models no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec
from msgspec import Raw, Struct

from lmgateway.policy.completion import Alias

OWNER = "lmgateway"
"""Who owns an alias."""


class _List(Struct):
    """LM Studio writes ``data`` first."""

    data: list[Raw]
    object: str = "list"


class _Item(Struct):
    """What matters of an item."""

    id: str


class _AliasItem(Struct):
    """An alias as an item; ``root`` is OpenAI's name for the model behind it."""

    id: str
    root: str
    object: str = "model"
    owned_by: str = OWNER


_LIST = msgspec.json.Decoder(_List)
_ITEM = msgspec.json.Decoder(_Item)


class ModelList:
    """
    A list that LM Studio gave.

    :param items: each model's id and JSON.
    :param body: the whole, as LM Studio wrote it.
    """

    def __init__(self, items: tuple[tuple[str, Raw], ...], body: bytes | None = None) -> None:
        self._items = items
        self._body = body

    @classmethod
    def read(cls, body: bytes) -> ModelList | None:
        """
        Read an answer's body.

        :return: None where it is no such list.
        """
        try:
            listed = _LIST.decode(body)
            return cls(tuple((_ITEM.decode(item).id, item) for item in listed.data), body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @classmethod
    def of(cls, ids: tuple[str, ...]) -> ModelList:
        """Make a list of what is known without LM Studio's own words."""
        return cls(tuple((id_, Raw(msgspec.json.encode(_AliasItem(id_, id_)))) for id_ in ids))

    def render(self, aliases: Mapping[str, Alias], globs: tuple[str, ...] = ()) -> bytes:
        """
        Write the list for a client; to the letter as LM Studio did, where nothing is to be changed.

        :param aliases: come last, but for those that are models' own names.
        :param globs: those that a model, or an alias or the model that it stands for, must match; any where there are none.
        """
        if self._body is not None and not aliases and not globs:
            return self._body
        items = [item for id_, item in self._items if _matches(globs, id_)]
        own = {id_ for id_, _ in self._items}
        items += [
            Raw(msgspec.json.encode(_AliasItem(name, alias.model)))
            for name, alias in aliases.items()
            if name not in own and _matches(globs, name, alias.model)
        ]
        return msgspec.json.encode(_List(items))


def _matches(globs: tuple[str, ...], *names: str) -> bool:
    return not globs or any(fnmatchcase(name, glob) for name in names for glob in globs)
