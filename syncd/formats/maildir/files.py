"""Every message file of a Maildir++ once, in an order that lasts, while mail readers move and rename them.

What is there is taken down in a scratch database of SQLite's own, in a temporary file: memory stays flat for folders
of any size, a file that is seen under two names counts once, and the order is by date, oldest first, then by the
lasting parts of names; the directory's own changes with every flag.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from syncd.errors import FormatDamaged, StorageError, storage_error
from syncd.formats.maildir.folder import Folder, read_chunks

PAGE: Final = 1_000  # files
MIN_MTIME: Final = -(1 << 63)  # before every date that a file can have

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE files (folder BLOB, base BLOB, name BLOB, octets INTEGER, mtime INTEGER, PRIMARY KEY (folder, base))
WITHOUT ROWID;
CREATE INDEX by_date ON files (mtime, folder, base)
"""
_ROW: Final = "SELECT folder, base, name, octets, mtime FROM files"
_ORDER: Final = "mtime, folder, base"
_NEXT: Final = f"{_ROW} WHERE ({_ORDER}) > (?, ?, ?) ORDER BY {_ORDER} LIMIT {PAGE}"
_ONE: Final = f"{_ROW} WHERE folder = ? AND base = ?"
_INSERT: Final = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)"
_TOTALS: Final = "SELECT count(*), coalesce(sum(octets), 0) FROM files"


class MessageFile(NamedTuple):
    """A message file when we looked. Names are octets, as the file system has them."""

    folder: bytes  # "" or ".Name", below the root
    base: bytes  # the part of its name that readers leave alone
    name: bytes  # "new/…" or "cur/…"
    octets: int
    mtime: int  # seconds since 1970


class MaildirFiles:
    """The files of the Maildir++ at `root`, whose names have flags behind `separator`. For one thread."""

    def __init__(self, root: Path, separator: str) -> None:
        self._root = root
        self._info = f"{separator}2,"
        self._scratch = sqlite3.connect("", isolation_level=None)
        self._scratch.executescript(_SCHEMA)
        self._opened: tuple[bytes, Folder] | None = None  # the folder used last

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        self._forget()
        self._scratch.close()

    def look(self) -> None:
        """Take down anew what is there. Raises StorageError."""
        self._forget()
        with self._noting():
            self._scratch.execute("DELETE FROM files")
            for folder in self._folders():
                self._look_into(folder)

    def pages(self) -> Iterator[list[MessageFile]]:
        """What `look` found, in pages of PAGE files, the last one shorter. Raises StorageError."""
        last: tuple[int, bytes, bytes] = (MIN_MTIME, b"", b"")
        with self._noting():
            while rows := self._scratch.execute(_NEXT, last).fetchall():
                page = [MessageFile(*row) for row in rows]
                last = (page[-1].mtime, page[-1].folder, page[-1].base)
                yield page

    def totals(self) -> tuple[int, int]:
        """Files, and their octets together."""
        number, octets = self._scratch.execute(_TOTALS).fetchone()
        return int(number), int(octets)

    def find(self, folder: bytes, base: bytes) -> MessageFile | None:
        """One of the files that were found."""
        row = self._scratch.execute(_ONE, (folder, base)).fetchone()
        return MessageFile(*row) if row else None

    def read(self, file: MessageFile) -> Iterator[bytes]:
        """The octets of a file, wherever a reader moved it within its folder, in chunks.

        Raises FormatDamaged where it is no longer there, StorageError.
        """
        path = self._root / os.fsdecode(file.folder) / os.fsdecode(file.name)
        try:
            descriptor = self._open(file)
            try:
                yield from read_chunks(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise FormatDamaged(f"{path} is no longer there, under any name") from error
        except OSError as error:
            raise storage_error(error, f"cannot read {path}") from error

    # --- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """The scratch database may fail as any file may."""
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot keep what is in {self._root} in a temporary file: {error}") from error

    def _open(self, file: MessageFile) -> int:
        """A descriptor; the folder is looked into again where the file has another name by now. Raises OSError."""
        try:
            return self._folder(file.folder).open(os.fsdecode(file.name))
        except FileNotFoundError:
            self._look_into(file.folder)
            moved = self.find(file.folder, file.base)
            if moved is None:
                raise
            return self._folder(file.folder).open(os.fsdecode(moved.name))

    def _folders(self) -> list[bytes]:
        """The root, as "", and every Maildir++ folder below it."""
        try:
            with os.scandir(self._root) as entries:
                found = [entry.name for entry in entries if entry.name.startswith(".")]
            below = (name for name in found if _is_folder(self._root / name))
            return [b"", *map(os.fsencode, below)]
        except OSError as error:
            raise storage_error(error, f"cannot read {self._root}") from error

    def _look_into(self, folder: bytes) -> None:
        """Take down anew what is in one folder. Raises StorageError."""
        self._scratch.execute("BEGIN")
        try:
            self._scratch.execute("DELETE FROM files WHERE folder = ?", (folder,))
            self._scratch.executemany(_INSERT, self._files(folder))
        except OSError as error:
            raise storage_error(error, f"cannot read {self._root / os.fsdecode(folder)}") from error
        finally:
            self._scratch.execute("COMMIT")

    def _files(self, name: bytes) -> Iterator[MessageFile]:
        folder = self._folder(name)
        for path in folder.names():
            leaf = path[4:]
            facts = None if leaf.startswith(".") else folder.look_at(path)
            if facts is not None and stat.S_ISREG(facts.st_mode):
                base = os.fsencode(leaf.rpartition(self._info)[0] or leaf)
                yield MessageFile(name, base, os.fsencode(path), facts.st_size, int(facts.st_mtime))

    def _folder(self, name: bytes) -> Folder:
        if self._opened is None or self._opened[0] != name:
            self._forget()
            self._opened = (name, Folder(self._root / os.fsdecode(name)))
        return self._opened[1]

    def _forget(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def _is_folder(path: Path) -> bool:
    return (path / "cur").is_dir() and not path.is_symlink()
