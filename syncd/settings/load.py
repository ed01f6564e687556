"""Reads settings from the environment, `.env`, the TOML file and defaults; the first that has a setting wins.

`load` reports every mistake at once. The result knows the source of each value.
"""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from syncd.auth.credentials import SecretKind, Secrets
from syncd.errors import ConfigError, printable
from syncd.settings.checks import Names, contradictions
from syncd.settings.dotenv import Dotenv, read_dotenv
from syncd.settings.layers import Layer, anchored, from_variables, read_file
from syncd.settings.mistakes import KeyPath, Mistake, describe, field_at, key_text
from syncd.settings.schema import Settings

FILE_NAME = "syncd.toml"
MAX_LINE = 1000  # characters; a line that lists every accepted key has about 250

_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A setting in force, to be shown. `value` can be written as JSON and has no secret."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Loaded:
    """The settings in force, with their sources. `environment` has the variables that secret references may name.

    `secrets` reads what the references name, a command once. So it belongs to one run, or to one process.
    """

    settings: Settings
    file: Path | None
    environment: Mapping[str, str] = field(repr=False)
    layers: Sequence[Layer] = field(repr=False)  # the strongest first
    secrets: Secrets = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", Secrets(self.environment))  # the class is frozen

    @property
    def name(self) -> str:
        """Returns the name of the configuration in the ledger: as it says, else the path of its file; "" without."""
        return self.settings.name or ("" if self.file is None else str(self.file.resolve()))

    def line(self, mistake: Mistake) -> str:
        """Returns a mistake as one line, with the file or variable that it is in."""
        return _line(mistake, _place(mistake.path, self.layers))

    def origin(self, path: KeyPath) -> str:
        """Returns the source of a setting: a variable, a file, or "default"."""
        for layer in self.layers:
            if layer.depth(path) == len(path):
                return layer.spot(path)
        return "default"

    def rows(self) -> Iterator[Row]:
        """Yields every setting in force, in the order of the schema."""
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
    """Returns the address of a database with its password blanked, in each place that a password may have."""
    return re.sub(r"([?&]password=)[^&]*", r"\1…", re.sub(r"(://[^:/@]*:).*@", r"\1…@", url))


def find_file(directory: Path) -> Path | None:
    """Returns the default file: ./syncd.toml, else syncd.toml in the XDG configuration directory, else None."""
    return next((file for file in _places(directory) if os.path.exists(file)), None)  # noqa: PTH110 (never raises)


def _places(directory: Path) -> Iterator[Path]:
    yield directory / FILE_NAME
    from platformdirs import user_config_path

    with suppress(RuntimeError):  # there is no home directory
        yield user_config_path("syncd", appauthor=False) / FILE_NAME


def load(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    required: bool = True,
) -> Loaded:
    """Read and check the configuration.

    With `file=None` the default file is used; `directory` replaces the current directory. With `required=False` a
    missing file means defaults. Raises ConfigError with one line for each mistake.
    """
    variables = os.environ if environment is None else environment
    here = directory or Path()
    found = file or find_file(here)
    if found is None and required:
        places = " nor ".join(map(str, _places(here)))
        neither = "neither " if " nor " in places else "no "
        raise ConfigError(f"no configuration: {neither}{places} exists; run: syncd init")
    dotenv = (found.parent if found else here) / ".env"
    toml = read_file(found) if found else Layer("default")
    hidden = read_dotenv(dotenv)
    layers = (
        from_variables("environment", variables, toml.data),
        from_variables(str(dotenv), hidden.variables, toml.data),
        toml,
    )
    base = _absolute_folder(dotenv.parent)
    for layer in layers:
        layer.data = anchored(layer.data, base)
    early = [(mistake, layer) for layer in layers for mistake in layer.mistakes]
    settings, late = _validated(_merged(layers))
    lines = [_line(mistake, layer.name) for mistake, layer in early]
    lines += [_line(mistake, str(dotenv)) for mistake in hidden.mistakes]
    if not toml.mistakes:  # settings that a broken file lacks are not mistakes
        lines += [_line(mistake, _place(mistake.path, layers)) for mistake in late]
    if settings is not None:
        lines += _spoilt(settings, hidden, variables)
    if lines or settings is None:
        raise ConfigError(*dict.fromkeys(lines))
    return Loaded(settings, found, {**hidden.variables, **variables}, layers)


def _absolute_folder(folder: Path) -> Path:
    try:
        return folder.absolute()
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be found ({error.strerror}): change to another one, or name the"
            " configuration by its whole path"
        ) from error


def _spoilt(settings: Settings, hidden: Dotenv, environment: Mapping[str, str]) -> list[str]:
    """Returns a line for each password in `.env` that is not as it is written. Warns if others can read the file."""
    references = {account.password for account in settings.accounts.values() if account.password is not None}
    names = sorted(reference.target for reference in references if reference.kind is SecretKind.ENV)
    found = [hidden.spoilt(name, environment) for name in names]
    if hidden.warning and any(name in hidden.variables for name in names):
        _log.warning("%s", hidden.warning)
    return [_line(mistake, "") for mistake in found if mistake is not None]


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
    """Returns the settings, or None with every mistake: in single values, and between the values that are right."""
    names = Names(_names(data, "accounts"), _names(data, "archives"))
    try:
        settings = Settings(**data)
    except ValidationError as error:
        mistakes = list(describe(error.errors(include_url=False)))
    else:
        mistakes = list(contradictions(settings, names))
        return (None if mistakes else settings), mistakes
    cut = [_mend(data, mistake.path) for mistake in mistakes]
    try:
        mended = Settings(**anchored(data, Path("/")))  # an example may be a relative path
    except ValidationError:  # without a home directory an example may be wrong as well
        return None, mistakes
    further = contradictions(mended, names)
    return None, mistakes + [m for m in further if not any(m.path[: len(path)] == path for path in cut)]


def _names(data: Mapping[str, Any], entries: str) -> frozenset[str]:
    table = data.get(entries)
    return frozenset(table) if isinstance(table, dict) else frozenset()


def _mend(data: dict[str, Any], path: KeyPath) -> KeyPath:
    """Remove a wrong value, so that the others can be checked; a required value is replaced by an example.

    Returns the key that was changed. An entry without protocol or format is removed as a whole.
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
    """Returns the place of a mistake: of the value, else of the table that lacks it."""
    deepest = max(reversed(layers), key=lambda layer: layer.depth(path))
    return next((layer for layer in layers if layer.depth(path) == len(path)), deepest).spot(path)


def _line(mistake: Mistake, place: str) -> str:
    key = f"{key_text(mistake.path)}: " if mistake.path else ""
    return printable(f"{mistake.where or place}: {key}{mistake.text}", MAX_LINE)


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema of a configuration file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def annotated_example() -> str:
    """Returns the commented configuration that `syncd init` writes: every setting with its default."""
    installed = Path(__file__).with_name(FILE_NAME)
    checkout = Path(__file__).parents[2] / "config" / FILE_NAME
    return (installed if installed.exists() else checkout).read_text(encoding="utf-8")
