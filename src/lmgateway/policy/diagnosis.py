# -*- test-case-name: tests.policy.test_diagnosis -*-
"""
What facts about a machine, its LM Studio and its gateway mean: whether something is wrong, and what to do about it.

Pure: who gathers the facts is :mod:`lmgateway.commands.examining`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warning", "error"]

FIRST_YEAR = 2026
"""No clock that is right shows less: this was written then."""

CLOCK_SECONDS = 120
"""How far two clocks may be apart before keys and certificates end at a time that nobody expects."""

ENDING = timedelta(days=30)
"""How long before its end a certificate is complained of."""

FEW_DESCRIPTORS = 1024
"""Descriptors below which an office soon runs out of connections."""

LITTLE_SPACE = 1 << 30
NO_SPACE = 100 << 20
"""Bytes of a disk that are little, and next to none."""

_OTHERS = 0o077


class Finding(Struct, frozen=True):
    """
    What was found about one thing.

    :param level: ``ok``; ``warning``, for what may not be meant; ``error``, for what does not work or is not safe.
    :param subject: the thing, in a word or two.
    :param message: what is the case: a sentence.
    :param remedy: what to do; None where there is nothing to do.
    """

    level: Level
    subject: str
    message: str
    remedy: str | None = None


class Seen(Struct, frozen=True):
    """
    What somebody says at an address who is asked for something.

    :param status: of the answer; None where there was none.
    :param fault: why there was none.
    :param date: Unix time as the answer has it; None where it has none.
    :param body: the answer's, or a beginning of it.
    """

    status: int | None = None
    fault: str | None = None
    date: float | None = None
    body: bytes = b""

    @property
    def isLmStudio(self) -> bool:
        """Whether it is a list of models."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return False
        return self.status == 200 and isinstance(value, dict) and isinstance(value.get("data"), list)


def upstreamFinding(url: str, seen: Seen, *, hasToken: bool) -> Finding:
    """
    Judge LM Studio.

    :param seen: what it says to ``GET /v1/models`` with the token that is set.
    :param hasToken: whether one is.
    """
    subject = "LM Studio"
    if seen.status is None:
        return Finding(
            "error",
            subject,
            f"LM Studio does not answer at {url} ({seen.fault}).",
            "Start its server (Developer tab, or lms server start), or say where it is: LMSTUDIO_BASE_URL.",
        )
    if seen.status in (401, 403):
        said = "refuses the API token that is set" if hasToken else "asks for an API token, and none is set"
        return Finding(
            "error", subject, f"LM Studio at {url} {said}.", "Set LMSTUDIO_API_TOKEN to one that LM Studio has made."
        )
    if not seen.isLmStudio:
        return Finding(
            "error",
            subject,
            f"What answers at {url} ({seen.status}) gives no list of models, and so is no LM Studio.",
            "Say where LM Studio is: LMSTUDIO_BASE_URL.",
        )
    return Finding("ok", subject, f"LM Studio answers at {url}.")


def exposureFinding(port: int, elsewhere: Mapping[str, Seen], *, isHere: bool) -> Finding:
    """
    Judge whether LM Studio can be reached past the gateway.

    :param port: its port.
    :param elsewhere: what answers there at the addresses of this machine that other machines can use, without a token; who does not
        answer at all is not in it.
    :param isHere: whether LM Studio is on this machine.
    """
    subject = "LM Studio's port"
    closing = "In LM Studio's Developer tab turn 'Serve on Local Network' off, or: lms server start --bind 127.0.0.1"
    if not isHere:
        return Finding(
            "warning",
            subject,
            "LM Studio is on another machine: whoever reaches it there walks around the gateway's keys and limits.",
            f"Have that machine's firewall let this one alone reach port {port}.",
        )
    if not elsewhere:
        return Finding(
            "ok", subject, f"Port {port} cannot be reached from other machines: all goes through the gateway."
        )
    at = ", ".join(elsewhere)
    if any(seen.isLmStudio for seen in elsewhere.values()):
        return Finding(
            "error",
            subject,
            f"LM Studio can be reached by other machines, at {at}, port {port}, and asks nobody for a key: they walk around the gateway.",
            closing,
        )
    return Finding(
        "warning",
        subject,
        f"Other machines can connect to port {port} at {at}: what answers there is not behind the gateway.",
        closing,
    )


def clockFinding(now: datetime, others: Mapping[str, float]) -> Finding:
    """
    Judge this machine's clock.

    :param now: what it shows.
    :param others: what others showed at that moment, as Unix times by their names.
    """
    subject = "clock"
    remedy = "Have the clock set by the network (NTP), on both machines if there are two."
    if now.year < FIRST_YEAR:
        return Finding("error", subject, f"The clock shows {now:%Y-%m-%d}, which is long ago.", remedy)
    for name, moment in others.items():
        apart = abs(now.timestamp() - moment)
        if apart > CLOCK_SECONDS:
            text = f"This machine's clock and that of {name} are {round(apart)} seconds apart."
            return Finding("warning", subject, text, remedy)
    return Finding("ok", subject, f"The clock shows {now:%Y-%m-%d %H:%M} UTC.")


def certificateFinding(
    subject: str, begins: datetime, ends: datetime, now: datetime, missing: Iterable[str], remedy: str
) -> Finding:
    """
    Judge a certificate.

    :param subject: which.
    :param missing: what this machine is called and the certificate does not name.
    :param remedy: what to do where it is not good.
    """
    if now < begins:
        return Finding("error", subject, f"It is not valid before {begins:%Y-%m-%d}: or is the clock wrong?", remedy)
    if ends <= now:
        return Finding("error", subject, f"It ended on {ends:%Y-%m-%d}: nobody can connect with TLS.", remedy)
    if ends - now < ENDING:
        return Finding("warning", subject, f"It ends on {ends:%Y-%m-%d}.", remedy)
    unnamed = ", ".join(missing)
    if unnamed:
        text = f"It does not name {unnamed}: clients that use these are told that it is not this machine's."
        return Finding("warning", subject, text, remedy)
    return Finding("ok", subject, f"It is good until {ends:%Y-%m-%d}, and names this machine.")


def modeFinding(what: str, path: str, mode: int, *, isFolder: bool = False) -> Finding:
    """
    Judge who may read a file or folder with secrets in it.

    :param what: which it is.
    :param mode: its permission bits.
    """
    if not mode & _OTHERS:
        return Finding("ok", what, "Only its owner can read it.")
    octal = "700" if isFolder else "600"
    return Finding("error", what, f"Others than its owner can read or change {path}.", f"chmod {octal} {path}")


def spaceFinding(free: int, total: int) -> Finding:
    """
    Judge the disk of the state folder.

    :param free: bytes.
    :param total: bytes.
    """
    text = f"The disk of the state folder has {free // (1 << 20):,} MB free."
    remedy = "Make room: without it no key can be made or revoked, and no model activated."
    if free < NO_SPACE:
        return Finding("error", "disk", text, remedy)
    if free < min(LITTLE_SPACE, total // 20):
        return Finding("warning", "disk", text, remedy)
    return Finding("ok", "disk", text)


def descriptorFinding(soft: int | None, connections: int) -> Finding:
    """
    Judge how many files a process may have open.

    :param soft: the limit; None for none.
    :param connections: how many clients may be connected by it.
    """
    if soft is None or soft >= FEW_DESCRIPTORS:
        return Finding("ok", "descriptors", f"{connections:,} clients can be connected.")
    return Finding(
        "warning",
        "descriptors",
        f"A process may have {soft} files open, so only {connections} clients can be connected.",
        "Raise the limit for the gateway: ulimit -n 8192, or LimitNOFILE= of systemd.",
    )
