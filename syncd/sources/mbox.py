"""Mbox files as a source: an archive of syncd, another program's folder, or one file (see formats/mbox/view.py)."""

from __future__ import annotations

from pathlib import Path

from syncd.formats.mbox.view import MboxView
from syncd.sources.archive import ArchiveSource


class MboxSource(ArchiveSource):
    """The mbox files at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, MboxView)
