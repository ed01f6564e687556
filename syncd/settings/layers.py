"""The sources of settings: environment, `.env` (`dotenv`), the TOML file. Each is a layer of nested tables.

A layer has its settings and can name the place of each.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from syncd.auth.private import read_bounded, reason
from syncd.errors import SecretUnavailable
from syncd.settings.mistakes import ENTRIES, SECTIONS, KeyPath, Mistake
from syncd.settings.paths import is_expandable
from syncd.settings.schema import ENV_DELIMITER, ENV_PREFIX, Settings

HOME_VARIABLE = ENV_PREFIX + "HOME"  # sets the state directory, as other programs have such a variable
SQLITE = "sqlite:///"  # what follows is a path
MAX_FILE_OCTETS: Final = 64 << 20  # a wrong file must end; 100,000 jobs with accounts and archives need about 40 MiB
_HEADER: Final = re.compile(
    r"^[ \t]*\[{1,2}[ \t]*([A-Za-z0-9_-]+)[ \t]*(?:\.[^\[\]\n]*)?\]{1,2}[ \t\r]*(?:#.*)?$", re.MULTILINE
)
BACKSLASH: Final = r"a backslash in double quotes begins an escape, single quotes keep it: username = 'DOMAIN\user'"
OTHER_VARIABLES = frozenset({HOME_VARIABLE, ENV_PREFIX + "CONFIG", ENV_PREFIX + "CORPUS"})  # not settings


@dataclass
class Layer:
    """The settings of one source. `variables` is None for a TOML file."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    variables: Mapping[str, str] | None = None

    def depth(self, path: KeyPath) -> int:
        """Returns how many keys of `path`, from the left, this layer has."""
        table: Any = self.data
        for depth, key in enumerate(path):
            table = dict(enumerate(table)) if isinstance(table, list) else table
            if not isinstance(table, dict) or key not in table:
                return depth
            table = table[key]
        return len(path)

    def spot(self, path: KeyPath) -> str:
        """Returns the name of the file or variable in which this layer sets `path`, or would set it."""
        if self.variables is None:
            return self.name
        known = {variable.upper(): variable for variable in self.variables}
        names = [variable_name(path[:depth]) for depth in range(len(path), 0, -1)]
        names += [HOME_VARIABLE] if path == ("state_directory",) else []
        variable = next((known[name] for name in names if name in known), names[0])
        return variable if self.name == "environment" else f"{self.name}: {variable}"


def variable_name(path: KeyPath) -> str:
    """Returns the variable that sets a key; - and . in names become _, because shells have no such variables."""
    words = (re.sub(r"[-.]", "_", str(part)) for part in path)
    return (ENV_PREFIX + ENV_DELIMITER.join(words)).upper()


def read_file(file: Path) -> Layer:
    """Read a TOML file. If it cannot be parsed, the layer has no data and one mistake."""
    return _read(file, tomllib.loads)


def read_service_part(file: Path) -> Layer:
    """Read a TOML file without its accounts, archives and jobs, which may be wrong, or too many to be parsed."""
    return _read(file, _parse_service_part)


def _read(file: Path, parse: Callable[[str], dict[str, Any]]) -> Layer:
    layer = Layer(str(file))
    text = ""
    try:
        octets = read_bounded(str(file), MAX_FILE_OCTETS)
        text = octets.decode("utf-8-sig")
        layer.data = _tables(text, len(octets), parse)
    except OSError as error:
        layer.mistakes.append(Mistake((), f"cannot be read: {reason(error)}"))
    except SecretUnavailable as error:
        layer.mistakes.append(Mistake((), str(error)))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        layer.mistakes.append(Mistake((), "is not UTF-8 text; save the file as UTF-8", f"{file}:{line}"))
    except RecursionError:
        layer.mistakes.append(Mistake((), "is not a configuration: brackets are nested too deeply"))
    except ValueError as error:
        what, at = _syntax_error(str(error), text)
        layer.mistakes.append(Mistake((), what, f"{file}{at}"))
    return layer


def _tables(text: str, octets: int, parse: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    if octets > MAX_FILE_OCTETS:
        raise ValueError(f"more than {MAX_FILE_OCTETS >> 20} MiB")
    return parse(text)


def _parse_service_part(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(service_part(text))
    except ValueError:  # once more, for the right number of the line
        return tomllib.loads(service_part(text, blank=True))


def service_part(text: str, *, blank: bool = False) -> str:
    """Returns the text without the tables of accounts, archives and jobs; with `blank`, empty lines stand for them.

    Only the beginnings of tables that the schema has count, with a bare key: in an array, `["home"]` may have a line.
    """
    parts, kept, start = [], True, 0
    for match in _HEADER.finditer(text):
        keep = match[1] in SECTIONS or (kept and match[1] not in ENTRIES)
        if keep is not kept:
            parts.append(_kept(text[start : match.start()], kept, blank))
            kept, start = keep, match.start()
    return "".join([*parts, _kept(text[start:], kept, blank)])


def _kept(text: str, kept: bool, blank: bool) -> str:  # noqa: FBT001 (private)
    return text if kept else "\n" * text.count("\n") if blank else ""


def without_entries(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tables without those of accounts, archives and jobs."""
    return {key: value for key, value in data.items() if key not in ENTRIES}


def _syntax_error(message: str, text: str) -> tuple[str, str]:
    """Returns the parser's message, and apart from it the line as ":12"."""
    match = re.search(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)\Z", message, re.DOTALL)
    if match is None:  # not the syntax but a value, such as a number of a thousand digits
        return f"is not valid TOML: {message.partition(';')[0].lower()}", ""
    column, line = (f"column {match[3]}", match[2]) if match[2] else ("its end", len(text.splitlines()))
    escape = "\\" in match[1] or "hex value" in match[1] or "unicode scalar" in match[1].lower()
    advice = BACKSLASH if escape else 'a setting is written key = "text"'
    return f"is not valid TOML at {column}: {match[1].lower()}; {advice}", f":{line}"


class _Variables(EnvSettingsSource):
    """Reads settings from the given variables. A value that is not JSON stays text, so that validation rejects it."""

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
    """Returns the settings among `variables`; `file` has the tables of the TOML file, for the spelling of names."""
    ours = {key: value for key, value in variables.items() if key.upper().startswith(ENV_PREFIX)}
    layer = Layer(name, _respelt(_Variables(ours)(), file), list(_unknown(name, ours)), ours)
    if HOME_VARIABLE in ours:
        layer.data.setdefault("state_directory", ours[HOME_VARIABLE])
    return layer


def _respelt(data: dict[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Spell names as the file does: SYNCD_JOBS__ROAD_BACKUP__… means the job road-backup, if the file has it."""
    for entries in ENTRIES:
        names = file.get(entries)
        if isinstance(data.get(entries), dict) and isinstance(names, dict):
            spelling = {re.sub(r"[-.]", "_", name).lower(): name for name in names}
            data[entries] = {spelling.get(name, name): entry for name, entry in data[entries].items()}
    return data


def _unknown(layer: str, variables: Mapping[str, str]) -> Iterator[Mistake]:
    """Yields a mistake for each variable with a misspelt name. Others may belong to another program."""
    fields = [name.upper() for name in Settings.model_fields]
    for variable in sorted(set(variables) - OTHER_VARIABLES):
        root, nested, _ = variable.upper().removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)
        close = difflib.get_close_matches(root, fields, 1)
        if root not in fields and (close or nested):
            text = "is not a setting" + (f"; did you mean {ENV_PREFIX}{close[0]}?" if close else "")
            yield Mistake((), text, variable if layer == "environment" else f"{layer}: {variable}")


_PATHS = (("archives", "path"), *(("accounts", key) for key in ("ca_file", "certificate", "key", "password")))


def anchored(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Returns the tables with every path absolute: `~` is expanded, a relative path starts at `base`."""
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
    if not isinstance(path, str) or not path or not is_expandable(path):
        return path  # the field says what is wrong
    expanded = os.path.expanduser(path)  # noqa: PTH111 (Path.expanduser raises for unknown users)
    return expanded if expanded.startswith("~") else os.path.normpath(base / expanded)
