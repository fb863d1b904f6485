"""
Processes of the bench: started in groups of their own on a core of their own, weighed through ``/proc``, ended with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """Something could not be measured; the message says why, in the words of the report."""


def cores() -> tuple[int | None, int | None]:
    """
    :return: the core of the proxy, and the other one, of the load and the upstream; None twice where there is but one.
    """
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def foreignCpuSeconds(used: set[int]) -> float:
    """
    :param used: cores.
    :return: processor time that programs other than the bench's have had on these cores since the machine started. Only
        differences mean anything, and only while the bench has no running process.
    """
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name in {f"cpu{core}" for core in used}:
            user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, counts[:8])
            busy += user + nice + system + steal
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy / TICKS_PER_SECOND - sum(usage.ru_utime + usage.ru_stime for usage in own)


def freePort() -> int:
    """
    :return: a port of loopback that nobody listens on at the moment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """
    A running program of the bench.

    :param name: what the report calls it.
    :param argv: the program and its arguments.
    :param folder: where it runs, and its output goes to a file.
    :param core: the one core that it may use; None leaves it to the system.
    :param environment: variables beside the inherited ones.
    :param reporting: its standard output is read as :class:`Reports` instead.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        core: int | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        reporting: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - the bench's own programs
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if reporting else output,
                stderr=output,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        atexit.register(self.stop)
        if core is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(self._popen.pid, {core})
        self.reports = Reports(self._popen.stdout.fileno()) if self._popen.stdout else None

    def stop(self) -> None:
        """End the process and whatever it started. May be called again."""
        atexit.unregister(self.stop)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)
            try:
                self._popen.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        if self._popen.stdout:
            self._popen.stdout.close()

    def awaitPort(self, port: int, within: float = 20.0) -> None:
        """
        :param within: seconds.
        :raise Unavailable: the process ended, or does not listen in time; with its last words.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self._popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        raise Unavailable(f"{self.name} did not start: {self.lastWords()}")

    def lastWords(self) -> str:
        """
        :return: the end of what it wrote, one line.
        """
        said = self._output.read_text(errors="replace").splitlines()
        lines = [line.strip() for line in said if line.strip()]
        return lines[-1][-200:] if lines else "it said nothing"

    def cpuSeconds(self) -> float:
        """
        :return: processor time it has used, all threads: from the scheduler in nanoseconds, else in ticks of 10 ms.
        """
        tasks = Path(f"/proc/{self._popen.pid}/task")
        with contextlib.suppress(OSError):
            spent = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())
            if spent:
                return spent / 1e9
        fields = Path(f"/proc/{self._popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def _status(self, field: str) -> int:
        """
        :return: a figure of ``/proc/PID/status``, in bytes.
        """
        for line in Path(f"/proc/{self._popen.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise Unavailable(f"{self.name} has ended: {self.lastWords()}")

    def rss(self) -> int:
        """
        :return: its resident memory, in bytes.
        """
        return self._status("VmRSS")

    def peakRss(self) -> int:
        """
        :return: the most it has been since :meth:`forgetPeak`, in bytes.
        """
        return self._status("VmHWM")

    def forgetPeak(self) -> None:
        """Begin the peak anew (proc(5), clear_refs)."""
        Path(f"/proc/{self._popen.pid}/clear_refs").write_text("5")


class Reports:
    """
    The lines ``KIND ID NANOSECONDS`` that an upstream prints.

    :param descriptor: the reading end of its standard output.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""
        self.times: dict[tuple[str, int], int] = {}

    def read(self, within: float) -> None:
        """
        Take what there is, after at most so many seconds.
        """
        if not select.select([self._descriptor], [], [], max(0.0, within))[0]:
            return
        *lines, self._rest = (self._rest + os.read(self._descriptor, 65536)).split(b"\n")
        for line in lines:
            kind, _, rest = line.decode(errors="replace").partition(" ")
            ident, _, when = rest.partition(" ")
            self.times[kind, int(ident)] = int(when)

    def wait(self, kind: str, ident: int, within: float) -> int | None:
        """
        :param within: seconds.
        :return: when it happened, in nanoseconds of ``CLOCK_MONOTONIC``; None when it has not.
        """
        deadline = time.monotonic() + within
        while (kind, ident) not in self.times and time.monotonic() < deadline:
            self.read(deadline - time.monotonic())
        return self.times.get((kind, ident))
