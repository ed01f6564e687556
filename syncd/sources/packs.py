"""An archive of packs as a source: each place of each message is a message (see formats/packs/listing.py)."""

from __future__ import annotations

from pathlib import Path

from syncd.formats.packs.view import PacksView
from syncd.sources.archive import ArchiveSource


class PacksSource(ArchiveSource):
    """The archive at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, PacksView)
