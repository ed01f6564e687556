"""Looking into archives: list, show, check, count, export. By name or by path; a path needs no configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.errors import ConfigError, storage_error
from syncd.formats.maildir.home import IDENTITY_FILE
from syncd.services.export import Exported, ExportFormat, export
from syncd.services.shelf import Entry, Finding, Held, Lost, Progress, Shelf
from syncd.services.wiring import existing_ledger, listed

if TYPE_CHECKING:
    from syncd.settings.load import Loaded

PACKS_IDENTITY_FILE = "archive.json"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages of an archive: of an account (name or UUID), from a date on, with a text in the subject."""

    account: str | None = None
    since: datetime | None = None
    subject: str | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether a message is one of them; its account was judged where it was read."""
        if self.since is not None and (entry.at is None or entry.at < self.since):
            return False
        return self.subject is None or self.subject.casefold() in entry.subject.casefold()


def open_shelf(loaded: Loaded | None, name_or_path: str) -> Shelf:
    """An archive of the configuration by its name, or any by its path. Raises ConfigError, StorageError."""
    archives = loaded.settings.archives if loaded is not None else {}
    known = archives.get(name_or_path)
    path = known.path if known is not None else Path(name_or_path).expanduser().absolute()
    found = _identity_file(path)
    if known is None and found is None and not path.is_dir():
        names = f"; archives of the configuration: {listed(archives)}" if loaded is not None else ""
        raise ConfigError(f"{name_or_path!r} is neither a folder nor the name of an archive{names}")
    if found == IDENTITY_FILE:
        from syncd.services.shelf_maildir import MaildirShelf

        return MaildirShelf(path)
    if known is None and found is None:
        raise ConfigError(
            f"{path} is no archive of syncd: neither {PACKS_IDENTITY_FILE} nor {IDENTITY_FILE} is in it;"
            " name the folder that holds one of them"
        )
    from syncd.services.shelf_packs import PacksShelf

    return PacksShelf(path)


def _identity_file(path: Path) -> str | None:
    """Which of the files that say what an archive is lies there. Raises StorageError where we may not look."""
    for name in (IDENTITY_FILE, PACKS_IDENTITY_FILE):
        try:
            (path / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise storage_error(error, f"cannot look into {path}") from error
        return name
    return None


def entries(shelf: Shelf, which: Filter) -> Iterator[Entry]:
    """The messages of an archive that a filter takes; streamed."""
    return filter(which.takes, shelf.entries(which.account))


def check(loaded: Loaded | None, shelf: Shelf, progress: Progress) -> Iterator[Finding]:
    """Every octet is read again; then what the ledger counts as delivered here is looked for."""
    yield from shelf.check(progress)
    if loaded is not None:
        yield from shelf.missing(_held(loaded, shelf))


def write_out(
    shelf: Shelf,
    path: Path,
    form: ExportFormat,
    account: str | None,
    progress: Callable[[Exported], None],
    *,
    lost: Lost,
) -> Exported:
    """Write an archive's messages for other programs; `lost` is told of each that cannot be read.

    Raises UsageError, StorageError.
    """
    return export(shelf.stored(path, lost, account), path, form, progress)


def _held(loaded: Loaded, shelf: Shelf) -> Iterator[Held]:
    with existing_ledger(loaded) as database:
        if database is not None:
            from syncd.db.held import held

            yield from (Held(*row) for row in held(database, shelf.uuid()))
