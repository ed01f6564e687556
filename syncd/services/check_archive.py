"""Look at one archive: whether the ledger knows it, its contents, and whether a job can write to it.

For an archive that a job fills, a file that is there for a moment shows what the file system can do, before there is
mail to store.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from syncd.engine.exit_codes import exit_code
from syncd.errors import SyncdError, Unusable, storage_error
from syncd.formats.maildir.folder import is_directory
from syncd.formats.maildir.home import IDENTITY_FILE
from syncd.formats.probe import probe
from syncd.services.archive import open_view
from syncd.services.registry import Registry
from syncd.services.wiring import copied_ledger
from syncd.settings.schema import ArchiveFormat

if TYPE_CHECKING:
    from syncd.formats.view import Figures
    from syncd.settings.load import Loaded
    from syncd.settings.schema import Archive

NAME_END: Final = ":2,"  # of a Maildir's file names: FAT has no such names


@dataclass(frozen=True, slots=True)
class ArchiveCheck:
    """The result. Without `uuid` and `error` the archive is not there yet: the first run makes it."""

    archive: str
    path: Path
    uuid: UUID | None = None
    figures: Figures | None = None
    writable: bool = False
    error: SyncdError | None = None
    notes: tuple[str, ...] = ()  # what its file system cannot do

    def as_json(self) -> dict[str, object]:
        """Returns the result as plain values."""
        return {
            "archive": self.archive,
            "path": str(self.path),
            "uuid": str(self.uuid) if self.uuid else None,
            "figures": asdict(self.figures) if self.figures else None,
            "writable": self.writable,
            "notes": list(self.notes),
            "error": str(self.error) if self.error else None,
            "exit_code": int(exit_code(self.error)) if self.error else 0,
        }


def look(loaded: Loaded, name: str) -> ArchiveCheck:
    """Look at the archive `name`. Locks nothing, reads no message, and leaves everything as it was."""
    archive = loaded.settings.archives[name]
    is_filled = _is_filled(loaded, name)
    try:
        if is_filled or not _is_of_others(archive):
            with copied_ledger(loaded, ()) as database:
                if not Registry(loaded, database).archive(name).made:
                    return ArchiveCheck(name, archive.path, notes=_notes(archive) if is_filled else ())
        with closing(open_view(loaded, name)) as view:
            uuid, figures = view.uuid, view.figures()
    except SyncdError as error:
        return ArchiveCheck(name, archive.path, error=error)
    looked = ArchiveCheck(name, archive.path, uuid, figures)
    try:
        closed = [str(folder) for folder in _folders(archive.path) if not os.access(folder, os.W_OK | os.X_OK)]
        looked = replace(looked, writable=not closed)
        if closed and is_filled:
            raise Unusable(f"a job delivers to it, and {', '.join(closed)} cannot be written to: see its permissions")
        return replace(looked, notes=_notes(archive)) if is_filled else looked
    except SyncdError as error:
        return replace(looked, error=error)


def _notes(archive: Archive) -> tuple[str, ...]:
    """Returns what the file system of an archive cannot do. Raises Unusable where that is needed, StorageError.

    Where the archive is not there yet, the folder is tried in which it is going to be.
    """
    there = next(path for path in (archive.path, *archive.path.parents) if os.path.lexists(path))
    if not os.path.isdir(there):  # noqa: PTH112  Path.is_dir raises where we may not look
        raise Unusable(f"{there} is not a folder: choose another path for the archive, or move it away")
    return probe(there, NAME_END if archive.format is ArchiveFormat.MAILDIR else "").notes()


def _folders(path: Path) -> list[Path]:
    """Returns the folders in which a writer makes files. Raises StorageError."""
    try:
        return (
            [path] if path.is_file() else [path, *sorted(inside for inside in path.iterdir() if is_directory(inside))]
        )
    except OSError as error:
        raise storage_error(error, f"cannot look into {path}") from error


def _is_of_others(archive: Archive) -> bool:
    """Returns whether there is something at the path that another program has made, which is only read."""
    if archive.format is ArchiveFormat.EML:
        return True
    is_ours = archive.format is ArchiveFormat.PACKS or os.path.lexists(archive.path / IDENTITY_FILE)
    return not is_ours and os.path.lexists(archive.path)


def _is_filled(loaded: Loaded, name: str) -> bool:
    return any(to.to == name for job in loaded.settings.jobs.values() if job.enabled for to in job.destinations)
