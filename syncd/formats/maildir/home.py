"""What says that a folder is a Maildir archive of ours, and how it was made: ROOT/.syncd-archive.json.

Besides the UUID, "separator" is what stands before the flags of a name, and "line_ends" is "lf" or "verbatim".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from syncd.formats.identity import Identity, read_identity
from syncd.formats.maildir import names as maildir

FORMAT: Final = "maildir"
VERSION: Final = 1
IDENTITY_FILE: Final = ".syncd-archive.json"
DEFAULTS: Final = {"line_ends": "lf", "separator": maildir.DEFAULT_SEPARATOR}


def read_home(path: Path) -> Identity:
    """The archive at `path`, all of DEFAULTS among its options. Raises ArchiveMissing, FormatDamaged, StorageError."""
    identity = read_identity(path / IDENTITY_FILE, format_name=FORMAT, version=VERSION)
    return replace(identity, options={**DEFAULTS, **identity.options})


def options(identity: Identity) -> tuple[bool, str]:
    """Whether messages are kept with LF, and what stands before the flags of a name."""
    return identity.options["line_ends"] == "lf", identity.options["separator"]
