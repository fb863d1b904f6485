# -*- test-case-name: tests.studio.simulator.test_downloads -*-
"""Downloads of models, which go by the clock and fetch nothing. Pure: the caller tells the time, in seconds since 1970."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from lmgateway.studio.simulator.errors import FieldError, StudioError
from lmgateway.studio.simulator.models import Model
from lmgateway.studio.simulator.shelf import Shelf

SIZE = 2279145003
"""Bytes of every model that is downloaded: that of the documentation's sample."""

_ARTIFACT = re.compile(r"(?:https://huggingface\.co/)?(?P<name>(?:[\w.-]+/)?[\w.-]+)", re.ASCII)
_KEBAB = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*(?:/[a-z0-9]+(?:[.-][a-z0-9]+)*)?")
_NOT_KEBAB = "Invalid artifact name. Must be in kebab-case"


class Download(Struct):
    """
    One download.

    :param began: when.
    :param seconds: how long it takes.
    :param landed: whether the model is on the shelf.
    """

    id: str
    model: Model
    began: float
    seconds: float
    landed: bool = False

    @property
    def ends(self) -> float:
        """When it is complete."""
        return self.began + self.seconds

    def status(self, now: float) -> dict[str, Any]:
        """What LM Studio says of it; of the members only those that belong to its state."""
        done = now >= self.ends
        part = 1.0 if done else (now - self.began) / self.seconds
        job: dict[str, Any] = {
            "job_id": self.id,
            "status": "completed" if done else "downloading",
            "total_size_bytes": SIZE,
            "downloaded_bytes": int(SIZE * part),
        }
        if not done:
            job |= {"bytes_per_second": SIZE / self.seconds, "estimated_completion": _instant(self.ends)}
        job["started_at"] = _instant(self.began)
        return {**job, "completed_at": _instant(self.ends)} if done else job


class Downloads:
    """
    Every download there was.

    :param shelf: where models land.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._jobs: dict[str, Download] = {}

    def begin(self, artifact: str, quantization: str | None, now: float, seconds: float) -> dict[str, Any]:
        """
        Download a model, unless it is there.

        :param artifact: a name from the catalogue, or the address of a repository of Hugging Face.
        :return: the job, as LM Studio answers.
        :raise FieldError: that is no name of a model.
        """
        key = _keyOf(artifact)
        if any(model.key == key for model in self._shelf.downloaded):
            return {"status": "already_downloaded"}
        running = [job for job in self._jobs.values() if job.model.key == key]
        job = running[0] if running else Download(_jobId(), _model(key, quantization or "Q4_K_M"), now, seconds)
        self._jobs[job.id] = job
        return job.status(now)

    def status(self, job: str, now: float) -> dict[str, Any]:
        """
        How far a download is.

        :raise StudioError: there is none of that id.
        """
        if job not in self._jobs:
            raise StudioError(f"Download job with id '{job}' not found", status=404, kind="job_not_found")
        return self._jobs[job].status(now)

    def settle(self, now: float) -> None:
        """Put what has arrived on the shelf."""
        for job in self._jobs.values():
            if not job.landed and now >= job.ends:
                job.landed = True
                self._shelf.add(job.model)


def _keyOf(artifact: str) -> str:
    """What the model will be called."""
    address = _ARTIFACT.fullmatch(artifact)
    fromHub = address is not None and address["name"] != artifact
    key = address["name"].lower() if address is not None and fromHub else artifact
    if not fromHub and _KEBAB.fullmatch(artifact) is None:
        raise FieldError(_NOT_KEBAB)
    return key


def _model(key: str, quantization: str) -> Model:
    """A model of which nothing is known but its name."""
    publisher, _, name = key.rpartition("/")
    return Model(
        key=key,
        kind="llm",
        publisher=publisher or "lmstudio-community",
        displayName=name,
        architecture="llama",
        quantization=quantization,
        bits=4,
        sizeBytes=SIZE,
        maxContextLength=32768,
    )


def _jobId() -> str:
    return f"job_{secrets.token_hex(5)}"


def _instant(seconds: float) -> str:
    """A time as JavaScript's ``toISOString`` writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
