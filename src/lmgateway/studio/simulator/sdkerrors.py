# -*- test-case-name: tests.studio.simulator.test_sdkerrors -*-
"""
What LM Studio tells its SDKs when it will not: errors with a title, and data by which the SDKs recognise some of them
(``lms-shared-types`` of lmstudio-js). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmgateway.studio.simulator.errors import LOAD_FAILED

_SAMPLE = 10
"""How many names an error shows."""


class SdkError(Exception):
    """
    An error that goes to an SDK.

    :param title: what went wrong.
    :param cause: why.
    :param displayData: ``{"code", …}``, by which the SDKs choose their own words.
    """

    def __init__(self, title: str, *, cause: str | None = None, displayData: Mapping[str, Any] | None = None) -> None:
        super().__init__(title)
        self.title = title
        self.cause = cause
        self.displayData = displayData

    @property
    def serialized(self) -> dict[str, Any]:
        """The error as it is sent."""
        members = {"title": self.title, "cause": self.cause, "displayData": self.displayData, "rootTitle": self.title}
        return {name: value for name, value in members.items() if value is not None}


def noModelMatches(query: Mapping[str, Any], loaded: Sequence[str]) -> SdkError:
    """Nothing that is loaded is what is asked for."""
    data = {"code": "generic.noModelMatchingQuery", "query": query, **_loaded(loaded)}
    return SdkError("No model found that fits the query", displayData=data)


def modelGone() -> SdkError:
    """The instance that the client refers to is no more."""
    return SdkError("Model is unloaded.", displayData={"code": "generic.specificModelUnloaded"})


def pathUnknown(path: str, available: Sequence[str]) -> SdkError:
    """No such model is downloaded."""
    data = {
        "code": "generic.pathNotFound",
        "path": path,
        "availablePathsSample": list(available[:_SAMPLE]),
        "totalModels": len(available),
    }
    return SdkError(f"Cannot find a model with path: {path}", displayData=data)


def identifierUnknown(identifier: str, loaded: Sequence[str]) -> SdkError:
    """No instance is called so."""
    data = {"code": "generic.identifierNotFound", "identifier": identifier, **_loaded(loaded)}
    return SdkError(f"Cannot find a model with identifier: {identifier}", displayData=data)


def wrongDomain(path: str, actual: str, expected: str) -> SdkError:
    """The model is of the other kind."""
    data = {"code": "generic.domainMismatch", "path": path, "actualDomain": actual, "expectedDomain": expected}
    return SdkError(f"The model is of type {actual}, not {expected}: {path}", displayData=data)


def identifierTaken(identifier: str) -> SdkError:
    """Another instance is called so."""
    return SdkError(f"A model with identifier {identifier} is loaded already.")


def loadFailed(cause: str) -> SdkError:
    """A model could not be loaded."""
    return SdkError(LOAD_FAILED, cause=cause)


def loadAborted() -> SdkError:
    """The client does not want the model any more."""
    return SdkError("Model loading aborted.")


def denied() -> SdkError:
    """The client may not manage models."""
    return SdkError("Permission denied", cause="The LM Studio API token lacks the permission to manage models.")


def _loaded(names: Sequence[str]) -> dict[str, Any]:
    return {"loadedModelsSample": list(names[:_SAMPLE]), "totalLoadedModels": len(names)}
