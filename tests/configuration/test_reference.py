"""The table of settings in the documentation."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from lmgateway.configuration.layers import fileLayer
from lmgateway.configuration.reference import referenceTable
from lmgateway.configuration.table import SPECS
from twisted.trial.unittest import SynchronousTestCase

from tests.folders import temporaryFolder

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")


class DocumentationTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The documentation holds the table of all settings as it is; if not, paste what referenceTable() returns."""
        self.assertIn(referenceTable(), DOCUMENTATION)

    def test_rows(self) -> None:
        """The table has a row for each setting with its key, variable and option."""
        for spec, row in zip(SPECS, referenceTable().splitlines()[2:], strict=True):
            for name in (spec.key, spec.variable, spec.option and f"--{spec.option}"):
                self.assertIn(f"`{name}`" if name else "", row)
            self.assertEqual(row.count("|"), 7)

    def test_examples(self) -> None:
        """Every TOML example in the documentation is accepted as it stands."""
        folder = temporaryFolder(self)
        examples = re.findall(r"```toml\n(.*?)```", DOCUMENTATION, re.DOTALL)
        self.assertTrue(examples)
        for example in examples:
            (folder / "lmgateway.toml").write_text(example, "utf-8")
            (folder / "key").write_text("documented-key\n", "utf-8")
            layer = fileLayer("lmgateway.toml", os.fspath(folder))
            keys = {
                name if name in {"aliases", "models"} else f"{name}.{key.removesuffix('File')}"
                for name, table in tomllib.loads(example).items()
                for key in table
            }
            self.assertEqual(set(layer), keys)
