"""A Maildir archive as a source: each message file of each folder is a message (see formats/maildir/view.py)."""

from __future__ import annotations

from pathlib import Path

from syncd.formats.maildir.view import MaildirView
from syncd.sources.archive import ArchiveSource


class MaildirSource(ArchiveSource):
    """The archive at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, MaildirView)
