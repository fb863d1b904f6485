"""``lmgateway models`` against a little gateway."""

from __future__ import annotations

import io
import json
from typing import Any

from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from lmgateway.cli import main
from lmgateway.commands.models import durationOf, gigabytesOf, notesOf, partsOf
from rich.console import Console
from rich.text import Text
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200
from tests.commands.test_talk import VALUES

LONG = "text-embedding-nomic-embed-text-v1.5-with-a-name-that-goes-on"
EVIL = "[red]\x1b[2J\x9b"

ANSWER: dict[str, Any] = {
    "loaded": [
        {
            "identifier": "qwen/qwen3-8b",
            "modelKey": "qwen/qwen3-8b",
            "type": "llm",
            "path": "q/q.gguf",
            "ttlSeconds": 3600,
            "loadConfig": {"contextLength": 8192},
        },
        {"identifier": EVIL, "modelKey": LONG, "type": "embedding", "ttlSeconds": None, "loadConfig": {}},
    ],
    "downloaded": [
        {
            "modelKey": "qwen/qwen3-8b",
            "type": "llm",
            "path": "q/q.gguf",
            "size": 4683074944,
            "paramsString": "8B",
            "quantization": {"name": "Q4_K_M", "bits": 4},
            "maxContextLength": 40960,
        },
        {"path": EVIL, "size": None, "type": "embedding"},
    ],
    "active": {"modelKey": "qwen/qwen3-8b", "instanceId": None, "defaultInference": {}, "resident": True},
    "management": "sdk",
    "stale": False,
}


def shown(answer: dict[str, Any], width: int) -> list[str]:
    """The lines that a terminal of so many columns shows."""
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    for part in partsOf(answer, isRoomy=width >= 80):
        console.print(part, soft_wrap=isinstance(part, Text))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


class ModelsTests(SynchronousTestCase):
    def models(self, said: Said, *options: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(self, {"/admin/models": [said]})
        return CliRunner(env=NO_SETTINGS).invoke(main, ["models", "--url", self.gateway.url, *options])

    def test_tables(self) -> None:
        """
        What is loaded is shown with its context and time to live, what is downloaded with its size, the active one is marked,
        and a model's name drives no terminal.
        """
        run = self.models(json200(ANSWER))
        self.assertEqual((run.exit_code, run.stderr), (0, ""))
        self.assertEqual(
            [" ".join(line.split()) for line in run.stdout.splitlines()],
            [
                "loaded",
                "model type context TTL",
                "* qwen/qwen3-8b llm 8192 1 h",
                rf"{LONG} as [red]\x1b[2J\x9b embedding - -",
                "",
                "downloaded",
                "model type GB params quantization context",
                "* qwen/qwen3-8b llm 4.68 8B Q4_K_M 40960",
                r"[red]\x1b[2J\x9b embedding - - - -",
                "",
                "* active: qwen/qwen3-8b",
            ],
        )

    def test_narrow(self) -> None:
        """A narrow terminal has whole figures, names broken over lines, and no line that is too long."""
        lines = shown(ANSWER, 40)
        self.assertLessEqual(max(map(len, lines)), 40)
        self.assertNotIn("type", " ".join(lines))
        for figure in ("8192  1 h", "4.68"):
            self.assertTrue(any(line.endswith(figure) for line in lines), lines)
        names = "".join("".join(line.split()[:1]) for line in lines)
        self.assertIn(LONG[-25:], names)

    def test_active(self) -> None:
        """An active instance is marked where it is loaded, and the model on the disk; one that is not loaded is told to be so."""
        active = {"modelKey": LONG, "instanceId": EVIL, "resident": False}
        lines = shown({**ANSWER, "active": active}, 200)
        self.assertEqual([line[0] for line in lines[2:4]], [" ", "*"])
        self.assertEqual(lines[-1], rf"* active: {LONG} as [red]\x1b[2J\x9b, which is not loaded now")
        self.assertFalse(any("*" in line for line in shown({**ANSWER, "active": None}, 200)))

    def test_nothing(self) -> None:
        """That nothing is loaded is told, not shown by an empty table."""
        self.assertEqual(shown({**ANSWER, "loaded": [], "downloaded": [], "active": None}, 80), ["nothing is loaded"])

    def test_notes(self) -> None:
        """Lists that are old, or that prove nothing, are told to be so, where no program takes it for a model."""
        run = self.models(json200({**ANSWER, "stale": True, "management": "gateway", "reason": "It\x1b is off."}))
        self.assertEqual(run.exit_code, 0)
        self.assertRegex(
            run.stderr,
            r"^LM Studio does not answer: .* It\\x1b is off\.\nThis LM Studio offers no model management: .*\n$",
        )
        self.assertEqual(list(notesOf(ANSWER)), [])

    def test_json(self) -> None:
        """As JSON it is what the gateway said."""
        run = self.models(json200(ANSWER), "--json")
        self.assertEqual((run.exit_code, json.loads(run.stdout)), (0, ANSWER))
        self.assertTrue(run.stdout.isascii())

    def test_refused(self) -> None:
        """Who may not ask is told in one line, with 1."""
        run = self.models(error(403, {"error": "This needs a key with the scope admin."}))
        self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "", 1))
        self.assertIn("scope admin", run.stderr)

    def test_units(self) -> None:
        """A time is told in the largest unit in which it is whole, a size in decimal GB."""
        times = {None: "-", True: "-", 5: "5 s", 90: "90 s", 120: "2 min", 5400: "90 min", 7200: "2 h", 0.5: "0.5 s"}
        self.assertEqual({seconds: durationOf(seconds) for seconds in times}, times)
        self.assertEqual([gigabytesOf(size) for size in (None, "x", 0, 84_106_624)], ["-", "-", "0.00", "0.08"])
        self.assertEqual([durationOf(3600 * 10**400), durationOf(10**400 + 1), gigabytesOf(10**400)], ["- h", "-", "-"])

    @given(
        st.dictionaries(st.sampled_from(sorted(ANSWER)), VALUES | st.sampled_from(list(ANSWER.values())))
        | st.fixed_dictionaries(
            {
                "loaded": st.lists(
                    st.dictionaries(
                        st.sampled_from(["identifier", "modelKey", "path", "type", "ttlSeconds", "loadConfig"]), VALUES
                    ),
                    max_size=3,
                ),
                "downloaded": st.lists(
                    st.dictionaries(st.sampled_from(["modelKey", "path", "type", "size", "quantization"]), VALUES),
                    max_size=3,
                ),
            }
        ),
        st.sampled_from([30, 80, 10_000]),
    )
    def test_total(self, answer: dict[str, Any], width: int) -> None:
        """Whatever a gateway says that there is, it is shown, by characters that a terminal shows."""
        for line in shown(answer, width):
            self.assertTrue(line.isprintable(), line)
