"""What syncd knows of the mbox files of an archive: ROOT/.syncd-mbox.sqlite.

    mailboxes   file → path, special use, subscription of its mailbox
    messages    stem of a message's identity → its file and where it begins there, SHA-256 of its octets
    appending   file → what is being written to it: from where to where, each record with a hash of its octets

A row in `appending` is durable before the first octet is written, and goes when all of them are durable: what a crash
left behind is found by it, and readers do not look beyond its start. Offsets of messages are hints: mail programs
rewrite files, and then messages are found by their octets. Without this file a message that is delivered again is
there twice.

Each commit is durable (synchronous = EXTRA: also that SQLite's own journal is gone; a power cut would bring it back).
For the holder of the archive's lock; readers open it with `read_only`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from syncd.durable import Step, durable_step
from syncd.errors import FormatDamaged, StorageError, storage_error
from syncd.formats.regular import check_regular, make_regular
from syncd.mail.mailbox import Path as MailboxPath

BUSY_TIMEOUT_S: Final = 10.0  # readers are done in a millisecond
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS mailboxes (file BLOB PRIMARY KEY, path TEXT, use TEXT, subscribed INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (stem TEXT PRIMARY KEY, file BLOB, start INTEGER, sha256 BLOB, since REAL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS appending (file BLOB PRIMARY KEY, inode INTEGER, start INTEGER, records TEXT) WITHOUT ROWID;
"""


class Facts(NamedTuple):
    """What a file's name does not tell of its mailbox."""

    path: MailboxPath
    use: str
    subscribed: bool


class Known(NamedTuple):
    """A message that was stored: at `start`, unless another program changed the file; since when."""

    file: bytes
    start: int
    sha256: bytes
    since: float


class Planned(NamedTuple):
    """A message that is being written: its record from `start` to `end`, the first octets and the SHA-256 of that."""

    stem: str
    start: int
    end: int
    head: bytes
    stored: bytes
    sha256: bytes


class Appending(NamedTuple):
    """What is being written to a file, from `start` on."""

    file: bytes
    inode: int
    start: int
    records: tuple[Planned, ...]


class Journal:
    """An open journal. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        """Open the journal; make it where it is missing."""
        self._path = path
        try:
            make_regular(path)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise _failed(path, error) from error
        except OSError as error:
            raise storage_error(error, f"cannot open {path}") from error

    def close(self) -> None:
        """Let go of the file. Repeatable."""
        self._connection.close()

    def mailboxes(self) -> dict[bytes, Facts]:
        """Returns what is known of each file's mailbox."""
        with self._reading() as connection:
            return _mailboxes(connection)

    def note_mailboxes(self, noted: Sequence[tuple[bytes, Facts]]) -> None:
        """Record mailboxes."""
        rows = [(file, json.dumps(facts.path), facts.use, facts.subscribed) for file, facts in noted]
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO mailboxes VALUES (?, ?, ?, ?)", rows)

    def known(self, stem: str) -> Known | None:
        """Returns where a message is."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT file, start, sha256, since FROM messages WHERE stem = ?", (stem,)
            ).fetchone()
        return None if row is None else Known(*row)

    def appending(self) -> list[Appending]:
        """Returns what was being written when somebody was stopped."""
        with self._reading() as connection:
            return _appending(connection)

    def begin(self, appending: Appending) -> None:
        """Record what is going to be written."""
        records = [
            (it.stem, it.start, it.end, it.head.hex(), it.stored.hex(), it.sha256.hex()) for it in appending.records
        ]
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO appending VALUES (?, ?, ?, ?)",
                (appending.file, appending.inode, appending.start, json.dumps(records)),
            )

    def end(self, file: bytes, stored: Sequence[tuple[str, Known]] = ()) -> None:
        """Record that nothing is being written to a file any more, and what is there now."""
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?)", [(stem, *known) for stem, known in stored]
            )
            connection.execute("DELETE FROM appending WHERE file = ?", (file,))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise _failed(self._path, error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                with durable_step(Step.MBOX_NOTE):
                    connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


class Glimpse(NamedTuple):
    """What a reader needs of a journal: the mailboxes, and how far each file that is being written to is whole."""

    mailboxes: dict[bytes, Facts]
    ends: dict[bytes, int]


def read_only(path: Path) -> Glimpse:
    """Returns what the journal says; nothing where there is none or it cannot be read: files tell the rest."""
    with suppress(sqlite3.Error, OSError, ValueError, FormatDamaged):
        check_regular(path)
        address = f"file:{_quoted(path)}?mode=ro"
        with closing(sqlite3.connect(address, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)) as connection:
            return Glimpse(_mailboxes(connection), {it.file: it.start for it in _appending(connection)})
    return Glimpse({}, {})


def _mailboxes(connection: sqlite3.Connection) -> dict[bytes, Facts]:
    rows = connection.execute("SELECT file, path, use, subscribed FROM mailboxes")
    return {file: Facts(tuple(json.loads(path)), use, bool(subscribed)) for file, path, use, subscribed in rows}


def _appending(connection: sqlite3.Connection) -> list[Appending]:
    found = []
    for file, inode, start, records in connection.execute("SELECT file, inode, start, records FROM appending"):
        planned = tuple(
            Planned(stem, at, end, *map(bytes.fromhex, digests)) for stem, at, end, *digests in json.loads(records)
        )
        found.append(Appending(file, inode, start, planned))
    return found


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))


def _failed(path: Path, error: sqlite3.Error) -> StorageError:
    kind = FormatDamaged if isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error) else StorageError
    return kind(f"cannot use {path}: {error}")
