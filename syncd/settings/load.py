"""From files and environment to settings: environment over `.env` over the TOML file over defaults.

`load` finds every mistake in one go. What it returns remembers where each value came from.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from syncd.errors import ConfigError, printable
from syncd.settings.checks import Names, contradictions
from syncd.settings.layers import Layer, anchored, from_variables, read_dotenv, read_file
from syncd.settings.mistakes import KeyPath, Mistake, describe, field_at, key_text
from syncd.settings.schema import Settings

FILE_NAME = "syncd.toml"
MAX_LINE = 1000  # characters; a line that lists every accepted key has about 250


class Row(NamedTuple):
    """One setting in force, for people: `value` is what JSON can hold, without any secret."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Loaded:
    """Settings in force, and where they come from. `environment` is what secret references may name."""

    settings: Settings
    file: Path | None
    environment: Mapping[str, str] = field(repr=False)
    layers: Sequence[Layer] = field(repr=False)  # the strongest first

    def origin(self, path: KeyPath) -> str:
        """Where the value of a setting comes from: a variable, a file, or "default"."""
        for layer in self.layers:
            if layer.depth(path) == len(path):
                return layer.spot(path)
        return "default"

    def rows(self) -> Iterator[Row]:
        """Every setting in force, in the order of the schema."""
        yield from self._rows((), self.settings.model_dump(mode="json"))

    def _rows(self, path: KeyPath, table: Mapping[str, Any]) -> Iterator[Row]:
        for key, value in table.items():
            here = (*path, key)
            if isinstance(value, dict):
                yield from self._rows(here, value)
            else:
                shown = without_password(value) if here == ("database_url",) else value
                yield Row(key_text(here), shown, self.origin(here))


def without_password(url: str) -> str:
    """The address of a database with its password blanked, wherever an address may have one."""
    return re.sub(r"([?&]password=)[^&]*", r"\1…", re.sub(r"(://[^:/@]*:).*@", r"\1…@", url))


def find_file(directory: Path) -> Path | None:
    """The configuration used when none is named: ./syncd.toml, then the one in the XDG configuration directory."""
    return next((file for file in _places(directory) if os.path.exists(file)), None)  # noqa: PTH110 (never raises)


def _places(directory: Path) -> Iterator[Path]:
    yield directory / FILE_NAME
    from platformdirs import user_config_path

    yield user_config_path("syncd", appauthor=False) / FILE_NAME


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    required: bool = True,
) -> Loaded:
    """Read and check the configuration.

    `file` None looks for the default one from `directory` (the current one) on; `required` False takes
    defaults when there is none. Raises ConfigError with one line for each mistake.
    """
    variables = os.environ if environment is None else environment
    here = directory or Path()
    found = file or find_file(here)
    if found is None and required:
        raise ConfigError(f"no configuration: neither {' nor '.join(map(str, _places(here)))} exists; run: syncd init")
    dotenv = (found.parent if found else here) / ".env"
    toml = read_file(found) if found else Layer("default")
    from_dotenv, bad_lines = read_dotenv(dotenv)
    layers = (
        from_variables("environment", variables, toml.data),
        from_variables(str(dotenv), from_dotenv, toml.data),
        toml,
    )
    for layer in layers:
        layer.data = anchored(layer.data, dotenv.absolute().parent)
    early = [(mistake, layer) for layer in layers for mistake in layer.mistakes]
    settings, late = _validated(_merged(layers))
    lines = [_line(mistake, layer.name) for mistake, layer in early] + [_line(m, str(dotenv)) for m in bad_lines]
    if not toml.mistakes:  # nothing of an unreadable file is known: what it lacks is not a mistake
        lines += [_line(mistake, _place(mistake.path, layers)) for mistake in late]
    if lines or settings is None:
        raise ConfigError(*dict.fromkeys(lines))
    return Loaded(settings, found, {**from_dotenv, **variables}, layers)


def _merged(layers: Iterable[Layer]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in layers:
        _fill(result, layer.data)
    return result


def _fill(table: dict[str, Any], weaker: Mapping[str, Any]) -> None:
    for key, value in weaker.items():
        if key not in table:
            table[key] = copy.deepcopy(value)
        elif isinstance(table[key], dict) and isinstance(value, dict):
            _fill(table[key], value)


def _validated(data: dict[str, Any]) -> tuple[Settings | None, list[Mistake]]:
    """The settings, or every mistake: those of single values, and those between the values that are right."""
    names = Names(_names(data, "accounts"), _names(data, "archives"))
    try:
        settings = Settings(**data)
    except ValidationError as error:
        mistakes = list(describe(error.errors(include_url=False)))
    else:
        mistakes = list(contradictions(settings, names))
        return (None if mistakes else settings), mistakes
    cut = [_mend(data, mistake.path) for mistake in mistakes]
    further = contradictions(Settings(**anchored(data, Path("/"))), names)  # examples may be relative paths
    return None, mistakes + [m for m in further if not any(m.path[: len(path)] == path for path in cut)]


def _names(data: Mapping[str, Any], entries: str) -> frozenset[str]:
    table = data.get(entries)
    return frozenset(table) if isinstance(table, dict) else frozenset()


def _mend(data: dict[str, Any], path: KeyPath) -> KeyPath:
    """Take a wrong value out, so that the others can be checked; a required one becomes an example.

    Gives the key that was changed. An entry without its kind says too little: it goes as a whole.
    """
    path = path[:2] if path[-1] in {"protocol", "format"} else path
    table: Any = data
    for depth, key in enumerate(path, 1):
        inner = table[int(key)] if isinstance(table, list) else table.get(key)
        if depth < len(path) and isinstance(inner, dict | list):
            table = inner
            continue
        spec = field_at(path[:depth])
        if isinstance(table, list):
            table[int(key)] = "home"  # lists hold destinations
        elif spec is not None and spec.is_required():
            table[key] = copy.deepcopy((spec.examples or [None])[0])
        else:
            table.pop(key, None)
        return path[:depth]
    raise AssertionError(path)


def _place(path: KeyPath, layers: Sequence[Layer]) -> str:
    """Where a mistake stands: where the value is set, else where the table that lacks it is."""
    deepest = max(reversed(layers), key=lambda layer: layer.depth(path))
    return next((layer for layer in layers if layer.depth(path) == len(path)), deepest).spot(path)


def _line(mistake: Mistake, place: str) -> str:
    key = f"{key_text(mistake.path)}: " if mistake.path else ""
    return printable(f"{mistake.where or place}: {key}{mistake.text}", MAX_LINE)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def annotated_example() -> str:
    """The commented configuration that `syncd init` writes: every setting with its default."""
    installed = Path(__file__).with_name(FILE_NAME)
    checkout = Path(__file__).parents[2] / "config" / FILE_NAME
    return (installed if installed.exists() else checkout).read_text(encoding="utf-8")
