"""Parts of an archive that cannot be read: each holds up only itself, and nothing in it counts as gone."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.errors import storage_error
from syncd.mail.mailbox import Unread


def unread(root: Path, name: str, error: OSError) -> list[Unread]:
    """Returns what cannot be read; nothing where it went away meanwhile."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return []
    return [Unread(os.fsencode(name), str(storage_error(error, f"cannot read {root / name}")))]
