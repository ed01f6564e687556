"""Reads settings from the environment, `.env`, the TOML file and defaults; the first that has a setting wins.

`load` reports every mistake at once. The result knows the source of each value.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from syncd.auth.credentials import SecretKind
from syncd.errors import ConfigError
from syncd.settings.account import Account
from syncd.settings.checks import Names, contradictions
from syncd.settings.dotenv import Dotenv, read_dotenv
from syncd.settings.layers import (
    Layer,
    anchored,
    from_variables,
    read_file,
    read_service_part,
    variable_name,
    without_entries,
)
from syncd.settings.loaded import Loaded, LoadedService, Row, line_of, place_of
from syncd.settings.mistakes import KeyPath, Mistake, describe, field_at
from syncd.settings.scheduled import broker_without_database
from syncd.settings.schema import ServiceSettings, Settings

__all__ = (
    "FILE_NAME",
    "Loaded",
    "LoadedService",
    "Row",
    "annotated_example",
    "find_file",
    "json_schema",
    "load",
    "load_service",
)

FILE_NAME = "syncd.toml"
URLS: Final = (("database_url",), ("broker_url",), ("notify", "webhook"), ("notify", "ping_url"))  # may have a secret

_log = logging.getLogger(__name__)


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
    found = _found(file, directory, required=required)
    layers, hidden, early = _sources(found, directory, environment, read_file)
    settings, late = _validated(_merged(layers))
    lines = [line_of(mistake, layer.name) for mistake, layer in early]
    lines += [line_of(mistake, str(_dotenv(found, directory))) for mistake in hidden.mistakes]
    if not layers[-1].mistakes:  # settings that a broken file lacks are not mistakes
        lines += [line_of(mistake, place_of(mistake.path, layers)) for mistake in late]
    variables = os.environ if environment is None else environment
    if settings is not None:
        lines += _spoilt(settings.accounts.values(), hidden, variables)
    if lines or settings is None:
        raise ConfigError(*dict.fromkeys(lines))
    return Loaded(settings, found, {**hidden.variables, **variables}, layers)


def load_service(
    file: Path | None = None, *, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> LoadedService:
    """Read only the settings of the service: database, broker, limits and so on, as `load` reads them.

    Accounts, archives and jobs are neither parsed nor checked, so a worker starts although they are wrong or many.
    Without a file, everything may come from the environment. Raises ConfigError with one line for each mistake.
    """
    found = _found(file, directory, required=False)
    layers, hidden, early = _sources(found, directory, environment, read_service_part)
    variables = os.environ if environment is None else environment
    lines = [line_of(mistake, layer.name) for mistake, layer in early]
    lines += [line_of(mistake, str(_dotenv(found, directory))) for mistake in hidden.mistakes]
    lines += _spoilt((), hidden, variables)
    settings = None
    try:
        settings = ServiceSettings(**without_entries(_merged(layers)))
    except ValidationError as error:
        if not layers[-1].mistakes:
            mistakes = describe(error.errors(include_url=False))
            lines += [line_of(mistake, place_of(mistake.path, layers)) for mistake in mistakes]
    else:
        if (mistake := broker_without_database(settings)) is not None:
            lines.append(line_of(mistake, place_of(mistake.path, layers)))
    if lines or settings is None:
        raise ConfigError(*dict.fromkeys(lines))
    return LoadedService(settings, found, {**hidden.variables, **variables}, layers)


def _found(file: Path | None, directory: Path | None, *, required: bool) -> Path | None:
    found = file or find_file(directory or Path())
    if found is None and required:
        places = " nor ".join(map(str, _places(directory or Path())))
        neither = "neither " if " nor " in places else "no "
        raise ConfigError(f"no configuration: {neither}{places} exists; run: syncd init")
    return found


def _dotenv(found: Path | None, directory: Path | None) -> Path:
    return (found.parent if found else directory or Path()) / ".env"


def _sources(
    found: Path | None,
    directory: Path | None,
    environment: Mapping[str, str] | None,
    read: Callable[[Path], Layer],
) -> tuple[tuple[Layer, ...], Dotenv, list[tuple[Mistake, Layer]]]:
    """Returns the layers with absolute paths, the strongest first; `.env`; and the mistakes of each layer."""
    dotenv = _dotenv(found, directory)
    toml = read(found) if found else Layer("default")
    hidden = read_dotenv(dotenv)
    layers = (
        from_variables("environment", os.environ if environment is None else environment, toml.data),
        from_variables(str(dotenv), hidden.variables, toml.data),
        toml,
    )
    base = _absolute_folder(dotenv.parent)
    for layer in layers:
        layer.data = anchored(layer.data, base)
    return layers, hidden, [(mistake, layer) for layer in layers for mistake in layer.mistakes]


def _absolute_folder(folder: Path) -> Path:
    try:
        return folder.absolute()
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be found ({error.strerror}): change to another one, or name the"
            " configuration by its whole path"
        ) from error


def _spoilt(accounts: Iterable[Account], hidden: Dotenv, environment: Mapping[str, str]) -> list[str]:
    """Returns a line for each secret in `.env` that is not as it is written. Warns if others can read the file."""
    references = {account.password for account in accounts if account.password is not None}
    names = sorted(reference.target for reference in references if reference.kind is SecretKind.ENV)
    found = [hidden.spoilt(name, environment) for name in names]
    if hidden.warning and any(name in hidden.variables for name in (*names, *map(variable_name, URLS))):
        _log.warning("%s", hidden.warning)
    return [line_of(mistake, "") for mistake in found if mistake is not None]


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
    cut = {_mend(data, mistake.path) for mistake in mistakes}
    try:
        mended = Settings(**anchored(data, Path("/")))  # an example may be a relative path
    except ValidationError:  # without a home directory an example may be wrong as well
        return None, mistakes
    further = contradictions(mended, names)
    return None, mistakes + [m for m in further if not any(m.path[:n] in cut for n in range(len(m.path) + 1))]


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


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema of a configuration file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def annotated_example() -> str:
    """Returns the commented configuration that `syncd init` writes: every setting with its default."""
    installed = Path(__file__).with_name(FILE_NAME)
    checkout = Path(__file__).parents[2] / "config" / FILE_NAME
    return (installed if installed.exists() else checkout).read_text(encoding="utf-8")
