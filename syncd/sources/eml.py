"""A folder of eml files as a source (see formats/eml/view.py)."""

from __future__ import annotations

from pathlib import Path

from syncd.formats.eml.view import EmlView
from syncd.sources.archive import ArchiveSource


class EmlSource(ArchiveSource):
    """The folder at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, EmlView)
