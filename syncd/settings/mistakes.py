"""Mistakes in a configuration as lines: the place, the key, what is wrong, and an accepted value.

A line never repeats the value of a key that may have a secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import EnumType
from typing import Final, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from syncd.errors import printable
from syncd.settings.account import OctetsPerDay
from syncd.settings.delivery import JobDestination
from syncd.settings.mailboxes import Mailboxes
from syncd.settings.schema import Account, Archive, EMail, HostLimits, Job, Limits, Notify, Service, Settings, available

KeyPath = tuple[str | int, ...]

MAX_SHOWN = 60  # characters of a wrong value: enough to find it in the file
SECRET_KEYS: Final = frozenset({"password", "proxy", "database_url", "broker_url", "webhook", "ping_url"})
ENTRIES: Final[Mapping[str, type[BaseModel]]] = {"accounts": Account, "archives": Archive, "jobs": Job}
SECTIONS: Final[Mapping[str, type[BaseModel]]] = {"service": Service, "limits": Limits, "notify": Notify}

_REASONS: Final = {
    "missing": "is missing",
    "enum": "is not known",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "string_type": "is not text in quotes",
    "path_type": "is not text in quotes",
    "list_type": "is not a list",
    "dict_type": "is not a table",
    "model_type": "is not a table",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_too_long": "is too long",
}


class Mistake(NamedTuple):
    """A mistake at a key. `where`, if given, names the place better than the key can (a line of a file)."""

    path: KeyPath
    text: str
    where: str = ""


def key_text(path: Iterable[str | int]) -> str:
    """Returns a key as TOML writes it: accounts.road.host, jobs.j.destinations[0], accounts."odd name"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else f'"{printable(part, MAX_SHOWN)}"')
    return text


def describe(errors: Iterable[ErrorDetails]) -> Iterator[Mistake]:
    """Yields the library's errors in our words, except errors that only follow from another error."""
    for error in errors:
        if error["type"] != "default_factory_not_called":
            path = tuple(part for part in error["loc"] if part != "[key]")
            yield Mistake(path, _text(error, path))


def _text(error: ErrorDetails, path: KeyPath) -> str:
    if error["type"] == "extra_forbidden":
        return "is not a setting" + _meant(path)
    if error["loc"][-1] == "[key]" and error["type"] != "value_error":
        return 'is not a name (small letters, digits, and . _ - inside); for example "road"'
    if error["type"] == "value_error":
        reason = str(error["ctx"]["error"])
    else:
        reason = _REASONS.get(error["type"]) or error["msg"].lower()
    return _shown(error["input"], path, error["type"]) + reason + _accepted(path)


def _shown(value: object, path: KeyPath, kind: str) -> str:
    if kind == "missing" or path[-1] in SECRET_KEYS or not isinstance(value, str | int | float):
        return ""
    return printable(json.dumps(value, ensure_ascii=False), MAX_SHOWN) + " "


def model_at(path: KeyPath) -> type[BaseModel] | None:
    """Returns the model of the table at a key path."""
    match path:
        case ():
            return Settings
        case (str(entries), str()) if entries in ENTRIES:
            return ENTRIES[entries]
        case (str(section),) if section in SECTIONS:
            return SECTIONS[section]
        case ("accounts", str(), "octets_per_day"):
            return OctetsPerDay
        case ("limits", "hosts", str()):
            return HostLimits
        case ("notify", "email"):
            return EMail
        case ("jobs", str(), "destinations", int()):
            return JobDestination
        case ("jobs", str(), "mailboxes"):
            return Mailboxes
        case _:
            return None


def field_at(path: KeyPath) -> FieldInfo | None:
    """Returns the field of the setting at a key path; for an item of a list, that of the list."""
    path = path[:-1] if path and isinstance(path[-1], int) else path
    model = model_at(path[:-1])
    return model.model_fields.get(str(path[-1])) if model else None


def _accepted(path: KeyPath) -> str:
    field = field_at(path)
    if field is None:
        return ""
    if isinstance(field.annotation, EnumType):
        return "; accepted: " + ", ".join(f'"{choice}"' for choice in available(field.annotation))
    return "; for example " + " or ".join(json.dumps(example, ensure_ascii=False) for example in field.examples or [])


def _meant(path: KeyPath) -> str:
    """Returns advice for an unknown key: a similar key of the same table, or the table where the key belongs."""
    model, key = model_at(path[:-1]), str(path[-1])
    if close := difflib.get_close_matches(key, model.model_fields if model else (), 1):
        return f"; did you mean {close[0]}?"
    homes = [f"[{name}.NAME]" for name, entry in ENTRIES.items() if key in entry.model_fields]
    homes += [f"[{name}]" for name, section in SECTIONS.items() if key in section.model_fields]
    homes += ["the top level of the file"] if key in Settings.model_fields else []
    if homes:
        return f"; it belongs in {' or '.join(homes)}"
    return "; accepted: " + ", ".join(model.model_fields if model else ())
