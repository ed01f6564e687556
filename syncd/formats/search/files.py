"""The files of a search index: opened, deleted, and sqlite3's errors about them made ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from syncd.errors import DiskFull, Locked, StorageError

BUSY_TIMEOUT_S: Final = 30.0
SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


def remove(path: Path) -> None:
    """Delete an index. Raises StorageError."""
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {file}: {error.strerror}") from error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into ours: DiskFull, Locked, StorageError, each naming the index."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise DiskFull(f"cannot write to {path}: no space left; the archive itself is not affected") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Locked(f"{path} is in use by another program; try again later") from error
        raise StorageError(
            f"cannot use {path}: {error}; delete it, and syncd archive reindex makes it again"
        ) from error


def connect(path: Path, *, lasting: bool = True) -> sqlite3.Connection:
    """Open the file of an index. With `lasting=False` nothing can be written beside it, and nobody does."""
    where = path.absolute().as_uri() + ("" if lasting else "?immutable=1")
    return sqlite3.connect(where, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=True)
