"""
Runs a command as confined as a systemd unit says, as far as that goes without systemd: ``confinement.py UNIT COMMAND...``

That is: no capabilities, another user where this one is root and that one can read Python, no new privileges, limits, system calls, address families, no memory that is both written
and executed. The file system, devices, namespaces and addresses stay as they are: those take systemd itself.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

NOBODY = 65534
"""Whom root becomes."""

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 1  # EPERM, as SystemCallErrorNumber= has it
_EQUAL = 4
_NO_NEW_PRIVILEGES = 38
_DROP_CAPABILITY = 24
_DENY_WRITE_EXECUTE = 65
_ASK_DENY_WRITE_EXECUTE = 66


class _Comparison(ctypes.Structure):
    """libseccomp's ``struct scmp_arg_cmp``."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def becomesNobody() -> bool:
    """Whether root becomes somebody else: not where Python is in a folder of root's own."""
    prefix = Path(sys.base_prefix)
    return os.geteuid() == 0 and all(each.stat().st_mode & 0o001 for each in (prefix, *prefix.parents))


def valuesOf(unit: str, name: str) -> list[str]:
    """Every value that a unit gives a directive, in its order."""
    pairs = [line.partition("=") for line in unit.splitlines() if not line.startswith(("#", "["))]
    return [value for key, _, value in pairs if key == name]


def reason() -> str | None:
    """Why nothing can be confined here; None where it can."""
    if sys.platform != "linux":
        return "this is no Linux"
    if find_library("seccomp") is None:
        return "there is no libseccomp"
    if ctypes.CDLL(None).prctl(_ASK_DENY_WRITE_EXECUTE, 0, 0, 0, 0) < 0:
        return "the kernel is older than 6.3"
    try:
        listOf("@system-service")
    except (OSError, subprocess.CalledProcessError):
        return "there is no systemd-analyze"
    return None


def listOf(name: str) -> Iterator[str]:
    """The system calls of one of systemd's sets, and of those in it."""
    said = subprocess.run(  # noqa: S603 - of systemd's own names
        ["systemd-analyze", "syscall-filter", name],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    members = [line.strip() for line in said.splitlines()[1:] if line.startswith("    ") and "#" not in line]
    return iter([call for each in members for call in (listOf(each) if each.startswith("@") else (each,))])


def allowedCalls(unit: str) -> set[str]:
    """The system calls that a unit allows: a list of what is, and then lists of what of it is not."""
    allowed: set[str] = set()
    for value in valuesOf(unit, "SystemCallFilter"):
        sets = value.removeprefix("~").split()
        calls = {call for each in sets for call in (listOf(each) if each.startswith("@") else (each,))}
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def confine(unit: str) -> None:
    """Give up what a unit takes away."""
    files = int(valuesOf(unit, "LimitNOFILE")[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    calls = allowedCalls(unit)
    process = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        for capability in range(64):
            process.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
        if becomesNobody():
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    os.umask(int(valuesOf(unit, "UMask")[0], 8))
    library = ctypes.CDLL(find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
    ]  # fmt: skip
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    seccomp = library.seccomp_init(_REFUSE)
    families = [int(getattr(socket, name)) for name in valuesOf(unit, "RestrictAddressFamilies")[0].split()]
    for call in calls:
        number = library.seccomp_syscall_resolve_name(call.encode())
        rules = [_Comparison(0, _EQUAL, each, 0) for each in families] if call == "socket" else [None]
        for rule in rules:
            library.seccomp_rule_add_array(
                seccomp, _ALLOW, number, 0 if rule is None else 1, None if rule is None else ctypes.byref(rule)
            )
    if "yes" in valuesOf(unit, "MemoryDenyWriteExecute") and process.prctl(_DENY_WRITE_EXECUTE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_MDWE")
    if process.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or library.seccomp_load(seccomp):
        raise OSError(ctypes.get_errno(), "seccomp_load")


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text("utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the command line says
