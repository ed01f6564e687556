"""The file that says that a folder is a Maildir archive of ours, and how it was made: ROOT/.syncd-archive.json.

Besides the UUID, "separator" is what stands before the flags of a name, and "line_ends" is "lf" or "verbatim".
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from syncd.errors import FormatDamaged, printable
from syncd.formats.identity import Identity, read_identity
from syncd.formats.maildir import names as maildir

FORMAT: Final = "maildir"
VERSION: Final = 1
IDENTITY_FILE: Final = ".syncd-archive.json"
DEFAULTS: Final = {"line_ends": "lf", "separator": maildir.DEFAULT_SEPARATOR}
_SOUND: Final = {"line_ends": re.compile("lf|verbatim"), "separator": re.compile(r"[!-,:-@\[-^`{-~]")}  # no "-./_"


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


def options(identity: Identity) -> tuple[bool, str]:
    """Returns whether messages are kept with LF, and what stands before the flags of a name."""
    return identity.options["line_ends"] == "lf", identity.options["separator"]
