"""Reads a `.env` file: assignments as a shell would write them, but $ expands nothing, because passwords contain it.

An unquoted value ends before " #" and loses blanks at its end; inside quotes some backslashes are escapes. That is
right for settings and silently spoils a password, so `Dotenv.changed` tells of each value that is not as written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from syncd.auth.private import Private, read_private, reason
from syncd.errors import SecretUnavailable
from syncd.settings.mistakes import Mistake

MAX_OCTETS: Final = 1 << 20  # a wrong file must end
_ASSIGNMENT: Final = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*")


@dataclass
class Dotenv:
    """The variables of a file. `changed`: by name, values that are not as they are written, and how to mend each."""

    variables: dict[str, str] = field(default_factory=dict)
    changed: dict[str, Mistake] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    warning: str = ""  # others can read the file

    def spoilt(self, name: str, environment: Mapping[str, str]) -> Mistake | None:
        """Returns the mistake in a variable that a secret comes from; None if `environment` overrides the variable."""
        return None if name in environment else self.changed.get(name)


def read_dotenv(file: Path) -> Dotenv:
    """Returns the variables of a file, none if there is no file. The file is judged as one with a secret is."""
    found = Dotenv()
    try:
        given = read_private(str(file), MAX_OCTETS, "the file")
        text = _text(given)
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError, SecretUnavailable) as error:
        found.mistakes.append(Mistake((), _unreadable(error), str(file)))
        return found
    found.warning = given.warning
    for binding in parse_stream(io.StringIO(text)):
        _take(found, binding, file)
    return found


def _text(given: Private) -> str:
    if len(given.octets) > MAX_OCTETS:
        raise SecretUnavailable(f"is over {MAX_OCTETS >> 20} MiB, which cannot be a list of variables")
    return given.octets.decode("utf-8-sig")


def _unreadable(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {reason(error)}"
    if isinstance(error, UnicodeDecodeError):
        return "cannot be read: is not UTF-8 text; save the file as UTF-8"
    return str(error)


def _take(found: Dotenv, binding: Binding, file: Path) -> None:
    """Add an assignment, or the mistake that it is none."""
    written = binding.original.string
    blank = written[: len(written) - len(written.lstrip())]
    where = f"{file}:{binding.original.line + blank.count(chr(10))}"
    if binding.error:
        found.mistakes.append(Mistake((), "is not an assignment; for example NAME=value", where))
    elif binding.key is not None and binding.value is not None:
        found.variables[binding.key] = binding.value
        found.changed.pop(binding.key, None)
        if text := _change(binding.key, binding.value, written):
            found.changed[binding.key] = Mistake((), text, where)


def _change(name: str, value: str, written: str) -> str:
    """Returns how a value differs from what is written; empty if it does not."""
    match = _ASSIGNMENT.match(written)
    rest = written[match.end() :].rstrip("\r\n") if match else value
    quote = rest[:1]
    if rest == value or (quote in {'"', "'"} and rest.startswith(quote + value + quote)):
        return ""
    if quote in {'"', "'"}:
        return (
            f"{name} has a backslash inside quotes, which begins an escape there; "
            "write the password without quotes, or into a file (file:/path)"
        )
    cut = 'is cut before " #"' if "#" in rest[len(value) :] else "loses the blanks at its end"
    return f"{name} {cut}; put the password in single quotes: {name}='…', or into a file (file:/path)"
