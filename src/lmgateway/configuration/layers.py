# -*- test-case-name: tests.configuration.test_layers -*-
"""
The layers that settings come from: the TOML file, the environment (with an ``.env`` file below it), the options.

Each layer is read whole and strictly, even where a later one overrides it: what is wrong is told at once, not on the day
that a variable is removed. An empty string counts as not given, everywhere.
"""

from __future__ import annotations

import io
import pathlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from dotenv.parser import Binding, parse_stream
from msgspec import Struct

from lmgateway.configuration.spec import Spec
from lmgateway.configuration.table import SPECS
from lmgateway.configuration.units import SettingsError

_BY_KEY = {spec.key: spec for spec in SPECS}
_LONGEST_SECRET_FILE = 65536
_LONGEST_SUGGESTION = 64


class Given(Struct, frozen=True):
    """
    A setting that somebody gave.

    :param value: already read, and found allowed.
    :param origin: where it came from: ``file lmgateway.toml``, ``variable LOG_LEVEL``, ``option --listen``.
    """

    value: Any
    origin: str


Layer = dict[str, Given]
"""What a layer gives, by key."""


def fileLayer(name: str, directory: str) -> Layer:
    """
    Read a TOML file. Relative paths in it start from its own folder.

    :param directory: the folder that ``name`` starts from.
    :raise SettingsError: it cannot be read, is no TOML, or holds an unknown key or a value that is not allowed.
    """
    path = pathlib.Path(directory) / name
    place = f"file {name}"
    try:
        tables = tomllib.loads(_readText(path, place))
    except RecursionError:
        raise SettingsError(f"{place}: is nested too deeply") from None
    except ValueError as error:
        raise SettingsError(f"{place}: is not TOML: {error}") from None
    layer: Layer = {}
    for key, raw in _leaves(tables, "", place):
        spec = _BY_KEY[key.removesuffix("File") if key not in _BY_KEY else key]
        if spec.key in layer:
            raise SettingsError(f"{place}: {spec.key} and {spec.key}File are both given: leave one of them away")
        base = str(path.parent)
        read = spec.kind.fromFile if key == spec.key else _secretReader(spec, base)
        layer[spec.key] = _give(key, spec, place, raw, read, base)
    return layer


def environmentLayer(environ: Mapping[str, str], directory: str, source: str = "") -> Layer:
    """
    Read the variables that settings have.

    :param environ: all variables; those that are no setting's are somebody else's business.
    :param directory: the folder that relative paths start from.
    :param source: what to add to the place named in messages, where the variables are not the process's own.
    :raise SettingsError: a value is not allowed.
    """
    layer: Layer = {}
    for spec in SPECS:
        text = environ.get(spec.variable, "") if spec.variable else ""
        text = text if spec.kind.secret else text.strip()
        if text:
            place = f"variable {spec.variable}{source}"
            layer[spec.key] = _give(spec.key, spec, place, text, spec.kind.fromVariable, directory)
    return layer


def environmentFileLayer(name: str, directory: str) -> Layer:
    """
    Read an ``.env`` file. Nothing in it is expanded, so that a key may hold a ``$``.

    :param directory: the folder that ``name``, and relative paths in it, start from.
    :raise SettingsError: it cannot be read, a line of it is no assignment, or a value is not allowed.
    """
    text = _readText(pathlib.Path(directory) / name, f"file {name}")
    bindings = list(parse_stream(io.StringIO(text)))
    for binding in bindings:
        if binding.error:
            raise SettingsError(f"file {name}: line {_lineOf(binding)} is not of the form NAME=value")
    environ = {binding.key: binding.value or "" for binding in bindings if binding.key}
    return environmentLayer(environ, directory, f" in {name}")


def optionLayer(options: Mapping[str, str | Sequence[str] | None], directory: str) -> Layer:
    """
    Read the options that settings have. A secret's option names the file that holds it.

    :param options: by the long names, without dashes; several values for one that was given several times.
    :param directory: the folder that relative paths start from.
    :raise SettingsError: a value is not allowed.
    """
    layer: Layer = {}
    for spec in SPECS:
        given = options.get(spec.option) if spec.option else None
        texts = [text for text in ([given] if isinstance(given, str) else given or ()) if text]
        if texts:
            raw = texts if spec.kind.repeatable else texts[-1]
            read = _secretReader(spec, directory) if spec.kind.secret else spec.kind.fromOption
            layer[spec.key] = _give(spec.key, spec, f"option --{spec.option}", raw, read, directory)
    return layer


def _give(key: str, spec: Spec, place: str, raw: Any, read: Callable[[Any], Any], base: str) -> Given:
    """Read one value, or say where the one stands that cannot be read, and under which key."""
    try:
        return Given(spec.kind.resolve(read(raw), base), place)
    except SettingsError as error:
        raise SettingsError(f"{place}: {key} = {spec.kind.show(raw)}: {error}") from None


def _secretReader(spec: Spec, base: str) -> Callable[[Any], str]:
    """What reads the secret out of a file, given the file's name. The name is not shown either: it may be the secret."""

    def read(name: object) -> str:
        if not isinstance(name, str):
            raise SettingsError("must be the name of the file that holds it")
        try:
            with (pathlib.Path(base) / pathlib.Path(name).expanduser()).open("rb") as file:
                content = file.read(_LONGEST_SECRET_FILE)
            text = content.decode()
        except OSError as error:
            raise SettingsError(f"the file that it names cannot be read ({error.strerror})") from None
        except (ValueError, RuntimeError):
            raise SettingsError("the file that it names holds no text, or has no possible name") from None
        secret: str = spec.kind.fromText(text.removesuffix("\n").removesuffix("\r"))
        return secret

    return read


def _readText(path: pathlib.Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{place}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{place}: is not text in UTF-8") from None
    except ValueError:
        raise SettingsError(f"{place}: has no possible name") from None


def _lineOf(binding: Binding) -> int:
    """Where the line itself stands: the parser counts the blank lines before it to it."""
    original = binding.original
    blank = original.string[: len(original.string) - len(original.string.lstrip())]
    return original.line + len(blank.splitlines())


def _leaves(table: Mapping[str, Any], section: str, place: str) -> Iterator[tuple[str, Any]]:
    """Each key of a table that names a setting, with its value, unless that is empty; every other key is refused."""
    known = _namesIn(section)
    for name, value in table.items():
        key = f"{section}{name}"
        if name not in known:
            raise SettingsError(f"{place}: {key} is unknown; {_suggestion(name, known)}")
        if _isSection(key):
            if not isinstance(value, dict):
                raise SettingsError(f"{place}: {key} must be a table, such as [{key}]")
            yield from _leaves(value, f"{key}.", place)
        elif value != "":
            yield key, value


def _isSection(key: str) -> bool:
    return any(known.startswith(f"{key}.") for known in _BY_KEY)


def _namesIn(section: str) -> list[str]:
    """What may stand in a section: its keys, and for each secret the name of its file."""
    keys = [*_BY_KEY, *(f"{spec.key}File" for spec in SPECS if spec.kind.secret)]
    names = [key.removeprefix(section).partition(".")[0] for key in keys if key.startswith(section)]
    return list(dict.fromkeys(names))


def _suggestion(name: str, known: list[str]) -> str:
    """What somebody who wrote ``name`` may have meant."""
    spelled = {candidate.lower(): candidate for candidate in known}
    lower = name[:_LONGEST_SUGGESTION].replace("_", "").replace("-", "").lower()
    for near in get_close_matches(lower, spelled, n=1):
        return f"did you mean {spelled[near]}?"
    for key in _BY_KEY:
        if key.rpartition(".")[2] == name:
            return f"did you mean {key}?"
    return f"known here: {', '.join(known)}"
