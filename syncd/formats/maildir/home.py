"""The file that says that a folder is a Maildir archive of ours, and how it was made: ROOT/.syncd-archive.json.

Maildirs of other programs do not have it; they can be read.

Besides the UUID, "separator" is what stands before the flags of a name, "line_ends" is "lf" or "verbatim", and "layout"
is "maildir++" (also where it is missing) or "nested".
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from syncd.errors import ArchiveMissing, FormatDamaged, printable, storage_error
from syncd.formats.foreign import uuid_of
from syncd.formats.identity import Identity, read_identity
from syncd.formats.maildir import names as maildir
from syncd.formats.maildir.folder import READ_FROM, is_directory
from syncd.formats.maildir.layout import Layout

FORMAT: Final = "maildir"
VERSION: Final = 1
IDENTITY_FILE: Final = ".syncd-archive.json"
DEFAULTS: Final = {"line_ends": "lf", "separator": maildir.DEFAULT_SEPARATOR, "layout": Layout.PLUS_PLUS.value}
MOST_NAMED: Final = 3  # Maildirs in one line
_SOUND: Final = {
    "line_ends": re.compile("lf|verbatim"),
    "separator": re.compile(r"[!-,:-@\[-^`{-~]"),  # no "-./_"
    "layout": re.compile("|".join(map(re.escape, Layout))),
}


class Options(NamedTuple):
    """The properties with which an archive was made."""

    lf: bool  # messages are kept with LF
    separator: str  # what stands before the flags of a name
    layout: Layout


def read_home(path: Path) -> Identity:
    """Returns the archive at `path`, with DEFAULTS filled in. Raises ArchiveMissing, FormatDamaged, StorageError."""
    identity = read_identity(path / IDENTITY_FILE, format_name=FORMAT, version=VERSION)
    found = {**DEFAULTS, **identity.options}
    for key, sound in _SOUND.items():
        if not sound.fullmatch(found[key]):
            raise FormatDamaged(
                f'{path / IDENTITY_FILE} says {key} = "{printable(found[key])}": restore it from a backup'
            )
    return replace(identity, options=found)


def find_home(path: Path, layout: Layout = Layout.PLUS_PLUS) -> Identity:
    """Returns what is at `path`: an archive of syncd, or another program's Maildir, which is in this layout.

    Raises ArchiveMissing, FormatDamaged, StorageError.
    """
    if not os.path.lexists(path / IDENTITY_FILE):
        if _is_maildir(path):
            return Identity(uuid_of(path, FORMAT), FORMAT, VERSION, {**DEFAULTS, "layout": layout.value})
        if other := other_folder(path):
            raise ArchiveMissing(other)
    return read_home(path)


def other_folder(path: Path) -> str:
    """Returns a line about a folder that is no Maildir, with Maildirs one level below; "" where nothing is in it.

    A folder without anything may be where a disk is going to be mounted. Raises StorageError.
    """
    try:
        inside = sorted(path.iterdir()) if is_directory(path) else []
        maildirs = [str(folder) for folder in inside if _is_maildir(folder)]
    except OSError as error:
        raise storage_error(error, f"cannot look into {path}") from error
    if not inside:
        return ""
    more = f" or {len(maildirs) - MOST_NAMED:,} more" if len(maildirs) > MOST_NAMED else ""
    advice = f"did you mean {' or '.join(maildirs[:MOST_NAMED])}{more}?" if maildirs else "correct the path"
    return f"{path} is there and is no Maildir (it lacks {' and '.join(READ_FROM)}): {advice}"


def _is_maildir(path: Path) -> bool:
    return all(is_directory(path / part) for part in READ_FROM)


def options(identity: Identity) -> Options:
    """Returns how an archive was made."""
    found = identity.options
    return Options(found["line_ends"] == "lf", found["separator"], Layout(found["layout"]))
