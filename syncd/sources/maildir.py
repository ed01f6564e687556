"""A Maildir archive as a source: each message file of each folder is a message (see formats/maildir/view.py)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from syncd.formats.maildir.layout import Layout
from syncd.formats.maildir.view import MaildirView
from syncd.sources.archive import ArchiveSource


class MaildirSource(ArchiveSource):
    """The archive at `path`, or another program's Maildir, which is in this layout."""

    def __init__(self, path: Path, spool: Path, layout: Layout = Layout.PLUS_PLUS) -> None:
        super().__init__(path, spool, partial(MaildirView, layout=layout))
