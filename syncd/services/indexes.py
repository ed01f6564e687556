"""Finds the search indexes of archives: in files beside them, or in the database of a cluster.

A ledger on PostgreSQL has the indexes of all archives of its configurations, so that a process that does not have an
archive's disk can search it too. Every other archive has its index in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from syncd.services.wiring import is_local, open_ledger, owner

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.db.database import Database
    from syncd.formats.search.contract import Index
    from syncd.formats.view import ArchiveView
    from syncd.settings.loaded import Loaded


class Indexes(Protocol):
    """Opens the index of an archive. Raises DiskFull, Locked, StorageError, LedgerError."""

    def open(self, view: ArchiveView) -> Index | None:
        """Open the index of an archive; None where there is none, or none that is of use."""
        ...

    def make(self, view: ArchiveView) -> Index:
        """Open the index of an archive; where there is none of use, begin a new one."""
        ...

    def remove(self, view: ArchiveView) -> None:
        """Delete the index of an archive."""
        ...

    def where(self, view: ArchiveView) -> str:
        """Returns where the index of an archive is, for people."""
        ...


class Files:
    """Indexes in files beside the archives."""

    def open(self, view: ArchiveView) -> Index | None:
        """Open the index of an archive; None where there is none, or none that is of use."""
        from syncd.formats.search.index import SearchIndex

        return SearchIndex.open(view.search_index, view.uuid)

    def make(self, view: ArchiveView) -> Index:
        """Open the index of an archive; where there is none of use, begin a new one."""
        from syncd.formats.search.index import SearchIndex

        return SearchIndex.make(view.search_index, view.uuid)

    def remove(self, view: ArchiveView) -> None:
        """Delete the index of an archive."""
        from syncd.formats.search.files import remove

        remove(view.search_index)

    def where(self, view: ArchiveView) -> str:
        """Returns the path of the file."""
        return str(view.search_index)


FILES: Final = Files()


class Tables:
    """Indexes in a PostgreSQL database, of the archives of one configuration; those of others are in files."""

    def __init__(self, database: Database, configuration: str, archives: Mapping[Path, str]) -> None:
        """`archives` are the names of archives by their paths."""
        self._database = database
        self._configuration = configuration
        self._archives = archives

    def open(self, view: ArchiveView) -> Index | None:
        """Open the index of an archive; None where there is none, or none that is of use."""
        from syncd.db.search.index import TableIndex

        name = self._archives.get(view.path)
        if name is None:
            return FILES.open(view)
        return TableIndex.open(self._database, self._configuration, name, view.uuid)

    def make(self, view: ArchiveView) -> Index:
        """Open the index of an archive; where there is none of use, begin a new one."""
        from syncd.db.search.index import TableIndex

        name = self._archives.get(view.path)
        if name is None:
            return FILES.make(view)
        return TableIndex.make(self._database, self._configuration, name, view.uuid)

    def remove(self, view: ArchiveView) -> None:
        """Delete the index of an archive."""
        from syncd.db.search import leftovers

        name = self._archives.get(view.path)
        if name is None:
            FILES.remove(view)
        else:
            leftovers.remove(self._database, self._configuration, name)

    def where(self, view: ArchiveView) -> str:
        """Returns the database, without credentials, or the path of the file."""
        return self._database.place if view.path in self._archives else FILES.where(view)

    def elsewhere(self, name: str) -> Index | None:
        """Open the index of an archive whose folder is not on this machine; None where there is none."""
        from syncd.db.search.index import TableIndex

        return TableIndex.open(self._database, self._configuration, name, None)


def indexes_in(loaded: Loaded | None, database: Database | None) -> Files | Tables:
    """Returns where the indexes of a configuration's archives are."""
    if loaded is None or database is None or database.is_sqlite:
        return FILES
    names = {archive.path: name for name, archive in loaded.settings.archives.items()}
    return Tables(database, owner(loaded).name, names)


def give_up(loaded: Loaded, database: Database) -> None:
    """Note that indexes of archives which a configuration does not have any more are of no use. One statement."""
    if not database.is_sqlite:
        from syncd.db.search import leftovers

        leftovers.give_up(database, owner(loaded), set(loaded.settings.archives))


def purge_indexes(database: Database) -> int:
    """Remove from the database what was given up; returns how many indexes. Takes a minute for a million messages."""
    if database.is_sqlite:
        return 0
    from syncd.db.search import leftovers

    return leftovers.purge(database)


@contextmanager
def opened_indexes(loaded: Loaded | None, *, purge: bool = False) -> Iterator[Files | Tables]:
    """The places of the indexes of a configuration's archives; opens the ledger if it is not a file.

    With `purge=True` those of former archives are removed first.
    """
    if loaded is None or is_local(loaded):
        yield FILES
        return
    with open_ledger(loaded) as database:
        if purge:
            give_up(loaded, database)
            purge_indexes(database)
        yield indexes_in(loaded, database)
