"""The places settings come from: environment, `.env`, the TOML file. One layer each, as nested tables.

A layer knows what it says and how to name the spot where it says it.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from syncd.settings.mistakes import ENTRIES, KeyPath, Mistake
from syncd.settings.schema import ENV_DELIMITER, ENV_PREFIX, Settings

HOME_VARIABLE = ENV_PREFIX + "HOME"  # the state directory's usual name, as other programs have theirs
SQLITE = "sqlite:///"  # what follows is a path
OTHER_VARIABLES = frozenset({HOME_VARIABLE, ENV_PREFIX + "CONFIG", ENV_PREFIX + "CORPUS"})  # not settings


@dataclass
class Layer:
    """What one place says. `variables` is None for a file of settings."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    variables: Mapping[str, str] | None = None

    def depth(self, path: KeyPath) -> int:
        """How many keys of `path`, from the left, are here."""
        table: Any = self.data
        for depth, key in enumerate(path):
            table = dict(enumerate(table)) if isinstance(table, list) else table
            if not isinstance(table, dict) or key not in table:
                return depth
            table = table[key]
        return len(path)

    def spot(self, path: KeyPath) -> str:
        """Where this layer sets `path`, or would: the file's name, or the variable's."""
        if self.variables is None:
            return self.name
        known = {variable.upper(): variable for variable in self.variables}
        names = [variable_name(path[:depth]) for depth in range(len(path), 0, -1)]
        names += [HOME_VARIABLE] if path == ("state_directory",) else []
        variable = next((known[name] for name in names if name in known), names[0])
        return variable if self.name == "environment" else f"{self.name}: {variable}"


def variable_name(path: KeyPath) -> str:
    """The variable that sets a key; - and . in names become _, because shells have no such variables."""
    words = (re.sub(r"[-.]", "_", str(part)) for part in path)
    return (ENV_PREFIX + ENV_DELIMITER.join(words)).upper()


def read_file(file: Path) -> Layer:
    """Read a TOML file. One that is no TOML has no data and one mistake."""
    layer = Layer(str(file))
    text = ""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        layer.data = tomllib.loads(text)
    except OSError as error:
        layer.mistakes.append(Mistake((), f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        layer.mistakes.append(Mistake((), "is not UTF-8 text; save the file as UTF-8", f"{file}:{line}"))
    except RecursionError:
        layer.mistakes.append(Mistake((), "is not a configuration: brackets are nested too deeply"))
    except ValueError as error:
        reason, at = _syntax_error(str(error), text)
        layer.mistakes.append(Mistake((), reason, f"{file}{at}"))
    return layer


def _syntax_error(message: str, text: str) -> tuple[str, str]:
    """The parser's message, and the line in it as ":12", apart."""
    match = re.search(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", message, re.DOTALL)
    if match is None:  # not the syntax but a value, such as a number of a thousand digits
        return f"is not valid TOML: {message.partition(';')[0].lower()}", ""
    column, line = (f"column {match[3]}", match[2]) if match[2] else ("its end", len(text.splitlines()))
    return f'is not valid TOML at {column}: {match[1].lower()}; a setting is written key = "text"', f":{line}"


def read_dotenv(file: Path) -> tuple[dict[str, str], list[Mistake]]:
    """The variables of a `.env` file, as written ($ expands nothing: passwords contain it), and its bad lines."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as error:
        return {}, [
            Mistake((), f"cannot be read: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}", str(file))
        ]
    variables: dict[str, str] = {}
    mistakes = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            mistakes.append(
                Mistake((), "is not an assignment; for example NAME=value", f"{file}:{binding.original.line}")
            )
        elif binding.key is not None and binding.value is not None:
            variables[binding.key] = binding.value
    return variables, mistakes


class _Variables(EnvSettingsSource):
    """Reads settings from variables that are handed in; what is no JSON stays text, for validation to reject."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._given = variables
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._given.items() if value}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def from_variables(name: str, variables: Mapping[str, str], file: Mapping[str, Any]) -> Layer:
    """The settings among `variables`; `file` is what the TOML file says, for the spelling of its names."""
    ours = {key: value for key, value in variables.items() if key.upper().startswith(ENV_PREFIX)}
    layer = Layer(name, _respelt(_Variables(ours)(), file), list(_unknown(name, ours)), ours)
    if HOME_VARIABLE in ours:
        layer.data.setdefault("state_directory", ours[HOME_VARIABLE])
    return layer


def _respelt(data: dict[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """SYNCD_JOBS__ROAD_BACKUP__… means the job road-backup, if the file has one."""
    for entries in ENTRIES:
        names = file.get(entries)
        if isinstance(data.get(entries), dict) and isinstance(names, dict):
            spelling = {re.sub(r"[-.]", "_", name).lower(): name for name in names}
            data[entries] = {spelling.get(name, name): entry for name, entry in data[entries].items()}
    return data


def _unknown(layer: str, variables: Mapping[str, str]) -> Iterator[Mistake]:
    """Variables that are near a setting's, or inside a table that does not exist; others may be somebody else's."""
    fields = [name.upper() for name in Settings.model_fields]
    for variable in sorted(set(variables) - OTHER_VARIABLES):
        root, nested, _ = variable.upper().removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)
        close = difflib.get_close_matches(root, fields, 1)
        if root not in fields and (close or nested):
            text = "is not a setting" + (f"; did you mean {ENV_PREFIX}{close[0]}?" if close else "")
            yield Mistake((), text, variable if layer == "environment" else f"{layer}: {variable}")


_PATHS = (("archives", "path"), *(("accounts", key) for key in ("ca_file", "certificate", "key", "password")))


def anchored(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The same tables with every path absolute: `~` expanded, relative ones below `base`."""
    result = dict(data)
    if "state_directory" in result:
        result["state_directory"] = _absolute(result["state_directory"], base)
    if str(result.get("database_url")).startswith(SQLITE):
        result["database_url"] = SQLITE + _absolute(result["database_url"].removeprefix(SQLITE), base)
    for entries, key in _PATHS:
        if isinstance(result.get(entries), dict):
            result[entries] = {name: _with_path(entry, key, base) for name, entry in result[entries].items()}
    return result


def _with_path(entry: Any, key: str, base: Path) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        return entry
    scheme, value = ("file:", entry[key][5:].strip()) if key == "password" else ("", entry[key])
    if not entry[key].startswith(scheme):
        return entry
    return {**entry, key: scheme + _absolute(value, base)}


def _absolute(path: Any, base: Path) -> Any:
    if not isinstance(path, str) or not path:
        return path
    expanded = os.path.expanduser(path)  # noqa: PTH111 (Path.expanduser raises for unknown users)
    return expanded if expanded.startswith("~") else os.path.normpath(base / expanded)
