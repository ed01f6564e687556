"""Every message file of a Maildir once, folder by folder, while mail readers move and rename them.

Regular files in `new` and `cur` are messages, but for those whose names begin with a dot; links, FIFOs and folders
there are not. A folder, a `new` or a `cur` that is a link is no part of the archive.

What `look` finds in a folder is noted in a scratch database of SQLite's own, in a temporary file: memory stays flat
for folders of any size, and a file that shows under two names counts once. The order is by date, oldest first, then by
the part of the names that stays; the directory's own order changes with every flag.
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
from syncd.formats.maildir.folder import PARTS, READ_FROM, Folder, is_directory, is_folder, read_chunks
from syncd.formats.maildir.layout import Layout
from syncd.formats.unread import unread
from syncd.mail.mailbox import Unread

PAGE: Final = 1_000  # files
MOST_LEVELS: Final = 100  # of nested folders
MIN_MTIME: Final = -(1 << 63)  # before every date that a file can have

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE files (folder BLOB, base BLOB, name BLOB, octets INTEGER, mtime INTEGER, PRIMARY KEY (folder, base))
WITHOUT ROWID;
CREATE INDEX by_date ON files (folder, mtime, base)
"""
_ROW: Final = "SELECT folder, base, name, octets, mtime FROM files"
_NEXT: Final = f"{_ROW} WHERE folder = ? AND (mtime, base) > (?, ?) ORDER BY mtime, base LIMIT {PAGE}"
_ONE: Final = f"{_ROW} WHERE folder = ? AND base = ?"
_INSERT: Final = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)"
_TOTALS: Final = "SELECT count(*), coalesce(sum(octets), 0) FROM files WHERE folder = ?"


class MessageFile(NamedTuple):
    """A message file when we looked. Names are octets, as the file system has them."""

    folder: bytes  # "", ".Name" or "Name/Sub", below the root
    base: bytes  # the part of its name that readers do not change
    name: bytes  # "new/…" or "cur/…"
    octets: int
    mtime: int  # seconds since 1970


class MaildirFiles:
    """The files of the Maildir at `root`, whose names have flags behind `separator`. For one thread."""

    def __init__(self, root: Path, separator: str, layout: Layout = Layout.PLUS_PLUS) -> None:
        self._root = root
        self._layout = layout
        self._info = f"{separator}2,"
        self._scratch = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._scratch.executescript(_SCHEMA)
        self._opened: tuple[bytes, Folder] | None = None  # the folder used last
        self.unread: list[Unread] = []  # what `folders` could not read
        self.looks = 0  # how often a folder was looked into

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        self._forget()
        self._scratch.close()

    def folders(self) -> list[bytes]:
        """Returns the root, as "", then every folder below it, by name. Raises StorageError."""
        self.unread = []
        try:
            return [b"", *sorted(os.fsencode(name) for name in self._below() if self._is_folder(name))]
        except OSError as error:
            raise storage_error(error, f"cannot read {self._root}") from error

    def has_folder(self, folder: bytes) -> bool:
        """Tells whether `folder` is one of `folders` now."""
        if not folder:
            return True
        name = os.fsdecode(folder)
        levels = name.split("/")
        above = [self._root.joinpath(*levels[:end]) for end in range(1, len(levels))]
        try:
            return all(map(self._is_level, levels)) and all(map(is_directory, above)) and is_folder(self._root / name)
        except OSError:
            return True  # looking into it says why it cannot be read

    def links(self) -> list[Path]:
        """Returns folders, and directories in folders, that are links: what is there is no part of the archive."""
        try:
            folders = [self._root / name for name in sorted(self._below(links=True))]
            parts = [folder / part for folder in folders if is_directory(folder) for part in READ_FROM]
            return [path for path in (*folders, *parts) if _is_link(path) and path.is_dir()]
        except OSError as error:
            raise storage_error(error, f"cannot read {self._root}") from error

    def look(self, folder: bytes) -> None:
        """Note again what is in a folder. Raises StorageError."""
        self._forget()
        with self._noting():
            self._look_into(folder)

    def pages(self, folder: bytes) -> Iterator[list[MessageFile]]:
        """The files that `look` found in a folder, in pages of PAGE, the last one shorter. Raises StorageError."""
        last: tuple[int, bytes] = (MIN_MTIME, b"")
        with self._noting():
            while rows := self._scratch.execute(_NEXT, (folder, *last)).fetchall():
                page = [MessageFile(*row) for row in rows]
                last = (page[-1].mtime, page[-1].base)
                yield page

    def totals(self, folder: bytes) -> tuple[int, int]:
        """Returns how many files `look` found in a folder, and their octets together."""
        number, octets = self._scratch.execute(_TOTALS, (folder,)).fetchone()
        return int(number), int(octets)

    def find(self, folder: bytes, base: bytes) -> MessageFile | None:
        """Returns one of the files that `look` found."""
        row = self._scratch.execute(_ONE, (folder, base)).fetchone()
        return MessageFile(*row) if row else None

    def read(self, file: MessageFile) -> Iterator[bytes]:
        """The octets of a file in chunks, wherever a reader moved it within its folder.

        Raises FormatDamaged where it is no longer there, StorageError.
        """
        try:
            descriptor = self._open(file)
            try:
                yield from read_chunks(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise FormatDamaged(f"{self.path(file)} is no longer there, under any name") from error
        except OSError as error:
            raise storage_error(error, f"cannot read {self.path(file)}") from error

    def path(self, file: MessageFile) -> Path:
        """Returns where the file was when we looked."""
        return self._root / os.fsdecode(file.folder) / os.fsdecode(file.name)

    # --- inside --------------------------------------------------------------------------------------

    def _below(self, above: str = "", depth: int = 0, *, links: bool = False) -> Iterator[str]:
        """Yields the names of what may be a folder, and with `links=True` of links there. Raises OSError."""
        try:
            with os.scandir(self._root / above) as entries:
                names = [entry.name for entry in entries if self._is_level(entry.name)]
        except OSError as error:
            if not above:
                raise
            self.unread += unread(self._root, above, error)
            return
        for name in names:
            below = f"{above}/{name}" if above else name
            path = self._root / below
            try:
                is_there = is_directory(path)
            except OSError as error:
                self.unread += unread(self._root, below, error)
                continue
            if links or is_there:
                yield below
            if self._layout is Layout.NESTED and depth < MOST_LEVELS and is_there:
                yield from self._below(below, depth + 1, links=links)

    def _is_folder(self, name: str) -> bool:
        try:
            return is_folder(self._root / name)
        except OSError as error:
            self.unread += unread(self._root, name, error)
            return False

    def _is_level(self, name: str) -> bool:
        """Tells whether a folder, or a level of one, may have this name."""
        if self._layout is Layout.PLUS_PLUS:
            return name.startswith(".") and name not in {".", ".."}
        return bool(name) and not name.startswith(".") and name not in PARTS

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """The scratch database may fail as any file may."""
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot note the files of {self._root} in a temporary file: {error}") from error

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

    def _look_into(self, folder: bytes) -> None:
        self.looks += 1
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
            self._opened = (name, Folder.to_read(self._root, os.fsdecode(name)))
        return self._opened[1]

    def _forget(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False  # nobody can look
