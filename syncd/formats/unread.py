"""Parts of an archive that cannot be read: each holds up only itself, and nothing in it counts as gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from syncd.errors import storage_error
from syncd.mail.mailbox import Path as MailboxPath


class Unread(NamedTuple):
    """A folder or file that cannot be read: its name below the archive's root, and why.

    Views add the `path` that a mailbox of this name has. With `anywhere=True` it is a part of a file, and messages of
    every mailbox may be in it.
    """

    name: bytes
    why: str
    path: MailboxPath = ()
    anywhere: bool = False

    def may_hold(self, mailbox: bytes) -> bool:
        """Tells whether a mailbox with this name, or messages of it, may be there."""
        return self.anywhere or mailbox == self.name or mailbox.startswith(self.name + b"/")


def unread(root: Path, name: str, error: OSError) -> list[Unread]:
    """Returns what cannot be read; nothing where it went away meanwhile."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return []
    return [Unread(os.fsencode(name), str(storage_error(error, f"cannot read {root / name}")))]
