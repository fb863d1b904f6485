# -*- test-case-name: tests.policy.test_model_names -*-
"""
Which names of models LM Studio knows, and which of them somebody may have meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import cached_property

from lmgateway.inventory import Inventory

MOST_COMPARED = 200
"""Names that are compared letter by letter with one that is unknown: those that share the most words with it."""

LONGEST_COMPARED = 100
"""Characters of a name that are compared. Whoever asks writes it, and comparing costs their product."""

LONGEST_SHOWN = 200
"""Characters of a name that messages show."""

_WORD = re.compile("[a-z]+|[0-9]+")
_LIKE = 0.5


class KnownModels:
    """
    The names of one inventory.

    :param inventory: what LM Studio has.
    """

    def __init__(self, inventory: Inventory) -> None:
        names: dict[str, str] = {}
        for model in inventory.downloaded:
            names[model.modelKey] = model.modelKey
            for variant in model.variants:
                names[variant] = model.modelKey
        for instance in inventory.loaded:
            names.setdefault(instance.identifier, instance.modelKey)
            names.setdefault(instance.modelKey, instance.modelKey)
        self._names: Mapping[str, str] = names

    def keyOf(self, name: str) -> str | None:
        """
        Tell the model that a name means.

        :param name: a key, alone or with a variant (``qwen/qwen3-8b@q8_0``), or the identifier of an instance.
        :return: the model's key; None where LM Studio knows no such name.
        """
        known = self._names.get(name)
        if known is None and "@" in name:
            return self._names.get(name.partition("@")[0])
        return known

    def near(self, name: str, most: int = 3) -> tuple[str, ...]:
        """
        Give names that are like one that is unknown, the most like first.

        What it costs does not grow with how many names there are, but for those that share a word with it.
        """
        wanted = name[:LONGEST_COMPARED].lower()
        shared: dict[str, int] = {}
        for word in set(_WORD.findall(wanted)):
            for candidate in self._byWord.get(word, ()):
                shared[candidate] = shared.get(candidate, 0) + 1
        compared = sorted(shared, key=lambda candidate: -shared[candidate])[:MOST_COMPARED]
        likeness = {candidate: _likeness(wanted, candidate) for candidate in compared}
        like = [candidate for candidate in compared if likeness[candidate] >= _LIKE]
        return tuple(sorted(like, key=lambda candidate: -likeness[candidate])[:most])

    @cached_property
    def _byWord(self) -> Mapping[str, tuple[str, ...]]:
        """The names that have a word, and of common words no more than can be compared."""
        found: dict[str, list[str]] = {}
        for name in self._names:
            for word in set(_WORD.findall(name[:LONGEST_COMPARED].lower())):
                names = found.setdefault(word, [])
                if len(names) < MOST_COMPARED:
                    names.append(name)
        return {word: tuple(names) for word, names in found.items()}


def shown(name: str) -> str:
    """A name in quotes, and not longer than names are."""
    return f'"{name}"' if len(name) <= LONGEST_SHOWN else f'"{name[:LONGEST_SHOWN]}…"'


def meaning(names: Iterable[str]) -> str:
    """What may have been meant, as a question to add to a sentence; nothing where there are no names."""
    quoted = " or ".join(map(shown, names))
    return f" Did you mean {quoted}?" if quoted else ""


def _likeness(wanted: str, candidate: str) -> float:
    """How much two names are alike, from 0 to 1; the publisher may be missing."""
    known = candidate[:LONGEST_COMPARED].lower()
    whole = SequenceMatcher(None, wanted, known).ratio()
    return max(whole, SequenceMatcher(None, wanted, known.rpartition("/")[2]).ratio())
