# -*- test-case-name: tests.commands.test_doctor -*-
"""``lmgateway doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from msgspec.structs import asdict
from rich.text import Text

from lmgateway.commands.examining import examine
from lmgateway.commands.talk import findPlace, jsonText, openConsole
from lmgateway.policy.diagnosis import Finding
from lmgateway.settings import SettingsError, loadSettings
from lmgateway.telemetry.accesslog import printable
from lmgateway.tls.addresses import machineSubjects

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
_LONGEST = 1000


@click.command()
@click.option("--config", "configFile", metavar="FILE", help="The gateway's TOML file.")
@click.option("--env-file", "envFile", metavar="FILE", help="The gateway's .env file.")
@click.option("--json", "asJson", is_flag=True, help="Print JSON.")
def doctor(configFile: str | None, envFile: str | None, *, asJson: bool) -> None:
    """
    Look for what is wrong with LM Studio, the gateway's settings, files, certificates and ports, and say what to do.

    Run it on the machine and as the user of the gateway. Exits with 1 where anything is an error.
    """
    try:
        settings = loadSettings(configFile=configFile or None, envFile=envFile or None, environ=os.environ)
    except SettingsError as error:
        findings = [Finding("error", "settings", str(error), "Change that; then ask again.")]
    else:
        try:
            place = findPlace(None, None, None, (configFile, envFile), os.environ)
        except SettingsError:
            place = None
        files = [each for each in (configFile, envFile) if each]
        subjects = machineSubjects(settings.tls.names)
        findings = list(examine(settings, files, place, subjects, datetime.now(UTC)))
    if asJson:
        click.echo(jsonText({"findings": [asdict(each) for each in findings]}, 2))
    else:
        tell(findings)
    if any(each.level == "error" for each in findings):
        sys.exit(1)


def tell(findings: Sequence[Finding]) -> None:
    """Print what was found, the worst last, where it is seen."""
    console = openConsole()
    for level in _COLOURS:
        for each in findings:
            if each.level == level:
                console.print(lineOf(each), soft_wrap=True)
    counts = {level: sum(each.level == level for each in findings) for level in ("error", "warning")}
    console.print(Text(", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())))


def lineOf(finding: Finding) -> Text:
    """Say what was found about one thing; what to do is on a line of its own."""
    line = Text.assemble(
        (f"{finding.level:8}", _COLOURS[finding.level]), printable(f"{finding.subject}: {finding.message}", _LONGEST)
    )
    if finding.remedy is not None:
        line.append(f"\n        {printable(finding.remedy, _LONGEST)}", style="dim")
    return line
