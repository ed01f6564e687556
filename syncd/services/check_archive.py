"""Look at one archive: whether it is the one that the ledger knows, what it holds, whether it can be written to."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from syncd.engine.exit_codes import exit_code
from syncd.errors import StorageError, SyncdError
from syncd.services.archive import open_shelf
from syncd.services.destinations import Destinations
from syncd.services.wiring import copied_ledger

if TYPE_CHECKING:
    from syncd.services.shelf import Figures
    from syncd.settings.load import Loaded


@dataclass(frozen=True, slots=True)
class ArchiveCheck:
    """What came of it. Without `uuid` and `error` the archive is not there yet: the first run makes it."""

    archive: str
    path: Path
    uuid: UUID | None = None
    figures: Figures | None = None
    writable: bool = False
    error: SyncdError | None = None

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "archive": self.archive,
            "path": str(self.path),
            "uuid": str(self.uuid) if self.uuid else None,
            "figures": asdict(self.figures) if self.figures else None,
            "writable": self.writable,
            "error": str(self.error) if self.error else None,
            "exit_code": int(exit_code(self.error)) if self.error else 0,
        }


def look(loaded: Loaded, name: str) -> ArchiveCheck:
    """Look at the archive `name`. Nothing is made, locked or changed; no message is read."""
    path = loaded.settings.archives[name].path
    try:
        with copied_ledger(loaded, ()) as database, Destinations(loaded, dry_run=True) as destinations:
            destinations.identified(database, name)
            if name in destinations.to_make:
                return ArchiveCheck(name, path)
        with closing(open_shelf(loaded, name)) as shelf:
            uuid, figures = shelf.uuid(), shelf.figures()
    except SyncdError as error:
        return ArchiveCheck(name, path, error=error)
    closed = [str(folder) for folder in _folders(path) if not os.access(folder, os.W_OK | os.X_OK)]
    refusal = None
    if closed and _is_filled(loaded, name):
        refusal = StorageError(
            f"a job delivers to it, and {', '.join(closed)} cannot be written to: see its permissions"
        )
    return ArchiveCheck(name, path, uuid, figures, not closed, refusal)


def _folders(path: Path) -> list[Path]:
    """Where a writer makes files."""
    return [path, *sorted(inside for inside in path.iterdir() if inside.is_dir())]


def _is_filled(loaded: Loaded, name: str) -> bool:
    return any(to.to == name for job in loaded.settings.jobs.values() if job.enabled for to in job.destinations)
