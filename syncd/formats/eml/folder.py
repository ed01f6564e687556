"""The files `*.eml` of a folder and the folders in it, in a scratch database of SQLite's own: memory stays flat.

    PATH/…/NAME.eml        a message. Its folder is its mailbox; PATH itself is INBOX
    PATH/messages.jsonl    `syncd archive export --format eml` writes it: mailbox, flags, labels and date of each file

Where there is a messages.jsonl, a folder is the mailbox that it names; the folders of accounts count only where there
are several. Hidden files and folders, links and FIFOs are passed over. The order is by name.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from syncd.errors import ArchiveMissing, FormatDamaged, Unusable, storage_error
from syncd.formats.foreign import uuid_of
from syncd.formats.readable import level_of
from syncd.formats.regular import open_regular
from syncd.formats.unread import unread
from syncd.mail.flags import Flags, canonical
from syncd.mail.mailbox import INBOX_PATH, Unread
from syncd.mail.mailbox import Path as MailboxPath

FORMAT: Final = "eml"
SUFFIX: Final = ".eml"
NOTES: Final = "messages.jsonl"
PAGE: Final = 1_000  # files
CHUNK_OCTETS: Final = 256 << 10
MOST_LEVELS: Final = 100  # of nested folders
_MOST_LINE_OCTETS: Final = 1 << 20  # of messages.jsonl
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE files (folder BLOB, name BLOB, octets INTEGER, PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE notes (file BLOB PRIMARY KEY, account TEXT, mailbox TEXT, flags TEXT, labels TEXT, date TEXT)
    WITHOUT ROWID;
"""
_ROW: Final = "SELECT folder, name, octets FROM files"
_NEXT: Final = f"{_ROW} WHERE folder = ? AND name > ? ORDER BY name LIMIT {PAGE}"
_ONE: Final = f"{_ROW} WHERE folder = ? AND name = ?"
_MAILBOX: Final = """
SELECT account, mailbox FROM notes WHERE file > ? AND file < ? AND instr(substr(file, ?), x'2f') = 0 LIMIT 1
"""


class EmlFile(NamedTuple):
    """A message file. Names are octets, as the file system has them."""

    folder: bytes  # below the root, "" for the root
    name: bytes
    octets: int


class Note(NamedTuple):
    """What messages.jsonl says of a file."""

    flags: Flags = ()
    labels: tuple[str, ...] = ()
    date: datetime | None = None


def find_uuid(path: Path) -> UUID:
    """Returns the UUID that stands for a folder of eml files. Raises ArchiveMissing where there is none."""
    closed: list[Unread] = []
    if not (path / NOTES).exists() and not any(_has_files(path, it, closed) for it in _folders(path, closed)):
        if closed:
            raise Unusable(closed[0].why)
        raise ArchiveMissing(f"there is no eml file in {path}: mount its disk, or correct the path")
    return uuid_of(path, FORMAT)


class EmlFolder:
    """The files below `root`. For one thread. Raises StorageError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.strange = 0  # lines of messages.jsonl that make no sense
        self.unread: tuple[Unread, ...] = ()  # what `folders` could not read
        self._scratch = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._scratch.executescript(_SCHEMA)
        self._read_notes()
        self._accounts = self._scratch.execute("SELECT count(DISTINCT account) FROM notes").fetchone()[0]

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        self._scratch.close()

    def folders(self) -> list[bytes]:
        """Returns every folder with eml files, and those of mailboxes of which messages.jsonl has messages, by name."""
        closed: list[Unread] = []
        found = sorted(map(os.fsencode, _folders(self.root, closed)))
        self.unread = tuple(closed)
        return found

    def has(self, folder: bytes) -> bool:
        """Tells whether a folder is there, and no part of its path is hidden or a link."""
        levels = os.fsdecode(folder).split("/") if folder else []
        paths = [self.root.joinpath(*levels[:end]) for end in range(1, len(levels) + 1)]
        sound = all(level and not level.startswith(".") for level in levels)
        return sound and all(path.is_dir() and not path.is_symlink() for path in paths)

    def path_of(self, folder: bytes) -> MailboxPath:
        """Returns the path of a folder's mailbox."""
        start = folder + b"/" if folder else b""
        row = self._scratch.execute(_MAILBOX, (start, folder + b"0" if folder else b"\xff", len(start) + 1)).fetchone()
        if row is not None:
            account, mailbox = row
            path = tuple(json.loads(mailbox))
            return path if self._accounts <= 1 else (level_of(os.fsdecode(folder).split("/")[0]) or account, *path)
        if not folder:
            return INBOX_PATH
        levels = tuple(map(level_of, os.fsdecode(folder).split("/")))
        if self._accounts == 1 and len(levels) > 1:
            levels = levels[1:]  # the folder of the account
        return INBOX_PATH if len(levels) == 1 and levels[0].upper() == INBOX_PATH[0] else levels

    def look(self, folder: bytes) -> None:
        """Note again what is in a folder."""
        self._scratch.execute("BEGIN")
        try:
            self._scratch.execute("DELETE FROM files WHERE folder = ?", (folder,))
            self._scratch.executemany("INSERT INTO files VALUES (?, ?, ?)", _files(self.root, folder))
        except OSError as error:
            raise storage_error(error, f"cannot read {self.root / os.fsdecode(folder)}") from error
        finally:
            self._scratch.execute("COMMIT")

    def pages(self, folder: bytes) -> Iterator[list[EmlFile]]:
        """The files that `look` found in a folder, in pages of PAGE, the last one shorter."""
        last = b""
        while rows := self._scratch.execute(_NEXT, (folder, last)).fetchall():
            page = [EmlFile(*row) for row in rows]
            last = page[-1].name
            yield page

    def totals(self, folder: bytes) -> tuple[int, int]:
        """Returns how many files `look` found in a folder, and their octets together."""
        query = "SELECT count(*), coalesce(sum(octets), 0) FROM files WHERE folder = ?"
        number, octets = self._scratch.execute(query, (folder,)).fetchone()
        return int(number), int(octets)

    def find(self, folder: bytes, name: bytes) -> EmlFile | None:
        """Returns one of the files that `look` found."""
        row = self._scratch.execute(_ONE, (folder, name)).fetchone()
        return EmlFile(*row) if row else None

    def note(self, file: EmlFile) -> Note:
        """Returns what messages.jsonl says of a file."""
        query = "SELECT flags, labels, date FROM notes WHERE file = ?"
        row = self._scratch.execute(query, (_below(file),)).fetchone()
        if row is None:
            return Note()
        flags, labels, date = row
        return Note(canonical(tuple(json.loads(flags))), tuple(json.loads(labels)), _date(date))

    def path(self, file: EmlFile) -> Path:
        """Returns where a file is."""
        return self.root / os.fsdecode(_below(file))

    def read(self, file: EmlFile) -> Iterator[bytes]:
        """The octets of a file as they are. Raises FormatDamaged where it is gone."""
        path = self.path(file)
        try:
            descriptor = open_regular(path, os.O_RDONLY)
            try:
                while chunk := os.read(descriptor, CHUNK_OCTETS):
                    yield chunk
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise FormatDamaged(f"{path} is not there any more") from error
        except OSError as error:
            raise storage_error(error, f"cannot read {path}") from error

    def changed(self, file: EmlFile) -> datetime | None:
        """Returns the time of a file; None where it is gone, or beyond the calendar."""
        try:
            return datetime.fromtimestamp(int(self.path(file).lstat().st_mtime)).astimezone()
        except (OSError, ValueError, OverflowError):
            return None

    def _read_notes(self) -> None:
        try:
            with os.fdopen(open_regular(self.root / NOTES, os.O_RDONLY), "rb") as file:
                self._scratch.execute("BEGIN")
                while line := file.readline(_MOST_LINE_OCTETS):
                    self._take(line)
                self._scratch.execute("COMMIT")
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, f"cannot read {self.root / NOTES}") from error

    def _take(self, line: bytes) -> None:
        try:
            self._scratch.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?, ?)", _row(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.strange += 1


def _row(said: dict[str, Any]) -> tuple[bytes, str, str, str, str, str | None]:
    flags, labels = ([str(it) for it in said.get(key) or ()] for key in ("flags", "labels"))
    date = said.get("date")
    path = said.get("path") or str(said["mailbox"]).split("/")
    return (
        os.fsencode(str(said["file"])),
        str(said["account"]),
        json.dumps([str(level) for level in path]),
        json.dumps(flags),
        json.dumps(labels),
        None if date is None else str(date),
    )


def _date(text: str | None) -> datetime | None:
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else None


def _below(file: EmlFile) -> bytes:
    return file.folder + b"/" + file.name if file.folder else file.name


def _is_message(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIX)


def _has_files(root: Path, folder: str, closed: list[Unread]) -> bool:
    try:
        return next(_files(root, os.fsencode(folder)), None) is not None
    except OSError as error:
        closed += unread(root, folder, error)
        return False


def _folders(root: Path, closed: list[Unread], above: str = "", depth: int = 0) -> Iterator[str]:
    """Yields the folders that have eml files, or have no folders themselves; adds to `closed` what cannot be read.

    Raises StorageError, ArchiveMissing.
    """
    try:
        with os.scandir(root / above) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        if above:
            closed += unread(root, above, error)
            return
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise ArchiveMissing(f"there is no folder {root}: mount its disk, or correct the path") from error
        raise storage_error(error, f"cannot read {root}") from error
    below = [name for name, is_folder in found if is_folder and not name.startswith(".")]
    if any(_is_message(name) and not is_folder for name, is_folder in found) or (above and not below):
        yield above
    if depth < MOST_LEVELS:
        for name in below:
            yield from _folders(root, closed, f"{above}/{name}" if above else name, depth + 1)


def _files(root: Path, folder: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    with os.scandir(root / os.fsdecode(folder)) as entries:
        for entry in entries:
            if _is_message(entry.name) and stat.S_ISREG((facts := entry.stat(follow_symlinks=False)).st_mode):
                yield folder, os.fsencode(entry.name), facts.st_size
