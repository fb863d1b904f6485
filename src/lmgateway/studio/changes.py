# -*- test-case-name: tests.studio.test_changes -*-
"""
Which instances came and went without the gateway having done it. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from lmgateway.inventory import LoadedModel
from lmgateway.policy.instances import isSameModel


class Changes(Struct, frozen=True):
    """
    :param loaded: the identifiers of the instances that came.
    :param unloaded: of those that went.
    """

    loaded: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loaded or self.unloaded)


class OutsideChanges:
    """Compares each list of loaded instances with the one before, and leaves out what the gateway does itself."""

    def __init__(self) -> None:
        # A dictionary keeps the order in which they came.
        self._known: dict[str, None] | None = None
        self._loading: Counter[str] = Counter()
        self._unloading: Counter[str] = Counter()

    def forget(self) -> None:
        """Take the next list as the first one: it is no change."""
        self._known = None

    def compare(self, loaded: Iterable[LoadedModel]) -> Changes:
        """
        Tell what has changed since the last list.

        Of a model that the gateway is loading, a new instance may be the gateway's own or not: it is told of once the load is over,
        if it is not.
        """
        now = {each.identifier: each.modelKey for each in loaded}
        if self._known is None:
            self._known = dict.fromkeys(now)
            return Changes()
        known = self._known
        came = [name for name, key in now.items() if name not in known and not self._isLoading(key)]
        went = [name for name in known if name not in now and not self._unloading[name]]
        known.update(dict.fromkeys(came))
        for name in went:
            del known[name]
        return Changes(tuple(came), tuple(went))

    def loading(self, modelKey: str) -> None:
        """The gateway begins to load a model."""
        self._loading[modelKey] += 1

    def loaded(self, modelKey: str, identifier: str | None) -> None:
        """
        It has ended.

        :param identifier: the instance, or None where it failed.
        """
        self._loading[modelKey] -= 1
        self._loading += Counter()
        if identifier is not None and self._known is not None:
            self._known[identifier] = None

    def unloading(self, identifier: str) -> None:
        """The gateway begins to unload an instance."""
        self._unloading[identifier] += 1

    def unloaded(self, identifier: str, *, isGone: bool) -> None:
        """It has ended, and the instance is gone or it failed."""
        self._unloading[identifier] -= 1
        self._unloading += Counter()
        if isGone and self._known is not None:
            self._known.pop(identifier, None)

    def _isLoading(self, modelKey: str) -> bool:
        return any(isSameModel(name, modelKey) for name in self._loading)
