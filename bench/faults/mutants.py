"""
Take each defence out, and see that its tests notice: what ``docs/security.md`` says of them is tried, not believed.

``mutants.toml`` lists, for each threat, what to take out of which file, and the tests that must then fail. The tree is copied to a
temporary folder, where one text at a time is replaced and those tests are run. A mutant is killed when every one of them fails; it
survives when one passes. Before that all of them are run on the unchanged copy, where they must pass.

Run as ``python bench/faults/mutants.py``; needs what the tests need. It takes some ten minutes, stops by itself, and ends with 1 where
a mutant survives or the text to take out is no longer there. ``--only T5 T6`` tries these threats alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.toml")
COPIED = ("src", "tests", "docs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

SECONDS = 240
"""What one run of a mutant's tests may take: a defence against waiting, taken out, may wait. A test that is cut off has failed."""

TEST_SECONDS = 60
"""The same, of one test."""

_FAILED = re.compile(r"^FAILED (\S+?)(?: - .*)?$", re.MULTILINE)
_DIED = re.compile(r"^ERROR |^E {3}(?:SyntaxError|ImportError|ModuleNotFoundError|IndentationError)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """
    A defence that is taken out.

    :param threat: which threat it is against, as ``docs/security.md`` numbers them.
    :param what: what is different then.
    :param file: where it is, below ``src/lmgateway``.
    :param old: the text to replace, which is there once.
    :param new: what to put there.
    :param tests: those that must fail, each as a file and a name.
    :param asRoot: whether they can tell only where they run as root.
    """

    threat: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    asRoot: bool = False

    @property
    def path(self) -> Path:
        """The file, below the tree."""
        return Path("src", "lmgateway") / self.file


def readMutants() -> list[Mutant]:
    """Every row of the table."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))["mutant"]
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def mutated(mutant: Mutant, text: str) -> str | None:
    """Give a file without the defence; None where what is to be taken out is not there once."""
    return text.replace(mutant.old, mutant.new) if text.count(mutant.old) == 1 else None


class Copy:
    """
    A copy of the tree.

    :param folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "dropin.cache", "node_modules", ".cache")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=unwanted)
            else:
                shutil.copy(source, folder / name)
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(folder / "src"),
            # Of a file that changes twice a second Python would take the old bytecode.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str) -> str:
        """Run Python there, and give what it says; what takes too long is ended."""
        command = (sys.executable, *arguments)
        try:
            done = subprocess.run(  # noqa: S603 - our own commands
                command,
                cwd=self.folder,
                env=self._environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return "the run took too long"
        return done.stdout + done.stderr

    def requireItself(self) -> None:
        """
        See that it is the copy that is tested.

        :raise SystemExit: it is another tree.
        """
        where = self.run("-c", "import lmgateway; print(lmgateway.__file__)").strip()
        if not Path(where).is_relative_to(self.folder):
            sys.exit(f"The tests would run against {where}, and not against the copy.")

    def failing(self, tests: Iterable[str]) -> tuple[set[str], str]:
        """
        Run tests.

        :return: those that fail, and what was said; where nothing could be run, those are none.
        """
        wanted = set(tests)
        files = sorted({test.partition("::")[0] for test in wanted})
        names = " or ".join(sorted({test.partition("::")[2] for test in wanted}))
        said = self.run(
            *("-m", "pytest", *files, "-k", names, "-rf", "--tb=line", "--timeout", str(TEST_SECONDS)),
            *("-p", "no:cacheprovider", "-p", "no:xdist"),
        )
        if _DIED.search(said):
            return set(), said
        failed = {(each.split("::")[0], each.rpartition("::")[2]) for each in _FAILED.findall(said)}
        return {test for test in wanted if (test.partition("::")[0], test.partition("::")[2]) in failed}, said


def verdictOn(mutant: Mutant, copy: Copy) -> str | None:
    """Try one: None where it is killed, else why not."""
    path = copy.folder / mutant.path
    before = path.read_text("utf-8")
    after = mutated(mutant, before)
    if after is None:
        return "the text to take out is not there once: mend the table"
    path.write_text(after, "utf-8")
    try:
        failed, said = copy.failing(mutant.tests)
    finally:
        path.write_text(before, "utf-8")
    passed = [test for test in mutant.tests if test not in failed]
    if not passed:
        return None
    return (
        f"SURVIVED {', '.join(passed)}\n      {said.strip()[-300:]}" if not failed else f"SURVIVED {', '.join(passed)}"
    )


def tryAll(mutants: Sequence[Mutant], copy: Copy) -> int:
    """Try all, telling of each; give how many are left."""
    failed, _ = copy.failing([test for mutant in mutants for test in mutant.tests])
    if failed:
        sys.exit(f"These fail as it is: {', '.join(sorted(failed))}")
    left = 0
    for mutant in mutants:
        if mutant.asRoot and os.geteuid() != 0:
            print(f"{mutant.threat:4} {mutant.what:95} not tried: only root can tell")
            continue
        began = time.monotonic()
        verdict = verdictOn(mutant, copy)
        left += verdict is not None
        print(
            f"{mutant.threat:4} {mutant.what:95} {verdict or 'killed'} ({time.monotonic() - began:.0f} s)", flush=True
        )
    return left


def main() -> int:
    """Run, and give the exit status."""
    parser = argparse.ArgumentParser(description="Take each defence out, and see that its tests notice.")
    parser.add_argument("--only", nargs="+", metavar="THREAT", help="such as T5")
    only = parser.parse_args().only
    mutants = [mutant for mutant in readMutants() if only is None or mutant.threat in only]
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder).resolve())
        copy.requireItself()
        left = tryAll(mutants, copy)
    print(f"{len(mutants)} mutants of {len({mutant.threat for mutant in mutants})} threats: {left} left")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
