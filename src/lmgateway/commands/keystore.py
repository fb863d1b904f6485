# -*- test-case-name: tests.commands.test_keys -*-
"""
The keys that a command is about: those of the gateway that runs, or those in the state folder of one that does not.

Both are asked in the same words, and answer in the same.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote

import click
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from lmgateway.audit import AuditEntry, AuditLog
from lmgateway.commands.talk import Place, TalkError, findPlace, messageOf, takesPlace
from lmgateway.errors import GatewayError
from lmgateway.keydesk import KeyDesk, auditable
from lmgateway.keys import KeyRing
from lmgateway.logs import redactor
from lmgateway.message import Principal, Scope
from lmgateway.settings import SettingsError, loadSettings
from lmgateway.state import StateStore
from lmgateway.statefile import StateError

T = TypeVar("T")

_OWNER = Principal("state folder", frozenset(Scope))
"""Whoever may write the state folder, may do everything."""

_OFFLINE = "Where no gateway runs, --offline works on its state folder."


class IKeys(Protocol):
    """Keys, and what can be done about them; each answer is that of ``/admin/keys``. What goes wrong is a TalkError."""

    def listAll(self) -> dict[str, Any]:
        """Every key."""

    def mint(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Make one."""

    def edit(self, keyId: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change one."""

    def rotate(self, keyId: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give one a new secret."""

    def revoke(self, keyId: str) -> dict[str, Any]:
        """End one."""


class RunningKeys:
    """
    The keys of a gateway that runs.

    :param place: where it is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def listAll(self) -> dict[str, Any]:
        """Every key."""
        return self._send("GET", "/admin/keys")

    def mint(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Make one."""
        return self._send("POST", "/admin/keys", order)

    def edit(self, keyId: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change one."""
        return self._send("PATCH", _placeOf(keyId), changes)

    def rotate(self, keyId: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give one a new secret."""
        return self._send("POST", f"{_placeOf(keyId)}/rotate", order)

    def revoke(self, keyId: str) -> dict[str, Any]:
        """End one."""
        return self._send("DELETE", _placeOf(keyId))

    def _send(self, method: str, target: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return self._place.send(method, target, value)
        except TalkError as error:
            if error.message.startswith("Nothing answers"):
                raise TalkError(f"{error.message} {_OFFLINE}", mayPass=error.mayPass) from None
            raise


class OfflineKeys:
    """
    The keys in a state folder that no gateway uses.

    :param desk: does what is asked.
    :param audit: is told of it.
    """

    def __init__(self, desk: KeyDesk, audit: AuditLog) -> None:
        self._desk = desk
        self._audit = audit

    def listAll(self) -> dict[str, Any]:
        """Every key that is stored: which one is configured, a gateway that does not run cannot tell."""
        stored = [key for key in self._desk.listAll()["keys"] if key["id"] is not None]
        return {"keys": stored}

    def mint(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Make one."""
        return self._told("keys.add", lambda: self._desk.mint(_OWNER, json.dumps(order).encode()))

    def edit(self, keyId: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change one."""
        return self._told("keys.change", lambda: self._desk.edit(_OWNER, keyId, json.dumps(changes).encode()), keyId)

    def rotate(self, keyId: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give one a new secret."""
        return self._told("keys.rotate", lambda: self._desk.rotate(_OWNER, keyId, json.dumps(order).encode()), keyId)

    def revoke(self, keyId: str) -> dict[str, Any]:
        """End one."""
        return self._told("keys.revoke", lambda: self._desk.revoke(keyId), keyId)

    def _told(
        self, action: str, act: Callable[[], Coroutine[Deferred[Any], Any, dict[str, Any]]], keyId: str | None = None
    ) -> dict[str, Any]:
        """
        Do something, and write its line before anybody is told that it is done.

        :raise TalkError: it failed, or could not be told.
        """
        known = next((auditable(key) for key in self._desk.listAll()["keys"] if keyId and key["id"] == keyId), None)
        entry = AuditEntry(
            time=time.time(),
            action=action,
            outcome="failed",
            key=_OWNER.name,
            target=keyId if known is None else known["name"],
            before=known,
        )
        try:
            answer = _now(act())
        except TalkError:
            _resultOf(self._audit.record(entry))
            raise
        after = None if action == "keys.revoke" else auditable(answer)
        _resultOf(self._audit.record(replace(entry, outcome="done", target=answer["name"], after=after)))
        return answer


def asksKeys(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whose keys are meant, and these keys as its first argument."""

    @takesPlace
    @click.option("--offline", is_flag=True, help="Work on the state folder: no gateway runs.")
    @click.option("--state-dir", "stateDir", metavar="DIR", help="The same, with this state folder.")
    @functools.wraps(command)
    def found(*, offline: bool, stateDir: str | None, **rest: Any) -> None:
        url, keyFile, caFile = (rest.pop(name) for name in ("url", "keyFile", "caFile"))
        files = (rest.pop("configFile"), rest.pop("envFile"))
        try:
            if not offline and stateDir is None:
                command(RunningKeys(findPlace(url, keyFile, caFile, files, os.environ)), **rest)
                return
            settings = loadSettings(configFile=files[0] or None, envFile=files[1] or None, environ=os.environ)
        except SettingsError as error:
            raise click.ClickException(str(error)) from None
        with openFolder(stateDir or settings.state.directory) as keys:
            command(keys, **rest)

    return found


@contextmanager
def openFolder(directory: str) -> Iterator[OfflineKeys]:
    """
    Have the keys of a state folder, while nobody else has.

    :raise TalkError: somebody else has it, or it cannot be read.
    """
    # What is not started answers at once, and needs no reactor.
    unneeded = cast("IReactorFromThreads", None)
    try:
        store = StateStore.open(directory, unneeded)
    except StateError as error:
        raise TalkError(f"{error} To ask the gateway that runs, leave --offline and --state-dir out.") from None
    try:
        ring = KeyRing(store, time.time)
        _resultOf(ring.load())
        audit = AuditLog(store.directory, unneeded, redactor(()))
        # Whoever has the folder can always make another key.
        yield OfflineKeys(KeyDesk(ring, time.time, lambda: True), audit)
        _now(audit.close())
    finally:
        _now(store.close())


def _now(work: Coroutine[Deferred[Any], Any, T]) -> T:
    return _resultOf(Deferred.fromCoroutine(work))


def _resultOf(done: Deferred[T]) -> T:
    """
    Give the result of what needs no reactor.

    :raise TalkError: it failed, as things fail.
    """
    results: list[T | Failure] = []
    done.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        error = result.value
        if isinstance(error, GatewayError):
            raise TalkError(
                messageOf(json.dumps({"error": error.message, "details": error.details}).encode())
            ) from None
        if isinstance(error, StateError):
            raise TalkError(str(error)) from None
        result.raiseException()
    return result


def _placeOf(keyId: str) -> str:
    return f"/admin/keys/{quote(keyId, safe='')}"
